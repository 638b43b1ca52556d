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
use bitfield_struct::bitfield;
use std::cell::Cell;

/// Address bits that one level resolves.
const LEVEL_BITS: u32 = 9;

/// Address bits below what `level` resolves: the size of what an entry of that level maps, as a power of two in bytes.
const fn shift_of(level: u32) -> u32 {
    12 + LEVEL_BITS * (level - 1)
}

/// Where the entry for `address` lies in a table of `level`.
const fn entry_at(table: Gpa, level: u32, address: u64) -> Gpa {
    let index = address >> shift_of(level) & ((1 << LEVEL_BITS) - 1);
    vm_memory::GuestAddress(table.0 | (index * 8))
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

/// What both stages of a walk grant, and what else a leaf says of its page. A walk begins with [`PageRights::ALL`], and every
/// entry takes away what it does not give.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct PageRights {
    /// The second stage allows reads at every level; the first does by every present entry.
    pub read: bool,
    /// The second stage allows writes at every level.
    pub write: bool,
    /// The second stage allows instruction fetches at every level.
    pub execute: bool,
    /// R/W of the first stage is set at every level.
    pub first_write: bool,
    /// U/S of the first stage is set at every level.
    pub first_user: bool,
    /// No entry of the first stage forbids execution.
    pub first_execute: bool,
    /// The leaf of the first stage holds for every PASID.
    pub global: bool,
    /// A write changes nothing in the tables: the dirty bits are set, or there are none.
    pub dirty: bool,
}

impl PageRights {
    /// Every right there is.
    pub const ALL: Self = Self::new()
        .with_read(true)
        .with_write(true)
        .with_execute(true)
        .with_first_write(true)
        .with_first_user(true)
        .with_first_execute(true);

    /// The rights that both have: how rights stack down a walk.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self::from_bits(self.into_bits() & other.into_bits())
    }
}

/// A page that a leaf maps, in one word: it is handed on and kept as a whole.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Page {
    /// The rights of the whole walk; all those of a stage that there is not.
    #[bits(8)]
    pub rights: PageRights,
    /// The level whose entries map as much: 1 for 4 KiB, 2 for 2 MiB, 3 for 1 GiB.
    #[bits(4)]
    pub level: u32,
    #[bits(52)]
    number: u64,
}

impl Page {
    /// The page of an entry of `level` that contains `address`.
    #[must_use]
    #[inline]
    pub const fn containing(address: u64, level: u32, rights: PageRights) -> Self {
        let shift = shift_of(level);
        Self::new()
            .with_rights(rights)
            .with_level(level)
            .with_number(address >> shift << (shift - 12))
    }

    /// Its first byte.
    #[must_use]
    pub const fn gpa(self) -> Gpa {
        vm_memory::GuestAddress(self.number() << 12)
    }

    /// Its size as a power of two in bytes.
    #[must_use]
    pub const fn shift(self) -> u32 {
        shift_of(self.level())
    }

    const fn offset_mask(self) -> u64 {
        (1 << self.shift()) - 1
    }

    /// What `address`, which lies in the page, translates to.
    #[must_use]
    pub const fn translate(self, address: u64) -> Gpa {
        vm_memory::GuestAddress(self.gpa().0 | address & self.offset_mask())
    }

    /// Bytes from `address` to the end of the page, at least 1.
    #[must_use]
    pub const fn len_from(self, address: Iova) -> u64 {
        self.offset_mask() - (address.0 & self.offset_mask()) + 1
    }

    /// The last byte of the page.
    #[must_use]
    pub const fn last(self) -> Gpa {
        vm_memory::GuestAddress(self.gpa().0 | self.offset_mask())
    }
}

/// A table that a walk came to, and the rights up to there: another walk in the region that it maps may begin with it.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Waypoint {
    /// The rights so far.
    #[bits(8)]
    pub rights: PageRights,
    /// The table's level, 1 for the lowest.
    #[bits(4)]
    pub level: u32,
    #[bits(52)]
    number: u64,
}

impl Waypoint {
    /// The table at `table`, 4 KiB aligned.
    #[inline]
    const fn at(table: Gpa, level: u32, rights: PageRights) -> Self {
        Self::new()
            .with_rights(rights)
            .with_level(level)
            .with_number(table.0 >> 12)
    }

    /// The table.
    #[must_use]
    pub const fn table(self) -> Gpa {
        vm_memory::GuestAddress(self.number() << 12)
    }

    /// The waypoint as a page: as large as the region that the table maps, and at the table's address.
    pub(crate) const fn as_page(self) -> Page {
        Page::from_bits(self.with_level(self.level() + 1).into_bits())
    }

    /// The reverse of [`Waypoint::as_page`].
    pub(crate) const fn of_page(page: Page) -> Self {
        Self::from_bits(page.with_level(page.level() - 1).into_bits())
    }
}
