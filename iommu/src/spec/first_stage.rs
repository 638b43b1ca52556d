// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! First-stage paging entry (First-Stage Paging Structures): 512 entries of 8 bytes a table, in the format of 64-bit
//! processors, which may use the same tables.
//!
//! Whether an entry points to a table or maps a page depends on its level and on [`FirstStageEntry::page_size`]; which bits
//! are then reserved stands with the walk.

use crate::address::Gpa;
use bitfield_struct::bitfield;

/// Bytes of a first-stage entry.
pub const ENTRY_SIZE: u64 = 8;

/// A first-stage paging entry.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct FirstStageEntry {
    /// P: the entry is present, and what it leads to may be read.
    pub present: bool,
    /// R/W: writes are allowed.
    pub write: bool,
    /// U/S: requests without supervisor privilege are allowed.
    pub user: bool,
    /// PWT: ignored without memory typing.
    pub write_through: bool,
    /// PCD: ignored without memory typing.
    pub cache_disable: bool,
    /// A: the entry was used.
    pub accessed: bool,
    /// D: the page was written; of leaves.
    pub dirty: bool,
    /// PS: the entry maps a page although a lower level exists; PAT in entries of the lowest level.
    pub page_size: bool,
    /// G: of leaves, told to devices that cache the translation.
    pub global: bool,
    pub ignored_0: bool,
    /// EA: as A, where extended accessed flags are enabled.
    pub extended_accessed: bool,
    pub ignored_1: bool,
    /// Page number of the next table or of the page; bits beyond the host address width are reserved. Bit 12 of a large page
    /// is PAT, its other low bits are reserved.
    #[bits(40)]
    pub page: u64,
    #[bits(11)]
    pub ignored_2: u16,
    /// XD: execution is forbidden, where that is enabled.
    pub execute_disable: bool,
}

impl FirstStageEntry {
    /// The next table, or the first byte of a page of 4 KiB.
    #[must_use]
    pub const fn address(self) -> Gpa {
        vm_memory::GuestAddress(self.page() << 12)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_stage_entry_fields_match_the_table() {
        assert_fields!(
            FirstStageEntry,
            u64,
            [
                (present, with_present, 0, 0),
                (write, with_write, 1, 1),
                (user, with_user, 2, 2),
                (write_through, with_write_through, 3, 3),
                (cache_disable, with_cache_disable, 4, 4),
                (accessed, with_accessed, 5, 5),
                (dirty, with_dirty, 6, 6),
                (page_size, with_page_size, 7, 7),
                (global, with_global, 8, 8),
                (ignored_0, with_ignored_0, 9, 9),
                (extended_accessed, with_extended_accessed, 10, 10),
                (ignored_1, with_ignored_1, 11, 11),
                (page, with_page, 51, 12),
                (ignored_2, with_ignored_2, 62, 52),
                (execute_disable, with_execute_disable, 63, 63),
            ]
        );
    }
}
