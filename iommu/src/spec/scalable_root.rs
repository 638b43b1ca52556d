// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Root entry in scalable mode (Scalable-Mode Root Entry): 256 entries of 16 bytes, indexed by bus. Each of its two words
//! points to the context table of half the bus.

use crate::address::Gpa;
use bitfield_struct::bitfield;

/// Bytes of a root entry.
pub const ENTRY_SIZE: u64 = 16;

/// The first devfn that the upper word is for.
pub const UPPER_DEVFN: u8 = 0x80;

/// One word of a root entry: the low one for devices 0 to 15 of the bus, the high one for devices 16 to 31.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ScalableRootWord {
    /// LP or UP: the word is present.
    pub present: bool,
    #[bits(11)]
    pub reserved: u16,
    /// LCTP or UCTP: page number of the context table; bits beyond the host address width are reserved.
    #[bits(52)]
    pub table_page: u64,
}

impl ScalableRootWord {
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
    fn scalable_root_word_fields_match_the_table() {
        assert_fields!(
            ScalableRootWord,
            u64,
            [
                (present, with_present, 0, 0),
                (reserved, with_reserved, 11, 1),
                (table_page, with_table_page, 63, 12),
            ]
        );
    }

    #[test]
    fn scalable_root_word_table_is_a_byte_address() {
        assert_eq!(
            ScalableRootWord::from_bits(0xf_1234_5001).table().0,
            0xf_1234_5000
        );
    }
}
