// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a hot-plug slot does (PCI Express Base Specification 6.0, section 6.7), as functions of its registers.
//!
//! The slot has an attention button, a power controller and both indicators; no retention latch, no interlock, and commands take
//! effect at once without an event. The five seconds in which a second press takes the first one back are the operating
//! system's: all that is seen of them here is its power indicator. Nothing is sent here: whoever holds no lock asks
//! [`Slot::has_enabled_event`] before and after.

use super::super::express::{SlotCapabilities, SlotControl, SlotStatus};

/// What an indicator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indicator {
    /// It is lit.
    On,
    /// It blinks: power changes, or is about to.
    Blinking,
    /// It is dark.
    Off,
}

impl Indicator {
    /// The value of the two register bits.
    const fn bits(self) -> u8 {
        match self {
            Self::On => 1,
            Self::Blinking => 2,
            Self::Off => 3,
        }
    }

    const fn decode(bits: u8) -> Self {
        match bits {
            1 => Self::On,
            2 => Self::Blinking,
            _ => Self::Off,
        }
    }
}

/// What is seen of a slot from outside the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotView {
    /// There is a device.
    pub present: bool,
    /// The slot has power.
    pub powered: bool,
    /// The power indicator.
    pub power_indicator: Indicator,
    /// Nobody has taken note of the last press of the attention button yet.
    pub button_pending: bool,
}

impl SlotView {
    /// Whether the device may be taken out: there is no power, and the dark power indicator says that the operating system has
    /// let go (section 6.7.1.1.2).
    #[must_use]
    pub fn is_released(self) -> bool {
        !self.powered && self.power_indicator == Indicator::Off
    }
}

/// The registers of a slot and its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) control: SlotControl,
    pub(super) status: SlotStatus,
    pub(super) link_active: bool,
}

/// What of the port's other registers and of the bus has to do with the link: it is neither disabled nor held in reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkAllowed(pub(super) bool);

impl Slot {
    /// After power-on: power and indicators follow presence, and nothing has changed.
    pub(super) fn power_on(present: bool, allowed: LinkAllowed) -> Self {
        let indicator = if present {
            Indicator::On
        } else {
            Indicator::Off
        };
        Self {
            control: SlotControl::new()
                .with_attention_indicator(Indicator::Off.bits())
                .with_power_indicator(indicator.bits())
                .with_power_off(!present),
            status: SlotStatus::new().with_present(present),
            link_active: present && allowed.0,
        }
    }

    /// A device was put in or taken out, as presence detect sees it.
    pub(super) fn after_presence(self, present: bool, allowed: LinkAllowed) -> Self {
        let changed = self.status.presence_changed() || self.status.present() != present;
        let status = self.status;
        Self {
            status: status.with_present(present).with_presence_changed(changed),
            ..self
        }
        .after_link(allowed)
    }

    /// The attention button was pressed.
    pub(super) fn after_press(self) -> Self {
        Self {
            status: self.status.with_attention_button(true),
            ..self
        }
    }

    /// A press that nobody has taken note of is taken back.
    pub(super) fn without_press(self) -> Self {
        Self {
            status: self.status.with_attention_button(false),
            ..self
        }
    }

    /// Software wrote registers of the port; `before` is what slot control was. The reserved value of an indicator leaves it
    /// as it was.
    pub(super) fn after_write(self, before: SlotControl, allowed: LinkAllowed) -> Self {
        let mut control = self.control;
        if control.attention_indicator() == 0 {
            control.set_attention_indicator(before.attention_indicator());
        }
        if control.power_indicator() == 0 {
            control.set_power_indicator(before.power_indicator());
        }
        Self { control, ..self }.after_link(allowed)
    }

    /// The link is up while a device is there, has power, and nothing forbids it.
    fn after_link(self, allowed: LinkAllowed) -> Self {
        let active = self.status.present() && !self.control.power_off() && allowed.0;
        let changed = self.status.link_state_changed() || self.link_active != active;
        Self {
            status: self.status.with_link_state_changed(changed),
            link_active: active,
            ..self
        }
    }

    /// Whether the port interrupts: an event is there that software wants to hear of (section 6.7.3.4). A message is sent when
    /// this becomes true, the pin is asserted while it is.
    pub(super) fn has_enabled_event(self) -> bool {
        let (control, status) = (self.control, self.status);
        let any = status.attention_button() && control.attention_button_enable()
            || status.power_fault() && control.power_fault_enable()
            || status.mrl_changed() && control.mrl_enable()
            || status.presence_changed() && control.presence_enable()
            || status.command_completed() && control.command_completed_enable()
            || status.link_state_changed() && control.link_state_enable();
        any && control.hotplug_interrupt_enable()
    }

    /// What is seen from outside.
    pub(super) fn view(self) -> SlotView {
        SlotView {
            present: self.status.present(),
            powered: !self.control.power_off(),
            power_indicator: Indicator::decode(self.control.power_indicator()),
            button_pending: self.status.attention_button(),
        }
    }
}

/// What the slot with physical number `number` has.
pub(super) fn capabilities(number: u16) -> SlotCapabilities {
    SlotCapabilities::new()
        .with_attention_button(true)
        .with_power_controller(true)
        .with_attention_indicator(true)
        .with_power_indicator(true)
        .with_surprise(true)
        .with_hotplug(true)
        .with_no_command_completed(true)
        .with_physical_slot(number & 0x1fff)
}

#[cfg(test)]
mod tests;
