// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The PASID cache: valid PASID entries, tagged with the source id and the PASID of the request, or its absence.
//!
//! A line holds what the context says too, so that a hit needs no second lookup; whatever drops contexts drops from here.

use super::Stamp;
use super::lines::Lines;
use crate::ids::{DomainId, Pasid, SourceId};
use crate::invalidation::FunctionMask;
use crate::translate::pasid::{Binding, BindingWord};
use bitfield_struct::bitfield;
use vm_memory::GuestAddress;

/// The PASID cache.
#[derive(Debug)]
pub(crate) struct BindingCache(Lines<1, 3>);

#[bitfield(u64)]
struct Tag {
    source: u16,
    #[bits(20)]
    pasid: Pasid,
    has_pasid: bool,
    #[bits(26)]
    __: u64,
    /// A tag in use is not 0.
    in_use: bool,
}

/// What a tag holds in the place of a PASID when there is none.
const NO_PASID: Pasid = Pasid::from_bits(0);

#[inline]
fn tag(source: SourceId, pasid: Option<Pasid>) -> [u64; 1] {
    [Tag::new()
        .with_source(source.0)
        .with_pasid(pasid.unwrap_or(NO_PASID))
        .with_has_pasid(pasid.is_some())
        .with_in_use(true)
        .into_bits()]
}

impl BindingCache {
    pub(crate) fn new(lines: usize) -> Self {
        Self(Lines::new(lines))
    }

    pub(crate) fn stamp(&self) -> Stamp {
        self.0.stamp()
    }

    /// What requests of `source` with `pasid`, or without, go through.
    #[inline(always)]
    pub(crate) fn get(&self, source: SourceId, pasid: Option<Pasid>) -> Option<Binding> {
        let [word, first_table, second_table] = self.0.get(&tag(source, pasid))?;
        Some(Binding {
            word: BindingWord::from_bits(word),
            first_table: GuestAddress(first_table),
            second_table: GuestAddress(second_table),
        })
    }

    pub(crate) fn insert(
        &self,
        stamp: Stamp,
        source: SourceId,
        pasid: Option<Pasid>,
        binding: &Binding,
    ) {
        let words = [
            binding.word.into_bits(),
            binding.first_table.0,
            binding.second_table.0,
        ];
        self.0.insert(stamp, &tag(source, pasid), words);
    }

    /// Drops everything.
    pub(crate) fn drop_all(&self) -> u64 {
        self.0.start_drop().all()
    }

    /// Drops every PASID of `source` and of the functions that `mask` adds.
    pub(crate) fn drop_source(&self, source: SourceId, mask: FunctionMask) -> u64 {
        self.0.start_drop().matching(|tag, _| {
            let held = SourceId(Tag::from_bits(tag[0]).source());
            mask.matches(source, held)
        })
    }

    /// Drops the entries that say `domain`.
    pub(crate) fn drop_domain(&self, domain: DomainId) -> u64 {
        self.0
            .start_drop()
            .matching(|_, value| BindingWord::from_bits(value[0]).domain_id() == domain)
    }

    /// Drops the entries of `pasid` that say `domain`, whichever way requests came to that PASID.
    pub(crate) fn drop_pasid(&self, domain: DomainId, pasid: Pasid) -> u64 {
        self.0.start_drop().matching(|_, value| {
            let word = BindingWord::from_bits(value[0]);
            word.domain_id() == domain && word.entry_pasid() == pasid
        })
    }
}
