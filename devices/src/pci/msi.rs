// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The MSI capability (PCI Express Base Specification 6.0, section 7.7.1): 64-bit addresses, 1 to 32 vectors, per-vector
//! masking if asked for.
//!
//! All state lives in the configuration space. Nothing is sent here: messages are returned to whoever holds no lock.

use super::config::{ConfigSpace, capability, touches};
use bitfield_struct::bitfield;
use iommu::msi::MsiMessage;

/// Message control register.
#[bitfield(u16)]
pub struct MsiControl {
    /// Bit 0: MSI is used instead of INTx.
    pub enable: bool,
    /// Bits 3:1: log2 of the vectors the function can use.
    #[bits(3)]
    pub capable: u8,
    /// Bits 6:4: log2 of the vectors that software granted.
    #[bits(3)]
    pub granted: u8,
    /// Bit 7: 64-bit address.
    pub wide: bool,
    /// Bit 8: mask and pending registers exist.
    pub masking: bool,
    #[bits(7)]
    __: u8,
}

const CONTROL: u16 = 0x2;
const ADDRESS: u16 = 0x4;
const DATA: u16 = 0xc;
const MASK: u16 = 0x10;
const PENDING: u16 = 0x14;

/// Where the capability is, and its shape.
#[derive(Clone, Copy, Debug)]
pub struct Msi {
    at: u16,
    masking: bool,
}

impl Msi {
    /// Adds the capability for `vectors` (a power of two up to 32).
    ///
    /// # Panics
    /// Another number of vectors: a mistake in the device's table.
    pub fn install(config: &mut ConfigSpace, vectors: u8, masking: bool) -> Self {
        assert!(
            vectors.is_power_of_two() && vectors <= 32,
            "{vectors} MSI vectors"
        );
        let [log2, ..] = vectors.trailing_zeros().to_le_bytes();
        let control = MsiControl::new()
            .with_capable(log2)
            .with_wide(true)
            .with_masking(masking);
        let software = MsiControl::new().with_enable(true).with_granted(7);
        let mut body = [0; 0x16];
        body[..2].copy_from_slice(&control.into_bits().to_le_bytes());
        let mut writable = [0; 0x12];
        writable[..2].copy_from_slice(&software.into_bits().to_le_bytes());
        writable[2..6].copy_from_slice(&0xffff_fffcu32.to_le_bytes());
        writable[6..12].fill(0xff);
        let vector_bits = u32::MAX >> (32 - u32::from(vectors));
        writable[14..].copy_from_slice(&vector_bits.to_le_bytes());
        let at = if masking {
            config.add_capability(capability::MSI, &body, &writable)
        } else {
            config.add_capability(capability::MSI, &body[..12], &writable[..12])
        };
        Self { at, masking }
    }

    fn control(self, config: &ConfigSpace) -> MsiControl {
        MsiControl::from_bits(config.u16(self.at + CONTROL))
    }

    /// Whether software enabled MSI.
    #[must_use]
    pub fn is_enabled(self, config: &ConfigSpace) -> bool {
        self.control(config).enable()
    }

    /// What to send now for `vector`: nothing while disabled, or while masked (it becomes pending then). A vector beyond
    /// those granted shares the ones that are.
    pub fn trigger(self, config: &mut ConfigSpace, vector: u8) -> Option<MsiMessage> {
        let control = self.control(config);
        if !control.enable() {
            return None;
        }
        let granted = 1u8 << control.granted().min(control.capable());
        let vector = vector & (granted - 1);
        if self.masking && config.u32(self.at + MASK) >> vector & 1 != 0 {
            let pending = config.u32(self.at + PENDING) | 1 << vector;
            config.set_u32(self.at + PENDING, pending);
            return None;
        }
        Some(self.message(config, granted, vector))
    }

    fn message(self, config: &ConfigSpace, granted: u8, vector: u8) -> MsiMessage {
        let low = u64::from(config.u32(self.at + ADDRESS));
        let high = u64::from(config.u32(self.at + ADDRESS + 4));
        let data = config.u16(self.at + DATA) & !u16::from(granted - 1);
        MsiMessage {
            address: high << 32 | low,
            data: u32::from(data | u16::from(vector)),
        }
    }

    /// The pending messages that a configuration write of `len` bytes at `at` has unmasked. Call after the write.
    pub fn after_write(self, config: &mut ConfigSpace, at: u16, len: usize) -> Vec<MsiMessage> {
        let control = self.control(config);
        if !self.masking || !control.enable() || !touches(at, len, self.at, PENDING) {
            return Vec::new();
        }
        let pending = config.u32(self.at + PENDING);
        let ready = pending & !config.u32(self.at + MASK);
        config.set_u32(self.at + PENDING, pending & !ready);
        let granted = 1u8 << control.granted().min(control.capable());
        (0..32u8)
            .filter(|vector| ready >> vector & 1 != 0)
            .map(|vector| self.message(config, granted, vector & (granted - 1)))
            .collect()
    }
}

#[cfg(test)]
mod tests;
