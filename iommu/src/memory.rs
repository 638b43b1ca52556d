// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guest-physical memory as the unit sees it.

use crate::address::Gpa;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use vm_memory::{Bytes, GuestMemoryBackend, GuestMemoryRegion, VolatileMemory};

/// The guest's RAM.
pub type Ram = vm_memory::GuestMemoryMmap<()>;

/// Guest-physical memory cannot be accessed at this address: nothing is there, or an atomic access is misaligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no guest RAM at guest-physical address {:#x}", .0.0)]
pub struct MemoryError(pub Gpa);

/// Guest-physical memory: where tables, queues and status words live.
///
/// The guest's processors write the same memory at any moment, so a value is read once and then judged; words that are
/// changed in place are changed by [`PhysMem::compare_exchange_u64`] only.
pub trait PhysMem: fmt::Debug + Send + Sync {
    /// Fills `buf` from `gpa` on. No atomicity beyond single bytes.
    ///
    /// # Errors
    /// Some byte of the range is not RAM; `buf` is then unspecified.
    fn read(&self, gpa: Gpa, buf: &mut [u8]) -> Result<(), MemoryError>;

    /// Writes `buf` at `gpa`. No atomicity beyond single bytes.
    ///
    /// # Errors
    /// Some byte of the range is not RAM; a part may have been written.
    fn write(&self, gpa: Gpa, buf: &[u8]) -> Result<(), MemoryError>;

    /// Reads a little-endian 64-bit word in one access.
    ///
    /// # Errors
    /// Not RAM, or not 8-byte aligned.
    fn load_u64(&self, gpa: Gpa) -> Result<u64, MemoryError>;

    /// Fills `words` with the little-endian 64-bit words from `gpa` on, each read in one access: all of a table at once.
    ///
    /// # Errors
    /// Not RAM, or not 8-byte aligned; `words` is then unspecified.
    fn load_words(&self, gpa: Gpa, words: &mut [u64]) -> Result<(), MemoryError> {
        for (offset, word) in (0..).step_by(8).zip(words) {
            let at = gpa.0.checked_add(offset).ok_or(MemoryError(gpa))?;
            *word = self.load_u64(vm_memory::GuestAddress(at))?;
        }
        Ok(())
    }

    /// Writes a little-endian 32-bit word in one access, after everything written before.
    ///
    /// # Errors
    /// Not RAM, or not 4-byte aligned.
    fn store_u32(&self, gpa: Gpa, value: u32) -> Result<(), MemoryError>;

    /// Replaces `current` by `new` in one access; `Ok(Err(seen))` when the word held something else.
    ///
    /// # Errors
    /// Not RAM, or not 8-byte aligned.
    fn compare_exchange_u64(
        &self,
        gpa: Gpa,
        current: u64,
        new: u64,
    ) -> Result<Result<u64, u64>, MemoryError>;

    /// The memory itself if it is plain RAM: who reads several words in a row calls it directly.
    fn as_ram(&self) -> Option<&Ram> {
        None
    }
}

impl PhysMem for Ram {
    fn as_ram(&self) -> Option<&Ram> {
        Some(self)
    }

    fn read(&self, gpa: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.read_slice(buf, gpa).map_err(|_| MemoryError(gpa))
    }

    fn write(&self, gpa: Gpa, buf: &[u8]) -> Result<(), MemoryError> {
        self.write_slice(buf, gpa).map_err(|_| MemoryError(gpa))
    }

    #[inline]
    fn load_u64(&self, gpa: Gpa) -> Result<u64, MemoryError> {
        with_slice(self, gpa, 8, |slice| {
            slice
                .get_atomic_ref::<AtomicU64>(0)
                .map(|word| u64::from_le(word.load(Ordering::Acquire)))
        })
    }

    fn load_words(&self, gpa: Gpa, words: &mut [u64]) -> Result<(), MemoryError> {
        if !gpa.0.is_multiple_of(8) {
            return Err(MemoryError(gpa));
        }
        let read = with_slice(self, gpa, size_of_val(words), |slice| {
            // Volatile, word by word.
            Ok(slice.copy_to(words))
        })?;
        if read != words.len() {
            return Err(MemoryError(gpa));
        }
        for word in words {
            *word = u64::from_le(*word);
        }
        Ok(())
    }

    fn store_u32(&self, gpa: Gpa, value: u32) -> Result<(), MemoryError> {
        with_slice(self, gpa, 4, |slice| {
            slice
                .get_atomic_ref::<AtomicU32>(0)
                .map(|word| word.store(value.to_le(), Ordering::Release))
        })
    }

    fn compare_exchange_u64(
        &self,
        gpa: Gpa,
        current: u64,
        new: u64,
    ) -> Result<Result<u64, u64>, MemoryError> {
        with_slice(self, gpa, 8, |slice| {
            slice.get_atomic_ref::<AtomicU64>(0).map(|word| {
                word.compare_exchange(
                    current.to_le(),
                    new.to_le(),
                    Ordering::AcqRel,
                    Ordering::Acquire,
                )
                .map(u64::from_le)
                .map_err(u64::from_le)
            })
        })
    }
}

/// Times that an entry which changes under the reader's eyes is read again.
const ENTRY_ATTEMPTS: u32 = 4;

/// Reads the entry of two 64-bit words at `gpa`, the low one first, as it stood at one moment: two words of different
/// moments could name one domain and the tables of another.
///
/// It relies on software clearing the low word, which holds the present bit, before it changes the high one. An entry that
/// does not hold still is taken as it was read last.
///
/// # Errors
/// A word is not RAM, or `gpa` is not 16-byte aligned.
pub fn load_entry<M: PhysMem + ?Sized>(memory: &M, gpa: Gpa) -> Result<[u64; 2], MemoryError> {
    if !gpa.0.is_multiple_of(16) {
        return Err(MemoryError(gpa));
    }
    let mut low = memory.load_u64(gpa)?;
    let mut high = memory.load_u64(vm_memory::GuestAddress(gpa.0 | 8))?;
    for _ in 0..ENTRY_ATTEMPTS {
        let again = memory.load_u64(gpa)?;
        if again == low {
            break;
        }
        low = again;
        high = memory.load_u64(vm_memory::GuestAddress(gpa.0 | 8))?;
    }
    Ok([low, high])
}

/// Reads the entry of `WORDS` 64-bit words at `gpa` as it stood at one moment, whatever order software changes its words
/// in: all of it is read until two readings in a row agree. An entry that does not hold still is taken as it was read last.
///
/// # Errors
/// A word is not RAM, or `gpa` is not aligned to the entry's size.
pub fn load_wide_entry<const WORDS: usize, M: PhysMem + ?Sized>(
    memory: &M,
    gpa: Gpa,
) -> Result<[u64; WORDS], MemoryError> {
    if !gpa.0.is_multiple_of(8 * WORDS as u64) {
        return Err(MemoryError(gpa));
    }
    let read = || -> Result<[u64; WORDS], MemoryError> {
        let mut words = [0; WORDS];
        for (offset, word) in (0..).step_by(8).zip(&mut words) {
            *word = memory.load_u64(vm_memory::GuestAddress(gpa.0 | offset))?;
        }
        Ok(words)
    };
    let mut words = read()?;
    for _ in 0..ENTRY_ATTEMPTS {
        let again = read()?;
        if again == words {
            break;
        }
        words = again;
    }
    Ok(words)
}

/// Runs `access` on the `len` bytes at `gpa`, which must lie in one region.
#[inline]
fn with_slice<T>(
    ram: &Ram,
    gpa: Gpa,
    len: usize,
    access: impl FnOnce(vm_memory::VolatileSlice<'_>) -> Result<T, vm_memory::VolatileMemoryError>,
) -> Result<T, MemoryError> {
    // There are two or three regions: guessing which one costs a processor less than a binary search.
    let (region, offset) = ram
        .iter()
        .find_map(|region| Some((region, region.to_region_addr(gpa)?)))
        .ok_or(MemoryError(gpa))?;
    let slice = region
        .get_slice(offset, len)
        .map_err(|_| MemoryError(gpa))?;
    access(slice).map_err(|_| MemoryError(gpa))
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::GuestAddress;

    fn ram() -> Ram {
        Ram::from_ranges(&[(GuestAddress(0), 0x2000)]).unwrap()
    }

    #[test]
    fn load_beyond_ram_names_the_address() {
        assert_eq!(
            ram().load_u64(GuestAddress(0x2000)),
            Err(MemoryError(GuestAddress(0x2000)))
        );
    }

    #[test]
    fn load_misaligned_is_refused() {
        assert_eq!(
            ram().load_u64(GuestAddress(0x1001)),
            Err(MemoryError(GuestAddress(0x1001)))
        );
    }

    #[test]
    fn load_words_is_little_endian_and_all_or_nothing() {
        let ram = ram();
        PhysMem::write(&ram, GuestAddress(0x1ff8), &[1, 2, 0, 0, 0, 0, 0, 3]).unwrap();
        let mut words = [0; 2];
        assert_eq!(ram.load_words(GuestAddress(0x1ff0), &mut words), Ok(()));
        assert_eq!(words, [0, 0x0300_0000_0000_0201]);
        for bad in [0x1ff8, 0x1ff1, u64::MAX - 7] {
            let error = MemoryError(GuestAddress(bad));
            assert_eq!(ram.load_words(GuestAddress(bad), &mut words), Err(error));
        }
    }

    #[test]
    fn compare_exchange_of_a_changed_word_reports_what_it_holds() {
        let ram = ram();
        PhysMem::write(&ram, GuestAddress(0x1000), &7u64.to_le_bytes()).unwrap();
        assert_eq!(
            ram.compare_exchange_u64(GuestAddress(0x1000), 6, 8),
            Ok(Err(7))
        );
        assert_eq!(
            ram.compare_exchange_u64(GuestAddress(0x1000), 7, 8),
            Ok(Ok(7))
        );
        assert_eq!(ram.load_u64(GuestAddress(0x1000)), Ok(8));
    }

    #[test]
    fn wide_entry_misaligned_is_refused() {
        let ram = ram();
        assert_eq!(
            load_wide_entry::<8, _>(&ram, GuestAddress(0x1020)),
            Err(MemoryError(GuestAddress(0x1020)))
        );
        assert_eq!(
            load_wide_entry::<4, _>(&ram, GuestAddress(0x1020)),
            Ok([0; 4])
        );
    }

    #[test]
    fn store_is_little_endian() {
        let ram = ram();
        ram.store_u32(GuestAddress(0x10), 0x1122_3344).unwrap();
        let mut bytes = [0; 4];
        PhysMem::read(&ram, GuestAddress(0x10), &mut bytes).unwrap();
        assert_eq!(bytes, [0x44, 0x33, 0x22, 0x11]);
    }
}
