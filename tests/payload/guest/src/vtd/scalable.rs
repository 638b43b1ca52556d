// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Scalable-mode root and context entries, PASID directories and tables, as raw words (VT-d spec 9.2, 9.4 to 9.6).

use super::paging::Paging;
use crate::mem;

/// Bits of a context entry's first word.
pub const FPD: u64 = 1 << 1;
pub const DTE: u64 = 1 << 2;
pub const PASIDE: u64 = 1 << 3;
pub const PRE: u64 = 1 << 4;
/// Of its second word.
pub const RID_PRIV: u64 = 1 << 20;

/// Bits of a PASID entry's first word.
pub const SSEE: u64 = 1 << 5;
pub const SSADE: u64 = 1 << 9;
/// Of its second word.
pub const PWSNP: u64 = 1 << 23;
/// Of its third word.
pub const SRE: u64 = 1 << 0;
pub const ERE: u64 = 1 << 1;
pub const FIVE_LEVELS: u64 = 1 << 2;
pub const WPE: u64 = 1 << 4;
pub const NXE: u64 = 1 << 5;
pub const SMEP: u64 = 1 << 6;
pub const EAFE: u64 = 1 << 7;

/// Root table and the context tables of bus 0.
#[derive(Clone, Copy)]
pub struct Tables {
    pub root: u64,
    halves: [u64; 2],
}

impl Tables {
    pub fn new() -> Tables {
        let tables = Tables {
            root: mem::page(),
            halves: [mem::page(), mem::page()],
        };
        let [lower, upper] = tables.halves;
        mem::write64(tables.root, lower | 1);
        mem::write64(tables.root + 8, upper | 1);
        tables
    }

    /// Address of the half of the root entry that `source` goes through.
    pub fn root_word(&self, source: u16) -> u64 {
        self.root + u64::from(source >> 8) * 16 + u64::from(source >> 7 & 1) * 8
    }

    /// Address of the context entry of `source`.
    pub fn context(&self, source: u16) -> u64 {
        let [lower, upper] = self.halves;
        let half = if source & 0x80 == 0 { lower } else { upper };
        half + u64::from(source & 0x7F) * 32
    }

    pub fn set_context(&self, source: u16, low: u64, high: u64) {
        let at = self.context(source);
        mem::write64(at, 0);
        mem::write64(at + 8, high);
        mem::write64(at, low);
    }
}

/// A PASID directory and its tables.
#[derive(Clone, Copy)]
pub struct Pasids {
    pub directory: u64,
    size: u64,
}

impl Pasids {
    /// PDTS of a directory of one page: PASIDs of 15 bits.
    pub const PAGE: u64 = 2;

    /// An empty directory of 2^(`size` + 7) entries.
    pub fn new(size: u64) -> Pasids {
        let count = (8 << (size + 7)) / mem::PAGE;
        Pasids {
            directory: mem::pages(count.max(1), mem::PAGE),
            size,
        }
    }

    /// The first word of a present context entry that names this directory.
    pub fn context_word(&self) -> u64 {
        self.directory | self.size << 9 | 1
    }

    /// Address of the directory entry of `pasid`.
    pub fn directory_entry(&self, pasid: u32) -> u64 {
        self.directory + u64::from(pasid >> 6) * 8
    }

    /// Address of the entry of `pasid`; its table is made as needed.
    pub fn entry(&self, pasid: u32) -> u64 {
        let at = self.directory_entry(pasid);
        if mem::read64(at) & 1 == 0 {
            mem::write64(at, mem::page() | 1);
        }
        (mem::read64(at) & 0x000F_FFFF_FFFF_F000) + u64::from(pasid & 63) * 64
    }

    /// Writes the entry of `pasid`, the first word last, while the old one may be in use.
    pub fn set(&self, pasid: u32, entry: Entry) {
        let (at, [low, middle, high]) = (self.entry(pasid), entry.0);
        mem::write64(at + 8, middle);
        mem::write64(at + 16, high);
        mem::write64(at, low);
    }

    pub fn clear(&self, pasid: u32) {
        self.set(pasid, Entry([0; 3]));
    }
}

/// The defined words of a PASID entry.
#[derive(Clone, Copy)]
pub struct Entry(pub [u64; 3]);

impl Entry {
    /// PGTT 001.
    pub fn first(tables: &Paging, domain: u16) -> Entry {
        Entry([
            0b001 << 6 | 1,
            domain.into(),
            tables.pointer() | mode(tables),
        ])
    }

    /// PGTT 010.
    pub fn second(tables: &Paging, domain: u16) -> Entry {
        let width = (tables.levels - 2) << 2;
        Entry([tables.pointer() | 0b010 << 6 | width | 1, domain.into(), 0])
    }

    /// PGTT 011.
    pub fn nested(first: &Paging, second: &Paging, domain: u16) -> Entry {
        let width = (second.levels - 2) << 2;
        Entry([
            second.pointer() | 0b011 << 6 | width | 1,
            domain.into(),
            first.pointer() | mode(first),
        ])
    }

    /// PGTT 100.
    pub fn pass_through(domain: u16) -> Entry {
        Entry([0b100 << 6 | 1, domain.into(), 0])
    }

    /// With more bits set in its words.
    pub fn with(self, low: u64, middle: u64, high: u64) -> Entry {
        let [a, b, c] = self.0;
        Entry([a | low, b | middle, c | high])
    }
}

fn mode(first: &Paging) -> u64 {
    if first.levels == 5 { FIVE_LEVELS } else { 0 }
}
