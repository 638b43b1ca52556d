// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! PCI configuration space of bus 0, by ECAM where MCFG names it, else by ports CF8 and CFC.

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
        let wanted = u32::from(device) << 16 | u32::from(vendor);
        (0..32u16)
            .map(|slot| Config {
                ecam,
                source: slot << 3,
            })
            .find(|config| config.read(0) == wanted)
    }

    /// The double word at `offset` (a multiple of 4).
    pub fn read(self, offset: u8) -> u32 {
        match self.ecam {
            Some(base) => mem::read32(self.ecam_address(base, offset)),
            None => {
                out32(0xCF8, self.port_address(offset));
                in32(0xCFC)
            }
        }
    }

    pub fn write(self, offset: u8, value: u32) {
        match self.ecam {
            Some(base) => mem::write32(self.ecam_address(base, offset), value),
            None => {
                out32(0xCF8, self.port_address(offset));
                out32(0xCFC, value);
            }
        }
    }

    fn ecam_address(self, base: u64, offset: u8) -> u64 {
        base + (u64::from(self.source) << 12) + u64::from(offset & 0xFC)
    }

    fn port_address(self, offset: u8) -> u32 {
        1 << 31 | u32::from(self.source) << 8 | u32::from(offset & 0xFC)
    }

    /// Offset of the capability with this id.
    pub fn capability(self, id: u8) -> Option<u8> {
        let [mut at, ..] = self.read(0x34).to_le_bytes();
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
}
