// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory that a device reads and writes: page-aligned, and touched by volatile or atomic accesses only.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use vm_memory::{Bytes, MmapRegion, ReadVolatile, VolatileMemory};

use crate::pattern::Random;

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// [`PAGE`] as a distance between addresses.
pub const PAGE_BYTES: u64 = 4096;

/// Memory of whole pages, zeroed at first unless it is a device's.
pub struct Memory(MmapRegion);

impl Memory {
    /// So many bytes, a multiple of [`PAGE`].
    pub fn new(bytes: usize) -> Result<Self> {
        let region = MmapRegion::new(bytes).with_context(|| format!("mapping {bytes} bytes"))?;
        Ok(Self(region))
    }

    /// So many bytes, a multiple of 2 MiB, of huge pages: each is contiguous, and usually all are.
    pub fn huge(bytes: usize) -> Result<Self> {
        let region = MmapRegion::build(
            None,
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | libc::MAP_POPULATE,
        );
        let region = region.with_context(|| format!("mapping {bytes} bytes of huge pages"))?;
        Ok(Self(region))
    }

    /// Memory of a device, which begins as that left it.
    pub const fn of_device(region: MmapRegion) -> Self {
        Self(region)
    }

    /// Where it lies in this process.
    pub fn address(&self) -> u64 {
        // Lossless on the only architecture there is.
        self.0.as_ptr() as u64
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.0.size() as u64
    }

    /// The 8 bytes at an offset that is a multiple of 8.
    pub fn word(&self, offset: usize) -> Result<u64> {
        let word = self.0.get_atomic_ref::<AtomicU64>(offset)?;
        Ok(word.load(Ordering::Acquire))
    }

    /// Writes 8 bytes at an offset that is a multiple of 8.
    pub fn set_word(&self, offset: usize, value: u64) -> Result<()> {
        let word = self.0.get_atomic_ref::<AtomicU64>(offset)?;
        word.store(value, Ordering::Release);
        Ok(())
    }

    /// Reads so many bytes of `file`, from where it stands, into the beginning.
    pub fn read_from(&self, file: &mut File, bytes: usize) -> Result<()> {
        let mut part = self.0.get_slice(0, bytes)?;
        Ok(file.read_exact_volatile(&mut part)?)
    }

    /// Fills it with the pseudo-random bytes of `seed`.
    pub fn fill(&self, seed: u64) -> Result<()> {
        let all = self.0.as_volatile_slice();
        let mut random = Random::new(seed);
        let mut page = [0; PAGE];
        for offset in (0..self.0.size()).step_by(PAGE) {
            random.fill(&mut page);
            all.write_slice(&page, offset)?;
        }
        Ok(())
    }

    /// Fails unless it holds the pseudo-random bytes of `seed`.
    pub fn check(&self, seed: u64) -> Result<()> {
        let all = self.0.as_volatile_slice();
        let mut random = Random::new(seed);
        let (mut page, mut expected) = ([0; PAGE], [0; PAGE]);
        for offset in (0..self.0.size()).step_by(PAGE) {
            all.read_slice(&mut page, offset)?;
            random.fill(&mut expected);
            if page != expected {
                bail!("the page at offset {offset:#x} holds other data than was sent");
            }
        }
        Ok(())
    }

    /// Fails unless the 8 bytes at `offset` are `value`.
    pub fn check_word(&self, offset: usize, value: u64) -> Result<()> {
        match self.word(offset)? {
            word if word == value => Ok(()),
            word => bail!("offset {offset:#x} of memory holds {word:#x} instead of {value:#x}"),
        }
    }

    /// Writes `pattern` to every 8 bytes of the page at `offset`.
    pub fn fill_page(&self, offset: usize, pattern: u64) -> Result<()> {
        for at in (offset..offset + PAGE).step_by(8) {
            self.set_word(at, pattern)?;
        }
        Ok(())
    }

    /// Fails unless every 8 bytes of the page at `offset` are `pattern`.
    pub fn check_page(&self, offset: usize, pattern: u64) -> Result<()> {
        for at in (offset..offset + PAGE).step_by(8) {
            self.check_word(at, pattern)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_finds_one_changed_word() {
        let memory = Memory::new(4 * PAGE).unwrap();
        memory.fill(3).unwrap();
        memory.check(3).unwrap();
        assert!(memory.check(4).is_err());
        memory.set_word(2 * PAGE + 8, 0).unwrap();
        let error = memory.check(3).unwrap_err().to_string();
        assert!(error.contains("offset 0x2000 "), "{error}");
    }

    #[test]
    fn check_page_looks_at_every_word_of_that_page_alone() {
        let memory = Memory::new(2 * PAGE).unwrap();
        memory.fill_page(PAGE, 9).unwrap();
        memory.set_word(PAGE - 8, 7).unwrap();
        memory.check_page(PAGE, 9).unwrap();
        assert!(memory.check_page(0, 0).is_err());
    }
}
