// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One access to memory, within one page: untranslated, or translated by the device's cache, translation requests and page
//! requests.
//!
//! Each access is one DMA section. A page request is sent and awaited between sections. A machine that is paused stops the device
//! before a section or a page request, not while an answer is awaited.

use super::Shared;
use super::atc::Key;
use super::command::{Route, Status};
use super::registers::Answer;
use super::upstream::Grant;
use iommu::address::Iova;
use iommu::ats::ResponseCode;
use iommu::dma::{DmaError, DmaSection};
use iommu::page_request::{PageRequest, PageRequestOutcome};
use iommu::request::{Access, AddressType, Attributes, Request};
use std::sync::PoisonError;

/// How often a page is asked for before the device believes that it cannot be had.
const MAX_PAGE_REQUESTS: u32 = 8;

/// What an access does within its section, at the address and with the attributes that its requests are to have.
pub(super) type Act<'a> =
    &'a mut dyn FnMut(&DmaSection<'_>, Iova, Attributes) -> Result<(), DmaError>;

/// What the device knows of a page.
enum Found {
    Translated(Grant),
    UntranslatedOnly,
    NoRight,
}

impl Shared {
    /// Does `act` for `access` to `address`, and to no byte of another page.
    pub(super) fn access(
        &self,
        route: &Route,
        address: Iova,
        access: Access,
        act: Act<'_>,
    ) -> Result<(), Status> {
        if !route.translated {
            return self.untranslated(route, address, act);
        }
        for asked in 0..=MAX_PAGE_REQUESTS {
            {
                let work = self.rest.work();
                // Cache and registers are looked at within the section: whoever changes either then waits for sections.
                let section = self.spaces.plain().section();
                route.check(&self.allowed())?;
                match self.translation(route, address, access)? {
                    Found::Translated(grant) => {
                        let at = Iova(grant.page.0 | address.0 & 0xfff);
                        let attributes = Attributes {
                            address_type: AddressType::Translated,
                            ..Attributes::default()
                        };
                        return act(&section, at, attributes).map_err(status);
                    }
                    Found::UntranslatedOnly => {
                        drop(section);
                        drop(work);
                        return self.untranslated(route, address, act);
                    }
                    Found::NoRight => {}
                }
            }
            if !route.page_requests || asked == MAX_PAGE_REQUESTS {
                break;
            }
            self.request_page(route, address, access)?;
        }
        Err(Status::NoTranslation)
    }

    fn untranslated(&self, route: &Route, address: Iova, act: Act<'_>) -> Result<(), Status> {
        let attributes = Attributes {
            address_type: AddressType::Untranslated,
            execute: route.execute,
            privileged: route.privileged,
        };
        let space = self.spaces.get(route.pasid).ok_or(Status::Blocked)?;
        let _work = self.rest.work();
        let section = space.section();
        route.check(&self.allowed())?;
        act(&section, address, attributes).map_err(status)
    }

    /// Looks a page up, or asks for its translation. Call it within a section.
    fn translation(&self, route: &Route, address: Iova, access: Access) -> Result<Found, Status> {
        let key = Key {
            pasid: route.pasid,
            privileged: route.privileged,
            page: address.page(),
        };
        let (cached, stamp) = {
            let atc = self.atc();
            (atc.get(&key), atc.stamp())
        };
        if let Some(grant) = cached
            && grant.allows(access, route.execute)
        {
            self.count(|counts| &mut counts.hits);
            return Ok(Found::Translated(grant));
        }
        self.count(|counts| &mut counts.misses);
        let requester = self.spaces.plain().requester();
        if !requester.is_bus_master() {
            return Err(Status::NotBusMaster);
        }
        let request = Request {
            pasid: route.pasid,
            address_type: AddressType::TranslationRequest,
            execute: route.execute,
            privileged: route.privileged,
            ..Request::untranslated(requester.source(), key.page, access)
        };
        let grant = self
            .upstream
            .translation_request(&request)
            .map_err(|_| Status::TranslationRefused)?;
        if !grant.allows(access, route.execute) {
            return Ok(Found::NoRight);
        }
        if grant.untranslated_only {
            return Ok(Found::UntranslatedOnly);
        }
        self.atc().insert(stamp, key, grant);
        Ok(Found::Translated(grant))
    }

    /// Asks for a page and waits for the answer. Call it with no section open.
    fn request_page(&self, route: &Route, address: Iova, access: Access) -> Result<(), Status> {
        let requester = self.spaces.plain().requester();
        if !requester.is_bus_master() {
            return Err(Status::NotBusMaster);
        }
        if self.has_failed() {
            return Err(Status::PageFailure);
        }
        let work = self.rest.work();
        let group = self.lock().ask(route.pasid);
        self.update_stopped();
        let outcome = self.upstream.page_request(&PageRequest {
            source: requester.source(),
            pasid: route.pasid,
            address: address.page(),
            read: access.reads(),
            write: access.writes(),
            execute: route.execute,
            privileged: route.privileged,
            last: true,
            group,
        });
        drop(work);
        let answer = match outcome {
            PageRequestOutcome::Answered(code) => {
                self.lock().end_wait();
                if code == ResponseCode::Failure {
                    self.set_pri_status(|status| status.with_response_failure(true));
                }
                Some(Answer::Response(code))
            }
            PageRequestOutcome::Lost => {
                self.lock().end_wait();
                None
            }
            PageRequestOutcome::Queued => self.await_answer(),
        };
        self.update_stopped();
        match answer {
            Some(Answer::Response(ResponseCode::Success)) => Ok(()),
            Some(Answer::Response(ResponseCode::InvalidRequest)) => Err(Status::PageInvalid),
            Some(Answer::Response(ResponseCode::Failure)) => Err(Status::PageFailure),
            Some(Answer::Forgotten) => Err(Status::PageStopped),
            None if self.lock().is_cancelled() => Err(Status::Cancelled),
            None => Err(Status::PageTimeout),
        }
    }

    fn await_answer(&self) -> Option<Answer> {
        let registers = self.lock();
        let timeout = registers.page_timeout();
        let (mut registers, _) = self
            .changed
            .wait_timeout_while(registers, timeout, |r| r.is_waiting())
            .unwrap_or_else(PoisonError::into_inner);
        registers.end_wait()
    }
}

/// What a failed access tells the driver.
fn status(error: DmaError) -> Status {
    match error {
        DmaError::Blocked(_) => Status::Blocked,
        DmaError::NotBusMaster(_) => Status::NotBusMaster,
        DmaError::NoRam(_) => Status::NoRam,
    }
}
