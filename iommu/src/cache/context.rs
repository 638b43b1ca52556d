// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The context cache of legacy mode: valid context entries, tagged with the source id.

use super::Stamp;
use super::lines::Lines;
use crate::ids::{DomainId, SourceId};
use crate::invalidation::FunctionMask;
use crate::translate::context::{Context, ContextWord};
use bitfield_struct::bitfield;
use vm_memory::GuestAddress;

/// The context cache of legacy mode.
#[derive(Debug)]
pub(crate) struct ContextCache(Lines<1, 2>);

#[bitfield(u64)]
struct Tag {
    source: u16,
    #[bits(47)]
    __: u64,
    /// A tag in use is not 0.
    in_use: bool,
}

#[inline]
pub(super) fn tag(source: SourceId) -> [u64; 1] {
    [Tag::new()
        .with_source(source.0)
        .with_in_use(true)
        .into_bits()]
}

impl ContextCache {
    pub(crate) fn new(lines: usize) -> Self {
        Self(Lines::new(lines))
    }

    pub(crate) fn stamp(&self) -> Stamp {
        self.0.stamp()
    }

    #[inline]
    pub(crate) fn get(&self, source: SourceId) -> Option<Context> {
        let [word, table] = self.0.get(&tag(source))?;
        Some(Context {
            word: ContextWord::from_bits(word),
            table: GuestAddress(table),
        })
    }

    pub(crate) fn insert(&self, stamp: Stamp, source: SourceId, context: &Context) {
        let words = [context.word.into_bits(), context.table.0];
        self.0.insert(stamp, &tag(source), words);
    }

    /// Drops everything.
    pub(crate) fn drop_all(&self) -> u64 {
        self.0.start_drop().all()
    }

    /// Drops the entries that say `domain`.
    pub(crate) fn drop_domain(&self, domain: DomainId) -> u64 {
        self.0
            .start_drop()
            .matching(|_, value| ContextWord::from_bits(value[0]).domain_id() == domain)
    }

    /// Drops the entries of `source` and of the functions that `mask` adds. The domain that the request also names is no
    /// condition: software in caching mode names 0 for an entry that it believes was not present.
    pub(crate) fn drop_source(&self, source: SourceId, mask: FunctionMask) -> u64 {
        let dropper = self.0.start_drop();
        mask.functions(source)
            .map(|function| dropper.tag(&tag(function)))
            .sum()
    }
}
