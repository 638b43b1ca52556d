// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! PASID table entry (Scalable-Mode PASID Table Entry): 64 entries of 64 bytes a table, indexed by the PASID's bits 5:0.
//!
//! The first three of its eight words are defined, the others are reserved. Which fields are reserved too because the unit
//! does not support what they ask for stands with the lookup.

use crate::address::Gpa;
use bitfield_struct::bitfield;

/// Bytes of a PASID entry.
pub const ENTRY_SIZE: u64 = 64;
/// 64-bit words of a PASID entry.
pub const ENTRY_WORDS: usize = 8;

/// PGTT: through the first stage only.
pub const TYPE_FIRST_STAGE: u8 = 0b001;
/// PGTT: through the second stage only.
pub const TYPE_SECOND_STAGE: u8 = 0b010;
/// PGTT: through both, the first stage's addresses being input of the second.
pub const TYPE_NESTED: u8 = 0b011;
/// PGTT: unchanged.
pub const TYPE_PASS_THROUGH: u8 = 0b100;

/// Bits 63:0 of a PASID entry.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PasidEntryLow {
    /// P: the entry is present.
    pub present: bool,
    /// FPD: qualified faults of this entry are not recorded.
    pub fault_processing_disabled: bool,
    /// AW: width of the second stage, 1 for 39 bits, 2 for 48, 3 for 57; ignored where there is none.
    #[bits(3)]
    pub address_width: u8,
    /// SSEE: second-stage entries have an execute right.
    pub second_stage_execute: bool,
    /// PGTT: how requests are translated.
    #[bits(3)]
    pub translation_type: u8,
    /// SSADE: second-stage entries have accessed and dirty bits.
    pub second_stage_dirty: bool,
    #[bits(2)]
    pub reserved: u8,
    /// SSPTPTR: page number of the top second-stage table; bits beyond the host address width are reserved.
    #[bits(52)]
    pub second_stage_page: u64,
}

impl PasidEntryLow {
    /// The top second-stage table.
    #[must_use]
    pub const fn second_stage_table(self) -> Gpa {
        vm_memory::GuestAddress(self.second_stage_page() << 12)
    }
}

/// Bits 127:64 of a PASID entry.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PasidEntryMiddle {
    /// DID: domain id; the bits beyond what the unit supports are reserved.
    pub domain: u16,
    #[bits(7)]
    pub reserved: u8,
    /// PWSNP: walks are coherent.
    pub walk_snoop: bool,
    /// PGSNP: accesses are snooped.
    pub page_snoop: bool,
    /// CD, EMTE, EMT, PWT, PCD and PAT: ignored without memory typing.
    #[bits(39)]
    pub memory_type: u64,
}

/// Bits 191:128 of a PASID entry.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PasidEntryHigh {
    /// SRE: requests with supervisor privilege are allowed.
    pub supervisor_enable: bool,
    /// ERE: requests for instruction fetch are allowed.
    pub execute_enable: bool,
    /// FSPM: levels of the first stage, 0 for four, 1 for five.
    #[bits(2)]
    pub first_stage_mode: u8,
    /// WPE: requests with supervisor privilege need the right to write.
    pub write_protect: bool,
    /// NXE: first-stage entries can forbid execution.
    pub no_execute: bool,
    /// SMEP: requests with supervisor privilege may not execute user pages.
    pub smep: bool,
    /// EAFE: first-stage entries have an extended accessed bit.
    pub extended_accessed: bool,
    #[bits(4)]
    pub reserved: u8,
    /// FSPTPTR: page number of the top first-stage table; of a guest-physical page that the second stage translates when
    /// nested, else bits beyond the host address width are reserved.
    #[bits(52)]
    pub first_stage_page: u64,
}

impl PasidEntryHigh {
    /// The top first-stage table.
    #[must_use]
    pub const fn first_stage_table(self) -> Gpa {
        vm_memory::GuestAddress(self.first_stage_page() << 12)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits of the entry as a whole are the word's number times 64 further on.
    #[test]
    fn pasid_entry_low_fields_match_the_table() {
        assert_fields!(
            PasidEntryLow,
            u64,
            [
                (present, with_present, 0, 0),
                (
                    fault_processing_disabled,
                    with_fault_processing_disabled,
                    1,
                    1
                ),
                (address_width, with_address_width, 4, 2),
                (second_stage_execute, with_second_stage_execute, 5, 5),
                (translation_type, with_translation_type, 8, 6),
                (second_stage_dirty, with_second_stage_dirty, 9, 9),
                (reserved, with_reserved, 11, 10),
                (second_stage_page, with_second_stage_page, 63, 12),
            ]
        );
    }

    #[test]
    fn pasid_entry_middle_fields_match_the_table() {
        assert_fields!(
            PasidEntryMiddle,
            u64,
            [
                (domain, with_domain, 15, 0),
                (reserved, with_reserved, 22, 16),
                (walk_snoop, with_walk_snoop, 23, 23),
                (page_snoop, with_page_snoop, 24, 24),
                (memory_type, with_memory_type, 63, 25),
            ]
        );
    }

    #[test]
    fn pasid_entry_high_fields_match_the_table() {
        assert_fields!(
            PasidEntryHigh,
            u64,
            [
                (supervisor_enable, with_supervisor_enable, 0, 0),
                (execute_enable, with_execute_enable, 1, 1),
                (first_stage_mode, with_first_stage_mode, 3, 2),
                (write_protect, with_write_protect, 4, 4),
                (no_execute, with_no_execute, 5, 5),
                (smep, with_smep, 6, 6),
                (extended_accessed, with_extended_accessed, 7, 7),
                (reserved, with_reserved, 11, 8),
                (first_stage_page, with_first_stage_page, 63, 12),
            ]
        );
    }
}
