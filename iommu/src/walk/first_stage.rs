// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The walk of first-stage tables (First-Stage Translation), of four or five levels.
//!
//! Where a table lies is asked of the caller, who knows whether the second stage stands in between. Presence and reserved
//! bits are judged while walking, rights are stacked and left to the caller.

use super::second_stage::Leaf as SecondStageLeaf;
use super::trail::{Stage, Trail};
use super::{Page, PageRights, Tables, Waypoint, entry_at, shift_of};
use crate::address::Gpa;
use crate::fault::FaultReason;
use crate::memory::PhysMem;
use crate::spec::first_stage::FirstStageEntry;

/// The bits of an entry that say that it was used, and that its page was written.
const ACCESSED: u64 = FirstStageEntry::new().with_accessed(true).into_bits();
const EXTENDED_ACCESSED: u64 = FirstStageEntry::new()
    .with_extended_accessed(true)
    .into_bits();
const DIRTY: u64 = FirstStageEntry::new().with_dirty(true).into_bits();

/// First-stage tables and how they are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FirstStage {
    /// The table of the highest level, 4 KiB aligned.
    pub table: Gpa,
    /// How many levels it has: 4 or 5.
    pub levels: u32,
    /// Entries can forbid execution.
    pub no_execute: bool,
    /// Entries have an extended accessed bit.
    pub extended_accessed: bool,
}

impl FirstStage {
    /// Whether the bits beyond the table's width repeat its highest.
    #[must_use]
    pub const fn is_canonical(&self, address: u64) -> bool {
        let unused = 64 - self.width();
        let extended = (address << unused).cast_signed() >> unused;
        extended.cast_unsigned() == address
    }

    /// The rights that a present entry leaves.
    pub(super) const fn rights(&self, entry: FirstStageEntry) -> PageRights {
        PageRights::ALL
            .with_first_write(entry.write())
            .with_first_user(entry.user())
            .with_first_execute(!(self.no_execute && entry.execute_disable()))
    }

    /// Width in bits of the addresses that the tables resolve.
    #[must_use]
    pub const fn width(&self) -> u32 {
        shift_of(self.levels + 1)
    }

    const fn accessed(&self) -> u64 {
        if self.extended_accessed {
            ACCESSED | EXTENDED_ACCESSED
        } else {
            ACCESSED
        }
    }
}

/// Where a first-stage entry lies.
#[derive(Clone, Copy, Debug)]
pub struct Located {
    /// Its address.
    pub gpa: Gpa,
    /// The second-stage leaf through which it was found, if any.
    pub through: Option<SecondStageLeaf>,
}

/// An entry that the walk came by.
#[derive(Clone, Copy, Debug)]
struct Visit {
    entry: Located,
    value: u64,
}

impl Visit {
    /// Notes that `bits` are to be set, which is a write to the page that holds the entry.
    fn mark(&self, bits: u64, trail: &mut Trail) -> Result<(), FaultReason> {
        if self.value & bits == bits {
            return Ok(());
        }
        if let Some(leaf) = self.entry.through {
            if !leaf.page.rights().write() {
                return Err(FaultReason::FirstStageTableNoWrite);
            }
            leaf.mark_dirty(trail);
        }
        trail.mark(Stage::First, self.entry.gpa, self.value, bits);
        Ok(())
    }
}

/// The entry that a walk ended at.
#[derive(Debug)]
pub struct Leaf {
    /// The page, with the rights that all levels share; nested, its address is input of the second stage.
    pub page: Page,
    /// The table that holds the entry.
    pub table: Waypoint,
    entry: Visit,
    /// The entries above whose accessed bit is not set yet.
    fresh: Vec<Visit>,
    accessed: u64,
}

impl Leaf {
    /// Notes that the entries were used, and the page written if `write`.
    ///
    /// # Errors
    /// The second stage forbids to change an entry.
    pub fn mark(&self, write: bool, trail: &mut Trail) -> Result<(), FaultReason> {
        for visit in &self.fresh {
            visit.mark(self.accessed, trail)?;
        }
        let dirty = if write { DIRTY } else { 0 };
        self.entry.mark(self.accessed | dirty, trail)
    }
}

/// Walks `stage` for `address`, which is canonical. `locate` tells where the word at an address of the first stage lies, and
/// whether that word belongs to the top table. `start` is where an earlier walk in the same region came by. `reads` grows by
/// the entries read.
///
/// # Errors
/// There is no page, or `locate` says why there is none.
#[inline]
pub fn walk<M: PhysMem + ?Sized>(
    tables: &Tables<'_, M>,
    stage: &FirstStage,
    address: u64,
    start: Option<Waypoint>,
    mut locate: impl FnMut(Gpa, bool) -> Result<Located, FaultReason>,
) -> Result<Leaf, FaultReason> {
    let reserved = tables.capabilities.first_stage_reserved();
    let (mut table, mut level, mut above) = match start {
        Some(start) => (start.table(), start.level(), start.rights()),
        None => (stage.table, stage.levels, PageRights::ALL),
    };
    let mut fresh = Vec::new();
    loop {
        let top = level == stage.levels;
        let entry = locate(entry_at(table, level, address), top)?;
        let value = tables.load(entry.gpa).map_err(|_| {
            if top {
                FaultReason::FirstStageTopUnreadable
            } else {
                FaultReason::FirstStageUnreadable
            }
        })?;
        let visit = Visit { entry, value };
        let entry = FirstStageEntry::from_bits(value);
        if !entry.present() {
            return Err(FaultReason::FirstStageNotPresent);
        }
        let leaf = level == 1 || entry.page_size();
        if value & reserved.at(level, leaf) != 0 {
            return Err(FaultReason::FirstStageReserved);
        }
        let rights = above.and(stage.rights(entry));
        if leaf {
            let rights = rights.with_global(entry.global()).with_dirty(entry.dirty());
            return Ok(Leaf {
                page: Page::containing(entry.address().0, level, rights),
                table: Waypoint::at(table, level, above),
                entry: visit,
                fresh,
                accessed: stage.accessed(),
            });
        }
        if value & stage.accessed() != stage.accessed() {
            fresh.push(visit);
        }
        (table, level, above) = (entry.address(), level - 1, rights);
    }
}
