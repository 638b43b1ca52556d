// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Invalidation queue error record register, IQERCD (0xB0, 64 bits, read-only).

use bitfield_struct::bitfield;

/// Invalidation queue error record register.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct QueueErrorRecord {
    /// IQEI: what FSTS.IQE means.
    #[bits(4)]
    pub iqei: u8,
    #[bits(28)]
    __: u32,
    /// ITESID: the device behind FSTS.ITE.
    pub itesid: u16,
    /// ICESID: the device behind FSTS.ICE.
    pub icesid: u16,
}
