// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Second-stage paging entry (Second-Stage Paging Structures): 512 entries of 8 bytes a table.
//!
//! Whether an entry points to a table or maps a page depends on its level and on [`SecondStageEntry::page_size`]; which
//! bits are then reserved stands with the walk.

use crate::address::Gpa;
use bitfield_struct::bitfield;

/// Bytes of a second-stage entry.
pub const ENTRY_SIZE: u64 = 8;

/// A second-stage paging entry.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct SecondStageEntry {
    /// R: reads are allowed.
    pub read: bool,
    /// W: writes are allowed.
    pub write: bool,
    /// X: ignored unless execute requests are supported.
    pub execute: bool,
    /// EMT: memory type, of leaves only and ignored without memory typing.
    #[bits(3)]
    pub memory_type: u8,
    /// IPAT: as the memory type.
    pub ignore_pat: bool,
    /// PS: the entry maps a page although a lower level exists.
    pub page_size: bool,
    /// A: accessed; ignored in legacy mode.
    pub accessed: bool,
    /// D: dirty; ignored in legacy mode.
    pub dirty: bool,
    pub ignored_0: bool,
    /// SNP: accesses are snooped; of leaves, where snoop control is supported.
    pub snoop: bool,
    /// Page number of the next table or of the page; bits beyond the host address width are reserved, and so are the low
    /// bits of large pages.
    #[bits(40)]
    pub page: u64,
    #[bits(10)]
    pub ignored_1: u16,
    /// Bit 62, once transient mapping: reserved.
    pub reserved: bool,
    pub ignored_2: bool,
}

impl SecondStageEntry {
    /// The next table, or the first byte of the page.
    #[must_use]
    pub const fn address(self) -> Gpa {
        vm_memory::GuestAddress(self.page() << 12)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_stage_entry_fields_match_the_table() {
        assert_fields!(
            SecondStageEntry,
            u64,
            [
                (read, with_read, 0, 0),
                (write, with_write, 1, 1),
                (execute, with_execute, 2, 2),
                (memory_type, with_memory_type, 5, 3),
                (ignore_pat, with_ignore_pat, 6, 6),
                (page_size, with_page_size, 7, 7),
                (accessed, with_accessed, 8, 8),
                (dirty, with_dirty, 9, 9),
                (ignored_0, with_ignored_0, 10, 10),
                (snoop, with_snoop, 11, 11),
                (page, with_page, 51, 12),
                (ignored_1, with_ignored_1, 61, 52),
                (reserved, with_reserved, 62, 62),
                (ignored_2, with_ignored_2, 63, 63),
            ]
        );
    }
}
