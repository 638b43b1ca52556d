// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The short ways of a request: its context or PASID entry is cached, and so is its page, or the usual walk finds it.
//!
//! They answer what [`super::dma`] would answer, or nothing. What is rare goes there: instruction fetches, supervisor
//! privilege, what passes unchanged, what changes tables, and everything that is refused.

use super::Translator;
use super::mode::{RootWord, TableMode};
use crate::cache::iotlb::Space;
use crate::fault::Fault;
use crate::memory::PhysMem;
use crate::request::{AddressType, Perms, Request, Translation};
use crate::sync::Ordering;
use crate::translate::context::Context;
use crate::translate::paging::Stages;
use crate::translate::pasid::Binding;
use crate::translate::rights::user_perms;
use crate::translate::{self, plain};
use crate::walk::{Tables, Waypoint};

/// Why the caches alone do not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Miss {
    /// The page is not cached.
    Page,
    /// The page was not looked for, or is not enough.
    Other,
}

/// The cached entry that a request goes through.
#[derive(Clone, Copy, Debug)]
enum Through {
    Context(Context),
    Binding(Binding),
}

impl Through {
    /// What its pages are tagged with.
    #[inline]
    const fn space(&self) -> Space {
        match self {
            Self::Context(context) => Space::of(context.word.domain_id(), None),
            Self::Binding(binding) => {
                Space::of(binding.word.domain_id(), binding.word.page_pasid())
            }
        }
    }

    #[inline]
    const fn stages(&self) -> Option<Stages> {
        match self {
            Self::Context(context) => context.stages(),
            Self::Binding(binding) => binding.stages(),
        }
    }

    /// Whether its pages may be executed.
    #[inline]
    fn execute(&self) -> bool {
        match self {
            Self::Context(_) => false,
            Self::Binding(binding) => binding.word.rules().execute(),
        }
    }

    /// The rights to a page, given what the page says.
    #[inline]
    fn perms(&self, page: Perms) -> Perms {
        Perms {
            execute: page.execute & self.execute(),
            ..page
        }
    }
}

impl Translator {
    /// The answer from the caches alone: three words are read and judged as they are.
    #[inline(always)]
    pub(super) fn hit(&self, request: &Request) -> Result<Translation, Miss> {
        let through = self.through(request).ok_or(Miss::Other)?;
        let page = self.iotlb.get(through.space(), request.address);
        let page = page.ok_or(Miss::Page)?;
        let perms = user_perms(page.rights(), request.access).ok_or(Miss::Other)?;
        self.tally.page_hits.add();
        let perms = through.perms(perms);
        Ok(translate::answer(page, request.address, perms))
    }

    /// The answer to a request that the caches alone do not give.
    #[inline(never)]
    pub(super) fn miss(&self, request: &Request, miss: Miss) -> Result<Translation, Fault> {
        if miss == Miss::Page
            && let Some(found) = self.walk_plainly(request)
        {
            return Ok(found);
        }
        self.dma(request)
    }

    #[inline]
    fn walk_plainly(&self, request: &Request) -> Option<Translation> {
        match self.memory.as_ram() {
            Some(ram) => self.walk_plainly_in(ram, request),
            None => self.walk_plainly_in(&*self.memory, request),
        }
    }

    #[inline]
    fn walk_plainly_in<M: PhysMem + ?Sized>(
        &self,
        memory: &M,
        request: &Request,
    ) -> Option<Translation> {
        // Before anything else is read: what is dropped meanwhile must not be kept.
        let stamps = (self.iotlb.stamp(), self.tables.stamp());
        let through = self.through(request)?;
        let space = through.space();
        let stages = through.stages()?;
        let start = self.tables.get(space, request.address);
        let start = start.map(Waypoint::of_page);
        let tables = Tables::new(memory, &self.capabilities);
        let found = plain::walk(&tables, &stages, request.address, request.access, start);
        self.tally.table_reads.add_many(tables.reads().into());
        let (found, perms) = found?;
        self.keep(space, request.address, stamps, &found, start);
        self.tally.walked(&stages);
        let perms = through.perms(perms);
        Some(translate::answer(found.page, request.address, perms))
    }

    /// The entry that the request goes through, if it is one of the usual.
    #[inline(always)]
    fn through(&self, request: &Request) -> Option<Through> {
        let root = RootWord::from_bits(self.root.load(Ordering::Acquire));
        let rare = request.execute
            || request.privileged
            || request.address_type != AddressType::Untranslated
            || translate::is_to_interrupt_range(request);
        if rare {
            return None;
        }
        match root.table_mode()? {
            TableMode::Legacy => self.through_context(request),
            TableMode::Scalable => self.through_binding(request),
            _ => None,
        }
    }

    #[inline(always)]
    fn through_context(&self, request: &Request) -> Option<Through> {
        let context = self.contexts.get(request.source)?;
        let plain = request.pasid.is_none()
            && !context.word.pass_through()
            && request.address.0 >> context.word.width() == 0;
        plain.then_some(Through::Context(context))
    }

    #[inline(always)]
    fn through_binding(&self, request: &Request) -> Option<Through> {
        let binding = self.bindings.get(request.source, request.pasid)?;
        let plain = !binding.word.rid_privilege() && !binding.word.pass_through();
        plain.then_some(Through::Binding(binding))
    }
}
