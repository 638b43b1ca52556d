// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The context cache of legacy mode: valid context entries, tagged with the source id.

use super::Stamp;
use super::lines::Lines;
use crate::ids::{DomainId, SourceId};
use crate::invalidation::FunctionMask;
use crate::translate::context::{Context, Route};
use crate::walk::second_stage::SecondStage;
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

/// The first word of a line; the second is the table's address.
#[bitfield(u64)]
pub(crate) struct ContextWord {
    domain: u16,
    fpd: bool,
    ats: bool,
    pub(crate) pass_through: bool,
    #[bits(5)]
    levels: u32,
    pub(crate) width: u8,
    __: u32,
}

#[inline]
pub(super) fn tag(source: SourceId) -> [u64; 1] {
    [Tag::new()
        .with_source(source.0)
        .with_in_use(true)
        .into_bits()]
}

impl ContextWord {
    pub(crate) const fn domain_id(self) -> DomainId {
        DomainId(self.domain())
    }
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
        self.0.get(&tag(source)).map(decode)
    }

    /// The first word of what is kept of `source`.
    #[inline]
    pub(crate) fn peek(&self, source: SourceId) -> Option<ContextWord> {
        let [word, _] = self.0.get(&tag(source))?;
        Some(ContextWord::from_bits(word))
    }

    pub(crate) fn insert(&self, stamp: Stamp, source: SourceId, context: &Context) {
        self.0.insert(stamp, &tag(source), encode(context));
    }

    /// Drops everything.
    pub(crate) fn drop_all(&self) -> u64 {
        self.0.start_drop().all()
    }

    /// Drops the entries that say `domain`.
    pub(crate) fn drop_domain(&self, domain: DomainId) -> u64 {
        self.0
            .start_drop()
            .matching(|_, value| ContextWord::from_bits(value[0]).domain() == domain.0)
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

fn encode(context: &Context) -> [u64; 2] {
    let word = ContextWord::new()
        .with_domain(context.domain.0)
        .with_fpd(context.fault_processing_disabled)
        .with_ats(context.ats)
        .with_width(context.width);
    match context.route {
        Route::PassThrough => [word.with_pass_through(true).into_bits(), 0],
        Route::SecondStage(stage) => [word.with_levels(stage.levels).into_bits(), stage.table.0],
    }
}

#[inline]
fn decode(value: [u64; 2]) -> Context {
    let word = ContextWord::from_bits(value[0]);
    Context {
        domain: DomainId(word.domain()),
        fault_processing_disabled: word.fpd(),
        ats: word.ats(),
        width: word.width(),
        route: if word.pass_through() {
            Route::PassThrough
        } else {
            let table = GuestAddress(value[1]);
            Route::SecondStage(SecondStage::plain(table, word.levels()))
        },
    }
}
