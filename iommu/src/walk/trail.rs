// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The accessed and dirty bits that a request is to leave behind (Accessed, Extended Accessed, and Dirty Flags).
//!
//! Each entry is changed from exactly what the walk read, in one atomic access. When it holds something else by then,
//! nothing is written and the request has to walk again.

use crate::address::Gpa;
use crate::memory::PhysMem;

/// Which stage's entry is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The first.
    First,
    /// The second.
    Second,
}

/// One entry and the bits to set in it.
#[derive(Clone, Copy, Debug)]
struct Update {
    stage: Stage,
    entry: Gpa,
    seen: u64,
    bits: u64,
}

/// The entries to change, in the order in which they were noted. Usually none.
#[derive(Debug, Default)]
pub struct Trail(Vec<Update>);

/// Where a walk notes the bits that it is to set in the entries it comes by.
pub trait Marks {
    /// Notes that `bits` are to be set in the entry at `entry`, which was read as `seen`; a no-op when they are set.
    fn mark(&mut self, stage: Stage, entry: Gpa, seen: u64, bits: u64);
}

impl Marks for Trail {
    /// An entry that the walk came by twice is changed once.
    #[inline]
    fn mark(&mut self, stage: Stage, entry: Gpa, seen: u64, bits: u64) {
        if seen & bits == bits {
            return;
        }
        match self.0.iter_mut().find(|update| update.entry == entry) {
            Some(update) => update.bits |= bits,
            None => self.0.push(Update {
                stage,
                entry,
                seen,
                bits,
            }),
        }
    }
}

/// Whether there is anything to set, for who would walk again then.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unset(pub bool);

impl Marks for Unset {
    #[inline]
    fn mark(&mut self, _stage: Stage, _entry: Gpa, seen: u64, bits: u64) {
        self.0 |= seen & bits != bits;
    }
}

/// Why a trail was not left; a part of it may have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrailError {
    /// An entry of this stage holds something else than the walk read.
    Changed(Stage),
    /// An entry of this stage cannot be written.
    Failed(Stage),
}

impl Trail {
    /// Whether an entry of `stage` is to change.
    #[must_use]
    pub fn touches(&self, stage: Stage) -> bool {
        self.0.iter().any(|update| update.stage == stage)
    }

    /// Changes the entries.
    ///
    /// # Errors
    /// An entry changed meanwhile or cannot be written; what stood before it is done.
    #[inline]
    pub fn leave<M: PhysMem + ?Sized>(&self, memory: &M) -> Result<(), TrailError> {
        for update in &self.0 {
            memory
                .compare_exchange_u64(update.entry, update.seen, update.seen | update.bits)
                .map_err(|_| TrailError::Failed(update.stage))?
                .map_err(|_| TrailError::Changed(update.stage))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeMem;
    use vm_memory::GuestAddress;

    const ENTRY: Gpa = GuestAddress(0x1000);

    #[test]
    fn trail_sets_bits_and_keeps_the_others() {
        let memory = FakeMem::new(0x2000);
        memory.set(0x1000, 0x9003);
        let mut trail = Trail::default();
        trail.mark(Stage::Second, ENTRY, 0x9003, 0x100);
        trail.mark(Stage::Second, ENTRY, 0x9003, 0x200);
        assert_eq!(trail.leave(&memory), Ok(()));
        assert_eq!(memory.word(0x1000), 0x9303);
    }

    #[test]
    fn trail_of_bits_that_are_set_writes_nothing() {
        let mut trail = Trail::default();
        trail.mark(Stage::First, ENTRY, 0x9063, 0x60);
        assert!(!trail.touches(Stage::First));
        assert_eq!(trail.leave(&FakeMem::new(0)), Ok(()));
    }

    #[test]
    fn trail_leaves_an_entry_that_changed_alone() {
        let memory = FakeMem::new(0x2000);
        memory.set(0x1000, 0xa003);
        let mut trail = Trail::default();
        trail.mark(Stage::First, ENTRY, 0x9003, 0x20);
        assert_eq!(trail.leave(&memory), Err(TrailError::Changed(Stage::First)));
        assert_eq!(memory.word(0x1000), 0xa003);
    }

    #[test]
    fn trail_that_cannot_be_written_names_the_stage() {
        let mut trail = Trail::default();
        trail.mark(Stage::Second, ENTRY, 0x9003, 0x100);
        assert_eq!(
            trail.leave(&FakeMem::new(0)),
            Err(TrailError::Failed(Stage::Second))
        );
    }
}
