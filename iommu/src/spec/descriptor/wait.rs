// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Invalidation wait descriptor (type 5).

use bitfield_struct::bitfield;

/// Invalidation wait descriptor.
#[bitfield(u128)]
#[derive(PartialEq, Eq)]
pub struct WaitDescriptor {
    #[bits(4)]
    __: u8,
    /// IF: set ICS.IWC and raise the completion event.
    pub interrupt: bool,
    /// SW: write the status data.
    pub status_write: bool,
    /// FN: later descriptors start after earlier ones have finished.
    pub fence: bool,
    /// PD: drain page requests first.
    pub drain: bool,
    #[bits(24)]
    __: u32,
    /// Status data.
    pub status: u32,
    #[bits(2)]
    __: u8,
    /// Status address in units of 4 bytes.
    #[bits(62)]
    pub address: u64,
}

impl WaitDescriptor {
    /// Bits that must be 0, where PD is offered.
    pub const RESERVED: u128 = 0x0000_0000_0000_0003_0000_0000_ffff_f100;
}
