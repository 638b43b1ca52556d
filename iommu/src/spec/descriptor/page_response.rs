// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Page group response descriptor (type 9, 256 bits wide; the upper half is reserved).

use bitfield_struct::bitfield;

/// Page group response descriptor.
#[bitfield(u128)]
#[derive(PartialEq, Eq)]
pub struct PageResponseDescriptor {
    #[bits(4)]
    __: u8,
    /// PP: PASID is valid.
    pub pasid_present: bool,
    #[bits(7)]
    __: u8,
    /// RC: 0 success, 1 invalid request, 15 failure.
    #[bits(4)]
    pub code: u8,
    /// RID: device.
    pub rid: u16,
    /// PASID: address space.
    #[bits(20)]
    pub pasid: u32,
    #[bits(12)]
    __: u16,
    #[bits(2)]
    __: u8,
    /// LPIG in old revisions of the specification, and drivers for them still copy it here: ignored.
    pub ignored: bool,
    /// PRGI: the group that is answered.
    #[bits(9)]
    pub prgi: u16,
    #[bits(52)]
    __: u64,
}

impl PageResponseDescriptor {
    /// Bits that must be 0.
    pub const RESERVED: u128 = 0xffff_ffff_ffff_f003_fff0_0000_0000_01e0;
}
