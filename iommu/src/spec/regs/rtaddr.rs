// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Root table address register, RTADDR (0x20, 64 bits). Takes effect by GCMD.SRTP.

use bitfield_struct::bitfield;

/// Root table address register.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct RootTableAddress {
    #[bits(10)]
    __: u16,
    /// TTM: 0 legacy, 1 scalable, 2 reserved, 3 abort-DMA.
    #[bits(2)]
    pub ttm: u8,
    /// RTA: guest-physical page number of the root table.
    #[bits(52)]
    pub page: u64,
}
