// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! PCI configuration space, by ECAM where MCFG names it, else by ports CF8 and CFC.

use crate::arch::{in32, out32};
use crate::mem;

#[derive(Clone, Copy)]
pub struct Config {
    ecam: Option<u64>,
    /// Bus, device and function as a source id.
    pub source: u16,
}

impl Config {
    /// The function with this vendor and device id on bus 0.
    pub fn find(ecam: Option<u64>, vendor: u16, device: u16) -> Option<Config> {
        Config::all(ecam, vendor, device).next()
    }

    /// As `find`, the one in the last slot.
    pub fn find_last(ecam: Option<u64>, vendor: u16, device: u16) -> Option<Config> {
        Config::all(ecam, vendor, device).last()
    }

    fn all(ecam: Option<u64>, vendor: u16, device: u16) -> impl Iterator<Item = Config> {
        let wanted = u32::from(device) << 16 | u32::from(vendor);
        Config::root_bus(ecam).filter(move |config| config.read(0u16) == wanted)
    }

    /// The first function of every slot of bus 0, whether it is there or not.
    pub fn root_bus(ecam: Option<u64>) -> impl Iterator<Item = Config> {
        (0..32u16).map(move |slot| Config {
            ecam,
            source: slot << 3,
        })
    }

    /// The function in the slot below a port whose bus is `bus`.
    pub fn below(self, bus: u8) -> Config {
        Config {
            source: u16::from(bus) << 8,
            ..self
        }
    }

    /// The double word at `offset` (a multiple of 4). Without ECAM there are the first 256 bytes only.
    pub fn read(self, offset: impl Into<u16>) -> u32 {
        let offset = offset.into();
        match self.ecam {
            Some(base) => mem::read32(self.ecam_address(base, offset)),
            None => {
                out32(0xCF8, self.port_address(offset));
                in32(0xCFC)
            }
        }
    }

    pub fn write(self, offset: impl Into<u16>, value: u32) {
        let offset = offset.into();
        match self.ecam {
            Some(base) => mem::write32(self.ecam_address(base, offset), value),
            None => {
                out32(0xCF8, self.port_address(offset));
                out32(0xCFC, value);
            }
        }
    }

    fn ecam_address(self, base: u64, offset: u16) -> u64 {
        base + (u64::from(self.source) << 12) + u64::from(offset & 0xFFC)
    }

    fn port_address(self, offset: u16) -> u32 {
        1 << 31 | u32::from(self.source) << 8 | u32::from(offset & 0xFC)
    }

    /// Offset of the capability with this id.
    pub fn capability(self, id: u8) -> Option<u8> {
        let [mut at, ..] = self.read(0x34u16).to_le_bytes();
        for _ in 0..48 {
            if at < 0x40 {
                return None;
            }
            let [have, next, ..] = self.read(at).to_le_bytes();
            if have == id {
                return Some(at);
            }
            at = next;
        }
        None
    }

    /// Offset of the extended capability with this id.
    pub fn extended_capability(self, id: u16) -> Option<u16> {
        self.ecam?;
        let mut at = 0x100u16;
        for _ in 0..64 {
            let header = self.read(at);
            if header == 0 || header == u32::MAX {
                return None;
            }
            let [low, high, next_low, next_high] = header.to_le_bytes();
            if u16::from_le_bytes([low, high]) == id {
                return Some(at);
            }
            at = u16::from_le_bytes([next_low, next_high]) >> 4;
            if at < 0x100 {
                return None;
            }
        }
        None
    }
}
