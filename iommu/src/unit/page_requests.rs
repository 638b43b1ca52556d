// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What devices with a translation cache ask for: translations, and pages. Page requests are checked, put into the queue one
//! at a time, and told of.
//!
//! The page queue lock is held from the choice of a place to the advance of the tail; it comes before the state lock. A wait
//! descriptor that asks for page requests to be drained takes it once, so that whatever was on its way has arrived.

use super::Unit;
use crate::ats::ResponseCode;
use crate::counters::count;
use crate::msi::MsiMessage;
use crate::page_request::{Overflow, PageRequest, PageRequestOutcome, Slot};
use crate::request::Request;
use crate::translate::ats::AtsAnswer;
use std::sync::{MutexGuard, PoisonError};

impl Unit {
    /// Answers a translation request, and records the fault if that is the reason for a refusal. What it grants may be used
    /// until the device is told to drop it. So that it is not told before it knows, the device asks and remembers the answer
    /// under the lock that its [`invalidate`](crate::ats::AtsEndpoint::invalidate) takes.
    #[must_use]
    pub fn translation_request(&self, request: &Request) -> AtsAnswer {
        count(&self.tally.translation_requests);
        let answer = self.translator.translate_request(request);
        if let AtsAnswer::Unsupported(Some(fault)) | AtsAnswer::Aborted(fault) = &answer {
            self.record(fault);
        }
        answer
    }

    /// Takes a page request of a device. An answer that software gives comes to the device's
    /// [`respond`](crate::ats::AtsEndpoint::respond), maybe before this returns.
    pub fn page_request(&self, request: &PageRequest) -> PageRequestOutcome {
        count(&self.tally.page_requests);
        if !self.capabilities.page_requests() {
            return request.unseen(ResponseCode::Failure);
        }
        if let Err(fault) = self.translator.check_page_request(&request.subject()) {
            self.record(&fault);
            return request.unseen(ResponseCode::InvalidRequest);
        }
        self.enqueue(request)
    }

    /// Waits until page requests that are on their way have arrived in the queue.
    pub(super) fn drain_page_requests(&self) {
        drop(self.page_queue());
    }

    /// Puts a request that is allowed into the queue.
    pub(super) fn enqueue(&self, request: &PageRequest) -> PageRequestOutcome {
        let queue = self.page_queue();
        let slot = self.shell().state.page_queue_slot(&self.capabilities);
        let (message, outcome) = match slot {
            Ok(slot) => self.store(request, slot),
            Err(Overflow(message)) => {
                count(&self.tally.page_requests_lost);
                (message, request.unseen(ResponseCode::Success))
            }
        };
        drop(queue);
        self.send(message);
        outcome
    }

    /// Writes the descriptor. A queue that is no memory will not become any, so the device must not ask again.
    fn store(&self, request: &PageRequest, slot: Slot) -> (Option<MsiMessage>, PageRequestOutcome) {
        if self
            .memory
            .write(slot.address, &request.descriptor())
            .is_err()
        {
            count(&self.tally.page_requests_lost);
            return (None, request.unseen(ResponseCode::Failure));
        }
        let message = self.shell().state.page_queued(slot, &self.capabilities);
        (message, PageRequestOutcome::Queued)
    }

    /// Keeps page requests out of the queue until dropped.
    pub(super) fn page_queue(&self) -> MutexGuard<'_, ()> {
        self.page_queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
