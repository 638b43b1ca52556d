// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Power-off and reset: the PCI reset control register (port 0xCF9), and the sleep registers of hardware-reduced ACPI
//! (ACPI Specification 6.5, section 4.8.3.7).

use crate::bus::BusDevice;
use crate::control::{MachineControl, MachineRequest};
use bitfield_struct::bitfield;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// The register at port 0xCF9.
#[bitfield(u8)]
struct ResetBits {
    #[bits(1)]
    __: u8,
    /// Bit 1: hard reset rather than soft.
    system_reset: bool,
    /// Bit 2: a change from 0 to 1 resets.
    reset_cpu: bool,
    /// Bit 3: full reset, power cycle included.
    full_reset: bool,
    #[bits(4)]
    __: u8,
}

/// The reset control register: one port. The FADT's reset register is this port with the value 6.
#[derive(Debug)]
pub struct ResetControl {
    value: AtomicU8,
    machine: Arc<dyn MachineControl>,
}

impl ResetControl {
    /// The register.
    #[must_use]
    pub fn new(machine: Arc<dyn MachineControl>) -> Arc<Self> {
        Arc::new(Self {
            value: AtomicU8::new(0),
            machine,
        })
    }

    /// Back to zero.
    pub fn reset(&self) {
        self.value.store(0, Ordering::Release);
    }
}

impl BusDevice for ResetControl {
    fn read(&self, _offset: u64, data: &mut [u8]) {
        if let [byte] = data {
            *byte = self.value.load(Ordering::Acquire);
        }
    }

    fn write(&self, _offset: u64, data: &[u8]) {
        let [byte] = data else { return };
        let bits = ResetBits::from_bits(*byte);
        let kept = ResetBits::new()
            .with_system_reset(bits.system_reset())
            .with_reset_cpu(bits.reset_cpu())
            .with_full_reset(bits.full_reset());
        let old = self.value.swap(kept.into_bits(), Ordering::AcqRel);
        if bits.reset_cpu() && !ResetBits::from_bits(old).reset_cpu() {
            self.machine.request(MachineRequest::Reset);
        }
    }
}

/// Sleep control register.
#[bitfield(u8)]
struct SleepBits {
    #[bits(2)]
    __: u8,
    /// Bits 4:2.
    #[bits(3)]
    sleep_type: u8,
    /// Bit 5: go to sleep; reads zero.
    sleep_enable: bool,
    #[bits(2)]
    __: u8,
}

/// The value of SLP_TYP that means soft off: what the `_S5` object must say.
pub const SLEEP_TYPE_SOFT_OFF: u8 = 5;

/// The sleep control (offset 0) and sleep status (offset 1) registers: two bytes. Nothing wakes this machine, so the status
/// stays zero.
#[derive(Debug)]
pub struct SleepRegisters {
    machine: Arc<dyn MachineControl>,
}

impl SleepRegisters {
    /// The registers.
    #[must_use]
    pub fn new(machine: Arc<dyn MachineControl>) -> Arc<Self> {
        Arc::new(Self { machine })
    }
}

impl BusDevice for SleepRegisters {
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let Some(bits) = data.first().copied().map(SleepBits::from_bits) else {
            return;
        };
        if offset == 0 && bits.sleep_enable() && bits.sleep_type() == SLEEP_TYPE_SOFT_OFF {
            self.machine.request(MachineRequest::PowerOff);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::RecordingMachine;

    #[test]
    fn reset_needs_a_rising_reset_bit() {
        let machine = Arc::new(RecordingMachine::default());
        let control = ResetControl::new(machine.clone());
        control.write(0, &[0x02]);
        assert!(machine.take().is_empty());
        control.write(0, &[0x06]);
        assert_eq!(machine.take(), [MachineRequest::Reset]);
        control.write(0, &[0x06]);
        assert!(machine.take().is_empty());
        let mut data = [0xff];
        control.read(0, &mut data);
        assert_eq!(data, [0x06]);
        control.reset();
        control.write(0, &[0xff]);
        assert_eq!(machine.take(), [MachineRequest::Reset]);
        control.read(0, &mut data);
        assert_eq!(data, [0x0e]);
    }

    #[test]
    fn reset_register_is_one_byte_wide() {
        let machine = Arc::new(RecordingMachine::default());
        let control = ResetControl::new(machine.clone());
        control.write(0, &[0x06, 0]);
        assert!(machine.take().is_empty());
    }

    #[test]
    fn soft_off_needs_type_five_and_enable() {
        let machine = Arc::new(RecordingMachine::default());
        let sleep = SleepRegisters::new(machine.clone());
        sleep.write(0, &[0x14]);
        sleep.write(0, &[0x20]);
        sleep.write(1, &[0x34]);
        assert!(machine.take().is_empty());
        sleep.write(0, &[0x34]);
        assert_eq!(machine.take(), [MachineRequest::PowerOff]);
        let mut data = [0xff; 2];
        sleep.read(0, &mut data);
        assert_eq!(data, [0, 0]);
    }
}
