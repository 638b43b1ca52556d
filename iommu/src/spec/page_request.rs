// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Page request descriptor (Page Request Descriptor): 32 bytes in the page request queue. The two high words hold private
//! data of old revisions and are 0.

use bitfield_struct::bitfield;

/// Bytes of a descriptor.
pub const ENTRY_SIZE: u64 = 32;
/// The type of every descriptor.
pub const TYPE: u8 = 1;

/// The first word of a descriptor.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PageRequestLow {
    /// [`TYPE`].
    pub kind: u8,
    /// PP: PASID is valid.
    pub pasid_present: bool,
    #[bits(7)]
    pub reserved_0: u8,
    /// RID: device.
    pub rid: u16,
    /// PASID: address space.
    #[bits(20)]
    pub pasid: u32,
    /// EXR: the right to execute is wanted.
    pub execute: bool,
    /// PMR: the request has supervisor privilege.
    pub privileged: bool,
    #[bits(10)]
    pub reserved_1: u16,
}

/// The second word of a descriptor.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PageRequestHigh {
    /// RD: the right to read is wanted.
    pub read: bool,
    /// WR: the right to write is wanted.
    pub write: bool,
    /// LPIG: the last request of its group.
    pub last: bool,
    /// PRGI: the group.
    #[bits(9)]
    pub group: u16,
    /// ADDR: page number of the address.
    #[bits(52)]
    pub page: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_request_fields_match_the_table() {
        assert_fields!(
            PageRequestLow,
            u64,
            [
                (kind, with_kind, 7, 0),
                (pasid_present, with_pasid_present, 8, 8),
                (reserved_0, with_reserved_0, 15, 9),
                (rid, with_rid, 31, 16),
                (pasid, with_pasid, 51, 32),
                (execute, with_execute, 52, 52),
                (privileged, with_privileged, 53, 53),
                (reserved_1, with_reserved_1, 63, 54),
            ]
        );
        assert_fields!(
            PageRequestHigh,
            u64,
            [
                (read, with_read, 0, 0),
                (write, with_write, 1, 1),
                (last, with_last, 2, 2),
                (group, with_group, 11, 3),
                (page, with_page, 63, 12),
            ]
        );
    }
}
