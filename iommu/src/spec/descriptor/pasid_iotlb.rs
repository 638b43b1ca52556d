// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! PASID-based IOTLB invalidation descriptor (type 6, 256 bits wide; the upper half is reserved).

use bitfield_struct::bitfield;

/// PASID-based IOTLB invalidation descriptor.
#[bitfield(u128)]
#[derive(PartialEq, Eq)]
pub struct PasidIotlbDescriptor {
    #[bits(4)]
    __: u8,
    /// G: 2 all of the PASID, 3 page.
    #[bits(2)]
    pub granularity: u8,
    #[bits(10)]
    __: u16,
    /// DID: domain.
    pub did: u16,
    /// PASID: address space.
    #[bits(20)]
    pub pasid: u32,
    #[bits(12)]
    __: u16,
    /// AM: 2^AM pages.
    #[bits(6)]
    pub am: u8,
    /// IH: only leaf entries changed.
    pub ih: bool,
    #[bits(5)]
    __: u8,
    /// ADDR: page number of the address.
    #[bits(52)]
    pub page: u64,
}

impl PasidIotlbDescriptor {
    /// Bits that must be 0.
    pub const RESERVED: u128 = 0x0000_0000_0000_0f80_fff0_0000_0000_f1c0;
}
