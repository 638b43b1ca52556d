// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The Page Request Interface capability (PCI Express Base Specification 6.0, section 10.5.2).
//!
//! Registers only: what is asked for, and what is outstanding, is the device's.

use super::config::{ConfigSpace, touches};
use bitfield_struct::bitfield;

const ID: u16 = 0x0013;
const CONTROL: u16 = 0x04;
const STATUS: u16 = 0x06;
const ALLOCATION: u16 = 0x0c;

/// Page request control register.
#[bitfield(u16)]
pub struct PriControl {
    /// Bit 0: the function may send page requests.
    pub enable: bool,
    /// Bit 1: forgets what is outstanding, while disabled; reads zero.
    pub reset: bool,
    #[bits(14)]
    __: u16,
}

/// Page request status register.
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct PriStatus {
    /// Bit 0, write one to clear: a response said that nothing can be had any more.
    pub response_failure: bool,
    /// Bit 1, write one to clear: a response named a group that nobody asked for.
    pub unexpected_group: bool,
    #[bits(6)]
    __: u8,
    /// Bit 8: the function is disabled and nothing is outstanding.
    pub stopped: bool,
    #[bits(6)]
    __: u8,
    /// Bit 15: responses to requests with PASID have one.
    pub response_pasid_required: bool,
}

/// Where the capability is.
#[derive(Clone, Copy, Debug)]
pub struct Pri {
    at: u16,
}

impl Pri {
    /// Adds the capability for `capacity` outstanding requests, stopped.
    pub fn install(config: &mut ConfigSpace, capacity: u32) -> Self {
        let status = PriStatus::new()
            .with_stopped(true)
            .with_response_pasid_required(true);
        let [low, high] = status.into_bits().to_le_bytes();
        let mut body = [0; 12];
        body[2..4].copy_from_slice(&[low, high]);
        body[4..8].copy_from_slice(&capacity.to_le_bytes());
        let mut writable = [0; 12];
        writable[0] = 0x01;
        writable[8..].fill(0xff);
        let at = config.add_extended_capability(ID, 1, &body, &writable);
        let events = PriStatus::new()
            .with_response_failure(true)
            .with_unexpected_group(true);
        config.allow_clear(at + STATUS, &events.into_bits().to_le_bytes());
        Self { at }
    }

    /// Whether software allows page requests.
    #[must_use]
    pub fn is_enabled(self, config: &ConfigSpace) -> bool {
        PriControl::from_bits(config.u16(self.at + CONTROL)).enable()
    }

    /// How many requests software allows to be outstanding.
    #[must_use]
    pub fn allocation(self, config: &ConfigSpace) -> u32 {
        config.u32(self.at + ALLOCATION)
    }

    /// Whether `data`, written at `at`, asks to forget what is outstanding, which counts only while disabled. Call after
    /// the write.
    #[must_use]
    pub fn asks_for_reset(self, config: &ConfigSpace, at: u16, data: &[u8]) -> bool {
        let field = self.at + CONTROL;
        if self.is_enabled(config) || !touches(at, data.len(), field, 1) {
            return false;
        }
        let byte = data.get(usize::from(field - at)).copied().unwrap_or(0);
        PriControl::from_bits(u16::from(byte)).reset()
    }

    /// Status register.
    #[must_use]
    pub fn status(self, config: &ConfigSpace) -> PriStatus {
        PriStatus::from_bits(config.u16(self.at + STATUS))
    }

    /// Sets the status register.
    pub fn set_status(self, config: &mut ConfigSpace, status: PriStatus) {
        config.set_u16(self.at + STATUS, status.into_bits());
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::Identity;
    use super::*;

    fn installed() -> (ConfigSpace, Pri) {
        let mut config = ConfigSpace::endpoint(&Identity::default());
        let pri = Pri::install(&mut config, 32);
        (config, pri)
    }

    #[test]
    fn pri_registers() {
        let (mut config, pri) = installed();
        assert_eq!(config.u32(0x100), 0x0001_0013);
        assert_eq!(config.u32(0x104), 0x8100_0000);
        assert_eq!((config.u32(0x108), config.u32(0x10c)), (0x20, 0));
        config.set_u16(0x106, 0x8103);
        config.write(0x104, &[0x03, 0, 0, 0]);
        assert_eq!(config.u32(0x104), 0x8103_0001);
        assert!(pri.is_enabled(&config));
        config.write(0x106, &[0xff; 2]);
        assert_eq!(config.u16(0x106), 0x8100);
        config.write(0x10c, &7u32.to_le_bytes());
        assert_eq!(pri.allocation(&config), 7);
    }

    #[test]
    fn reset_bit_counts_only_while_disabled() {
        let (mut config, pri) = installed();
        config.write(0x104, &[0x02, 0]);
        assert_eq!(config.u16(0x104), 0);
        assert!(pri.asks_for_reset(&config, 0x104, &[0x02, 0]));
        assert!(!pri.asks_for_reset(&config, 0x104, &[0x01, 0]));
        assert!(!pri.asks_for_reset(&config, 0x105, &[0x02]));
        assert!(!pri.asks_for_reset(&config, 0x106, &[0x02, 0]));
        config.write(0x104, &[0x03, 0]);
        assert!(!pri.asks_for_reset(&config, 0x104, &[0x03, 0]));
    }
}
