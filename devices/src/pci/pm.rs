// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The power management capability (PCI Express Base Specification 6.0, section 7.5.2).
//!
//! D0 and D3hot; no PME. A function in D3hot answers configuration accesses only, and keeps its state on the way back.

use super::config::{ConfigSpace, capability};
use bitfield_struct::bitfield;

/// Power management control/status register.
#[bitfield(u16)]
pub struct PowerControl {
    /// Bits 1:0: 0 is D0, 3 is D3hot.
    #[bits(2)]
    pub state: u8,
    __: bool,
    /// Bit 3: coming back from D3hot does not reset the function.
    pub no_soft_reset: bool,
    #[bits(12)]
    __: u16,
}

/// Where the capability is.
#[derive(Clone, Copy, Debug)]
pub struct PowerManagement {
    control: u16,
}

impl PowerManagement {
    /// Adds the capability: version 3, no PME.
    pub fn install(config: &mut ConfigSpace) -> Self {
        let [low, high] = PowerControl::new()
            .with_no_soft_reset(true)
            .into_bits()
            .to_le_bytes();
        let at = config.add_capability(
            capability::POWER_MANAGEMENT,
            &[0x03, 0x00, low, high, 0, 0],
            &[0, 0, 0x03],
        );
        Self { control: at + 4 }
    }

    /// Whether the function is in D0.
    #[must_use]
    pub fn is_on(&self, config: &ConfigSpace) -> bool {
        PowerControl::from_bits(config.u16(self.control)).state() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::Identity;
    use super::*;

    #[test]
    fn power_state_is_the_only_writable_field() {
        let mut config = ConfigSpace::endpoint(&Identity::default());
        let pm = PowerManagement::install(&mut config);
        assert!(pm.is_on(&config));
        assert_eq!(config.u32(0x40), 0x0003_0001);
        config.write(0x44, &[0xff; 4]);
        assert_eq!(config.u32(0x44), 0x000b);
        assert!(!pm.is_on(&config));
    }
}
