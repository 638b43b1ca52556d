// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The MSI-X table and the pending bits, which lie in BARs (PCI Express Base Specification 6.0, section 7.7.2).
//!
//! Accesses are aligned and of 4 or 8 bytes; others read all-ones and are lost, which the specification leaves undefined.

use iommu::msi::MsiMessage;
use std::ops::Range;

/// Bytes of a table entry.
pub const ENTRY_SIZE: u64 = 16;

/// Where table and pending bits lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsixPlace {
    /// Vectors, 1..=2048.
    pub vectors: u16,
    /// The BAR of the table and the offset in it.
    pub table: (u8, u32),
    /// The BAR of the pending bits and the offset in it.
    pub pending: (u8, u32),
}

impl MsixPlace {
    /// Bytes of the table.
    #[must_use]
    pub fn table_bytes(self) -> u64 {
        u64::from(self.vectors) * ENTRY_SIZE
    }

    /// Bytes of the pending bits.
    #[must_use]
    pub fn pending_bytes(self) -> u64 {
        u64::from(self.vectors).div_ceil(64) * 8
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    words: [u32; 3],
    masked: bool,
}

const MASKED: Entry = Entry {
    words: [0; 3],
    masked: true,
};

/// The table, and reads of the pending bits, which are kept by whoever sends.
#[derive(Debug)]
pub struct MsixTable {
    place: MsixPlace,
    entries: Vec<Entry>,
}

impl MsixTable {
    /// A table at `place`, as it is after power-on: every vector masked.
    #[must_use]
    pub fn new(place: MsixPlace) -> Self {
        Self {
            place,
            entries: vec![MASKED; usize::from(place.vectors)],
        }
    }

    /// Back to the state after power-on.
    pub fn reset(&mut self) {
        self.entries.fill(MASKED);
    }

    /// The message of `vector`; `None` while it is masked, and for one that does not exist.
    #[must_use]
    pub fn message(&self, vector: u16) -> Option<MsiMessage> {
        let entry = self.entries.get(usize::from(vector))?;
        let [low, high, data] = entry.words;
        (!entry.masked).then_some(MsiMessage {
            address: u64::from(high) << 32 | u64::from(low),
            data,
        })
    }

    /// How many vectors there are.
    #[must_use]
    pub const fn vectors(&self) -> u16 {
        self.place.vectors
    }

    /// Where table and pending bits lie.
    #[must_use]
    pub const fn place(&self) -> MsixPlace {
        self.place
    }

    /// Serves a read; `false` when the access is the device's. `pending` tells of each vector whether it waits to be unmasked.
    pub fn read(&self, bar: u8, at: u64, data: &mut [u8], pending: impl Fn(u16) -> bool) -> bool {
        if let Some(inside) = inside(self.place.table, self.place.table_bytes(), bar, at) {
            fill(inside, data, |dword| self.word(dword));
        } else if let Some(inside) = inside(self.place.pending, self.place.pending_bytes(), bar, at)
        {
            fill(inside, data, |dword| {
                let first = dword * 32;
                let bit = |bit: u64| {
                    let vector = u16::try_from(first + bit).unwrap_or(u16::MAX);
                    u32::from(vector < self.place.vectors && pending(vector)) << bit
                };
                (0..32).fold(0, |word, index| word | bit(index))
            });
        } else {
            return false;
        }
        true
    }

    /// Serves a write; `None` when the access is the device's, otherwise the vectors that may have changed.
    pub fn write(&mut self, bar: u8, at: u64, data: &[u8]) -> Option<Range<u16>> {
        if inside(self.place.pending, self.place.pending_bytes(), bar, at).is_some() {
            return Some(0..0);
        }
        let inside = inside(self.place.table, self.place.table_bytes(), bar, at)?;
        if !is_whole(inside, data.len()) {
            return Some(0..0);
        }
        for (index, dword) in data.chunks_exact(4).enumerate() {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(dword);
            self.set_word(inside / 4 + index as u64, u32::from_le_bytes(bytes));
        }
        let vector = u16::try_from(inside / ENTRY_SIZE).unwrap_or(u16::MAX);
        Some(vector..vector.saturating_add(1))
    }

    fn word(&self, dword: u64) -> u32 {
        let entry = usize::try_from(dword / 4)
            .ok()
            .and_then(|index| self.entries.get(index));
        let Some(entry) = entry else { return u32::MAX };
        match dword % 4 {
            0 => entry.words[0],
            1 => entry.words[1],
            2 => entry.words[2],
            _ => u32::from(entry.masked),
        }
    }

    fn set_word(&mut self, dword: u64, value: u32) {
        let entry = usize::try_from(dword / 4)
            .ok()
            .and_then(|index| self.entries.get_mut(index));
        let Some(entry) = entry else { return };
        match dword % 4 {
            0 => entry.words[0] = value & !3,
            1 => entry.words[1] = value,
            2 => entry.words[2] = value,
            _ => entry.masked = value & 1 != 0,
        }
    }
}

/// Where in a structure at `place` an access to `bar` begins.
fn inside((in_bar, start): (u8, u32), len: u64, bar: u8, at: u64) -> Option<u64> {
    let inside = at.checked_sub(u64::from(start))?;
    (in_bar == bar && inside < len).then_some(inside)
}

const fn is_whole(inside: u64, len: usize) -> bool {
    (len == 4 || len == 8) && inside.is_multiple_of(len as u64)
}

fn fill(inside: u64, data: &mut [u8], word: impl Fn(u64) -> u32) {
    if !is_whole(inside, data.len()) {
        data.fill(0xff);
        return;
    }
    for (index, dword) in data.chunks_exact_mut(4).enumerate() {
        dword.copy_from_slice(&word(inside / 4 + index as u64).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 65 vectors, the table at 0x2000 of BAR 0 and pending bits at 0x10 of BAR 2.
    fn table() -> MsixTable {
        MsixTable::new(MsixPlace {
            vectors: 65,
            table: (0, 0x2000),
            pending: (2, 0x10),
        })
    }

    #[test]
    fn entry_gives_its_message_once_unmasked() {
        let mut table = table();
        assert_eq!(table.write(0, 0x2410, &0xfee0_1003u64.to_le_bytes()), None);
        assert_eq!(
            table.write(0, 0x2400, &0x1_fee0_1003u64.to_le_bytes()),
            Some(64..65)
        );
        assert_eq!(table.write(0, 0x2408, &[0x31, 0, 0, 0]), Some(64..65));
        assert_eq!(table.message(64), None);
        assert_eq!(table.write(0, 0x240c, &[0; 4]), Some(64..65));
        assert_eq!(
            table.message(64),
            Some(MsiMessage {
                address: 0x1_fee0_1000,
                data: 0x31
            })
        );
        let mut data = [0; 8];
        assert!(table.read(0, 0x2400, &mut data, |_| false));
        assert_eq!(u64::from_le_bytes(data), 0x1_fee0_1000);
        table.reset();
        assert_eq!((table.message(64), table.message(65)), (None, None));
    }

    #[test]
    fn pending_bits_are_read_only_and_tell_who_waits() {
        let mut table = table();
        let mut data = [0; 8];
        assert!(table.read(2, 0x18, &mut data, |vector| vector == 64 || vector == 1));
        assert_eq!(u64::from_le_bytes(data), 1);
        let mut data = [0; 4];
        assert!(table.read(2, 0x10, &mut data, |vector| vector == 1));
        assert_eq!(u32::from_le_bytes(data), 2);
        assert_eq!(table.write(2, 0x10, &[0xff; 8]), Some(0..0));
    }

    #[test]
    fn accesses_of_other_sizes_read_ones_and_are_lost() {
        let mut table = table();
        let mut data = [0; 2];
        assert!(table.read(0, 0x2000, &mut data, |_| false));
        assert_eq!(data, [0xff; 2]);
        assert_eq!(table.write(0, 0x200c, &[0]), Some(0..0));
        assert_eq!(table.message(0), None);
        assert_eq!(table.write(0, 0x2004, &[0; 8]), Some(0..0));
    }

    #[test]
    fn accesses_outside_are_the_devices() {
        let mut table = table();
        let mut data = [0; 4];
        assert!(!table.read(0, 0x1ffc, &mut data, |_| false));
        assert!(!table.read(0, 0x10, &mut data, |_| false));
        assert_eq!(table.write(2, 0x2000, &[0; 4]), None);
    }
}
