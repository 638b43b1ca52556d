// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Interrupt remapping table entry (Interrupt Remapping Table Entry): 16 bytes, in the format for remapped interrupts and,
//! where IM is set, in that for posted ones.

use bitfield_struct::bitfield;

/// Bytes of an entry.
pub const ENTRY_SIZE: u64 = 16;

/// SVT: the requester is not checked.
pub const VALIDATE_NOTHING: u8 = 0b00;
/// SVT: SID and SQ name the requester.
pub const VALIDATE_SOURCE: u8 = 0b01;
/// SVT: SID holds the first (15:8) and the last bus (7:0) of allowed requesters.
pub const VALIDATE_BUS: u8 = 0b10;

/// The low word of an entry.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct IrteLow {
    /// P: the entry is present.
    pub present: bool,
    /// FPD: qualified faults of this entry are not recorded.
    pub fault_processing_disabled: bool,
    /// DM: destination mode, set for logical.
    pub logical: bool,
    /// RH: redirection hint.
    pub redirection_hint: bool,
    /// TM: trigger mode, set for level.
    pub level_triggered: bool,
    /// DLM: delivery mode.
    #[bits(3)]
    pub delivery_mode: u8,
    #[bits(4)]
    pub available: u8,
    #[bits(3)]
    pub reserved_0: u8,
    /// IM: the entry has the format for posted interrupts.
    pub posted: bool,
    /// V: vector.
    pub vector: u8,
    pub reserved_1: u8,
    /// DST: destination APIC id; without extended mode only bits 15:8 of the field.
    pub destination: u32,
}

/// The high word of an entry.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct IrteHigh {
    /// SID: source id, or a range of buses.
    pub source: u16,
    /// SQ: which function bits of the source id are ignored.
    #[bits(2)]
    pub source_qualifier: u8,
    /// SVT: what is validated.
    #[bits(2)]
    pub validation_type: u8,
    #[bits(44)]
    pub reserved: u64,
}

/// The low word of an entry in the format for posted interrupts.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PostedIrteLow {
    /// P: the entry is present.
    pub present: bool,
    /// FPD: qualified faults of this entry are not recorded.
    pub fault_processing_disabled: bool,
    #[bits(6)]
    pub reserved_0: u8,
    #[bits(4)]
    pub available: u8,
    #[bits(2)]
    pub reserved_1: u8,
    /// URG: notify although notifications are suppressed.
    pub urgent: bool,
    /// IM: the entry has this format.
    pub posted: bool,
    /// VV: the vector that is posted.
    pub vector: u8,
    #[bits(14)]
    pub reserved_2: u16,
    /// PDA bits 31:6: address of the posted-interrupt descriptor.
    #[bits(26)]
    pub descriptor_low: u32,
}

/// The high word of an entry in the format for posted interrupts.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PostedIrteHigh {
    /// SID, SQ and SVT, as in the other format.
    #[bits(20)]
    pub validation: u32,
    #[bits(12)]
    pub reserved: u16,
    /// PDA bits 63:32.
    pub descriptor_high: u32,
}

/// A whole entry as it stood in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Irte {
    /// Bits 63:0.
    pub low: IrteLow,
    /// Bits 127:64.
    pub high: IrteHigh,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn irte_low_fields_match_the_table() {
        assert_fields!(
            IrteLow,
            u64,
            [
                (present, with_present, 0, 0),
                (
                    fault_processing_disabled,
                    with_fault_processing_disabled,
                    1,
                    1
                ),
                (logical, with_logical, 2, 2),
                (redirection_hint, with_redirection_hint, 3, 3),
                (level_triggered, with_level_triggered, 4, 4),
                (delivery_mode, with_delivery_mode, 7, 5),
                (available, with_available, 11, 8),
                (reserved_0, with_reserved_0, 14, 12),
                (posted, with_posted, 15, 15),
                (vector, with_vector, 23, 16),
                (reserved_1, with_reserved_1, 31, 24),
                (destination, with_destination, 63, 32),
            ]
        );
    }

    #[test]
    fn posted_irte_low_fields_match_the_table() {
        assert_fields!(
            PostedIrteLow,
            u64,
            [
                (present, with_present, 0, 0),
                (
                    fault_processing_disabled,
                    with_fault_processing_disabled,
                    1,
                    1
                ),
                (reserved_0, with_reserved_0, 7, 2),
                (available, with_available, 11, 8),
                (reserved_1, with_reserved_1, 13, 12),
                (urgent, with_urgent, 14, 14),
                (posted, with_posted, 15, 15),
                (vector, with_vector, 23, 16),
                (reserved_2, with_reserved_2, 37, 24),
                (descriptor_low, with_descriptor_low, 63, 38),
            ]
        );
    }

    /// Positions in the entry are 64 higher.
    #[test]
    fn posted_irte_high_fields_match_the_table() {
        assert_fields!(
            PostedIrteHigh,
            u64,
            [
                (validation, with_validation, 19, 0),
                (reserved, with_reserved, 31, 20),
                (descriptor_high, with_descriptor_high, 63, 32),
            ]
        );
    }

    /// Positions in the entry are 64 higher.
    #[test]
    fn irte_high_fields_match_the_table() {
        assert_fields!(
            IrteHigh,
            u64,
            [
                (source, with_source, 15, 0),
                (source_qualifier, with_source_qualifier, 17, 16),
                (validation_type, with_validation_type, 19, 18),
                (reserved, with_reserved, 63, 20),
            ]
        );
    }
}
