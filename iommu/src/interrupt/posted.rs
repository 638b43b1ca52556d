// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Posted interrupts (Interrupt Posting): the vector becomes a bit in a descriptor in memory, and a notification is sent if
//! none is on its way yet.
//!
//! Hardware changes the 64 bytes of the descriptor at once. Here the request bit is set first and the control word after it,
//! each by compare-and-exchange: software clears ON before it collects requests, so it either finds the bit, or ON was clear
//! after the bit was set and a notification follows.

use super::message;
use crate::address::Gpa;
use crate::capabilities::Capabilities;
use crate::fault::FaultReason;
use crate::memory::{MemoryError, PhysMem};
use crate::msi::MsiMessage;
use crate::spec::interrupt_request::MessageData;
use crate::spec::irte::{Irte, PostedIrteHigh, PostedIrteLow};
use crate::spec::posted_descriptor::{CONTROL, PostedControl, RESERVED};
use vm_memory::GuestAddress;

/// Times that a word which changes under the unit's eyes is tried. Each failure means that a processor wrote the word.
const ATTEMPTS: u32 = 256;

/// What an entry says about an interrupt that is posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posting {
    /// The descriptor, 64-byte aligned.
    pub descriptor: Gpa,
    /// The vector to post.
    pub vector: u8,
    /// Notify although notifications are suppressed.
    pub urgent: bool,
    /// Destinations are 32-bit APIC ids.
    pub extended: bool,
    /// Faults are not recorded (FPD).
    pub fault_processing_disabled: bool,
}

impl Posting {
    /// What a present entry of the format for posted interrupts says.
    #[must_use]
    pub fn of(entry: Irte, extended: bool) -> Self {
        let low = PostedIrteLow::from_bits(entry.low.into_bits());
        let high = PostedIrteHigh::from_bits(entry.high.into_bits());
        let descriptor =
            u64::from(high.descriptor_high()) << 32 | u64::from(low.descriptor_low()) << 6;
        Self {
            descriptor: GuestAddress(descriptor),
            vector: low.vector(),
            urgent: low.urgent(),
            extended,
            fault_processing_disabled: low.fault_processing_disabled(),
        }
    }

    /// Posts the interrupt and returns the notification, if one is to be sent.
    ///
    /// # Errors
    /// The descriptor is no memory, does not hold still, or has reserved bits set. Nothing is sent; the request may have been
    /// noted.
    pub fn post<M: PhysMem + ?Sized>(
        &self,
        memory: &M,
        capabilities: &Capabilities,
    ) -> Result<Option<MsiMessage>, FaultReason> {
        let unreadable = |_: MemoryError| FaultReason::PostedDescriptorUnreadable;
        if !capabilities.is_host_address(self.descriptor) {
            return Err(FaultReason::PostedDescriptorUnreadable);
        }
        self.control(memory)
            .map_err(unreadable)?
            .ok_or(FaultReason::PostedDescriptorReserved)?;
        for offset in RESERVED {
            if memory.load_u64(self.word(offset)).map_err(unreadable)? != 0 {
                return Err(FaultReason::PostedDescriptorReserved);
            }
        }
        let request = self.word(u64::from(self.vector) / 64 * 8);
        change(memory, request, |word| Ok(word | 1 << (self.vector % 64)))?;
        let before = change(memory, self.word(CONTROL), |word| {
            let control = checked(word).ok_or(FaultReason::PostedDescriptorReserved)?;
            let notify = self.notifies(control);
            Ok(control
                .with_outstanding(control.outstanding() || notify)
                .into_bits())
        })?;
        let before = PostedControl::from_bits(before);
        Ok(self.notifies(before).then(|| self.notification(before)))
    }

    /// Whether a notification is due by the control word as it was.
    const fn notifies(&self, control: PostedControl) -> bool {
        !control.outstanding() && (self.urgent || !control.suppressed())
    }

    fn notification(&self, control: PostedControl) -> MsiMessage {
        let destination = if self.extended {
            control.destination()
        } else {
            control.destination() >> 8 & 0xff
        };
        let data = MessageData::new()
            .with_vector(control.vector())
            .with_assert(true);
        message(destination, data)
    }

    /// The control word; `None` when reserved bits are set.
    fn control<M: PhysMem + ?Sized>(
        &self,
        memory: &M,
    ) -> Result<Option<PostedControl>, MemoryError> {
        memory.load_u64(self.word(CONTROL)).map(checked)
    }

    /// The word at byte `offset` of the descriptor, which is aligned to more than that.
    const fn word(&self, offset: u64) -> Gpa {
        GuestAddress(self.descriptor.0 | offset)
    }
}

fn checked(word: u64) -> Option<PostedControl> {
    let control = PostedControl::from_bits(word);
    (control.reserved_0() == 0 && control.reserved_1() == 0).then_some(control)
}

/// Changes a word in place and returns what it held.
fn change<M: PhysMem + ?Sized>(
    memory: &M,
    at: Gpa,
    new: impl Fn(u64) -> Result<u64, FaultReason>,
) -> Result<u64, FaultReason> {
    let unreadable = |_| FaultReason::PostedDescriptorUnreadable;
    let mut current = memory.load_u64(at).map_err(unreadable)?;
    for _ in 0..ATTEMPTS {
        match memory
            .compare_exchange_u64(at, current, new(current)?)
            .map_err(unreadable)?
        {
            Ok(held) => return Ok(held),
            Err(seen) => current = seen,
        }
    }
    Err(FaultReason::PostedDescriptorUnreadable)
}

#[cfg(test)]
mod tests;
