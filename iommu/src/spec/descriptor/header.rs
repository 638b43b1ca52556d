// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What all descriptors share: the type.

use bitfield_struct::bitfield;

/// The type field of a descriptor.
#[bitfield(u128)]
#[derive(PartialEq, Eq)]
pub struct DescriptorHeader {
    /// Bits 3:0 of the type.
    #[bits(4)]
    pub type_low: u8,
    #[bits(5)]
    __: u8,
    /// Bits 6:4 of the type.
    #[bits(3)]
    pub type_high: u8,
    #[bits(116)]
    __: u128,
}

impl DescriptorHeader {
    /// The whole type, 7 bits.
    #[must_use]
    pub const fn kind(self) -> u8 {
        self.type_high() << 4 | self.type_low()
    }
}
