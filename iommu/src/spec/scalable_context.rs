// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Context entry in scalable mode (Scalable-Mode Context Entry): 128 entries of 32 bytes a table, indexed by the low seven
//! bits of device and function. The two high words are reserved.

use crate::address::Gpa;
use bitfield_struct::bitfield;

/// Bytes of a context entry.
pub const ENTRY_SIZE: u64 = 32;
/// 64-bit words of a context entry.
pub const ENTRY_WORDS: usize = 4;

/// The first word of a context entry.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ScalableContextLow {
    /// P: the entry is present.
    pub present: bool,
    /// FPD: qualified faults of this entry are not recorded.
    pub fault_processing_disabled: bool,
    /// DTE: translation requests and translated requests are allowed; reserved without device-TLBs.
    pub device_tlb_enable: bool,
    /// PASIDE: requests with PASID are allowed; reserved without PASIDs.
    pub pasid_enable: bool,
    /// PRE: page requests are allowed; reserved without page requests.
    pub page_request_enable: bool,
    #[bits(4)]
    pub reserved: u8,
    /// PDTS: the PASID directory has 2^(PDTS + 7) entries.
    #[bits(3)]
    pub directory_size: u8,
    /// PASIDDIRPTR: page number of the PASID directory; bits beyond the host address width are reserved.
    #[bits(52)]
    pub directory_page: u64,
}

impl ScalableContextLow {
    /// The PASID directory.
    #[must_use]
    pub const fn directory(self) -> Gpa {
        vm_memory::GuestAddress(self.directory_page() << 12)
    }
}

/// The second word of a context entry.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ScalableContextHigh {
    /// RID_PASID: the PASID that requests without one are treated as.
    #[bits(20)]
    pub rid_pasid: u32,
    /// RID_PRIV: requests without PASID have supervisor privilege; reserved unless supported.
    pub rid_privilege: bool,
    #[bits(43)]
    pub reserved: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalable_context_low_fields_match_the_table() {
        assert_fields!(
            ScalableContextLow,
            u64,
            [
                (present, with_present, 0, 0),
                (
                    fault_processing_disabled,
                    with_fault_processing_disabled,
                    1,
                    1
                ),
                (device_tlb_enable, with_device_tlb_enable, 2, 2),
                (pasid_enable, with_pasid_enable, 3, 3),
                (page_request_enable, with_page_request_enable, 4, 4),
                (reserved, with_reserved, 8, 5),
                (directory_size, with_directory_size, 11, 9),
                (directory_page, with_directory_page, 63, 12),
            ]
        );
    }

    #[test]
    fn scalable_context_high_fields_match_the_table() {
        assert_fields!(
            ScalableContextHigh,
            u64,
            [
                (rid_pasid, with_rid_pasid, 19, 0),
                (rid_privilege, with_rid_privilege, 20, 20),
                (reserved, with_reserved, 63, 21),
            ]
        );
    }
}
