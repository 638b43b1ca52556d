// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! PASID-cache invalidation descriptor (type 7, 256 bits wide; the upper half is reserved).

use bitfield_struct::bitfield;

/// PASID-cache invalidation descriptor.
#[bitfield(u128)]
#[derive(PartialEq, Eq)]
pub struct PasidCacheDescriptor {
    #[bits(4)]
    __: u8,
    /// G: 0 all PASIDs of the domain, 1 one PASID, 3 global.
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
    __: u64,
}

impl PasidCacheDescriptor {
    /// Bits that must be 0.
    pub const RESERVED: u128 = 0xffff_ffff_ffff_ffff_fff0_0000_0000_f1c0;
}
