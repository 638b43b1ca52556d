// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The way of a DMA request: root, context, PASID entry, page.

use super::mode::{RootWord, TableMode};
use super::{Translator, fault};
use crate::address::{Gpa, Iova};
use crate::cache::Stamp;
use crate::cache::iotlb::Space;
use crate::fault::{Fault, FaultReason, FaultSubject};
use crate::ids::SourceId;
use crate::request::{AddressType, Request, Translation};
use crate::sync::Ordering;
use crate::translate::context::{Context, Found, Route};
use crate::translate::paging::{Codes, Paging, Stages};
use crate::translate::pasid::{self, Binding};
use crate::translate::rights::Claim;
use crate::translate::scalable::{self, ScalableContext};
use crate::translate::{self, Blocked, context};
use crate::walk::Page;

/// The stamps for what one request reads.
pub(super) struct Stamps {
    context: Stamp,
    scalable_context: Stamp,
    binding: Stamp,
    pub(super) page: Stamp,
    pub(super) table: Stamp,
}

/// Where pages are looked for: by which tag in the caches, and in which tables else.
pub(super) struct Target<'a> {
    pub(super) space: Space,
    pub(super) paging: Paging<'a>,
}

impl<'a> Target<'a> {
    pub(super) const fn legacy(context: &Context, stages: &'a Stages, claim: &Claim) -> Self {
        Self {
            space: Space::of(context.word.domain_id(), None),
            paging: Paging {
                stages,
                snooped: true,
                codes: claim.codes,
            },
        }
    }

    pub(super) const fn scalable(binding: &Binding, stages: &'a Stages) -> Self {
        Self {
            space: Space::of(binding.word.domain_id(), binding.word.page_pasid()),
            paging: Paging {
                stages,
                snooped: binding.word.snooped(),
                codes: Codes::Scalable,
            },
        }
    }
}

impl Translator {
    /// The answer to a request that no short way was found for.
    pub(super) fn dma(&self, request: &Request) -> Result<Translation, Fault> {
        self.route(request)
            .map_err(|blocked| fault(blocked, FaultSubject::Dma(*request)))
    }

    fn route(&self, request: &Request) -> Result<Translation, Blocked> {
        let stamps = self.stamps();
        let root = RootWord::from_bits(self.root.load(Ordering::Acquire)).pointer();
        if translate::is_to_interrupt_range(request) {
            self.interrupt_range(root.is_some())
                .inspect_err(|_| self.tally.refused.add())?;
        }
        let Some(root) = root else {
            self.tally.unchanged.add();
            return Ok(translate::identity(request.address, None));
        };
        translate::check_mode(&self.capabilities, root.mode, request)
            .inspect_err(|_| self.tally.refused.add())?;
        let outcome = match root.mode {
            TableMode::Scalable => self.scalable(root.table, request, &stamps),
            _ => self.legacy(root.table, request, &stamps),
        };
        outcome.inspect_err(|_| self.tally.blocked.add())
    }

    /// To be taken before the root pointer is.
    pub(super) fn stamps(&self) -> Stamps {
        Stamps {
            context: self.contexts.stamp(),
            scalable_context: self.scalable_contexts.stamp(),
            binding: self.bindings.stamp(),
            page: self.iotlb.stamp(),
            table: self.tables.stamp(),
        }
    }

    /// A request to the interrupt range is no DMA: with remapping on it is a faulty interrupt, with only translation on it
    /// is aborted.
    fn interrupt_range(&self, translating: bool) -> Result<(), Blocked> {
        let remapping = self.interrupt_mode().table.is_some();
        if remapping || translating {
            return Err(Blocked {
                reason: FaultReason::NotAnInterruptRequest,
                record: remapping,
            });
        }
        Ok(())
    }

    fn legacy(
        &self,
        root: Gpa,
        request: &Request,
        stamps: &Stamps,
    ) -> Result<Translation, Blocked> {
        let context = self.context(root, request, stamps)?;
        context.admit(request)?;
        let blocked = |reason| context.blocked(reason);
        let stages = match context.route() {
            _ if request.address_type == AddressType::Translated => {
                return self
                    .translated(
                        request,
                        FaultReason::BeyondWidth,
                        FaultReason::OutputInInterruptRange,
                    )
                    .map_err(blocked);
            }
            Route::PassThrough => {
                self.tally.unchanged_by_context.add();
                let limit = 1 << context.word.width();
                return Ok(translate::identity(request.address, Some(limit)));
            }
            Route::SecondStage(stage) => Stages::Second(stage),
        };
        let claim = Claim::legacy(request.access);
        let target = Target::legacy(&context, &stages, &claim);
        self.translation(&target, &claim, request.address, stamps)
            .map_err(blocked)
    }

    fn scalable(
        &self,
        root: Gpa,
        request: &Request,
        stamps: &Stamps,
    ) -> Result<Translation, Blocked> {
        if request.address_type == AddressType::Translated {
            let context = self.scalable_context(root, request, stamps)?;
            context.admit(request.address_type)?;
            return self
                .translated(
                    request,
                    FaultReason::ScalableBeyondWidth,
                    FaultReason::ScalableOutputInInterruptRange,
                )
                .map_err(|reason| context.blocked(reason));
        }
        let binding = self.binding(root, request, stamps)?;
        let claim = Claim::scalable(request, &binding);
        binding.admit(&claim)?;
        let Some(stages) = &binding.stages() else {
            let limit = self
                .pass_through_limit(request.address)
                .map_err(|reason| binding.blocked(reason))?;
            self.tally.unchanged_by_context.add();
            return Ok(translate::identity(request.address, Some(limit)));
        };
        let target = Target::scalable(&binding, stages);
        self.translation(&target, &claim, request.address, stamps)
            .map_err(|reason| binding.blocked(reason))
    }

    /// A request that says it was translated, from a source that may say so.
    fn translated(
        &self,
        request: &Request,
        beyond: FaultReason,
        in_range: FaultReason,
    ) -> Result<Translation, FaultReason> {
        let capabilities = &self.capabilities;
        let found = translate::check_translated(capabilities, request.address, beyond, in_range)?;
        self.tally.unchanged_by_context.add();
        Ok(found)
    }

    /// The first address beyond what a PASID entry may let pass unchanged, for a request to `address`.
    pub(super) fn pass_through_limit(&self, address: Iova) -> Result<u64, FaultReason> {
        let limit = 1 << self.capabilities.address_bits();
        if address.0 >= limit {
            return Err(FaultReason::ScalableBeyondWidth);
        }
        if translate::in_interrupt_range(address) {
            return Err(FaultReason::ScalableOutputInInterruptRange);
        }
        Ok(limit)
    }

    pub(super) fn context(
        &self,
        root: Gpa,
        request: &Request,
        stamps: &Stamps,
    ) -> Result<Context, Blocked> {
        let source = request.source;
        match self.contexts.get(source) {
            Some(context) => Ok(context),
            None => self.read_context(root, source, stamps),
        }
    }

    #[cold]
    fn read_context(
        &self,
        root: Gpa,
        source: SourceId,
        stamps: &Stamps,
    ) -> Result<Context, Blocked> {
        self.tally.context_misses.add();
        let found = context::lookup(&*self.memory, &self.capabilities, root, source);
        let context = self.read(found)?;
        self.contexts.insert(stamps.context, source, &context);
        Ok(context)
    }

    pub(super) fn scalable_context(
        &self,
        root: Gpa,
        request: &Request,
        stamps: &Stamps,
    ) -> Result<ScalableContext, Blocked> {
        let source = request.source;
        if let Some(context) = self.scalable_contexts.get(source) {
            return Ok(context);
        }
        self.tally.context_misses.add();
        let found = scalable::lookup(&*self.memory, &self.capabilities, root, source);
        let context = self.read(found)?;
        self.scalable_contexts
            .insert(stamps.scalable_context, source, &context);
        Ok(context)
    }

    /// What an untranslated request or a translation request goes through.
    pub(super) fn binding(
        &self,
        root: Gpa,
        request: &Request,
        stamps: &Stamps,
    ) -> Result<Binding, Blocked> {
        let Request { source, pasid, .. } = *request;
        if let Some(binding) = self.bindings.get(source, pasid) {
            if request.address_type != AddressType::Untranslated && !binding.word.device_tlb() {
                return Err(binding.blocked(FaultReason::DeviceTlbDisabled));
            }
            return Ok(binding);
        }
        self.read_binding(root, request, stamps)
    }

    #[cold]
    fn read_binding(
        &self,
        root: Gpa,
        request: &Request,
        stamps: &Stamps,
    ) -> Result<Binding, Blocked> {
        let Request { source, pasid, .. } = *request;
        let context = self.scalable_context(root, request, stamps)?;
        context.admit(request.address_type)?;
        let entry = context.pasid_of(&self.capabilities, pasid)?;
        self.tally.pasid_misses.add();
        let found = pasid::lookup(&*self.memory, &self.capabilities, &context, entry);
        let binding = self.read(found)?;
        self.bindings
            .insert(stamps.binding, source, pasid, &binding);
        Ok(binding)
    }

    fn read<T>(&self, found: Found<T>) -> Result<T, Blocked> {
        self.tally.table_reads.add_many(found.reads.into());
        found.entry
    }

    fn translation(
        &self,
        target: &Target<'_>,
        claim: &Claim,
        address: Iova,
        stamps: &Stamps,
    ) -> Result<Translation, FaultReason> {
        let writes = claim.access.writes();
        let judge = |page: Page| claim.check(page.rights()).map(|_| writes);
        let page = self.page(target, address, stamps, judge)?;
        let perms = claim.rights(page.rights()).unwrap_or_default();
        Ok(translate::answer(page, address, perms))
    }
}
