// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Posted-interrupt descriptor (Posted Interrupt Descriptor): 64 bytes, 64-byte aligned. Four words of requests, one bit for
//! each vector (PIR), one word of control, and three reserved ones.

use bitfield_struct::bitfield;

/// Offset of the control word, bytes.
pub const CONTROL: u64 = 32;
/// Offsets of the reserved words, bytes.
pub const RESERVED: [u64; 3] = [40, 48, 56];

/// The control word, bits 319:256 of the descriptor.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PostedControl {
    /// ON: a notification is on its way.
    pub outstanding: bool,
    /// SN: notifications of interrupts that are not urgent are suppressed.
    pub suppressed: bool,
    #[bits(14)]
    pub reserved_0: u16,
    /// NV: vector of the notification.
    pub vector: u8,
    pub reserved_1: u8,
    /// NDST: APIC id of the notification's destination; without 32-bit ids only bits 15:8.
    pub destination: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Positions in the descriptor are 256 higher.
    #[test]
    fn posted_control_fields_match_the_table() {
        assert_fields!(
            PostedControl,
            u64,
            [
                (outstanding, with_outstanding, 0, 0),
                (suppressed, with_suppressed, 1, 1),
                (reserved_0, with_reserved_0, 15, 2),
                (vector, with_vector, 23, 16),
                (reserved_1, with_reserved_1, 31, 24),
                (destination, with_destination, 63, 32),
            ]
        );
    }
}
