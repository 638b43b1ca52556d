// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Legacy-mode tables: root, context and second-stage tables, written as raw words (VT-d spec 9.1, 9.3, 9.8).

use crate::mem;

/// Rights of a second-stage entry.
pub const R: u64 = 1 << 0;
pub const W: u64 = 1 << 1;
pub const RW: u64 = R | W;
/// Large page, in entries of levels 2 and 3.
pub const PS: u64 = 1 << 7;

/// Translation types of a context entry.
pub const TT_TRANSLATED: u64 = 0;
pub const TT_PASS_THROUGH: u64 = 2;

const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

/// The tables of one device in one domain.
#[derive(Clone, Copy)]
pub struct Tables {
    pub root: u64,
    pub context: u64,
    pub top: u64,
    pub levels: u64,
    pub domain: u16,
    pub source: u16,
}

impl Tables {
    /// Empty tables of `levels` levels, with root and context entry present.
    pub fn new(source: u16, domain: u16, levels: u64) -> Tables {
        let tables = Tables {
            root: mem::page(),
            context: mem::page(),
            top: mem::page(),
            levels,
            domain,
            source,
        };
        mem::write64(tables.root_entry(), tables.context | 1);
        tables.set_context(tables.top | TT_TRANSLATED << 2 | 1, tables.second_word());
        tables
    }

    /// AW and domain id, as the second word of the context entry has them.
    pub fn second_word(&self) -> u64 {
        (self.levels - 2) | u64::from(self.domain) << 8
    }

    /// Address of the root entry of the device's bus.
    pub fn root_entry(&self) -> u64 {
        self.root + u64::from(self.source >> 8) * 16
    }

    /// Address of the device's context entry.
    pub fn context_entry(&self) -> u64 {
        self.context + u64::from(self.source & 0xFF) * 16
    }

    pub fn set_context(&self, low: u64, high: u64) {
        mem::write64(self.context_entry() + 8, high);
        mem::write64(self.context_entry(), low);
    }

    /// Address of the entry for `iova` at `level` (1 is the level of 4 KiB leaves); tables above it are made as needed.
    pub fn entry(&self, iova: u64, level: u64) -> u64 {
        let mut table = self.top;
        for at in (level..=self.levels).rev() {
            let entry = table + (iova >> (12 + 9 * (at - 1)) & 0x1FF) * 8;
            if at == level {
                return entry;
            }
            if mem::read64(entry) & RW == 0 {
                mem::write64(entry, mem::page() | RW);
            }
            table = mem::read64(entry) & ADDRESS;
        }
        table
    }

    /// Maps the 4 KiB page `iova` to `address` with these rights.
    pub fn map(&self, iova: u64, address: u64, rights: u64) {
        mem::write64(self.entry(iova, 1), address | rights);
    }

    /// Maps the large page at `iova` (level 2 or 3).
    pub fn map_large(&self, iova: u64, address: u64, level: u64, rights: u64) {
        mem::write64(self.entry(iova, level), address | rights | PS);
    }

    /// Takes the 4 KiB page `iova` away.
    pub fn unmap(&self, iova: u64) {
        mem::write64(self.entry(iova, 1), 0);
    }
}
