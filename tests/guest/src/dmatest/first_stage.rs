// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! First-stage tables that the program writes itself, of 4 levels (VT-d specification, first-stage paging entries: those of the
//! processor's 4-level paging).

use std::ops::Range;

use anyhow::{Context, Result, bail};

use crate::memory::{Memory, PAGE, PAGE_BYTES};

/// Present, writable, for user requests.
pub const READ_WRITE: u64 = 0b111;

/// Present, for user requests.
pub const READ_ONLY: u64 = 0b101;

/// Set by the unit with an access, and in a leaf with a write.
pub const ACCESSED: u64 = 1 << 5;
pub const DIRTY: u64 = 1 << 6;

/// Tables in a piece of memory that the parent maps. The first page is the top table.
pub struct Tables {
    memory: Memory,
    at: u64,
    used: usize,
}

impl Tables {
    /// Empty tables, for so many pages, that the parent is to map at `at`.
    pub fn new(pages: usize, at: u64) -> Result<Self> {
        Ok(Self {
            memory: Memory::new(pages * PAGE)?,
            at,
            used: 1,
        })
    }

    /// The memory that the parent maps.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Where the top table is in the parent's space.
    pub fn top(&self) -> u64 {
        self.at
    }

    /// Points the leaf for `iova` at a page of the parent's space, with these bits.
    pub fn map(&mut self, iova: u64, page: u64, bits: u64) -> Result<()> {
        self.set(iova, 1, page | bits)
    }

    /// Clears the leaf for `iova`.
    pub fn unmap(&mut self, iova: u64) -> Result<()> {
        self.set(iova, 1, 0)
    }

    /// Sets the entry for `iova` at a level, from 1 for leaves to 4 for the top.
    pub fn set(&mut self, iova: u64, level: u32, entry: u64) -> Result<()> {
        let place = self.place(iova, level)?;
        self.memory.set_word(place, entry)
    }

    /// The leaf for `iova`.
    pub fn leaf(&mut self, iova: u64) -> Result<u64> {
        let place = self.place(iova, 1)?;
        self.memory.word(place)
    }

    /// Offset of an entry, for which tables above it are made where there are none.
    fn place(&mut self, iova: u64, level: u32) -> Result<usize> {
        let mut table = 0;
        let mut at = 4;
        loop {
            let index = iova >> (12 + 9 * (at - 1)) & 0x1ff;
            let place = table + usize::try_from(index)? * 8;
            if at == level {
                return Ok(place);
            }
            table = match self.memory.word(place)? {
                0 => self.grow(place)?,
                entry => self.table_of(entry)?,
            };
            at -= 1;
        }
    }

    fn grow(&mut self, place: usize) -> Result<usize> {
        let offset = self.used * PAGE;
        if offset as u64 >= self.memory.bytes() {
            bail!("no room for another table");
        }
        self.used += 1;
        let entry = (self.at + offset as u64) | READ_WRITE;
        self.memory.set_word(place, entry)?;
        Ok(offset)
    }

    fn table_of(&self, entry: u64) -> Result<usize> {
        let page = entry & !(PAGE_BYTES - 1);
        let offset = page.checked_sub(self.at);
        let offset = offset.filter(|offset| self.offsets().contains(offset));
        Ok(usize::try_from(
            offset.context("a table that is not among these")?,
        )?)
    }

    fn offsets(&self) -> Range<u64> {
        0..self.memory.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn map_writes_one_entry_a_level_at_the_place_of_the_specification() {
        let mut tables = Tables::new(8, 0x10_0000).unwrap();
        // Indices 1, 2, 3 and 4 from the top down.
        let iova = 1 << 39 | 2 << 30 | 3 << 21 | 4 << 12;
        tables.map(iova, 0x20_0000, READ_ONLY).unwrap();
        let word = |page: usize, index: usize| tables.memory.word(page * PAGE + index * 8).unwrap();
        assert_eq!(word(0, 1), 0x10_1007);
        assert_eq!(word(1, 2), 0x10_2007);
        assert_eq!(word(2, 3), 0x10_3007);
        assert_eq!(word(3, 4), 0x20_0005);
        tables.map(iova + 4096, 0x21_0000, READ_WRITE).unwrap();
        assert_eq!(tables.memory.word(3 * PAGE + 5 * 8).unwrap(), 0x21_0007);
        assert_eq!(tables.leaf(iova).unwrap(), 0x20_0005);
    }
}
