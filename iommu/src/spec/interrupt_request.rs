// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Interrupt requests: the remappable format that devices and the IOAPIC send (Interrupt Requests in Remappable Format),
//! and the message that leaves the unit for the processors.

use bitfield_struct::bitfield;

/// Bits 31:20 of every interrupt address.
pub const ADDRESS_HEAD: u16 = 0xfee;

/// Bits 31:0 of the address of a request. Bits 63:32 must be 0.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct RequestAddress {
    #[bits(2)]
    pub ignored: u8,
    /// Bit 15 of the handle.
    pub handle_high: bool,
    /// SHV: the data holds a subhandle.
    pub subhandle_valid: bool,
    /// Interrupt format: set for remappable, clear for compatibility.
    pub remappable: bool,
    /// Bits 14:0 of the handle.
    #[bits(15)]
    pub handle_low: u16,
    /// [`ADDRESS_HEAD`].
    #[bits(12)]
    pub head: u16,
}

impl RequestAddress {
    /// All 16 bits of the handle.
    #[must_use]
    pub fn handle(self) -> u16 {
        self.handle_low() | u16::from(self.handle_high()) << 15
    }
}

/// The data of a request; without a subhandle all of it is ignored.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct RequestData {
    /// Added to the handle when the address says so.
    pub subhandle: u16,
    pub reserved: u16,
}

/// The address of a message for the processors, with a destination of 32 bits.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct MessageAddress {
    #[bits(2)]
    pub ignored: u8,
    /// DM: destination mode, set for logical.
    pub logical: bool,
    /// RH: redirection hint.
    pub redirection_hint: bool,
    pub unused_0: u8,
    /// Destination bits 7:0.
    pub destination_low: u8,
    /// [`ADDRESS_HEAD`].
    #[bits(12)]
    pub head: u16,
    pub unused_1: u8,
    /// Destination bits 31:8.
    #[bits(24)]
    pub destination_high: u32,
}

/// The data of a message for the processors.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct MessageData {
    /// Vector.
    pub vector: u8,
    /// Delivery mode.
    #[bits(3)]
    pub delivery_mode: u8,
    #[bits(3)]
    pub unused_0: u8,
    /// Level: set for assert.
    pub assert: bool,
    /// Trigger mode: set for level.
    pub level_triggered: bool,
    pub unused_1: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_address_fields_match_the_table() {
        assert_fields!(
            RequestAddress,
            u32,
            [
                (ignored, with_ignored, 1, 0),
                (handle_high, with_handle_high, 2, 2),
                (subhandle_valid, with_subhandle_valid, 3, 3),
                (remappable, with_remappable, 4, 4),
                (handle_low, with_handle_low, 19, 5),
                (head, with_head, 31, 20),
            ]
        );
    }

    #[test]
    fn request_data_fields_match_the_table() {
        assert_fields!(
            RequestData,
            u32,
            [
                (subhandle, with_subhandle, 15, 0),
                (reserved, with_reserved, 31, 16),
            ]
        );
    }

    #[test]
    fn message_address_fields_match_the_table() {
        assert_fields!(
            MessageAddress,
            u64,
            [
                (ignored, with_ignored, 1, 0),
                (logical, with_logical, 2, 2),
                (redirection_hint, with_redirection_hint, 3, 3),
                (unused_0, with_unused_0, 11, 4),
                (destination_low, with_destination_low, 19, 12),
                (head, with_head, 31, 20),
                (unused_1, with_unused_1, 39, 32),
                (destination_high, with_destination_high, 63, 40),
            ]
        );
    }

    #[test]
    fn message_data_fields_match_the_table() {
        assert_fields!(
            MessageData,
            u32,
            [
                (vector, with_vector, 7, 0),
                (delivery_mode, with_delivery_mode, 10, 8),
                (unused_0, with_unused_0, 13, 11),
                (assert, with_assert, 14, 14),
                (level_triggered, with_level_triggered, 15, 15),
                (unused_1, with_unused_1, 31, 16),
            ]
        );
    }

    #[test]
    fn handle_takes_its_high_bit_from_address_bit_2() {
        assert_eq!(RequestAddress::from_bits(0xfee0_0034).handle(), 0x8001);
    }
}
