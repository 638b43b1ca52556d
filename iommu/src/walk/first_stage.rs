// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The walk of first-stage tables (First-Stage Translation), of four or five levels.
//!
//! Where a table lies is asked of the caller, who knows whether the second stage stands in between. Presence and reserved
//! bits are judged while walking, rights are stacked and left to the caller.

use super::second_stage::Leaf as SecondStageLeaf;
use super::trail::{Marks, Stage, Trail, Unset};
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
/// The bit of an entry that takes a right away when it is set.
const FORBIDDING: u64 = FirstStageEntry::new()
    .with_execute_disable(true)
    .into_bits();

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

/// Where a first-stage entry lies: at an address, or behind a second stage.
pub trait Place: Copy {
    /// The address of the word.
    fn gpa(&self) -> Gpa;

    /// Notes that the page that holds the word is to be written.
    ///
    /// # Errors
    /// The second stage forbids that.
    fn mark_written(&self, trail: &mut Trail) -> Result<(), FaultReason>;
}

impl Place for Gpa {
    fn gpa(&self) -> Gpa {
        *self
    }

    fn mark_written(&self, _trail: &mut Trail) -> Result<(), FaultReason> {
        Ok(())
    }
}

/// A first-stage entry that was found through this leaf of the second stage.
#[derive(Clone, Copy, Debug)]
pub struct Nested {
    /// Its address.
    pub gpa: Gpa,
    /// The leaf.
    pub through: SecondStageLeaf,
}

impl Place for Nested {
    fn gpa(&self) -> Gpa {
        self.gpa
    }

    fn mark_written(&self, trail: &mut Trail) -> Result<(), FaultReason> {
        if !self.through.page.rights().write() {
            return Err(FaultReason::FirstStageTableNoWrite);
        }
        self.through.mark_dirty(trail);
        Ok(())
    }
}

/// An entry that the walk came by.
#[derive(Clone, Copy, Debug)]
pub struct Visit<P> {
    place: P,
    value: u64,
}

impl<P: Place> Visit<P> {
    /// Notes that `bits` are to be set, which is a write to the page that holds the entry.
    fn mark(&self, bits: u64, trail: &mut Trail) -> Result<(), FaultReason> {
        if self.value & bits == bits {
            return Ok(());
        }
        self.place.mark_written(trail)?;
        trail.mark(Stage::First, self.place.gpa(), self.value, bits);
        Ok(())
    }
}

/// Where a walk notes the entries above its leaf whose accessed bit is not set yet. Usually there are none.
pub trait Above<P> {
    /// Notes such an entry.
    fn unused(&mut self, visit: Visit<P>);
}

/// Those entries, to be marked later.
#[derive(Debug)]
pub struct Fresh<P>(Vec<Visit<P>>);

impl<P> Above<P> for Fresh<P> {
    fn unused(&mut self, visit: Visit<P>) {
        self.0.push(visit);
    }
}

impl<P> Above<P> for Unset {
    #[inline]
    fn unused(&mut self, _visit: Visit<P>) {
        self.0 = true;
    }
}

impl<P> Default for Fresh<P> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// The entry that a walk ended at.
#[derive(Clone, Copy, Debug)]
pub struct Leaf<P> {
    /// The page, with the rights that all levels share; nested, its address is input of the second stage.
    pub page: Page,
    /// The table that holds the entry.
    pub table: Waypoint,
    entry: Visit<P>,
    accessed: u64,
}

impl<P: Place> Leaf<P> {
    /// Whether the accessed bit of the entry itself is set.
    #[inline]
    pub const fn is_accessed(&self) -> bool {
        self.entry.value & self.accessed == self.accessed
    }

    /// Notes that the entry and those above were used, and the page written if `write`.
    ///
    /// # Errors
    /// The second stage forbids to change an entry.
    #[inline]
    pub fn mark(
        &self,
        above: &Fresh<P>,
        write: bool,
        trail: &mut Trail,
    ) -> Result<(), FaultReason> {
        for visit in &above.0 {
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
#[inline(always)]
pub fn walk<M: PhysMem + ?Sized, P: Place>(
    tables: &Tables<'_, M>,
    stage: &FirstStage,
    address: u64,
    start: Option<Waypoint>,
    above: &mut impl Above<P>,
    mut locate: impl FnMut(Gpa, bool) -> Result<P, FaultReason>,
) -> Result<Leaf<P>, FaultReason> {
    let reserved = tables.capabilities.first_stage_reserved();
    let (mut table, mut level, from) = match start {
        Some(start) => (start.table(), start.level(), start.rights()),
        None => (stage.table, stage.levels, PageRights::ALL),
    };
    let accessed = stage.accessed();
    // What all entries above grant, bit by bit: rights stack, so they are told apart once.
    let mut granted = u64::MAX;
    let rights = |granted: u64| {
        let entry = FirstStageEntry::from_bits(granted ^ FORBIDDING);
        from.and(stage.rights(entry))
    };
    loop {
        let top = level == stage.levels;
        let place = locate(entry_at(table, level, address), top)?;
        let value = tables.load(place.gpa()).map_err(|_| {
            if top {
                FaultReason::FirstStageTopUnreadable
            } else {
                FaultReason::FirstStageUnreadable
            }
        })?;
        let visit = Visit { place, value };
        let entry = FirstStageEntry::from_bits(value);
        if !entry.present() {
            return Err(FaultReason::FirstStageNotPresent);
        }
        let leaf = level == 1 || entry.page_size();
        if value & reserved.at(level, leaf) != 0 {
            return Err(FaultReason::FirstStageReserved);
        }
        let granted_above = granted;
        granted &= value ^ FORBIDDING;
        if leaf {
            let rights_here = rights(granted)
                .with_global(entry.global())
                .with_dirty(entry.dirty());
            return Ok(Leaf {
                page: Page::containing(entry.address().0, level, rights_here),
                table: Waypoint::at(table, level, rights(granted_above)),
                entry: visit,
                accessed,
            });
        }
        if value & accessed != accessed {
            above.unused(visit);
        }
        (table, level) = (entry.address(), level - 1);
    }
}
