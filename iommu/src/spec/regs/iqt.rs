// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Invalidation queue head and tail, IQH (0x80) and IQT (0x88) (64 bits).

use bitfield_struct::bitfield;

/// Invalidation queue head or tail.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct QueueOffset {
    #[bits(4)]
    __: u8,
    /// Offset into the queue in units of 16 bytes, whatever the width of the descriptors.
    #[bits(15)]
    pub units: u16,
    #[bits(45)]
    __: u64,
}
