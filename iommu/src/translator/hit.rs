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
use vm_memory::GuestAddress;

impl Translator {
    #[inline]
    pub(super) fn hit(&self, request: &Request) -> Option<Translation> {
        let root = RootWord::from_bits(self.root.load(Ordering::Acquire));
        let rare = request.execute
            || request.privileged
            || request.address_type != AddressType::Untranslated
            || translate::is_to_interrupt_range(request);
        if rare {
            return None;
        }
        let (space, execute) = match root.table_mode()? {
            TableMode::Legacy => (self.legacy_space(request)?, false),
            TableMode::Scalable => self.scalable_space(request)?,
            _ => return None,
        };
        let (page, shift) = self.iotlb.peek(space, request.address)?;
        let perms = Perms {
            read: page.read(),
            write: page.write() && page.first_write(),
            execute: execute && page.execute() && page.first_execute(),
        };
        let access = request.access;
        if !page.first_user() || !perms.allow(access) || access.writes() && !page.dirty() {
            return None;
        }
        self.tally.page_hits.add();
        let mask = (1 << shift) - 1;
        let offset = request.address.0 & mask;
        Some(Translation {
            gpa: GuestAddress(page.page() << 12 | offset),
            len: mask - offset + 1,
            perms,
        })
    }

    #[inline]
    fn legacy_space(&self, request: &Request) -> Option<Space> {
        let context = self.contexts.peek(request.source)?;
        let plain = request.pasid.is_none()
            && !context.pass_through()
            && request.address.0 >> context.width() == 0;
        plain.then(|| Space {
            domain: context.domain_id(),
            pasid: None,
        })
    }

    /// The space, and whether its pages may be executed.
    #[inline]
    fn scalable_space(&self, request: &Request) -> Option<(Space, bool)> {
        let binding = self.bindings.peek(request.source, request.pasid)?;
        if binding.rid_privilege() {
            return None;
        }
        let space = Space {
            domain: binding.domain_id(),
            pasid: binding.page_pasid()?,
        };
        Some((space, binding.execute()))
    }
}
