// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The slot registers (PCI Express Base Specification 6.0, sections 7.5.3.9 to 7.5.3.11). What they do belongs to the root port.

use super::{Express, register};
use crate::pci::config::ConfigSpace;
use bitfield_struct::bitfield;

/// Slot capabilities register.
#[bitfield(u32)]
pub struct SlotCapabilities {
    /// Bit 0.
    pub attention_button: bool,
    /// Bit 1.
    pub power_controller: bool,
    /// Bit 2: manually operated retention latch.
    pub mrl_sensor: bool,
    /// Bit 3.
    pub attention_indicator: bool,
    /// Bit 4.
    pub power_indicator: bool,
    /// Bit 5: the device may vanish without a word.
    pub surprise: bool,
    /// Bit 6.
    pub hotplug: bool,
    #[bits(11)]
    __: u16,
    /// Bit 18: commands take effect at once, without a completion event.
    pub no_command_completed: bool,
    /// Bits 31:19.
    #[bits(13)]
    pub physical_slot: u16,
}

/// Slot control register.
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct SlotControl {
    /// Bit 0.
    pub attention_button_enable: bool,
    /// Bit 1.
    pub power_fault_enable: bool,
    /// Bit 2.
    pub mrl_enable: bool,
    /// Bit 3.
    pub presence_enable: bool,
    /// Bit 4.
    pub command_completed_enable: bool,
    /// Bit 5.
    pub hotplug_interrupt_enable: bool,
    /// Bits 7:6: 1 on, 2 blinking, 3 off.
    #[bits(2)]
    pub attention_indicator: u8,
    /// Bits 9:8: as the attention indicator.
    #[bits(2)]
    pub power_indicator: u8,
    /// Bit 10: the slot's power is off.
    pub power_off: bool,
    /// Bit 11: interlock; reads zero.
    pub interlock: bool,
    /// Bit 12.
    pub link_state_enable: bool,
    #[bits(3)]
    __: u8,
}

/// Slot status register.
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct SlotStatus {
    /// Bit 0, write one to clear.
    pub attention_button: bool,
    /// Bit 1, write one to clear.
    pub power_fault: bool,
    /// Bit 2, write one to clear.
    pub mrl_changed: bool,
    /// Bit 3, write one to clear.
    pub presence_changed: bool,
    /// Bit 4, write one to clear.
    pub command_completed: bool,
    /// Bit 5.
    pub mrl_open: bool,
    /// Bit 6: there is a device in the slot.
    pub present: bool,
    /// Bit 7.
    pub interlock: bool,
    /// Bit 8, write one to clear.
    pub link_state_changed: bool,
    #[bits(7)]
    __: u8,
}

impl Express {
    /// Fills the slot registers in.
    pub fn install_slot(self, config: &mut ConfigSpace, slot: SlotCapabilities) {
        let software = SlotControl::new()
            .with_attention_button_enable(true)
            .with_power_fault_enable(true)
            .with_mrl_enable(true)
            .with_presence_enable(true)
            .with_command_completed_enable(true)
            .with_hotplug_interrupt_enable(true)
            .with_attention_indicator(3)
            .with_power_indicator(3)
            .with_power_off(slot.power_controller())
            .with_link_state_enable(true);
        let events = SlotStatus::new()
            .with_attention_button(true)
            .with_power_fault(true)
            .with_mrl_changed(true)
            .with_presence_changed(true)
            .with_command_completed(true)
            .with_link_state_changed(true);
        let at = self.at;
        config.set_u32(at + register::SLOT_CAPABILITIES, slot.into_bits());
        config.allow_write(
            at + register::SLOT_CONTROL,
            &software.into_bits().to_le_bytes(),
        );
        config.allow_clear(
            at + register::SLOT_STATUS,
            &events.into_bits().to_le_bytes(),
        );
    }

    /// Slot control register.
    #[must_use]
    pub fn slot_control(self, config: &ConfigSpace) -> SlotControl {
        SlotControl::from_bits(config.u16(self.at + register::SLOT_CONTROL))
    }

    /// Sets the slot control register.
    pub fn set_slot_control(self, config: &mut ConfigSpace, control: SlotControl) {
        config.set_u16(self.at + register::SLOT_CONTROL, control.into_bits());
    }

    /// Slot status register.
    #[must_use]
    pub fn slot_status(self, config: &ConfigSpace) -> SlotStatus {
        SlotStatus::from_bits(config.u16(self.at + register::SLOT_STATUS))
    }

    /// Sets the slot status register.
    pub fn set_slot_status(self, config: &mut ConfigSpace, status: SlotStatus) {
        config.set_u16(self.at + register::SLOT_STATUS, status.into_bits());
    }
}
