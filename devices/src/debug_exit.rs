// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The isa-debug-exit port (0xF4): a write ends the run with the value written.

use crate::bus::BusDevice;
use crate::control::{MachineControl, MachineRequest};
use std::sync::Arc;

/// The port: 4 bytes wide.
#[derive(Debug)]
pub struct DebugExit {
    machine: Arc<dyn MachineControl>,
}

impl DebugExit {
    /// The port.
    #[must_use]
    pub fn new(machine: Arc<dyn MachineControl>) -> Arc<Self> {
        Arc::new(Self { machine })
    }
}

impl BusDevice for DebugExit {
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if offset != 0 {
            return;
        }
        let mut value = [0; 4];
        for (byte, written) in value.iter_mut().zip(data) {
            *byte = *written;
        }
        let value = u32::from_le_bytes(value);
        self.machine.request(MachineRequest::DebugExit(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::RecordingMachine;

    #[test]
    fn write_of_any_width_asks_for_the_exit() {
        let machine = Arc::new(RecordingMachine::default());
        let port = DebugExit::new(machine.clone());
        port.write(0, &[0x11, 0x22, 0, 0]);
        port.write(0, &[0x03]);
        port.write(1, &[0x04]);
        assert_eq!(
            machine.take(),
            [
                MachineRequest::DebugExit(0x2211),
                MachineRequest::DebugExit(3)
            ]
        );
    }
}
