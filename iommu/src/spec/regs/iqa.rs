// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Invalidation queue address register, IQA (0x90, 64 bits). Takes effect when GCMD.QIE enables the queue.

use bitfield_struct::bitfield;

/// Invalidation queue address register.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct QueueAddress {
    /// QS: the queue has 2^QS pages.
    #[bits(3)]
    pub qs: u8,
    __: u8,
    /// DW: descriptors are 256 bits wide instead of 128.
    pub dw: bool,
    /// IQA: guest-physical page number of the queue.
    #[bits(52)]
    pub page: u64,
}
