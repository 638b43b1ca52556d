// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! PASID directory entry (Scalable-Mode PASID Directory Entry): 8 bytes, indexed by the PASID's bits 19:6.

use crate::address::Gpa;
use bitfield_struct::bitfield;

/// Bytes of a directory entry.
pub const ENTRY_SIZE: u64 = 8;
/// Bits of a PASID that index the PASID table below a directory entry.
pub const TABLE_BITS: u32 = 6;

/// A PASID directory entry.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PasidDirectoryEntry {
    /// P: the entry is present.
    pub present: bool,
    /// FPD: qualified faults of this entry are not recorded.
    pub fault_processing_disabled: bool,
    #[bits(10)]
    pub reserved: u16,
    /// SMPTBLPTR: page number of the PASID table; bits beyond the host address width are reserved.
    #[bits(52)]
    pub table_page: u64,
}

impl PasidDirectoryEntry {
    /// The PASID table.
    #[must_use]
    pub const fn table(self) -> Gpa {
        vm_memory::GuestAddress(self.table_page() << 12)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pasid_directory_entry_fields_match_the_table() {
        assert_fields!(
            PasidDirectoryEntry,
            u64,
            [
                (present, with_present, 0, 0),
                (
                    fault_processing_disabled,
                    with_fault_processing_disabled,
                    1,
                    1
                ),
                (reserved, with_reserved, 11, 2),
                (table_page, with_table_page, 63, 12),
            ]
        );
    }
}
