// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Walks of paging structures: functions of the tables in memory and the capabilities, without any state.
//!
//! A walk reads each entry once and judges what it read, because the guest may change the tables meanwhile. It changes
//! nothing: which accessed and dirty bits are to be set it notes in a [`trail::Trail`], for when the request is allowed.

pub mod first_stage;
pub mod range;
pub mod second_stage;
pub mod trail;

use crate::address::{Gpa, Iova};
use crate::capabilities::Capabilities;
use crate::memory::{MemoryError, PhysMem};
use crate::request::Perms;
use std::cell::Cell;

/// Address bits that one level resolves.
const LEVEL_BITS: u32 = 9;

/// Address bits below what `level` resolves: the size of what an entry of that level maps, as a power of two in bytes.
const fn shift_of(level: u32) -> u32 {
    12 + LEVEL_BITS * (level - 1)
}

/// Byte offset of the entry for `address` in a table of `level`.
const fn entry_offset(address: u64, level: u32) -> u64 {
    (address >> shift_of(level) & ((1 << LEVEL_BITS) - 1)) * 8
}

/// The tables in memory as one request sees them.
#[derive(Debug)]
pub struct Tables<'a, M: ?Sized> {
    /// Where they are.
    pub memory: &'a M,
    /// What their entries may say.
    pub capabilities: &'a Capabilities,
    reads: Cell<u32>,
}

impl<'a, M: PhysMem + ?Sized> Tables<'a, M> {
    /// The tables in `memory`, nothing read yet.
    pub const fn new(memory: &'a M, capabilities: &'a Capabilities) -> Self {
        Self {
            memory,
            capabilities,
            reads: Cell::new(0),
        }
    }

    /// Entries read so far.
    #[must_use]
    pub const fn reads(&self) -> u32 {
        self.reads.get()
    }

    fn load(&self, entry: Gpa) -> Result<u64, MemoryError> {
        self.reads.set(self.reads.get() + 1);
        self.memory.load_u64(entry)
    }
}

/// What the first stage grants beside the right to read, which every present entry gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstStageRights {
    /// R/W is set at every level.
    pub write: bool,
    /// U/S is set at every level.
    pub user: bool,
    /// No entry forbids execution.
    pub execute: bool,
    /// The leaf holds for every PASID.
    pub global: bool,
}

impl FirstStageRights {
    /// Where there is no first stage.
    pub const ALL: Self = Self {
        write: true,
        user: true,
        execute: true,
        global: false,
    };
}

/// A page that a leaf maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its first byte.
    pub gpa: Gpa,
    /// Its size as a power of two in bytes: 12, 21 or 30.
    pub shift: u32,
    /// The rights of the whole walk of the second stage; all of them where there is none.
    pub perms: Perms,
    /// The rights of the whole walk of the first stage.
    pub first_stage: FirstStageRights,
    /// A write changes nothing in the tables: the dirty bits are set, or there are none.
    pub dirty: bool,
}

impl Page {
    const fn offset_mask(&self) -> u64 {
        (1 << self.shift) - 1
    }

    /// What `address`, which lies in the page, translates to.
    #[must_use]
    pub const fn translate(&self, address: Iova) -> Gpa {
        vm_memory::GuestAddress(self.gpa.0 | address.0 & self.offset_mask())
    }

    /// Bytes from `address` to the end of the page, at least 1.
    #[must_use]
    pub const fn len_from(&self, address: Iova) -> u64 {
        self.offset_mask() - (address.0 & self.offset_mask()) + 1
    }

    /// The last byte of the page.
    #[must_use]
    pub const fn last(&self) -> Gpa {
        vm_memory::GuestAddress(self.gpa.0 | self.offset_mask())
    }
}

/// A table that a walk came to, and the rights up to there: another walk in the region that it maps may begin with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waypoint {
    /// The table.
    pub table: Gpa,
    /// Its level, 1 for the lowest.
    pub level: u32,
    /// Rights of the second stage so far.
    pub perms: Perms,
    /// Rights of the first stage so far.
    pub first_stage: FirstStageRights,
}

impl Waypoint {
    /// The start of every walk.
    const fn top(table: Gpa, level: u32) -> Self {
        Self {
            table,
            level,
            perms: Perms::ALL,
            first_stage: FirstStageRights::ALL,
        }
    }

    /// The waypoint as a page: as large as the region that the table maps, and at the table's address.
    pub(crate) const fn as_page(&self) -> Page {
        Page {
            gpa: self.table,
            shift: shift_of(self.level + 1),
            perms: self.perms,
            first_stage: self.first_stage,
            dirty: true,
        }
    }

    /// The reverse of [`Waypoint::as_page`].
    pub(crate) const fn of_page(page: &Page) -> Self {
        Self {
            table: page.gpa,
            level: (page.shift - 12) / LEVEL_BITS,
            perms: page.perms,
            first_stage: page.first_stage,
        }
    }
}
