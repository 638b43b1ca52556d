// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Context command register, CCMD (0x28, 64 bits).

use bitfield_struct::bitfield;

/// Context command register.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ContextCommand {
    /// DID: domain.
    pub did: u16,
    /// SID: device. Reads as 0.
    pub sid: u16,
    /// FM: function bits of SID that are ignored. Reads as 0.
    #[bits(2)]
    pub fm: u8,
    #[bits(25)]
    __: u32,
    /// CAIG: granularity carried out; 0 when the command was refused. Read-only.
    #[bits(2)]
    pub caig: u8,
    /// CIRG: granularity asked for; 1 global, 2 domain, 3 device.
    #[bits(2)]
    pub cirg: u8,
    /// ICC: invalidate; reads as 1 until done.
    pub icc: bool,
}
