// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A keyboard controller without keyboard (ports 0x60 and 0x64): what a PC's reset needs.
//!
//! Command 0xFE resets the machine; every other one is swallowed. The status always says "input taken, output waiting": a
//! driver that flushes the output before it probes sees at once that nothing sane is there (Linux after 16 bytes), instead of
//! waiting half a second for each answer, and one that waits for the input buffer before a reset does not wait.

use crate::bus::BusDevice;
use crate::control::{MachineControl, MachineRequest};
use std::sync::Arc;

/// Pulses the reset line of the processor.
const COMMAND_RESET: u8 = 0xfe;

/// The data port (0x60), the command and status port (0x64), and what is between: 5 ports from 0x60 on, of which 0x61..=0x63
/// are not the controller's.
#[derive(Debug)]
pub struct I8042 {
    machine: Arc<dyn MachineControl>,
}

/// Status bit 0: a byte can be read.
const OUTPUT_FULL: u8 = 0x01;

/// Offset of the command and status port.
const COMMAND: u64 = 4;

impl I8042 {
    /// The controller.
    #[must_use]
    pub fn new(machine: Arc<dyn MachineControl>) -> Arc<Self> {
        Arc::new(Self { machine })
    }
}

impl BusDevice for I8042 {
    fn read(&self, offset: u64, data: &mut [u8]) {
        if let (COMMAND, [byte]) = (offset, data) {
            *byte = OUTPUT_FULL;
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if (offset, data) == (COMMAND, &[COMMAND_RESET]) {
            self.machine.request(MachineRequest::Reset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::RecordingMachine;

    #[test]
    fn command_0xfe_resets_and_nothing_else_does() {
        let machine = Arc::new(RecordingMachine::default());
        let controller = I8042::new(machine.clone());
        controller.write(0, &[0xfe]);
        controller.write(4, &[0xaa]);
        controller.write(4, &[0xfe, 0]);
        assert!(machine.take().is_empty());
        controller.write(4, &[0xfe]);
        assert_eq!(machine.take(), [MachineRequest::Reset]);
    }

    #[test]
    fn status_never_runs_dry_and_never_makes_a_writer_wait() {
        let controller = I8042::new(Arc::new(RecordingMachine::default()));
        let mut data = [0xff];
        controller.read(0, &mut data);
        assert_eq!(data, [0xff]);
        controller.read(4, &mut data);
        assert_eq!(data, [0x01]);
    }
}
