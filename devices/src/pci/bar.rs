// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Base address registers (PCI Express Base Specification 6.0, section 7.5.1.2.1).
//!
//! Sizing and relocation are the configuration space's masks: address bits below the size are read-only zero.

use super::BarWindow;
use super::config::{ConfigSpace, offset};

/// What kind of window a BAR asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarKind {
    /// Ports; at least 4 bytes, at most 256.
    Io,
    /// Memory below 4 GiB; at least 16 bytes.
    Memory32 {
        /// Reads have no side effects.
        prefetchable: bool,
    },
    /// Memory anywhere; at least 16 bytes. Takes the next BAR's register as its upper half.
    Memory64 {
        /// Reads have no side effects.
        prefetchable: bool,
    },
}

/// A BAR that a function implements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    index: u8,
    kind: BarKind,
    size: u64,
}

impl Bar {
    /// The BAR `index` (0..=5) of `size` bytes.
    ///
    /// # Panics
    /// The size is no power of two, too small or too large for the kind, or the index does not exist: a mistake in the
    /// device's table.
    #[must_use]
    pub fn new(index: u8, kind: BarKind, size: u64) -> Self {
        let (last, least, most) = match kind {
            BarKind::Io => (5, 4, 256),
            BarKind::Memory32 { .. } => (5, 16, 1 << 31),
            BarKind::Memory64 { .. } => (4, 16, 1 << 63),
        };
        assert!(
            index <= last && size.is_power_of_two() && (least..=most).contains(&size),
            "BAR {index} cannot have {size:#x} bytes"
        );
        Self { index, kind, size }
    }

    /// Which BAR.
    #[must_use]
    pub const fn index(&self) -> u8 {
        self.index
    }

    /// Bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    fn at(&self) -> u16 {
        offset::BAR0 + 4 * u16::from(self.index)
    }

    /// Puts the register into `config`.
    pub fn install(&self, config: &mut ConfigSpace) {
        let address_bits = (!(self.size - 1)).to_le_bytes();
        let (flags, width) = match self.kind {
            BarKind::Io => (0x1, 4),
            BarKind::Memory32 { prefetchable } => (prefetch_flag(prefetchable), 4),
            BarKind::Memory64 { prefetchable } => (0x4 | prefetch_flag(prefetchable), 8),
        };
        config.set_u8(self.at(), flags);
        config.allow_write(self.at(), &address_bits[..width]);
    }

    /// The window as programmed, or `None` while the command register does not enable it.
    #[must_use]
    pub fn window(&self, config: &ConfigSpace) -> Option<BarWindow> {
        let command = config.command();
        let low = u64::from(config.u32(self.at()));
        let (enabled, address) = match self.kind {
            BarKind::Io => (command.io(), low),
            BarKind::Memory32 { .. } => (command.memory(), low),
            BarKind::Memory64 { .. } => {
                let high = u64::from(config.u32(self.at() + 4));
                (command.memory(), high << 32 | low)
            }
        };
        enabled.then_some(BarWindow {
            bar: self.index,
            io: self.kind == BarKind::Io,
            base: address & !(self.size - 1),
            len: self.size,
        })
    }
}

const fn prefetch_flag(prefetchable: bool) -> u8 {
    if prefetchable { 0x8 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::super::config::Identity;
    use super::*;

    fn config(bar: &Bar) -> ConfigSpace {
        let mut config = ConfigSpace::endpoint(&Identity::default());
        bar.install(&mut config);
        config
    }

    #[test]
    fn memory32_sizes_by_all_ones() {
        let bar = Bar::new(
            0,
            BarKind::Memory32 {
                prefetchable: false,
            },
            0x10_0000,
        );
        let mut config = config(&bar);
        config.write(0x10, &[0xff; 4]);
        assert_eq!(config.u32(0x10), 0xfff0_0000);
        assert_eq!(config.u32(0x14), 0);
    }

    #[test]
    fn memory64_prefetchable_sizes_in_both_halves() {
        let bar = Bar::new(2, BarKind::Memory64 { prefetchable: true }, 1 << 35);
        let mut config = config(&bar);
        config.write(0x18, &[0xff; 4]);
        config.write(0x1c, &[0xff; 4]);
        assert_eq!((config.u32(0x18), config.u32(0x1c)), (0xc, 0xffff_fff8));
    }

    #[test]
    fn io_sizes_with_its_flag() {
        let bar = Bar::new(1, BarKind::Io, 32);
        let mut config = config(&bar);
        config.write(0x14, &[0xff; 4]);
        assert_eq!(config.u32(0x14), 0xffff_ffe1);
    }

    #[test]
    fn window_follows_relocation_and_the_decode_bit() {
        let bar = Bar::new(
            0,
            BarKind::Memory64 {
                prefetchable: false,
            },
            0x4000,
        );
        let mut config = config(&bar);
        config.write(0x10, &0x8000_7fffu32.to_le_bytes());
        config.write(0x14, &0x12u32.to_le_bytes());
        assert_eq!(bar.window(&config), None);
        config.write(0x04, &[0x02, 0]);
        let window = bar.window(&config).unwrap();
        assert_eq!(
            (window.bar, window.io, window.base, window.len),
            (0, false, 0x12_8000_4000, 0x4000)
        );
        config.write(0x04, &[0x01, 0]);
        assert_eq!(bar.window(&config), None);
    }

    #[test]
    #[should_panic(expected = "BAR 5 cannot have")]
    fn memory64_in_the_last_register_is_refused() {
        let _ = Bar::new(
            5,
            BarKind::Memory64 {
                prefetchable: false,
            },
            0x1000,
        );
    }
}
