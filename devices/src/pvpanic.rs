// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The ISA pvpanic port (0x505): one byte by which a guest says that its kernel panicked.
//!
//! ACPI names it `QEMU0001`. Reading tells which events are understood: panicked, and crash kernel loaded.

use crate::bus::BusDevice;
use crate::control::{MachineControl, MachineRequest};
use bitfield_struct::bitfield;
use std::sync::Arc;

/// The event byte.
#[bitfield(u8)]
struct Events {
    /// Bit 0: the kernel panicked.
    panicked: bool,
    /// Bit 1: the kernel panicked and a crash kernel takes over; the run goes on.
    crash_loaded: bool,
    #[bits(6)]
    __: u8,
}

/// The port: one byte.
#[derive(Debug)]
pub struct Pvpanic {
    machine: Arc<dyn MachineControl>,
}

impl Pvpanic {
    /// The port.
    #[must_use]
    pub fn new(machine: Arc<dyn MachineControl>) -> Arc<Self> {
        Arc::new(Self { machine })
    }
}

impl BusDevice for Pvpanic {
    fn read(&self, _offset: u64, data: &mut [u8]) {
        let understood = Events::new().with_panicked(true).with_crash_loaded(true);
        if let [byte] = data {
            *byte = understood.into_bits();
        }
    }

    fn write(&self, _offset: u64, data: &[u8]) {
        if let [byte] = data
            && Events::from_bits(*byte).panicked()
        {
            self.machine.request(MachineRequest::GuestPanicked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::RecordingMachine;

    #[test]
    fn read_names_the_events() {
        let port = Pvpanic::new(Arc::new(RecordingMachine::default()));
        let mut data = [0xff];
        port.read(0, &mut data);
        assert_eq!(data, [3]);
    }

    #[test]
    fn panic_is_reported_and_a_crash_kernel_is_not() {
        let machine = Arc::new(RecordingMachine::default());
        let port = Pvpanic::new(machine.clone());
        port.write(0, &[2]);
        port.write(0, &[1, 0]);
        assert!(machine.take().is_empty());
        port.write(0, &[1]);
        assert_eq!(machine.take(), [MachineRequest::GuestPanicked]);
    }
}
