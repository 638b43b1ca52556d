// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the entries of either stage say to the walk of a range: the judgement of the walk of one address, entry by entry.

use crate::address::Gpa;
use crate::capabilities::Capabilities;
use crate::spec::first_stage::FirstStageEntry;
use crate::spec::second_stage::SecondStageEntry;
use crate::walk::first_stage::FirstStage;
use crate::walk::second_stage::SecondStage;
use crate::walk::{Page, PageRights};

/// The format of the tables.
#[derive(Clone, Copy, Debug)]
pub(super) enum Format {
    First(FirstStage),
    Second(SecondStage),
}

/// What an entry is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entry {
    NotPresent,
    Reserved,
    /// It names a table.
    Table(Gpa, PageRights),
    /// It maps a page.
    Leaf(Page),
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

    /// The bits that the present entry `value` of a table of `level` may not set.
    pub(super) fn reserved(&self, capabilities: &Capabilities, value: u64, level: u32) -> u64 {
        match self {
            Self::First(_) => {
                let leaf = level == 1 || FirstStageEntry::from_bits(value).page_size();
                capabilities.first_stage_reserved().at(level, leaf)
            }
            Self::Second(_) => {
                let leaf = level == 1 || SecondStageEntry::from_bits(value).page_size();
                capabilities.second_stage_reserved().at(level, leaf)
            }
        }
    }

    /// What the entry `value` of a table of `level` is, which was reached with the rights `above`.
    #[inline]
    pub(super) fn judge(
        &self,
        capabilities: &Capabilities,
        value: u64,
        level: u32,
        above: PageRights,
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
    above: PageRights,
) -> Entry {
    if !entry.present() {
        return Entry::NotPresent;
    }
    let leaf = level == 1 || entry.page_size();
    if entry.into_bits() & capabilities.first_stage_reserved().at(level, leaf) != 0 {
        return Entry::Reserved;
    }
    below(entry.address(), level, leaf, above.and(stage.rights(entry)))
}

fn second(
    stage: &SecondStage,
    capabilities: &Capabilities,
    entry: SecondStageEntry,
    level: u32,
    above: PageRights,
) -> Entry {
    if !stage.is_present(entry) {
        return Entry::NotPresent;
    }
    let leaf = level == 1 || entry.page_size();
    if entry.into_bits() & capabilities.second_stage_reserved().at(level, leaf) != 0 {
        return Entry::Reserved;
    }
    below(entry.address(), level, leaf, above.and(stage.rights(entry)))
}

const fn below(address: Gpa, level: u32, leaf: bool, rights: PageRights) -> Entry {
    if leaf {
        Entry::Leaf(Page::containing(address.0, level, rights))
    } else {
        Entry::Table(address, rights)
    }
}
