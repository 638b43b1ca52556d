// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The walk of second-stage tables (Second-Stage Translation), of as many levels as the address width asks for.
//!
//! An entry without any right is not present, which ends the walk before its reserved bits are looked at. Reserved bits are
//! judged while walking, rights are stacked and left to the caller.

use super::trail::{Stage, Trail};
use super::{LEVEL_BITS, Tables, Waypoint, entry_offset, shift_of};
use crate::address::Gpa;
use crate::capabilities::Capabilities;
use crate::memory::PhysMem;
use crate::request::Perms;
use crate::spec::second_stage::SecondStageEntry;
use vm_memory::GuestAddress;

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

    /// The rights that make an entry present.
    pub(super) const fn rights(&self, entry: SecondStageEntry) -> Perms {
        Perms {
            read: entry.read(),
            write: entry.write(),
            execute: self.execute_rights && entry.execute(),
        }
    }

    /// The rights that are left of those `above` below an entry with `rights`.
    pub(super) const fn stacked(&self, above: Perms, rights: Perms) -> Perms {
        above.and(Perms {
            execute: rights.execute || !self.execute_rights,
            ..rights
        })
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
    /// The first byte of the page.
    pub gpa: Gpa,
    /// Its size as a power of two in bytes.
    pub shift: u32,
    /// The rights that all levels share (perhaps none).
    pub perms: Perms,
    /// The table that holds the entry.
    pub table: Waypoint,
    /// Where the entry lies.
    entry: Gpa,
    /// What it held.
    value: u64,
    /// Whether it has a dirty bit.
    tracked: bool,
}

impl Leaf {
    /// What `address`, which lies in the page, translates to.
    #[must_use]
    pub const fn translate(&self, address: u64) -> Gpa {
        GuestAddress(self.gpa.0 | address & ((1 << self.shift) - 1))
    }

    /// A write to the page changes nothing in the entry.
    #[must_use]
    pub const fn is_dirty(&self) -> bool {
        !self.tracked || self.value & DIRTY != 0
    }

    /// Notes that the page is to be written.
    pub fn mark_dirty(&self, trail: &mut Trail) {
        if self.tracked {
            trail.mark(Stage::Second, self.entry, self.value, DIRTY);
        }
    }
}

/// Walks `stage` for `address`, whose bits beyond the table's width are not looked at. `start` is where an earlier walk in the
/// same region came by. `reads` grows by the entries read.
///
/// # Errors
/// There is no page.
pub fn walk<M: PhysMem + ?Sized>(
    tables: &Tables<'_, M>,
    stage: &SecondStage,
    address: u64,
    start: Option<Waypoint>,
    trail: &mut Trail,
) -> Result<Leaf, WalkError> {
    let mut at = start.unwrap_or_else(|| Waypoint::top(stage.table, stage.levels));
    loop {
        let place = GuestAddress(at.table.0 | entry_offset(address, at.level));
        let value = tables.load(place).map_err(|_| {
            if at.level == stage.levels {
                WalkError::TopUnreadable
            } else {
                WalkError::Unreadable
            }
        })?;
        let entry = SecondStageEntry::from_bits(value);
        let rights = stage.rights(entry);
        if rights.is_none() {
            return Err(WalkError::NotPresent);
        }
        let leaf = at.level == 1 || entry.page_size();
        if has_reserved_bits(tables.capabilities, entry, at.level, leaf) {
            return Err(WalkError::Reserved);
        }
        if stage.accessed_dirty {
            trail.mark(Stage::Second, place, value, ACCESSED);
        }
        let perms = stage.stacked(at.perms, rights);
        if leaf {
            return Ok(Leaf {
                gpa: entry.address(),
                shift: shift_of(at.level),
                perms,
                table: at,
                entry: place,
                value,
                tracked: stage.accessed_dirty,
            });
        }
        at = Waypoint {
            table: entry.address(),
            level: at.level - 1,
            perms,
            ..at
        };
    }
}

/// Whether a present entry sets a bit that this unit reserves at `level`.
pub(super) fn has_reserved_bits(
    capabilities: &Capabilities,
    entry: SecondStageEntry,
    level: u32,
    leaf: bool,
) -> bool {
    let unsupported_size = leaf && !capabilities.second_stage_page(level);
    let snoop = entry.snoop() && !(leaf && capabilities.snoop_control());
    let beyond_host = !capabilities.is_host_address(entry.address());
    let misaligned = leaf && entry.page() & ((1 << (LEVEL_BITS * (level - 1))) - 1) != 0;
    entry.reserved() || unsupported_size || snoop || beyond_host || misaligned
}
