// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Interrupt remapping table entries and remappable MSI addresses, as raw words (VT-d spec 9.10, 5.1.2.2).

use crate::mem;

/// Trigger mode level, in the low word.
pub const LEVEL: u64 = 1 << 4;
/// Fault processing disable, in the low word.
pub const FPD: u64 = 1 << 1;
/// Verify the whole source id, in the high word.
pub const SVT_SOURCE: u64 = 0b01 << 18;
/// Verify that the bus lies within the range that the source id field holds.
pub const SVT_BUS: u64 = 0b10 << 18;

/// A table of 256 entries.
#[derive(Clone, Copy)]
pub struct Irt {
    pub base: u64,
    /// Whether destinations are 32 bits wide.
    pub eime: bool,
}

impl Irt {
    /// S of IRTA: 2^(7 + 1) entries.
    pub const SIZE: u64 = 7;

    pub fn new(eime: bool) -> Irt {
        Irt {
            base: mem::page(),
            eime,
        }
    }

    /// Low word of a present entry: fixed delivery of `vector` to the CPU `apic_id`, physical destination, edge.
    pub fn low(self, vector: u8, apic_id: u32) -> u64 {
        let destination = u64::from(apic_id) << if self.eime { 32 } else { 40 };
        destination | u64::from(vector) << 16 | 1
    }

    /// Writes an entry, the low word last.
    pub fn set(self, index: u16, low: u64, high: u64) {
        let at = self.base + u64::from(index) * 16;
        mem::write64(at, 0);
        mem::write64(at + 8, high);
        mem::write64(at, low);
    }
}

/// MSI address in remappable format for `index`, without subhandle.
pub fn address(index: u16) -> u64 {
    let handle = u64::from(index);
    0xFEE0_0000 | (handle & 0x7FFF) << 5 | 1 << 4 | (handle >> 15) << 2
}

/// As `address`, with the subhandle in the MSI data valid.
pub fn address_with_subhandle(index: u16) -> u64 {
    address(index) | 1 << 3
}

/// MSI address in compatibility format for the CPU `apic_id`.
pub fn compatible(apic_id: u32) -> u64 {
    0xFEE0_0000 | u64::from(apic_id & 0xFF) << 12
}
