// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The walk of second-stage tables (Second-Stage Translation), of as many levels as the address width asks for.
//!
//! An entry without any right is not present, which ends the walk before its reserved bits are looked at. Reserved bits are
//! judged while walking, rights are stacked and left to the caller.

use super::trail::{Marks, Stage, Trail};
use super::{Page, PageRights, Tables, Waypoint, entry_at, shift_of};
use crate::address::Gpa;
use crate::capabilities::Capabilities;
use crate::memory::PhysMem;
use crate::spec::second_stage::SecondStageEntry;

/// The bits of an entry that say that it was used, and that its page was written.
const ACCESSED: u64 = SecondStageEntry::new().with_accessed(true).into_bits();
const DIRTY: u64 = SecondStageEntry::new().with_dirty(true).into_bits();

/// Second-stage tables and how they are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecondStage {
    /// The table of the highest level, 4 KiB aligned.
    pub table: Gpa,
    /// How many levels it has: 3, 4 or 5.
    pub levels: u32,
    /// Entries have an execute right; otherwise all may be executed.
    pub execute_rights: bool,
    /// Entries have accessed and dirty bits.
    pub accessed_dirty: bool,
}

impl SecondStage {
    /// Tables as legacy mode reads them.
    #[must_use]
    pub const fn plain(table: Gpa, levels: u32) -> Self {
        Self {
            table,
            levels,
            execute_rights: false,
            accessed_dirty: false,
        }
    }

    /// Whether an entry has a right at all.
    pub(super) const fn is_present(&self, entry: SecondStageEntry) -> bool {
        entry.read() || entry.write() || self.execute_rights && entry.execute()
    }

    /// The rights that a present entry leaves.
    pub(super) const fn rights(&self, entry: SecondStageEntry) -> PageRights {
        PageRights::ALL
            .with_read(entry.read())
            .with_write(entry.write())
            .with_execute(entry.execute() || !self.execute_rights)
    }

    /// Width in bits of the addresses that the tables and the unit allow.
    #[must_use]
    pub fn width(&self, capabilities: &Capabilities) -> u32 {
        capabilities.address_bits().min(shift_of(self.levels + 1))
    }
}

/// Why a walk found no page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkError {
    /// The table of the highest level is no memory.
    TopUnreadable,
    /// A lower table is no memory.
    Unreadable,
    /// A present entry has reserved bits set.
    Reserved,
    /// An entry has no right at all.
    NotPresent,
}

/// The entry that a walk ended at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The page, with the rights that all levels share (perhaps none).
    pub page: Page,
    /// The table that holds the entry.
    pub table: Waypoint,
    /// Where the entry lies.
    entry: Gpa,
    /// What it held.
    value: u64,
}

impl Leaf {
    /// Notes that the page is to be written.
    pub fn mark_dirty(&self, trail: &mut Trail) {
        if !self.page.rights().dirty() {
            trail.mark(Stage::Second, self.entry, self.value, DIRTY);
        }
    }
}

/// Walks `stage` for `address`, whose bits beyond the table's width are not looked at. `start` is where an earlier walk in the
/// same region came by. `reads` grows by the entries read.
///
/// # Errors
/// There is no page.
#[inline(always)]
pub fn walk<M: PhysMem + ?Sized>(
    tables: &Tables<'_, M>,
    stage: &SecondStage,
    address: u64,
    start: Option<Waypoint>,
    marks: &mut impl Marks,
) -> Result<Leaf, WalkError> {
    let reserved = tables.capabilities.second_stage_reserved();
    let (mut table, mut level, from) = match start {
        Some(start) => (start.table(), start.level(), start.rights()),
        None => (stage.table, stage.levels, PageRights::ALL),
    };
    // The bits that all entries above share: rights stack bit by bit, so they are told apart once.
    let mut shared = u64::MAX;
    let rights = |shared| from.and(stage.rights(SecondStageEntry::from_bits(shared)));
    loop {
        let place = entry_at(table, level, address);
        let value = tables.load(place).map_err(|_| {
            if level == stage.levels {
                WalkError::TopUnreadable
            } else {
                WalkError::Unreadable
            }
        })?;
        let entry = SecondStageEntry::from_bits(value);
        if !stage.is_present(entry) {
            return Err(WalkError::NotPresent);
        }
        let leaf = level == 1 || entry.page_size();
        if value & reserved.at(level, leaf) != 0 {
            return Err(WalkError::Reserved);
        }
        if stage.accessed_dirty {
            marks.mark(Stage::Second, place, value, ACCESSED);
        }
        if leaf {
            let dirty = !stage.accessed_dirty || entry.dirty();
            let rights_here = rights(shared & value).with_dirty(dirty);
            return Ok(Leaf {
                page: Page::containing(entry.address().0, level, rights_here),
                table: Waypoint::at(table, level, rights(shared)),
                entry: place,
                value,
            });
        }
        shared &= value;
        (table, level) = (entry.address(), level - 1);
    }
}
