// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Context entry in legacy mode (Context Entry): 256 entries of 16 bytes a bus, indexed by device and function.
//!
//! Not here: the scalable-mode entry of 32 bytes.

use crate::address::Gpa;
use bitfield_struct::bitfield;

/// Bytes of a context entry.
pub const ENTRY_SIZE: u64 = 16;

/// TT: untranslated requests go through the second stage, address translation services are blocked.
pub const TYPE_UNTRANSLATED: u8 = 0b00;
/// TT: as [`TYPE_UNTRANSLATED`], and translation and translated requests are allowed.
pub const TYPE_ALL: u8 = 0b01;
/// TT: untranslated requests pass through.
pub const TYPE_PASS_THROUGH: u8 = 0b10;

/// The low word of a context entry.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ContextLow {
    /// P: the entry is present.
    pub present: bool,
    /// FPD: qualified faults of this entry are not recorded.
    pub fault_processing_disabled: bool,
    /// TT: how requests are translated.
    #[bits(2)]
    pub translation_type: u8,
    #[bits(8)]
    pub reserved: u8,
    /// SSPTPTR: page number of the top second-stage table; bits beyond the host address width are reserved.
    #[bits(52)]
    pub table_page: u64,
}

impl ContextLow {
    /// The top second-stage table.
    #[must_use]
    pub const fn table(self) -> Gpa {
        vm_memory::GuestAddress(self.table_page() << 12)
    }
}

/// The high word of a context entry.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ContextHigh {
    /// AW: address width, 1 for 39 bits, 2 for 48, 3 for 57.
    #[bits(3)]
    pub address_width: u8,
    #[bits(4)]
    pub ignored: u8,
    #[bits(1)]
    pub reserved_0: u8,
    /// DID: domain id; the bits beyond what the unit supports are reserved.
    pub domain: u16,
    #[bits(40)]
    pub reserved_1: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_entry_low_fields_match_the_table() {
        assert_fields!(
            ContextLow,
            u64,
            [
                (present, with_present, 0, 0),
                (
                    fault_processing_disabled,
                    with_fault_processing_disabled,
                    1,
                    1
                ),
                (translation_type, with_translation_type, 3, 2),
                (reserved, with_reserved, 11, 4),
                (table_page, with_table_page, 63, 12),
            ]
        );
    }

    #[test]
    fn context_entry_high_fields_match_the_table() {
        assert_fields!(
            ContextHigh,
            u64,
            [
                (address_width, with_address_width, 2, 0),
                (ignored, with_ignored, 6, 3),
                (reserved_0, with_reserved_0, 7, 7),
                (domain, with_domain, 23, 8),
                (reserved_1, with_reserved_1, 63, 24),
            ]
        );
    }
}
