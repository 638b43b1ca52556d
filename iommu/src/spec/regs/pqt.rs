// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Page request queue head and tail, PQH (0xC0) and PQT (0xC8) (64 bits). The unit advances the tail, software the head.

use bitfield_struct::bitfield;

/// Page request queue head or tail.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PageQueueOffset {
    #[bits(5)]
    __: u8,
    /// Offset into the queue in descriptors of 32 bytes.
    #[bits(14)]
    pub index: u16,
    #[bits(45)]
    __: u64,
}
