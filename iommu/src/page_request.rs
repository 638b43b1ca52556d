// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Page requests (Page Requests): a device asks software for pages that it cannot translate.
//!
//! The unit checks who asks and puts the request into a ring in memory, whose tail it advances and whose head software
//! advances. A request that finds the ring full is lost and sets PRO; until software clears that, all further ones are lost.
//! The last request of a group that is lost is answered at once with success, so that the device translates again and, if
//! need be, asks again. Pure functions over the state.
//!
//! A device that asks again after an answer finds what software changed: no entry without rights is ever cached.

use crate::address::{Gpa, Iova, PAGE_SIZE};
use crate::ats::ResponseCode;
use crate::capabilities::Capabilities;
use crate::event::Event;
use crate::ids::{Pasid, SourceId};
use crate::msi::MsiMessage;
use crate::request::{Access, AddressType, Request};
use crate::spec::page_request::{ENTRY_SIZE, PageRequestHigh, PageRequestLow, TYPE};
use crate::spec::regs::{PageQueueAddress, PageQueueOffset, PageRequestStatus, offset};
use crate::state::{Outcome, State};
use vm_memory::GuestAddress;

/// A request for one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Who asks.
    pub source: SourceId,
    /// The address space it asks in.
    pub pasid: Option<Pasid>,
    /// The page; the offset in it does not matter.
    pub address: Iova,
    /// The right to read is wanted.
    pub read: bool,
    /// The right to write is wanted.
    pub write: bool,
    /// The right to execute is wanted (only with a PASID).
    pub execute: bool,
    /// The request has supervisor privilege (only with a PASID).
    pub privileged: bool,
    /// The last request of its group: the group is answered when software has dealt with it.
    pub last: bool,
    /// The group, 9 bits; higher ones are ignored.
    pub group: u16,
}

/// What became of a page request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageRequestOutcome {
    /// Software will see it.
    Queued,
    /// It is lost, and no answer comes.
    Lost,
    /// Software will not see it, and this is the answer to its group.
    Answered(ResponseCode),
}

impl PageRequest {
    /// Whether this asks for nothing and only tells that no more requests of the address space are on their way.
    #[must_use]
    pub const fn is_stop_marker(&self) -> bool {
        self.last && !self.read && !self.write
    }

    /// What becomes of a request that software does not see.
    pub(crate) const fn unseen(&self, code: ResponseCode) -> PageRequestOutcome {
        if self.last && !self.is_stop_marker() {
            PageRequestOutcome::Answered(code)
        } else {
            PageRequestOutcome::Lost
        }
    }

    /// The request as a fault record shows it.
    pub(crate) const fn subject(&self) -> Request {
        Request {
            source: self.source,
            pasid: self.pasid,
            address: self.address,
            access: if self.write {
                Access::Write
            } else {
                Access::Read
            },
            address_type: AddressType::Untranslated,
            execute: self.execute,
            privileged: self.privileged,
        }
    }

    /// The descriptor in the queue.
    pub(crate) fn descriptor(&self) -> [u8; 32] {
        let low = PageRequestLow::new()
            .with_kind(TYPE)
            .with_pasid_present(self.pasid.is_some())
            .with_rid(self.source.0)
            .with_pasid(self.pasid.map_or(0, Pasid::get))
            .with_execute(self.execute && self.pasid.is_some())
            .with_privileged(self.privileged && self.pasid.is_some());
        let high = PageRequestHigh::new()
            .with_read(self.read)
            .with_write(self.write)
            .with_last(self.last)
            .with_group(self.group & 0x1ff)
            .with_page(self.address.0 / PAGE_SIZE);
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&low.into_bits().to_le_bytes());
        bytes[8..16].copy_from_slice(&high.into_bits().to_le_bytes());
        bytes
    }
}

/// A free place in the queue. It stays free until taken, because one request at a time is on its way into the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Where the descriptor goes.
    pub(crate) address: Gpa,
    /// PQT as it was.
    tail: u64,
    next: u16,
}

/// No place is free; the message is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overflow(pub(crate) Option<MsiMessage>);

impl State {
    /// Looks for a place for a page request.
    pub(crate) fn page_queue_slot(&mut self, caps: &Capabilities) -> Result<Slot, Overflow> {
        let status = self.page_status();
        if status.pro() {
            return Err(Overflow(None));
        }
        let queue = PageQueueAddress::from_bits(self.registers.qword(offset::PQA));
        // 128 descriptors a page, at most 16384, which is one more than an index can be.
        let last = (128u16 << queue.pqs()) - 1;
        let index =
            |offset| PageQueueOffset::from_bits(self.registers.qword(offset)).index() & last;
        let (head, tail) = (index(offset::PQH), index(offset::PQT));
        let next = (tail + 1) & last;
        if next == head {
            let message = self.raise_page_event(status.with_pro(true), caps);
            return Err(Overflow(message));
        }
        let base = queue.page() * PAGE_SIZE;
        Ok(Slot {
            address: GuestAddress(base.saturating_add(u64::from(tail) * ENTRY_SIZE)),
            tail: self.registers.qword(offset::PQT),
            next,
        })
    }

    /// The descriptor stands in its place: advances the tail, unless software moved it meanwhile, and raises the event.
    pub(crate) fn page_queued(&mut self, slot: Slot, caps: &Capabilities) -> Option<MsiMessage> {
        if self.registers.qword(offset::PQT) == slot.tail {
            let next = PageQueueOffset::new().with_index(slot.next);
            self.registers.set_qword(offset::PQT, next.into_bits());
        }
        let status = self.page_status();
        self.raise_page_event(status.with_ppr(true), caps)
    }

    /// A page request event that is still held back is not due any more once software has cleared every condition.
    pub(crate) fn page_status_written(&mut self) -> Outcome {
        if !self.page_status().pending() {
            Event::PAGE_REQUEST.cancel(&mut self.registers);
        }
        Outcome::default()
    }

    fn page_status(&self) -> PageRequestStatus {
        PageRequestStatus::from_bits(self.registers.dword(offset::PRS))
    }

    /// Shows `status`, and raises the event if nothing was pending before.
    fn raise_page_event(
        &mut self,
        status: PageRequestStatus,
        caps: &Capabilities,
    ) -> Option<MsiMessage> {
        let before = self.page_status();
        self.registers.set_dword(offset::PRS, status.into_bits());
        if before.pending() {
            return None;
        }
        Event::PAGE_REQUEST.raise(&mut self.registers, caps)
    }
}
