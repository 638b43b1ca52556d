// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guest memory of a few pages from address 0 on.

use iommu::address::Gpa;
use iommu::memory::{MemoryError, PhysMem};
use std::sync::atomic::{AtomicU64, Ordering};

/// Pages of memory.
pub const PAGES: u64 = 16;

/// The memory. Everything beyond it fails.
#[derive(Debug)]
pub struct Memory {
    words: Vec<AtomicU64>,
    accesses: AtomicU64,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            words: (0..PAGES * 512).map(|_| AtomicU64::new(0)).collect(),
            accesses: AtomicU64::new(0),
        }
    }
}

impl Memory {
    /// How often memory was accessed since the last call.
    pub fn accesses(&self) -> u64 {
        self.accesses.swap(0, Ordering::Relaxed)
    }

    /// Sets the word with this number, modulo their count.
    pub fn set(&self, word: u64, value: u64) {
        let index = usize::try_from(word).unwrap_or(0) % self.words.len();
        self.words[index].store(value, Ordering::Relaxed);
    }

    /// The word with this number, or 0 where there is none.
    pub fn get(&self, word: u64) -> u64 {
        let index = usize::try_from(word).unwrap_or(usize::MAX);
        self.words
            .get(index)
            .map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// All words.
    pub fn snapshot(&self) -> Vec<u64> {
        self.words
            .iter()
            .map(|word| word.load(Ordering::Relaxed))
            .collect()
    }

    /// Makes all words those of a snapshot.
    pub fn restore(&self, words: &[u64]) {
        for (word, &value) in self.words.iter().zip(words) {
            word.store(value, Ordering::Relaxed);
        }
    }

    fn word(&self, gpa: u64) -> Result<&AtomicU64, MemoryError> {
        usize::try_from(gpa / 8)
            .ok()
            .and_then(|index| self.words.get(index))
            .ok_or(MemoryError(vm_memory::GuestAddress(gpa)))
    }

    fn aligned(&self, gpa: Gpa, to: u64) -> Result<&AtomicU64, MemoryError> {
        self.accesses.fetch_add(1, Ordering::Relaxed);
        if !gpa.0.is_multiple_of(to) {
            return Err(MemoryError(gpa));
        }
        self.word(gpa.0)
    }
}

impl PhysMem for Memory {
    fn read(&self, gpa: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.accesses.fetch_add(1, Ordering::Relaxed);
        for (offset, byte) in (0u64..).zip(buf) {
            let at = gpa.0.checked_add(offset).ok_or(MemoryError(gpa))?;
            let bytes = self.word(at)?.load(Ordering::Relaxed).to_le_bytes();
            *byte = bytes[usize::try_from(at % 8).unwrap_or(0)];
        }
        Ok(())
    }

    fn write(&self, gpa: Gpa, buf: &[u8]) -> Result<(), MemoryError> {
        self.accesses.fetch_add(1, Ordering::Relaxed);
        for (offset, byte) in (0u64..).zip(buf) {
            let at = gpa.0.checked_add(offset).ok_or(MemoryError(gpa))?;
            let word = self.word(at)?;
            let mut bytes = word.load(Ordering::Relaxed).to_le_bytes();
            bytes[usize::try_from(at % 8).unwrap_or(0)] = *byte;
            word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
        }
        Ok(())
    }

    fn load_u64(&self, gpa: Gpa) -> Result<u64, MemoryError> {
        Ok(self.aligned(gpa, 8)?.load(Ordering::Relaxed))
    }

    fn store_u32(&self, gpa: Gpa, value: u32) -> Result<(), MemoryError> {
        self.aligned(gpa, 4)?;
        self.write(gpa, &value.to_le_bytes())
    }

    fn compare_exchange_u64(
        &self,
        gpa: Gpa,
        current: u64,
        new: u64,
    ) -> Result<Result<u64, u64>, MemoryError> {
        let word = self.aligned(gpa, 8)?;
        Ok(word.compare_exchange(current, new, Ordering::Relaxed, Ordering::Relaxed))
    }
}
