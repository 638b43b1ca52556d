// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! PASID-based device-TLB invalidation descriptor (type 8, 256 bits wide; the upper half is reserved).

use bitfield_struct::bitfield;

/// PASID-based device-TLB invalidation descriptor.
#[bitfield(u128)]
#[derive(PartialEq, Eq)]
pub struct PasidDeviceTlbDescriptor {
    #[bits(4)]
    __: u8,
    /// MIP: invalidations that the device can have pending.
    #[bits(5)]
    pub mip: u8,
    #[bits(3)]
    __: u8,
    /// PFSID bits 3:0: the physical function. Reserved without DIT.
    #[bits(4)]
    pub pfsid_low: u8,
    /// SID: device.
    pub sid: u16,
    /// PASID: address space.
    #[bits(20)]
    pub pasid: u32,
    /// PFSID bits 15:4.
    #[bits(12)]
    pub pfsid_high: u16,
    /// G: all address spaces.
    pub global: bool,
    #[bits(10)]
    __: u16,
    /// S: more than one page.
    pub size: bool,
    /// ADDR: page number of the address, and the size.
    #[bits(52)]
    pub page: u64,
}

impl PasidDeviceTlbDescriptor {
    /// Bits that must be 0, where DIT is offered.
    pub const RESERVED: u128 = 0x7fe << 64;
    /// Bits that must be 0 as well, where it is not: PFSID.
    pub const PFSID: u128 = 0xfff0_0000_0000_f000;
}
