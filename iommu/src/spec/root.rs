// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Root entry in legacy mode (Root Entry): 256 entries of 16 bytes, indexed by bus.
//!
//! Not here: the scalable-mode entry, whose halves each point to a table.

use crate::address::Gpa;
use bitfield_struct::bitfield;

/// Bytes of a root entry.
pub const ENTRY_SIZE: u64 = 16;

/// The low word of a root entry. All of the high word is reserved.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct RootEntry {
    /// P: the entry is present.
    pub present: bool,
    #[bits(11)]
    pub reserved: u16,
    /// CTP: page number of the context table; bits beyond the host address width are reserved.
    #[bits(52)]
    pub table_page: u64,
}

impl RootEntry {
    /// The context table.
    #[must_use]
    pub const fn table(self) -> Gpa {
        vm_memory::GuestAddress(self.table_page() << 12)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_entry_fields_match_the_table() {
        assert_fields!(
            RootEntry,
            u64,
            [
                (present, with_present, 0, 0),
                (reserved, with_reserved, 11, 1),
                (table_page, with_table_page, 63, 12),
            ]
        );
    }

    #[test]
    fn root_entry_table_is_a_byte_address() {
        assert_eq!(RootEntry::from_bits(0x1234_5001).table().0, 0x1234_5000);
    }
}
