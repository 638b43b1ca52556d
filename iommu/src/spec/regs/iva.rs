// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Invalidate address register, IVA (64 bits, write-only).

use bitfield_struct::bitfield;

/// Invalidate address register.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct InvalidateAddress {
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
