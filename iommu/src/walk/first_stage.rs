// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The walk of first-stage tables (First-Stage Translation), of four or five levels.
//!
//! Where a table lies is asked of the caller, who knows whether the second stage stands in between. Presence and reserved
//! bits are judged while walking, rights are stacked and left to the caller.

use super::second_stage::Leaf as SecondStageLeaf;
use super::trail::{Stage, Trail};
use super::{FirstStageRights, LEVEL_BITS, Tables, Waypoint, entry_offset, shift_of};
use crate::address::Gpa;
use crate::capabilities::Capabilities;
use crate::fault::FaultReason;
use crate::memory::PhysMem;
use crate::spec::first_stage::FirstStageEntry;
use vm_memory::GuestAddress;

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

    /// The rights that are left of those `above` below `entry`.
    pub(super) const fn stacked(
        &self,
        above: FirstStageRights,
        entry: FirstStageEntry,
        leaf: bool,
    ) -> FirstStageRights {
        FirstStageRights {
            write: above.write && entry.write(),
            user: above.user && entry.user(),
            execute: above.execute && !(self.no_execute && entry.execute_disable()),
            global: leaf && entry.global(),
        }
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
        if let Some(page) = self.entry.through {
            if !page.perms.write {
                return Err(FaultReason::FirstStageTableNoWrite);
            }
            page.mark_dirty(trail);
        }
        trail.mark(Stage::First, self.entry.gpa, self.value, bits);
        Ok(())
    }
}

/// The entry that a walk ended at.
#[derive(Debug)]
pub struct Leaf {
    /// The first byte of the page; of a guest-physical one when nested.
    pub output: u64,
    /// Its size as a power of two in bytes.
    pub shift: u32,
    /// The rights that all levels share.
    pub rights: FirstStageRights,
    /// The table that holds the entry.
    pub table: Waypoint,
    entry: Visit,
    /// The entries above whose accessed bit is not set yet.
    fresh: Vec<Visit>,
    accessed: u64,
}

impl Leaf {
    /// A write to the page changes nothing in the entry.
    #[must_use]
    pub const fn is_dirty(&self) -> bool {
        self.entry.value & DIRTY != 0
    }

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
pub fn walk<M: PhysMem + ?Sized>(
    tables: &Tables<'_, M>,
    stage: &FirstStage,
    address: u64,
    start: Option<Waypoint>,
    mut locate: impl FnMut(u64, bool) -> Result<Located, FaultReason>,
) -> Result<Leaf, FaultReason> {
    let mut at = start.unwrap_or_else(|| Waypoint::top(stage.table, stage.levels));
    let mut fresh = Vec::new();
    loop {
        let top = at.level == stage.levels;
        let entry = locate(at.table.0 | entry_offset(address, at.level), top)?;
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
        let leaf = at.level == 1 || entry.page_size();
        if has_reserved_bits(tables.capabilities, entry, at.level, leaf) {
            return Err(FaultReason::FirstStageReserved);
        }
        let rights = stage.stacked(at.first_stage, entry, leaf);
        if leaf {
            let shift = shift_of(at.level);
            return Ok(Leaf {
                output: entry.address().0 >> shift << shift,
                shift,
                rights,
                table: at,
                entry: visit,
                fresh,
                accessed: stage.accessed(),
            });
        }
        if value & stage.accessed() != stage.accessed() {
            fresh.push(visit);
        }
        at = Waypoint {
            table: GuestAddress(entry.address().0),
            level: at.level - 1,
            first_stage: rights,
            ..at
        };
    }
}

/// Whether a present entry sets a bit that this unit reserves at `level`.
pub(super) fn has_reserved_bits(
    capabilities: &Capabilities,
    entry: FirstStageEntry,
    level: u32,
    leaf: bool,
) -> bool {
    let unsupported_size = leaf && !capabilities.first_stage_page(level);
    let beyond_host = !capabilities.is_host_address(entry.address());
    // The lowest bit of a large page's number is PAT.
    let misaligned = leaf && entry.page() & ((1 << (LEVEL_BITS * (level - 1))) - 1) & !1 != 0;
    unsupported_size || beyond_host || misaligned
}
