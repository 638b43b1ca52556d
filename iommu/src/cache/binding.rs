// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The PASID cache: valid PASID entries, tagged with the source id and the PASID of the request, or its absence.
//!
//! A line holds what the context says too, so that a hit needs no second lookup; whatever drops contexts drops from here.

use super::Stamp;
use super::lines::Lines;
use crate::ids::{DomainId, Pasid, SourceId};
use crate::invalidation::FunctionMask;
use crate::translate::paging::Stages;
use crate::translate::pasid::Binding;
use crate::translate::rights::Rules;
use crate::walk::first_stage::FirstStage;
use crate::walk::second_stage::SecondStage;
use bitfield_struct::bitfield;
use vm_memory::GuestAddress;

/// The PASID cache.
#[derive(Debug)]
pub(crate) struct BindingCache(Lines<1, 3>);

#[bitfield(u64)]
struct Tag {
    source: u16,
    #[bits(20)]
    pasid: u32,
    has_pasid: bool,
    #[bits(26)]
    __: u64,
    /// A tag in use is not 0.
    in_use: bool,
}

/// The first word of a line; the others are the top tables of the first and of the second stage.
#[bitfield(u64)]
pub(crate) struct BindingWord {
    domain: u16,
    #[bits(20)]
    pasid: u32,
    fpd: bool,
    device_tlb: bool,
    pub(crate) rid_privilege: bool,
    snooped: bool,
    supervisor: bool,
    pub(crate) execute: bool,
    write_protect: bool,
    smep: bool,
    /// 0 where there is no such stage.
    #[bits(3)]
    first_levels: u32,
    no_execute: bool,
    extended_accessed: bool,
    /// 0 where there is no such stage.
    #[bits(3)]
    second_levels: u32,
    execute_rights: bool,
    accessed_dirty: bool,
    #[bits(10)]
    __: u16,
}

#[inline]
fn tag(source: SourceId, pasid: Option<Pasid>) -> [u64; 1] {
    [Tag::new()
        .with_source(source.0)
        .with_pasid(pasid.map_or(0, Pasid::get))
        .with_has_pasid(pasid.is_some())
        .with_in_use(true)
        .into_bits()]
}

impl BindingWord {
    pub(crate) const fn domain_id(self) -> DomainId {
        DomainId(self.domain())
    }

    /// The PASID by which the pages are told from others of the domain, as [`Binding::page_pasid`]; `None` where there are
    /// no pages, because requests pass unchanged.
    pub(crate) const fn page_pasid(self) -> Option<Option<Pasid>> {
        match (self.first_levels(), self.second_levels()) {
            (0, 0) => None,
            (0, _) => Some(None),
            _ => Some(Pasid::new(self.pasid())),
        }
    }
}

impl BindingCache {
    pub(crate) fn new(lines: usize) -> Self {
        Self(Lines::new(lines))
    }

    pub(crate) fn stamp(&self) -> Stamp {
        self.0.stamp()
    }

    /// What requests of `source` with `pasid`, or without, go through.
    #[inline]
    pub(crate) fn get(&self, source: SourceId, pasid: Option<Pasid>) -> Option<Binding> {
        self.0.get(&tag(source, pasid)).and_then(decode)
    }

    /// The first word of what is kept for requests of `source` with `pasid`, or without.
    #[inline]
    pub(crate) fn peek(&self, source: SourceId, pasid: Option<Pasid>) -> Option<BindingWord> {
        let [word, ..] = self.0.get(&tag(source, pasid))?;
        Some(BindingWord::from_bits(word))
    }

    pub(crate) fn insert(
        &self,
        stamp: Stamp,
        source: SourceId,
        pasid: Option<Pasid>,
        binding: &Binding,
    ) {
        self.0.insert(stamp, &tag(source, pasid), encode(binding));
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
            .matching(|_, value| BindingWord::from_bits(value[0]).domain() == domain.0)
    }

    /// Drops the entries of `pasid` that say `domain`, whichever way requests came to that PASID.
    pub(crate) fn drop_pasid(&self, domain: DomainId, pasid: Pasid) -> u64 {
        self.0.start_drop().matching(|_, value| {
            let word = BindingWord::from_bits(value[0]);
            word.domain() == domain.0 && word.pasid() == pasid.get()
        })
    }
}

fn encode(binding: &Binding) -> [u64; 3] {
    let word = BindingWord::new()
        .with_domain(binding.domain.0)
        .with_pasid(binding.pasid.get())
        .with_fpd(binding.fault_processing_disabled)
        .with_device_tlb(binding.device_tlb)
        .with_rid_privilege(binding.rid_privilege)
        .with_snooped(binding.snooped)
        .with_supervisor(binding.rules.supervisor)
        .with_execute(binding.rules.execute)
        .with_write_protect(binding.rules.write_protect)
        .with_smep(binding.rules.smep);
    let (first, second) = match binding.stages {
        None => (None, None),
        Some(Stages::First(first)) => (Some(first), None),
        Some(Stages::Second(second)) => (None, Some(second)),
        Some(Stages::Nested(first, second)) => (Some(first), Some(second)),
    };
    let word = first.map_or(word, |first| {
        word.with_first_levels(first.levels)
            .with_no_execute(first.no_execute)
            .with_extended_accessed(first.extended_accessed)
    });
    let word = second.map_or(word, |second| {
        word.with_second_levels(second.levels)
            .with_execute_rights(second.execute_rights)
            .with_accessed_dirty(second.accessed_dirty)
    });
    [
        word.into_bits(),
        first.map_or(0, |first| first.table.0),
        second.map_or(0, |second| second.table.0),
    ]
}

#[inline]
fn decode(value: [u64; 3]) -> Option<Binding> {
    let word = BindingWord::from_bits(value[0]);
    let first = FirstStage {
        table: GuestAddress(value[1]),
        levels: word.first_levels(),
        no_execute: word.no_execute(),
        extended_accessed: word.extended_accessed(),
    };
    let second = SecondStage {
        table: GuestAddress(value[2]),
        levels: word.second_levels(),
        execute_rights: word.execute_rights(),
        accessed_dirty: word.accessed_dirty(),
    };
    Some(Binding {
        domain: DomainId(word.domain()),
        pasid: Pasid::new(word.pasid())?,
        fault_processing_disabled: word.fpd(),
        device_tlb: word.device_tlb(),
        rid_privilege: word.rid_privilege(),
        snooped: word.snooped(),
        rules: Rules {
            supervisor: word.supervisor(),
            execute: word.execute(),
            write_protect: word.write_protect(),
            smep: word.smep(),
        },
        stages: match (first.levels, second.levels) {
            (0, 0) => None,
            (_, 0) => Some(Stages::First(first)),
            (0, _) => Some(Stages::Second(second)),
            _ => Some(Stages::Nested(first, second)),
        },
    })
}
