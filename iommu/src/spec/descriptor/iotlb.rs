// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! IOTLB invalidation descriptor (type 2).

use bitfield_struct::bitfield;

/// IOTLB invalidation descriptor.
#[bitfield(u128)]
#[derive(PartialEq, Eq)]
pub struct IotlbDescriptor {
    #[bits(4)]
    __: u8,
    /// G: 1 global, 2 domain, 3 page.
    #[bits(2)]
    pub granularity: u8,
    /// DW: drain writes.
    pub dw: bool,
    /// DR: drain reads.
    pub dr: bool,
    __: u8,
    /// DID: domain.
    pub did: u16,
    __: u32,
    /// AM: 2^AM pages.
    #[bits(6)]
    pub am: u8,
    /// IH: only leaf entries changed.
    pub ih: bool,
    #[bits(5)]
    __: u8,
    /// ADDR: page number of the IOVA.
    #[bits(52)]
    pub page: u64,
}

impl IotlbDescriptor {
    /// Bits that must be 0.
    pub const RESERVED: u128 = 0x0000_0000_0000_0f80_ffff_ffff_0000_f100;
}
