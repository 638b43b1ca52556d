// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Device-TLB invalidation descriptor (type 3).

use bitfield_struct::bitfield;

/// Device-TLB invalidation descriptor.
#[bitfield(u128)]
#[derive(PartialEq, Eq)]
pub struct DeviceTlbDescriptor {
    #[bits(12)]
    __: u16,
    /// PFSID bits 3:0: the physical function. Reserved without DIT.
    #[bits(4)]
    pub pfsid_low: u8,
    /// MIP: invalidations that the device can have pending.
    #[bits(5)]
    pub mip: u8,
    #[bits(11)]
    __: u16,
    /// SID: device.
    pub sid: u16,
    #[bits(4)]
    __: u8,
    /// PFSID bits 15:4.
    #[bits(12)]
    pub pfsid_high: u16,
    /// S: more than one page.
    pub size: bool,
    #[bits(11)]
    __: u16,
    /// ADDR: page number of the address, and the size.
    #[bits(52)]
    pub page: u64,
}

impl DeviceTlbDescriptor {
    /// Bits that must be 0, where DIT is offered.
    pub const RESERVED: u128 = 0x0000_0000_0000_0ffe_000f_0000_ffe0_01f0;
    /// Bits that must be 0 as well, where it is not: PFSID.
    pub const PFSID: u128 = 0xfff0_0000_0000_f000;
}
