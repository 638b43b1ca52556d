// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a host table holds, as the host was told and confirmed.
//!
//! Where the host can cut mappings, their borders do not matter and adjacent ones are one run. Where it cannot, a run is
//! exactly one mapping of the host. A run costs at most 64 bytes of memory, whatever order runs come and go in: three words
//! in a B-tree whose nodes are at least five elevenths full.

use crate::run::{Rights, Run, bytes, intersection};
use iommu::address::{Iova, IovaRange, PAGE_SIZE};
use std::collections::BTreeMap;
use std::ops::Bound;
use vm_memory::GuestAddress;

/// What a host table holds.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// By the first address.
    runs: BTreeMap<u64, Entry>,
    bytes: u64,
    joining: bool,
}

/// The rest of a run.
#[derive(Clone, Copy, Debug)]
struct Entry {
    last: u64,
    /// The first guest-physical address, with the rights in the bits that a page's address leaves.
    target: u64,
}

/// A run was to be added where there is one already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is a run at {0} already")]
pub struct Occupied(pub Iova);

impl Entry {
    const fn new(run: &Run) -> Self {
        let rights = run.rights.read() as u64 | (run.rights.write() as u64) << 1;
        Self {
            last: run.iova.last().0,
            target: run.gpa.0 & !(PAGE_SIZE - 1) | rights,
        }
    }
}

/// The run that `start` and `entry` stand for.
fn run(start: u64, entry: Entry) -> Option<Run> {
    Some(Run {
        iova: IovaRange::new(Iova(start), Iova(entry.last))?,
        gpa: GuestAddress(entry.target & !(PAGE_SIZE - 1)),
        rights: match entry.target & 0b11 {
            0b01 => Rights::Read,
            0b10 => Rights::Write,
            _ => Rights::ReadWrite,
        },
    })
}

impl Ledger {
    /// A ledger of an empty table. `joining`: adjacent mappings that continue each other are one run.
    #[must_use]
    pub const fn new(joining: bool) -> Self {
        Self {
            runs: BTreeMap::new(),
            bytes: 0,
            joining,
        }
    }

    /// How many runs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether nothing is mapped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Bytes mapped.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The run that `iova` lies in.
    #[must_use]
    pub fn get(&self, iova: Iova) -> Option<Run> {
        self.at_or_before(iova)
            .filter(|run| run.iova.contains(iova))
    }

    /// Every run, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Run> {
        self.runs
            .iter()
            .filter_map(|(start, entry)| run(*start, *entry))
    }

    /// The runs that share an address with `range`, ascending and whole.
    pub fn overlapping(&self, range: IovaRange) -> impl DoubleEndedIterator<Item = Run> {
        let first = self
            .get(range.start())
            .map_or(range.start(), |run| run.iova.start());
        self.runs
            .range(first.0..=range.last().0)
            .filter_map(|(start, entry)| run(*start, *entry))
    }

    /// Bytes mapped in `range`.
    #[must_use]
    pub fn bytes_in(&self, range: IovaRange) -> u64 {
        self.overlapping(range)
            .filter_map(|run| intersection(run.iova, range))
            .map(bytes)
            .sum()
    }

    /// Adds a run.
    ///
    /// # Errors
    /// Some of its addresses are mapped already; nothing changes.
    pub fn insert(&mut self, added: &Run) -> Result<(), Occupied> {
        let before = self.at_or_before(added.iova.last());
        if before.is_some_and(|before| before.iova.overlaps(&added.iova)) {
            let first = self.overlapping(added.iova).next();
            let first = first.map_or(added.iova.start(), |there| there.iova.start());
            return Err(Occupied(first.max(added.iova.start())));
        }
        self.bytes += added.len();
        let mut joined = *added;
        if self.joining {
            if let Some(before) = before.filter(|before| before.continues_in(added)) {
                joined = before.joined(&joined);
            }
            if let Some(after) = self.after(joined.iova.last())
                && joined.continues_in(&after)
            {
                self.runs.remove(&after.iova.start().0);
                joined = joined.joined(&after);
            }
        }
        self.runs.insert(joined.iova.start().0, Entry::new(&joined));
        Ok(())
    }

    /// Removes `range`, cutting runs that stick out of it; returns the bytes removed.
    pub fn remove(&mut self, range: IovaRange) -> u64 {
        let mut removed = 0;
        loop {
            let next = self.overlapping(range).next();
            let Some(found) = next else {
                break;
            };
            self.runs.remove(&found.iova.start().0);
            let (before, after) = crate::run::around(found.iova, range);
            let left = before.and_then(|part| found.clip(part));
            let right = after.and_then(|part| found.clip(part));
            removed += found.len();
            for part in left.iter().chain(&right) {
                removed -= part.len();
                self.runs.insert(part.iova.start().0, Entry::new(part));
            }
        }
        self.bytes -= removed;
        removed
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.bytes = 0;
    }

    /// The last run that begins at `iova` or before.
    fn at_or_before(&self, iova: Iova) -> Option<Run> {
        let (start, entry) = self.runs.range(..=iova.0).next_back()?;
        run(*start, *entry)
    }

    /// The first run that begins after `iova`.
    fn after(&self, iova: Iova) -> Option<Run> {
        let beyond = (Bound::Excluded(iova.0), Bound::Unbounded);
        let (start, entry) = self.runs.range(beyond).next()?;
        run(*start, *entry)
    }
}

#[cfg(test)]
mod tests;
