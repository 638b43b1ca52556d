// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the entries of either stage say to the walk of a range: the judgement of the walk of one address, entry by entry.

use crate::address::Gpa;
use crate::capabilities::Capabilities;
use crate::request::Perms;
use crate::spec::first_stage::FirstStageEntry;
use crate::spec::second_stage::SecondStageEntry;
use crate::walk::first_stage::{self, FirstStage};
use crate::walk::second_stage::{self, SecondStage};
use crate::walk::{FirstStageRights, shift_of};
use vm_memory::GuestAddress;

/// The format of the tables.
#[derive(Clone, Copy, Debug)]
pub(super) enum Format {
    First(FirstStage),
    Second(SecondStage),
}

/// The rights that the levels so far share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rights {
    pub(super) perms: Perms,
    pub(super) first_stage: FirstStageRights,
}

impl Rights {
    pub(super) const ALL: Self = Self {
        perms: Perms::ALL,
        first_stage: FirstStageRights::ALL,
    };
}

/// What an entry is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entry {
    NotPresent,
    Reserved,
    /// It names a table.
    Table(Gpa, Rights),
    /// It maps the page that begins here.
    Leaf(Gpa, Rights),
}

impl Format {
    /// The top table and its level.
    pub(super) const fn top(&self) -> (Gpa, u32) {
        match self {
            Self::First(stage) => (stage.table, stage.levels),
            Self::Second(stage) => (stage.table, stage.levels),
        }
    }

    /// The bits of which a present entry sets one.
    pub(super) const fn present_bits(&self) -> u64 {
        match self {
            Self::First(_) => FirstStageEntry::new().with_present(true).into_bits(),
            Self::Second(stage) => SecondStageEntry::new()
                .with_read(true)
                .with_write(true)
                .with_execute(stage.execute_rights)
                .into_bits(),
        }
    }

    /// The bits that hardware may set, which say nothing of where a page lies and what may be done with it.
    pub(super) const fn status_bits(&self) -> u64 {
        match self {
            Self::First(_) => FirstStageEntry::new()
                .with_accessed(true)
                .with_dirty(true)
                .with_extended_accessed(true)
                .into_bits(),
            Self::Second(_) => SecondStageEntry::new()
                .with_accessed(true)
                .with_dirty(true)
                .into_bits(),
        }
    }

    /// What the entry `value` of a table of `level` is, which was reached with the rights `above`.
    #[inline]
    pub(super) fn judge(
        &self,
        capabilities: &Capabilities,
        value: u64,
        level: u32,
        above: Rights,
    ) -> Entry {
        match self {
            Self::First(stage) => first(
                stage,
                capabilities,
                FirstStageEntry::from_bits(value),
                level,
                above,
            ),
            Self::Second(stage) => second(
                stage,
                capabilities,
                SecondStageEntry::from_bits(value),
                level,
                above,
            ),
        }
    }
}

fn first(
    stage: &FirstStage,
    capabilities: &Capabilities,
    entry: FirstStageEntry,
    level: u32,
    above: Rights,
) -> Entry {
    if !entry.present() {
        return Entry::NotPresent;
    }
    let leaf = level == 1 || entry.page_size();
    if first_stage::has_reserved_bits(capabilities, entry, level, leaf) {
        return Entry::Reserved;
    }
    let rights = Rights {
        first_stage: stage.stacked(above.first_stage, entry, leaf),
        ..above
    };
    if leaf {
        // The lowest bit of a large page's number is PAT.
        let shift = shift_of(level);
        Entry::Leaf(GuestAddress(entry.address().0 >> shift << shift), rights)
    } else {
        Entry::Table(entry.address(), rights)
    }
}

fn second(
    stage: &SecondStage,
    capabilities: &Capabilities,
    entry: SecondStageEntry,
    level: u32,
    above: Rights,
) -> Entry {
    let own = stage.rights(entry);
    if own.is_none() {
        return Entry::NotPresent;
    }
    let leaf = level == 1 || entry.page_size();
    if second_stage::has_reserved_bits(capabilities, entry, level, leaf) {
        return Entry::Reserved;
    }
    let rights = Rights {
        perms: stage.stacked(above.perms, own),
        ..above
    };
    if leaf {
        Entry::Leaf(entry.address(), rights)
    } else {
        Entry::Table(entry.address(), rights)
    }
}
