// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The short way of a request whose page is cached: three words are read and judged as they are.
//!
//! It answers what [`super::dma`] would answer, or nothing. What is rare goes there: instruction fetches, supervisor
//! privilege, what passes unchanged, and everything that is refused.

use super::Translator;
use super::mode::{RootWord, TableMode};
use crate::cache::iotlb::Space;
use crate::request::{AddressType, Perms, Request, Translation};
use crate::sync::Ordering;
use crate::translate;

/// Why there is no short way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Miss {
    /// The page is not cached, or not with the rights that the request needs.
    Page,
    /// The page was not looked for.
    Other,
}

impl Translator {
    #[inline]
    pub(super) fn hit(&self, request: &Request) -> Result<Translation, Miss> {
        let (space, execute) = self.space(request).ok_or(Miss::Other)?;
        let page = self.iotlb.get(space, request.address).ok_or(Miss::Page)?;
        let rights = page.rights();
        let perms = Perms {
            read: rights.read(),
            write: rights.write() && rights.first_write(),
            execute: execute && rights.execute() && rights.first_execute(),
        };
        let access = request.access;
        if !rights.first_user() || !perms.allow(access) || access.writes() && !rights.dirty() {
            return Err(Miss::Page);
        }
        self.tally.page_hits.add();
        Ok(translate::answer(page, request.address, perms))
    }

    /// The space of the page, and whether its pages may be executed.
    #[inline]
    fn space(&self, request: &Request) -> Option<(Space, bool)> {
        let root = RootWord::from_bits(self.root.load(Ordering::Acquire));
        let rare = request.execute
            || request.privileged
            || request.address_type != AddressType::Untranslated
            || translate::is_to_interrupt_range(request);
        if rare {
            return None;
        }
        match root.table_mode()? {
            TableMode::Legacy => Some((self.legacy_space(request)?, false)),
            TableMode::Scalable => self.scalable_space(request),
            _ => None,
        }
    }

    #[inline]
    fn legacy_space(&self, request: &Request) -> Option<Space> {
        let context = self.contexts.get(request.source)?.word;
        let plain = request.pasid.is_none()
            && !context.pass_through()
            && request.address.0 >> context.width() == 0;
        plain.then(|| Space::of(context.domain_id(), None))
    }

    /// The space, and whether its pages may be executed.
    #[inline]
    fn scalable_space(&self, request: &Request) -> Option<(Space, bool)> {
        let binding = self.bindings.get(request.source, request.pasid)?.word;
        if binding.rid_privilege() || binding.pass_through() {
            return None;
        }
        let space = Space::of(binding.domain_id(), binding.page_pasid());
        Some((space, binding.rules().execute()))
    }
}
