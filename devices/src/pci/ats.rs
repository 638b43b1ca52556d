// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The Address Translation Services capability (PCI Express Base Specification 6.0, section 10.5.1).
//!
//! Registers only: what is cached, and how it is dropped, is the device's. Invalidations are served at once, so the queue
//! depth is the largest, which is written as 0.

use super::config::ConfigSpace;
use bitfield_struct::bitfield;

const ID: u16 = 0x000f;
const CONTROL: u16 = 0x06;

/// ATS capability register.
#[bitfield(u16)]
pub struct AtsCapability {
    /// Bits 4:0: invalidations that the function takes before it pushes back; 0 means 32.
    #[bits(5)]
    pub invalidate_queue_depth: u8,
    /// Bit 5: the untranslated addresses of requests are aligned to 4096 bytes.
    pub page_aligned_request: bool,
    /// Bit 6: one invalidation can name all PASIDs.
    pub global_invalidate: bool,
    #[bits(9)]
    __: u16,
}

/// ATS control register.
#[bitfield(u16)]
pub struct AtsControl {
    /// Bits 4:0, smallest translation unit: translations are of at least 4096 << this many bytes.
    #[bits(5)]
    pub smallest_translation_unit: u8,
    #[bits(10)]
    __: u16,
    /// Bit 15: the function may cache translations.
    pub enable: bool,
}

/// Where the capability is.
#[derive(Clone, Copy, Debug)]
pub struct Ats {
    control: u16,
}

impl Ats {
    /// Adds the capability.
    pub fn install(config: &mut ConfigSpace) -> Self {
        let capability = AtsCapability::new()
            .with_page_aligned_request(true)
            .with_global_invalidate(true);
        let software = AtsControl::new()
            .with_smallest_translation_unit(0x1f)
            .with_enable(true);
        let [low, high] = capability.into_bits().to_le_bytes();
        let [mask_low, mask_high] = software.into_bits().to_le_bytes();
        let at =
            config.add_extended_capability(ID, 1, &[low, high, 0, 0], &[0, 0, mask_low, mask_high]);
        Self {
            control: at + CONTROL,
        }
    }

    /// Whether software allows the function to cache translations.
    #[must_use]
    pub fn is_enabled(self, config: &ConfigSpace) -> bool {
        AtsControl::from_bits(config.u16(self.control)).enable()
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::Identity;
    use super::*;

    #[test]
    fn ats_registers() {
        let mut config = ConfigSpace::endpoint(&Identity::default());
        let ats = Ats::install(&mut config);
        assert_eq!(config.u32(0x100), 0x0001_000f);
        assert_eq!(config.u32(0x104), 0x0000_0060);
        assert!(!ats.is_enabled(&config));
        config.write(0x104, &[0xff; 4]);
        assert_eq!(config.u32(0x104), 0x801f_0060);
        assert!(ats.is_enabled(&config));
        config.write(0x106, &[0x1f, 0x7f]);
        assert!(!ats.is_enabled(&config));
    }
}
