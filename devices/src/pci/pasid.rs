// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The PASID capability (PCI Express Base Specification 6.0, section 7.8.9).

use super::config::ConfigSpace;
use bitfield_struct::bitfield;

const ID: u16 = 0x001b;
const CONTROL: u16 = 0x06;

/// PASID capability register.
#[bitfield(u16)]
pub struct PasidCapability {
    __: bool,
    /// Bit 1: requests may ask for instruction fetch.
    pub execute: bool,
    /// Bit 2: requests may have supervisor privilege.
    pub privileged: bool,
    #[bits(5)]
    __: u8,
    /// Bits 12:8: bits of a PASID, 0 to 20.
    #[bits(5)]
    pub width: u8,
    #[bits(3)]
    __: u8,
}

/// PASID control register.
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct PasidControl {
    /// Bit 0: requests may have a PASID.
    pub enable: bool,
    /// Bit 1: they may ask for instruction fetch.
    pub execute: bool,
    /// Bit 2: they may have supervisor privilege.
    pub privileged: bool,
    #[bits(13)]
    __: u16,
}

/// Where the capability is.
#[derive(Clone, Copy, Debug)]
pub struct PasidRegisters {
    control: u16,
}

impl PasidRegisters {
    /// Adds the capability for PASIDs of `width` bits, with execute and privilege.
    ///
    /// # Panics
    /// More than 20 bits: a mistake in the device's table.
    pub fn install(config: &mut ConfigSpace, width: u8) -> Self {
        assert!(width <= 20, "PASIDs of {width} bits");
        let capability = PasidCapability::new()
            .with_execute(true)
            .with_privileged(true)
            .with_width(width);
        let [low, high] = capability.into_bits().to_le_bytes();
        let at = config.add_extended_capability(ID, 1, &[low, high, 0, 0], &[0, 0, 0x07, 0]);
        Self {
            control: at + CONTROL,
        }
    }

    /// What software allows.
    #[must_use]
    pub fn control(self, config: &ConfigSpace) -> PasidControl {
        PasidControl::from_bits(config.u16(self.control))
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::Identity;
    use super::*;

    #[test]
    fn pasid_registers() {
        let mut config = ConfigSpace::endpoint(&Identity::default());
        let pasid = PasidRegisters::install(&mut config, 20);
        assert_eq!(config.u32(0x100), 0x0001_001b);
        assert_eq!(config.u32(0x104), 0x0000_1406);
        config.write(0x104, &[0xff; 4]);
        assert_eq!(config.u32(0x104), 0x0007_1406);
        let control = pasid.control(&config);
        assert!(control.enable() && control.execute() && control.privileged());
        config.write(0x106, &[0x02, 0]);
        let control = pasid.control(&config);
        assert!(!control.enable() && control.execute() && !control.privileged());
    }
}
