// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The PCI Express capability (PCI Express Base Specification 6.0, section 7.5.3): version 2, 2.5 GT/s, one lane.
//!
//! Payloads are 128 bytes, ports forward one end-end prefix (a PASID) and cannot be told to block it, there is no ASPM, no ARI
//! and no error reporting beyond the register bits. The slot registers' behaviour belongs to the root port.

mod link;
mod slot;

pub use link::{LinkCapabilities, LinkControl, LinkStatus};
pub use slot::{SlotCapabilities, SlotControl, SlotStatus};

use super::config::{ConfigSpace, capability};
use bitfield_struct::bitfield;

/// What kind of function it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceType {
    /// An endpoint behind a port.
    Endpoint,
    /// A root port, with a slot or without.
    RootPort {
        /// A slot: its physical number, 13 bits.
        slot: Option<u16>,
    },
    /// An endpoint that is part of the root complex: no link.
    IntegratedEndpoint,
}

/// PCI Express capabilities register.
#[bitfield(u16)]
pub struct ExpressCapabilities {
    /// Bits 3:0.
    #[bits(4)]
    pub version: u8,
    /// Bits 7:4.
    #[bits(4)]
    pub device_type: u8,
    /// Bit 8: the port leads to a slot.
    pub slot: bool,
    /// Bits 13:9: the vector of the port's own interrupts.
    #[bits(5)]
    pub interrupt_message: u8,
    #[bits(2)]
    __: u8,
}

/// Device capabilities register.
#[bitfield(u32)]
pub struct DeviceCapabilities {
    #[bits(15)]
    __: u16,
    /// Bit 15: always set since PCI Express 1.1.
    pub role_based_errors: bool,
    #[bits(12)]
    __: u16,
    /// Bit 28: function level reset works.
    pub function_level_reset: bool,
    #[bits(3)]
    __: u8,
}

/// Device control register.
#[bitfield(u16)]
pub struct DeviceControl {
    /// Bits 3:0: which errors are reported.
    #[bits(4)]
    pub error_reporting: u8,
    /// Bit 4.
    pub relaxed_ordering: bool,
    /// Bits 7:5.
    #[bits(3)]
    pub max_payload: u8,
    /// Bits 10:8.
    #[bits(3)]
    __: u8,
    /// Bit 11.
    pub no_snoop: bool,
    /// Bits 14:12.
    #[bits(3)]
    pub max_read_request: u8,
    /// Bit 15: starts a function level reset; reads zero.
    pub initiate_reset: bool,
}

/// Device capabilities 2 register.
#[bitfield(u32)]
pub struct DeviceCapabilities2 {
    #[bits(4)]
    __: u8,
    /// Bit 4: completion time-outs can be disabled.
    pub timeout_disable: bool,
    #[bits(15)]
    __: u16,
    /// Bit 20: packets have the Fmt field of 3 bits, without which there are no prefixes.
    pub extended_fmt: bool,
    /// Bit 21: requests may have end-end prefixes, of which the PASID is one. A port forwards them.
    pub end_end_prefixes: bool,
    /// Bits 23:22: how many a request may have; 0 means four.
    #[bits(2)]
    pub max_end_end_prefixes: u8,
    __: u8,
}

/// Offsets in the capability.
mod register {
    pub(super) const CAPABILITIES: u16 = 0x02;
    pub(super) const DEVICE_CAPABILITIES: u16 = 0x04;
    pub(super) const DEVICE_CONTROL: u16 = 0x08;
    pub(super) const DEVICE_STATUS: u16 = 0x0a;
    pub(super) const LINK_CAPABILITIES: u16 = 0x0c;
    pub(super) const LINK_CONTROL: u16 = 0x10;
    pub(super) const LINK_STATUS: u16 = 0x12;
    pub(super) const SLOT_CAPABILITIES: u16 = 0x14;
    pub(super) const SLOT_CONTROL: u16 = 0x18;
    pub(super) const SLOT_STATUS: u16 = 0x1a;
    pub(super) const ROOT_CONTROL: u16 = 0x1c;
    pub(super) const ROOT_STATUS: u16 = 0x20;
    pub(super) const DEVICE_CAPABILITIES_2: u16 = 0x24;
    pub(super) const DEVICE_CONTROL_2: u16 = 0x28;
    pub(super) const LINK_CAPABILITIES_2: u16 = 0x2c;
    pub(super) const LINK_CONTROL_2: u16 = 0x30;
    pub(super) const BYTES: usize = 0x3c;
}

/// Where the capability is.
#[derive(Clone, Copy, Debug)]
pub struct Express {
    at: u16,
}

impl Express {
    /// Adds the capability. Endpoints offer function level reset if `function_level_reset`.
    pub fn install(
        config: &mut ConfigSpace,
        device_type: DeviceType,
        function_level_reset: bool,
    ) -> Self {
        let at = config.add_capability(capability::EXPRESS, &[0; register::BYTES - 2], &[]);
        let express = Self { at };
        let (code, slot) = match device_type {
            DeviceType::Endpoint => (0x0, None),
            DeviceType::RootPort { slot } => (0x4, slot),
            DeviceType::IntegratedEndpoint => (0x9, None),
        };
        let capabilities = ExpressCapabilities::new()
            .with_version(2)
            .with_device_type(code)
            .with_slot(slot.is_some());
        config.set_u16(at + register::CAPABILITIES, capabilities.into_bits());
        express.install_device(config, function_level_reset);
        let port = matches!(device_type, DeviceType::RootPort { .. });
        if device_type != DeviceType::IntegratedEndpoint {
            express.install_link(config, port);
        }
        if port {
            express.offer_prefixes(config);
            let root_control = 0x001fu16;
            config.allow_write(at + register::ROOT_CONTROL, &root_control.to_le_bytes());
            config.allow_clear(at + register::ROOT_STATUS, &(1u32 << 16).to_le_bytes());
        }
        express
    }

    fn install_device(self, config: &mut ConfigSpace, function_level_reset: bool) {
        let capabilities = DeviceCapabilities::new()
            .with_role_based_errors(true)
            .with_function_level_reset(function_level_reset);
        let control = DeviceControl::new()
            .with_relaxed_ordering(true)
            .with_no_snoop(true)
            .with_max_read_request(2);
        let software = DeviceControl::new()
            .with_error_reporting(0xf)
            .with_relaxed_ordering(true)
            .with_max_payload(7)
            .with_no_snoop(true)
            .with_max_read_request(7);
        let at = self.at;
        config.set_u32(at + register::DEVICE_CAPABILITIES, capabilities.into_bits());
        config.set_u16(at + register::DEVICE_CONTROL, control.into_bits());
        config.allow_write(
            at + register::DEVICE_CONTROL,
            &software.into_bits().to_le_bytes(),
        );
        config.allow_clear(at + register::DEVICE_STATUS, &[0x0f]);
        // Completion time-outs can be disabled, as the specification demands of those who have any.
        let capabilities = DeviceCapabilities2::new().with_timeout_disable(true);
        config.set_u32(
            at + register::DEVICE_CAPABILITIES_2,
            capabilities.into_bits(),
        );
        config.allow_write(at + register::DEVICE_CONTROL_2, &[0x1f]);
    }

    /// Offers one end-end prefix a request: what a function needs to send a PASID, and a port to forward it.
    pub fn offer_prefixes(self, config: &mut ConfigSpace) {
        let at = self.at + register::DEVICE_CAPABILITIES_2;
        let offer = DeviceCapabilities2::from_bits(config.u32(at))
            .with_extended_fmt(true)
            .with_end_end_prefixes(true)
            .with_max_end_end_prefixes(1);
        config.set_u32(at, offer.into_bits());
    }

    /// Whether `data`, written at `at`, asks for a function level reset that the function offers.
    #[must_use]
    pub fn asks_for_reset(self, config: &ConfigSpace, at: u16, data: &[u8]) -> bool {
        let high = usize::from(self.at + register::DEVICE_CONTROL + 1);
        let byte = high
            .checked_sub(usize::from(at))
            .and_then(|index| data.get(index).copied())
            .unwrap_or(0);
        let control = DeviceControl::from_bits(u16::from_be_bytes([byte, 0]));
        let bits = config.u32(self.at + register::DEVICE_CAPABILITIES);
        control.initiate_reset() && DeviceCapabilities::from_bits(bits).function_level_reset()
    }
}

#[cfg(test)]
mod tests;
