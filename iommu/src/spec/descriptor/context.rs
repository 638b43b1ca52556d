// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Context-cache invalidation descriptor (type 1).

use bitfield_struct::bitfield;

/// Context-cache invalidation descriptor.
#[bitfield(u128)]
#[derive(PartialEq, Eq)]
pub struct ContextDescriptor {
    #[bits(4)]
    __: u8,
    /// G: 1 global, 2 domain, 3 device.
    #[bits(2)]
    pub granularity: u8,
    #[bits(10)]
    __: u16,
    /// DID: domain.
    pub did: u16,
    /// SID: device.
    pub sid: u16,
    /// FM: function bits of SID that are ignored.
    #[bits(2)]
    pub fm: u8,
    #[bits(14)]
    __: u16,
    __: u64,
}

impl ContextDescriptor {
    /// Bits that must be 0.
    pub const RESERVED: u128 = 0xffff_ffff_ffff_ffff_fffc_0000_0000_f1c0;
}
