// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Interrupt entry cache invalidation descriptor (type 4).

use bitfield_struct::bitfield;

/// Interrupt entry cache invalidation descriptor.
#[bitfield(u128)]
#[derive(PartialEq, Eq)]
pub struct InterruptDescriptor {
    #[bits(4)]
    __: u8,
    /// G: only the entries that IIDX and IM name, instead of all.
    pub index_selective: bool,
    #[bits(22)]
    __: u32,
    /// IM: 2^IM entries.
    #[bits(5)]
    pub im: u8,
    /// IIDX: index of the first entry.
    pub iidx: u16,
    __: u16,
    __: u64,
}

impl InterruptDescriptor {
    /// Bits that must be 0.
    pub const RESERVED: u128 = 0xffff_ffff_ffff_ffff_ffff_0000_07ff_f1e0;
}
