// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! MSI-X (PCI Express Base Specification 6.0, section 7.7.2): the capability, and the vector table and pending bits, which
//! lie in a BAR.
//!
//! Nothing is sent here: messages are returned to whoever holds no lock. Table and pending bits take aligned accesses of 4
//! and 8 bytes; others read all-ones and are lost, which the specification leaves undefined.

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

/// Bytes of a table entry.
pub const ENTRY_SIZE: u64 = 16;

/// Where table and pending bits lie.
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
    fn table_bytes(self) -> u64 {
        u64::from(self.vectors) * ENTRY_SIZE
    }

    fn pending_bytes(self) -> u64 {
        u64::from(self.vectors).div_ceil(64) * 8
    }

    /// First offset of the BAR beyond table and pending bits.
    #[must_use]
    pub fn end(self) -> u64 {
        let table = u64::from(self.table) + self.table_bytes();
        table.max(u64::from(self.pending) + self.pending_bytes())
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    address: u64,
    data: u32,
    masked: bool,
}

const MASKED: Entry = Entry {
    address: 0,
    data: 0,
    masked: true,
};

/// The state behind the capability.
#[derive(Debug)]
pub struct Msix {
    at: u16,
    layout: MsixLayout,
    entries: Vec<Entry>,
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
            entries: vec![MASKED; vectors],
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
        self.entries.fill(MASKED);
        self.pending.fill(0);
    }

    /// What to send now for `vector`: nothing while MSI-X is disabled or the vector does not exist, nothing while it is
    /// masked (it becomes pending then).
    pub fn trigger(&mut self, config: &ConfigSpace, vector: u16) -> Option<MsiMessage> {
        let control = self.control(config);
        let index = usize::from(vector);
        let entry = *self.entries.get(index)?;
        if !control.enable() {
            return None;
        }
        if control.function_mask() || entry.masked {
            self.pending[index / 64] |= 1 << (index % 64);
            return None;
        }
        Some(MsiMessage {
            address: entry.address,
            data: entry.data,
        })
    }

    /// The pending messages of vectors that nothing masks any more. Call after a write to the capability or the table.
    pub fn take_ready(&mut self, config: &ConfigSpace) -> Vec<MsiMessage> {
        let control = self.control(config);
        if !control.enable() || control.function_mask() || self.pending.iter().all(|&w| w == 0) {
            return Vec::new();
        }
        let mut ready = Vec::new();
        for (index, entry) in self.entries.iter().enumerate() {
            let (word, bit) = (index / 64, 1u64 << (index % 64));
            if !entry.masked && self.pending[word] & bit != 0 {
                self.pending[word] &= !bit;
                ready.push(MsiMessage {
                    address: entry.address,
                    data: entry.data,
                });
            }
        }
        ready
    }

    /// Reads from the BAR; whether the access belongs to table or pending bits.
    pub fn bar_read(&self, bar: u8, offset: u64, data: &mut [u8]) -> bool {
        let Some(place) = self.place(bar, offset, data.len()) else {
            return self.covers(bar, offset);
        };
        for (index, dword) in data.chunks_exact_mut(4).enumerate() {
            let value = match place {
                Place::Table(first) => self.table_dword(first + index),
                Place::Pending(first) => self.pending_dword(first + index),
            };
            dword.copy_from_slice(&value.to_le_bytes());
        }
        true
    }

    /// Writes into the BAR; whether the access belongs to table or pending bits. Pending bits are read-only.
    pub fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]) -> bool {
        let Some(place) = self.place(bar, offset, data.len()) else {
            return self.covers(bar, offset);
        };
        if let Place::Table(first) = place {
            for (index, dword) in data.chunks_exact(4).enumerate() {
                let mut bytes = [0; 4];
                bytes.copy_from_slice(dword);
                self.set_table_dword(first + index, u32::from_le_bytes(bytes));
            }
        }
        true
    }

    fn covers(&self, bar: u8, offset: u64) -> bool {
        bar == self.layout.bar
            && (self.in_table(offset).is_some() || self.in_pending(offset).is_some())
    }

    fn in_table(&self, offset: u64) -> Option<u64> {
        let inside = offset.checked_sub(u64::from(self.layout.table))?;
        (inside < self.layout.table_bytes()).then_some(inside)
    }

    fn in_pending(&self, offset: u64) -> Option<u64> {
        let inside = offset.checked_sub(u64::from(self.layout.pending))?;
        (inside < self.layout.pending_bytes()).then_some(inside)
    }

    fn place(&self, bar: u8, offset: u64, len: usize) -> Option<Place> {
        let aligned = (len == 4 || len == 8) && offset.is_multiple_of(len as u64);
        if bar != self.layout.bar || !aligned {
            return None;
        }
        let dword = |inside: u64| usize::try_from(inside / 4).ok();
        if let Some(inside) = self.in_table(offset) {
            return dword(inside).map(Place::Table);
        }
        self.in_pending(offset).and_then(dword).map(Place::Pending)
    }

    fn table_dword(&self, dword: usize) -> u32 {
        let Some(entry) = self.entries.get(dword / 4) else {
            return u32::MAX;
        };
        let address = entry.address.to_le_bytes();
        let half = |from: usize| {
            u32::from_le_bytes([
                address[from],
                address[from + 1],
                address[from + 2],
                address[from + 3],
            ])
        };
        match dword % 4 {
            0 => half(0),
            1 => half(4),
            2 => entry.data,
            _ => u32::from(entry.masked),
        }
    }

    fn set_table_dword(&mut self, dword: usize, value: u32) {
        let Some(entry) = self.entries.get_mut(dword / 4) else {
            return;
        };
        match dword % 4 {
            0 => entry.address = entry.address >> 32 << 32 | u64::from(value & !3),
            1 => entry.address = u64::from(value) << 32 | entry.address & 0xffff_ffff,
            2 => entry.data = value,
            _ => entry.masked = value & 1 != 0,
        }
    }

    fn pending_dword(&self, dword: usize) -> u32 {
        let word = self.pending.get(dword / 2).copied().unwrap_or(0);
        let bytes = word.to_le_bytes();
        let from = dword % 2 * 4;
        u32::from_le_bytes([
            bytes[from],
            bytes[from + 1],
            bytes[from + 2],
            bytes[from + 3],
        ])
    }
}

#[derive(Clone, Copy)]
enum Place {
    Table(usize),
    Pending(usize),
}

#[cfg(test)]
mod tests;
