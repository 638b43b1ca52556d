// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What devices with a translation cache of their own ask for: translations, and pages that are not there yet.

use super::dma::{Stamps, Target};
use super::mode::{RootWord, TableMode};
use super::{Translator, fault};
use crate::address::Gpa;
use crate::fault::{Fault, FaultReason, FaultSubject};
use crate::request::{AddressType, Request};
use crate::spec::ats_completion::AtsCompletion;
use crate::sync::Ordering;
use crate::translate::ats::{self, AtsAnswer, AtsClaim, Outcome};
use crate::translate::context::Route;
use crate::translate::paging::Stages;
use crate::translate::rights::Claim;
use crate::translate::{self, Blocked};

impl Translator {
    /// Answers a translation request for the page at the request's address, whatever its address type says. An access that
    /// does not write means that the device does not want to write either, which is heard where the unit offers it.
    ///
    /// The page is marked as used, and as written when the right to write is granted, because the device does not ask again
    /// before it writes. The answer may be used until the device is told to drop it.
    #[must_use]
    pub fn translate_request(&self, request: &Request) -> AtsAnswer {
        let request = Request {
            address_type: AddressType::TranslationRequest,
            ..*request
        };
        let stamps = self.stamps();
        let root = RootWord::from_bits(self.root.load(Ordering::Acquire)).pointer();
        let Some(root) = root else {
            return AtsAnswer::Unsupported(None);
        };
        let answer = translate::check_mode(&self.capabilities, root.mode, &request)
            .inspect_err(|_| self.tally.refused.add())
            .and_then(|()| {
                let outcome = match root.mode {
                    TableMode::Scalable => self.ask_scalable(root.table, &request, &stamps),
                    _ => self.ask_legacy(root.table, &request, &stamps),
                };
                outcome.inspect_err(|_| self.tally.blocked.add())
            });
        match answer {
            Ok(completion) => AtsAnswer::Translation(completion),
            Err(blocked) => {
                let fault = fault(blocked, FaultSubject::Dma(request));
                match ats::outcome(fault.reason) {
                    Outcome::NoTranslation => AtsAnswer::Translation(AtsCompletion::new()),
                    Outcome::Unsupported => AtsAnswer::Unsupported(Some(fault)),
                    Outcome::Abort => AtsAnswer::Aborted(fault),
                }
            }
        }
    }

    /// Checks whether a page request may be queued: the tables down to the context entry are asked, PASID entries are not.
    ///
    /// # Errors
    /// The device may not ask for pages.
    pub fn check_page_request(&self, request: &Request) -> Result<(), Fault> {
        let stamps = self.stamps();
        let root = RootWord::from_bits(self.root.load(Ordering::Acquire)).pointer();
        let refused = Blocked::always(FaultReason::PageRequestInLegacyMode);
        let outcome = match root {
            None => Err(Blocked::never(FaultReason::PageRequestInLegacyMode)),
            Some(root) if root.mode == TableMode::Legacy => Err(refused),
            Some(root) => {
                translate::check_mode(&self.capabilities, root.mode, request).and_then(|()| {
                    self.scalable_context(root.table, request, &stamps)?
                        .admit_page_request(&self.capabilities, request.pasid)
                })
            }
        };
        outcome.map_err(|blocked| fault(blocked, FaultSubject::PageRequest(*request)))
    }

    fn ask_legacy(
        &self,
        root: Gpa,
        request: &Request,
        stamps: &Stamps,
    ) -> Result<AtsCompletion, Blocked> {
        let context = self.context(root, request, stamps)?;
        context.admit(request)?;
        let blocked = |reason| context.blocked(reason);
        if translate::is_to_interrupt_range(request) {
            return Ok(self.unchanged(ats::interrupts(request.address)));
        }
        let Route::SecondStage(stage) = context.route() else {
            return Err(blocked(FaultReason::AtsBlocked));
        };
        let stages = Stages::Second(stage);
        let claim = Claim::legacy(request.access);
        self.ask(
            &Target::legacy(&context, &stages, &claim),
            claim,
            request,
            stamps,
        )
        .map_err(blocked)
    }

    fn ask_scalable(
        &self,
        root: Gpa,
        request: &Request,
        stamps: &Stamps,
    ) -> Result<AtsCompletion, Blocked> {
        let binding = self.binding(root, request, stamps)?;
        let claim = Claim::scalable(request, &binding);
        // Without the right to execute the device is told so; without that to privilege there is nothing to tell.
        binding.admit(&Claim {
            execute: false,
            ..claim
        })?;
        if translate::is_to_interrupt_range(request) {
            return Ok(self.unchanged(ats::interrupts(request.address)));
        }
        let Some(stages) = &binding.stages() else {
            self.pass_through_limit(request.address)
                .map_err(|reason| binding.blocked(reason))?;
            return Ok(self.unchanged(ats::unchanged(request.address, &claim)));
        };
        self.ask(&Target::scalable(&binding, stages), claim, request, stamps)
            .map_err(|reason| binding.blocked(reason))
    }

    fn ask(
        &self,
        target: &Target<'_>,
        claim: Claim,
        request: &Request,
        stamps: &Stamps,
    ) -> Result<AtsCompletion, FaultReason> {
        let wants_write = claim.access.writes() || !self.capabilities.no_write_flag();
        let claim = AtsClaim { claim, wants_write };
        let page = self.page(target, request.address, stamps, |page| claim.judge(page))?;
        Ok(claim.completion(page))
    }

    fn unchanged(&self, completion: AtsCompletion) -> AtsCompletion {
        self.tally.unchanged_by_context.add();
        completion
    }
}
