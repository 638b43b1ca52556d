// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Translation completion data entry (PCI Express, Address Translation Services): what a device that asked for a
//! translation is told when the request succeeds.

use crate::address::Gpa;
use bitfield_struct::bitfield;

/// A translation completion data entry. Without R and W everything else is meaningless.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct AtsCompletion {
    /// R: reads are allowed.
    pub read: bool,
    /// W: writes are allowed.
    pub write: bool,
    /// U: the range may be accessed by untranslated requests only.
    pub untranslated_only: bool,
    /// Exe: execution is allowed.
    pub execute: bool,
    /// Priv: the rights are those of supervisor privilege.
    pub privileged: bool,
    /// Global: the translation holds for every PASID.
    pub global: bool,
    #[bits(4)]
    pub reserved: u8,
    /// N: accesses may do without snooping.
    pub no_snoop: bool,
    /// S: the range is larger than 4 KiB, as the low bits of the page number say.
    pub size: bool,
    /// Page number of the range. With S, a 0 above n ones means 8 KiB << n.
    #[bits(52)]
    pub page: u64,
}

impl AtsCompletion {
    /// A completion for the naturally aligned range of 2^`shift` bytes (12 or more) at `gpa`, without any right yet.
    #[must_use]
    pub const fn of_range(gpa: Gpa, shift: u32) -> Self {
        let first = gpa.0 >> 12;
        if shift <= 12 {
            return Self::new().with_page(first);
        }
        let ones = (1 << (shift - 13)) - 1;
        Self::new().with_size(true).with_page(first | ones)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::GuestAddress;

    #[test]
    fn ats_completion_fields_match_the_table() {
        assert_fields!(
            AtsCompletion,
            u64,
            [
                (read, with_read, 0, 0),
                (write, with_write, 1, 1),
                (untranslated_only, with_untranslated_only, 2, 2),
                (execute, with_execute, 3, 3),
                (privileged, with_privileged, 4, 4),
                (global, with_global, 5, 5),
                (reserved, with_reserved, 9, 6),
                (no_snoop, with_no_snoop, 10, 10),
                (size, with_size, 11, 11),
                (page, with_page, 63, 12),
            ]
        );
    }

    #[test]
    fn ats_completion_encodes_its_size_in_the_page_number() {
        let range = |shift| AtsCompletion::of_range(GuestAddress(0x4000_0000), shift).into_bits();
        assert_eq!(range(12), 0x4000_0000);
        assert_eq!(range(13), 0x4000_0800);
        assert_eq!(range(14), 0x4000_1800);
        assert_eq!(range(21), 0x400f_f800);
        assert_eq!(range(30), 0x5fff_f800);
    }
}
