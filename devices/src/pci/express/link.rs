// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The link registers (PCI Express Base Specification 6.0, sections 7.5.3.6 to 7.5.3.8, 7.5.3.18 and 7.5.3.19).

use super::{Express, register};
use crate::pci::config::ConfigSpace;
use bitfield_struct::bitfield;

/// Link capabilities register.
#[bitfield(u32)]
pub struct LinkCapabilities {
    /// Bits 3:0: 1 is 2.5 GT/s.
    #[bits(4)]
    pub max_speed: u8,
    /// Bits 9:4: lanes.
    #[bits(6)]
    pub max_width: u8,
    #[bits(10)]
    __: u16,
    /// Bit 20: link status tells whether the data link layer is active.
    pub link_active_reporting: bool,
    #[bits(11)]
    __: u16,
}

/// Link control register.
#[bitfield(u16)]
pub struct LinkControl {
    /// Bits 1:0.
    #[bits(2)]
    pub aspm: u8,
    #[bits(2)]
    __: u8,
    /// Bit 4, ports: takes the link down.
    pub link_disable: bool,
    /// Bit 5, ports: reads zero.
    pub retrain: bool,
    /// Bit 6.
    pub common_clock: bool,
    /// Bit 7.
    pub extended_synch: bool,
    __: u8,
}

/// Link status register.
#[bitfield(u16)]
pub struct LinkStatus {
    /// Bits 3:0.
    #[bits(4)]
    pub speed: u8,
    /// Bits 9:4.
    #[bits(6)]
    pub width: u8,
    #[bits(3)]
    __: u8,
    /// Bit 13.
    pub link_active: bool,
    /// Bits 15:14, write one to clear.
    #[bits(2)]
    pub bandwidth_events: u8,
}

impl Express {
    pub(super) fn install_link(self, config: &mut ConfigSpace, port: bool) {
        let capabilities = LinkCapabilities::new()
            .with_max_speed(1)
            .with_max_width(1)
            .with_link_active_reporting(port);
        let status = LinkStatus::new().with_speed(1).with_width(1);
        let software = LinkControl::new()
            .with_aspm(3)
            .with_link_disable(port)
            .with_common_clock(true)
            .with_extended_synch(true);
        let at = self.at;
        config.set_u32(at + register::LINK_CAPABILITIES, capabilities.into_bits());
        config.set_u16(at + register::LINK_STATUS, status.into_bits());
        config.allow_write(
            at + register::LINK_CONTROL,
            &software.into_bits().to_le_bytes(),
        );
        if port {
            let events = LinkStatus::new().with_bandwidth_events(3);
            config.allow_clear(
                at + register::LINK_STATUS,
                &events.into_bits().to_le_bytes(),
            );
        }
        config.set_u8(at + register::LINK_CAPABILITIES_2, 0x02);
        config.set_u8(at + register::LINK_CONTROL_2, 0x01);
        config.allow_write(at + register::LINK_CONTROL_2, &[0x0f]);
    }

    /// Link control register.
    #[must_use]
    pub fn link_control(self, config: &ConfigSpace) -> LinkControl {
        LinkControl::from_bits(config.u16(self.at + register::LINK_CONTROL))
    }

    /// Link status register.
    #[must_use]
    pub fn link_status(self, config: &ConfigSpace) -> LinkStatus {
        LinkStatus::from_bits(config.u16(self.at + register::LINK_STATUS))
    }

    /// Sets the link status register.
    pub fn set_link_status(self, config: &mut ConfigSpace, status: LinkStatus) {
        config.set_u16(self.at + register::LINK_STATUS, status.into_bits());
    }
}
