// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The unit's own interrupts: the fault event, the invalidation completion event and the page request event.
//!
//! An event that is due becomes a message at once, or, while masked, stays pending and becomes one when unmasked. The
//! messages are not remapped. Pure functions over the registers.

use crate::capabilities::Capabilities;
use crate::msi::MsiMessage;
use crate::registers::Registers;
use crate::spec::regs::{EventControl, offset};

/// One of the unit's events, by the offset of its control register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event(u16);

impl Event {
    /// A fault was recorded, or the invalidation queue stopped.
    pub(crate) const FAULT: Self = Self(offset::FECTL);
    /// A wait descriptor that asks for an interrupt completed.
    pub(crate) const COMPLETION: Self = Self(offset::IECTL);
    /// A page request was queued, or found the queue full.
    pub(crate) const PAGE_REQUEST: Self = Self(offset::PECTL);

    /// Offset of the control register; of an event that the unit does not have, it is reserved space.
    pub(crate) const fn control_offset(self) -> u16 {
        self.0
    }

    /// The cause has occurred: returns the message to send, if it may be sent now.
    pub(crate) fn raise(
        self,
        registers: &mut Registers,
        caps: &Capabilities,
    ) -> Option<MsiMessage> {
        self.set_pending(registers, true);
        self.send(registers, caps)
    }

    /// Sends what is pending, unless masked. To be called when the control register was written, too.
    pub(crate) fn send(self, registers: &mut Registers, caps: &Capabilities) -> Option<MsiMessage> {
        let control = self.control(registers);
        if !control.ip() || control.im() {
            return None;
        }
        self.set_pending(registers, false);
        Some(self.message(registers, caps))
    }

    /// Software has dealt with the cause before a message was sent: none is due any more.
    pub(crate) fn cancel(self, registers: &mut Registers) {
        self.set_pending(registers, false);
    }

    fn control(self, registers: &Registers) -> EventControl {
        EventControl::from_bits(registers.dword(self.0))
    }

    fn set_pending(self, registers: &mut Registers, pending: bool) {
        let control = self.control(registers).with_ip(pending);
        registers.set_dword(self.0, control.into_bits());
    }

    fn message(self, registers: &Registers, caps: &Capabilities) -> MsiMessage {
        let upper = if caps.extended_interrupt_mode() {
            registers.dword(self.0 + offset::EVENT_UPPER_ADDRESS)
        } else {
            0
        };
        let lower = registers.dword(self.0 + offset::EVENT_ADDRESS);
        MsiMessage {
            address: u64::from(upper) << 32 | u64::from(lower),
            data: registers.dword(self.0 + offset::EVENT_DATA),
        }
    }
}
