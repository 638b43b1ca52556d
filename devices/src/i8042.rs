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

/// The data port (0x60), the command and status port (0x64), and what is between: 5 ports from 0x60 on. Port 0x61 is the
/// system control port: no error, and the output of the timer that does not exist is high, for that is what is waited for.
#[derive(Debug)]
pub struct I8042 {
    machine: Arc<dyn MachineControl>,
}

/// Status bit 0: a byte can be read.
const OUTPUT_FULL: u8 = 0x01;

/// Offset of the system control port.
const SYSTEM_CONTROL: u64 = 1;
/// System control bit 5: the output of timer channel 2.
const TIMER_2_OUTPUT: u8 = 0x20;

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
        match (offset, data) {
            (COMMAND, [byte]) => *byte = OUTPUT_FULL,
            (SYSTEM_CONTROL, [byte]) => *byte = TIMER_2_OUTPUT,
            _ => {}
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
        controller.read(1, &mut data);
        assert_eq!(data, [0x20]);
    }
}
