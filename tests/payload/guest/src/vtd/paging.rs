// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! First-stage and second-stage tables, written as raw words (VT-d spec 9.7, 9.8).

use crate::mem;

/// Bits of a first-stage entry.
pub const P: u64 = 1 << 0;
pub const WRITABLE: u64 = 1 << 1;
pub const USER: u64 = 1 << 2;
pub const ACCESSED: u64 = 1 << 5;
pub const DIRTY: u64 = 1 << 6;
pub const EXTENDED_ACCESSED: u64 = 1 << 10;
pub const XD: u64 = 1 << 63;
/// What a process would have.
pub const USER_PAGE: u64 = P | WRITABLE | USER;

/// Bits of a second-stage entry.
pub const R: u64 = 1 << 0;
pub const W: u64 = 1 << 1;
pub const X: u64 = 1 << 2;
pub const RW: u64 = R | W;
pub const SECOND_ACCESSED: u64 = 1 << 8;
pub const SECOND_DIRTY: u64 = 1 << 9;
pub const SNP: u64 = 1 << 11;

/// Large page, in either.
pub const PS: u64 = 1 << 7;

const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

/// The tables of one address space.
#[derive(Clone, Copy)]
pub struct Paging {
    /// Where the top table lies.
    pub top: u64,
    pub levels: u64,
    /// What entries that lead to a table have beside its address.
    link: u64,
    /// What is added to an address before it is written into an entry or pointer.
    bias: u64,
}

impl Paging {
    /// Empty first-stage tables.
    pub fn first(levels: u64) -> Paging {
        Paging {
            top: mem::page(),
            levels,
            link: USER_PAGE,
            bias: 0,
        }
    }

    /// Empty first-stage tables that the second stage finds at addresses greater by `bias`.
    pub fn biased(levels: u64, bias: u64) -> Paging {
        Paging {
            bias,
            ..Paging::first(levels)
        }
    }

    /// Empty second-stage tables.
    pub fn second(levels: u64) -> Paging {
        Paging {
            link: RW,
            ..Paging::first(levels)
        }
    }

    /// All rights of an entry.
    pub fn open(&self) -> u64 {
        self.link
    }

    /// The pointer to the top table, as a PASID entry has it.
    pub fn pointer(&self) -> u64 {
        self.top + self.bias
    }

    /// Where the entry for `address` at `level` lies (1 is the level of 4 KiB leaves); tables above it are made as needed.
    pub fn entry(&self, address: u64, level: u64) -> u64 {
        let mut table = self.top;
        for at in (level..=self.levels).rev() {
            let entry = table + (address >> (12 + 9 * (at - 1)) & 0x1FF) * 8;
            if at == level {
                return entry;
            }
            if mem::read64(entry) & self.link == 0 {
                mem::write64(entry, (mem::page() + self.bias) | self.link);
            }
            table = (mem::read64(entry) & ADDRESS) - self.bias;
        }
        table
    }

    /// Maps the 4 KiB page `address` to `to`, which is written as it is. Returns where the leaf lies.
    pub fn map(&self, address: u64, to: u64, flags: u64) -> u64 {
        let leaf = self.entry(address, 1);
        mem::write64(leaf, to | flags);
        leaf
    }

    /// Maps the large page at `address` (level 2 or 3).
    pub fn map_large(&self, address: u64, to: u64, level: u64, flags: u64) -> u64 {
        let leaf = self.entry(address, level);
        mem::write64(leaf, to | flags | PS);
        leaf
    }
}
