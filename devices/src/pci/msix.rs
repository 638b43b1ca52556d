// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! MSI-X (PCI Express Base Specification 6.0, section 7.7.2): the capability, and the vector table and pending bits, which
//! lie in a BAR.
//!
//! Nothing is sent here: messages are returned to whoever holds no lock.

mod table;

pub use table::{ENTRY_SIZE, MsixPlace, MsixTable};

use super::config::{ConfigSpace, capability};
use bitfield_struct::bitfield;
use iommu::msi::MsiMessage;

/// Message control register.
#[bitfield(u16)]
pub struct MsixControl {
    /// Bits 10:0: vectors - 1.
    #[bits(11)]
    pub last: u16,
    #[bits(3)]
    __: u8,
    /// Bit 14: every vector is masked.
    pub function_mask: bool,
    /// Bit 15: MSI-X is used instead of MSI and INTx.
    pub enable: bool,
}

/// Where table and pending bits of an emulated device lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsixLayout {
    /// The BAR that holds both.
    pub bar: u8,
    /// Vectors, 1..=2048.
    pub vectors: u16,
    /// Offset of the table in the BAR, a multiple of 8.
    pub table: u32,
    /// Offset of the pending bits in the BAR, a multiple of 8.
    pub pending: u32,
}

impl MsixLayout {
    const fn place(self) -> MsixPlace {
        MsixPlace {
            vectors: self.vectors,
            table: (self.bar, self.table),
            pending: (self.bar, self.pending),
        }
    }

    fn table_bytes(self) -> u64 {
        self.place().table_bytes()
    }

    fn pending_bytes(self) -> u64 {
        self.place().pending_bytes()
    }

    /// First offset of the BAR beyond table and pending bits.
    #[must_use]
    pub fn end(self) -> u64 {
        let table = u64::from(self.table) + self.table_bytes();
        table.max(u64::from(self.pending) + self.pending_bytes())
    }
}

/// The state behind the capability.
#[derive(Debug)]
pub struct Msix {
    at: u16,
    layout: MsixLayout,
    table: MsixTable,
    pending: Vec<u64>,
}

impl Msix {
    /// Adds the capability.
    ///
    /// # Panics
    /// The layout is impossible: a mistake in the device's table.
    pub fn install(config: &mut ConfigSpace, layout: MsixLayout) -> Self {
        let table = u64::from(layout.table)..u64::from(layout.table) + layout.table_bytes();
        let pending = u64::from(layout.pending)..u64::from(layout.pending) + layout.pending_bytes();
        assert!(
            (1..=2048).contains(&layout.vectors)
                && layout.bar < 6
                && layout.table.is_multiple_of(8)
                && layout.pending.is_multiple_of(8)
                && (table.end <= pending.start || pending.end <= table.start),
            "impossible MSI-X layout {layout:?}"
        );
        let control = MsixControl::new().with_last(layout.vectors - 1);
        let software = MsixControl::new()
            .with_function_mask(true)
            .with_enable(true);
        let mut body = [0; 10];
        body[..2].copy_from_slice(&control.into_bits().to_le_bytes());
        let bar = u32::from(layout.bar);
        body[2..6].copy_from_slice(&(layout.table | bar).to_le_bytes());
        body[6..].copy_from_slice(&(layout.pending | bar).to_le_bytes());
        let writable = software.into_bits().to_le_bytes();
        let at = config.add_capability(capability::MSIX, &body, &writable);
        let vectors = usize::from(layout.vectors);
        Self {
            at,
            layout,
            table: MsixTable::new(layout.place()),
            pending: vec![0; vectors.div_ceil(64)],
        }
    }

    /// Where table and pending bits lie.
    #[must_use]
    pub const fn layout(&self) -> MsixLayout {
        self.layout
    }

    fn control(&self, config: &ConfigSpace) -> MsixControl {
        MsixControl::from_bits(config.u16(self.at + 2))
    }

    /// Whether software enabled MSI-X.
    #[must_use]
    pub fn is_enabled(&self, config: &ConfigSpace) -> bool {
        self.control(config).enable()
    }

    /// Back to the state after power-on.
    pub fn reset(&mut self) {
        self.table.reset();
        self.pending.fill(0);
    }

    /// What to send now for `vector`: nothing while MSI-X is disabled or the vector does not exist, nothing while it is
    /// masked (it becomes pending then).
    pub fn trigger(&mut self, config: &ConfigSpace, vector: u16) -> Option<MsiMessage> {
        let control = self.control(config);
        if !control.enable() || vector >= self.layout.vectors {
            return None;
        }
        let message = self.table.message(vector);
        let message = message.filter(|_| !control.function_mask());
        if message.is_none() {
            let index = usize::from(vector);
            self.pending[index / 64] |= 1 << (index % 64);
        }
        message
    }

    /// The pending messages of vectors that nothing masks any more. Call after a write to the capability or the table.
    pub fn take_ready(&mut self, config: &ConfigSpace) -> Vec<MsiMessage> {
        let control = self.control(config);
        if !control.enable() || control.function_mask() || self.pending.iter().all(|&w| w == 0) {
            return Vec::new();
        }
        let mut ready = Vec::new();
        for vector in 0..self.layout.vectors {
            if self.is_pending(vector)
                && let Some(message) = self.table.message(vector)
            {
                let index = usize::from(vector);
                self.pending[index / 64] &= !(1 << (index % 64));
                ready.push(message);
            }
        }
        ready
    }

    fn is_pending(&self, vector: u16) -> bool {
        let index = usize::from(vector);
        let word = self.pending.get(index / 64).copied().unwrap_or(0);
        word >> (index % 64) & 1 != 0
    }

    /// Reads from the BAR; whether the access belongs to table or pending bits.
    pub fn bar_read(&self, bar: u8, offset: u64, data: &mut [u8]) -> bool {
        let pending = |vector| self.is_pending(vector);
        self.table.read(bar, offset, data, pending)
    }

    /// Writes into the BAR; whether the access belongs to table or pending bits. Pending bits are read-only.
    pub fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]) -> bool {
        self.table.write(bar, offset, data).is_some()
    }
}

#[cfg(test)]
mod tests;
