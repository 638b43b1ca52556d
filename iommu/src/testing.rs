// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Fakes for tests.

use crate::address::Gpa;
use crate::memory::{MemoryError, PhysMem};
use crate::msi::{MsiMessage, MsiSink};
use crate::unit::{InterruptListener, Outputs};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vm_memory::GuestAddress;

/// Hears a unit's messages and notices, and does nothing.
#[derive(Clone, Copy, Debug)]
pub struct Nobody;

impl MsiSink for Nobody {
    fn deliver(&self, _message: MsiMessage) {}
}

impl InterruptListener for Nobody {
    fn interrupts_changed(&self) {}
}

impl Nobody {
    /// The outputs of a unit that nobody listens to.
    #[must_use]
    pub fn outputs() -> Outputs {
        Outputs {
            events: Arc::new(Self),
            interrupts: Arc::new(Self),
        }
    }
}

/// Guest-physical memory of a given size that holds zeros, counts reads and can fail at chosen words.
#[derive(Debug)]
pub struct FakeMem {
    size: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    words: BTreeMap<u64, u64>,
    failing: BTreeSet<u64>,
    protected: BTreeSet<u64>,
    races: Vec<(u64, u64)>,
    reads: u64,
}

impl FakeMem {
    /// Memory of `size` bytes from address 0 on.
    #[must_use]
    pub fn new(size: u64) -> Self {
        Self {
            size,
            state: Mutex::default(),
        }
    }

    /// Sets the aligned 64-bit word at `gpa`.
    pub fn set(&self, gpa: u64, value: u64) {
        self.state().words.insert(gpa & !7, value);
    }

    /// The aligned 64-bit word at `gpa`. Not counted.
    #[must_use]
    pub fn word(&self, gpa: u64) -> u64 {
        self.state().words.get(&(gpa & !7)).copied().unwrap_or(0)
    }

    /// Makes every access to the aligned 64-bit word at `gpa` fail from now on.
    pub fn fail(&self, gpa: u64) {
        self.state().failing.insert(gpa & !7);
    }

    /// Makes a word that failed memory again.
    pub fn mend(&self, gpa: u64) {
        self.state().failing.remove(&(gpa & !7));
    }

    /// Makes the aligned 64-bit word at `gpa` refuse to be compared and exchanged from now on.
    pub fn protect(&self, gpa: u64) {
        self.state().protected.insert(gpa & !7);
    }

    /// Sets the aligned 64-bit word at `gpa` to `value` right before the next comparison with it. Several of one word come
    /// one comparison after the other.
    pub fn race(&self, gpa: u64, value: u64) {
        self.state().races.push((gpa & !7, value));
    }

    /// How many reads there were, of whatever length.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.state().reads
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, once the `len` bytes at `gpa` are known to be there.
    fn access(&self, gpa: Gpa, len: usize) -> Result<MutexGuard<'_, State>, MemoryError> {
        let state = self.state();
        let last = gpa.0.checked_add(len.saturating_sub(1) as u64);
        match last {
            Some(last)
                if last < self.size && state.failing.range(gpa.0 & !7..=last).next().is_none() =>
            {
                Ok(state)
            }
            _ => Err(MemoryError(gpa)),
        }
    }

    fn aligned(gpa: Gpa, to: u64) -> Result<(), MemoryError> {
        if gpa.0.is_multiple_of(to) {
            Ok(())
        } else {
            Err(MemoryError(gpa))
        }
    }
}

impl State {
    fn byte(&self, gpa: u64) -> u8 {
        let word = self.words.get(&(gpa & !7)).copied().unwrap_or(0);
        word.to_le_bytes()[usize::try_from(gpa & 7).unwrap_or(0)]
    }

    fn set_byte(&mut self, gpa: u64, value: u8) {
        let word = self.words.entry(gpa & !7).or_insert(0);
        let mut bytes = word.to_le_bytes();
        bytes[usize::try_from(gpa & 7).unwrap_or(0)] = value;
        *word = u64::from_le_bytes(bytes);
    }
}

impl PhysMem for FakeMem {
    fn read(&self, gpa: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        let mut state = self.access(gpa, buf.len())?;
        state.reads += 1;
        for (address, byte) in (gpa.0..).zip(buf) {
            *byte = state.byte(address);
        }
        Ok(())
    }

    fn write(&self, gpa: Gpa, buf: &[u8]) -> Result<(), MemoryError> {
        let mut state = self.access(gpa, buf.len())?;
        for (address, byte) in (gpa.0..).zip(buf) {
            state.set_byte(address, *byte);
        }
        Ok(())
    }

    fn load_u64(&self, gpa: Gpa) -> Result<u64, MemoryError> {
        #[cfg(test)]
        crate::sync::step();
        Self::aligned(gpa, 8)?;
        let mut state = self.access(gpa, 8)?;
        state.reads += 1;
        Ok(state.words.get(&gpa.0).copied().unwrap_or(0))
    }

    fn load_words(&self, gpa: Gpa, words: &mut [u64]) -> Result<(), MemoryError> {
        #[cfg(test)]
        crate::sync::step();
        Self::aligned(gpa, 8)?;
        let mut state = self.access(gpa, size_of_val(words))?;
        state.reads += 1;
        for (at, word) in (gpa.0..).step_by(8).zip(words) {
            *word = state.words.get(&at).copied().unwrap_or(0);
        }
        Ok(())
    }

    fn store_u32(&self, gpa: Gpa, value: u32) -> Result<(), MemoryError> {
        Self::aligned(gpa, 4)?;
        self.write(GuestAddress(gpa.0), &value.to_le_bytes())
    }

    fn compare_exchange_u64(
        &self,
        gpa: Gpa,
        current: u64,
        new: u64,
    ) -> Result<Result<u64, u64>, MemoryError> {
        #[cfg(test)]
        crate::sync::step();
        Self::aligned(gpa, 8)?;
        let mut state = self.access(gpa, 8)?;
        if state.protected.contains(&gpa.0) {
            return Err(MemoryError(gpa));
        }
        if let Some(next) = state.races.iter().position(|(at, _)| *at == gpa.0) {
            let (_, value) = state.races.remove(next);
            state.words.insert(gpa.0, value);
        }
        let word = state.words.entry(gpa.0).or_insert(0);
        if *word == current {
            *word = new;
            Ok(Ok(current))
        } else {
            Ok(Err(*word))
        }
    }
}
