// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What following devices has come to.

use super::count;
use crate::follow::PasidWalkCounts;
use std::sync::atomic::{AtomicU64, Ordering};

/// A snapshot of what following devices has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FollowCounters {
    /// Batches that the follower was told.
    pub batches: u64,
    /// Events in them.
    pub events: u64,
    /// Events that the follower did not carry out, or not whole.
    pub refused: u64,
    /// Faults that the guest got for what the host could not do, those kept out of the record included.
    pub faults: u64,
    /// What was read of PASID directories.
    pub pasid_walks: PasidWalkCounts,
}

/// The counters themselves.
#[derive(Debug, Default)]
pub(crate) struct FollowTally {
    batches: AtomicU64,
    events: AtomicU64,
    refused: AtomicU64,
    faults: AtomicU64,
    directory_pages: AtomicU64,
    tables: AtomicU64,
    skipped: AtomicU64,
    invalid: AtomicU64,
    over_budget: AtomicU64,
}

impl FollowTally {
    /// Counts a batch of `events` events.
    pub(crate) fn batch(&self, events: usize) {
        count(&self.batches);
        self.events.fetch_add(events as u64, Ordering::Relaxed);
    }

    /// Counts what was read.
    pub(crate) fn walked(&self, counts: &PasidWalkCounts) {
        for (counter, amount) in [
            (&self.directory_pages, counts.directory_pages),
            (&self.tables, counts.tables),
            (&self.skipped, counts.skipped),
            (&self.invalid, counts.invalid),
            (&self.over_budget, counts.over_budget),
        ] {
            counter.fetch_add(amount, Ordering::Relaxed);
        }
    }

    /// Counts refused events.
    pub(crate) fn refused(&self, events: u64) {
        self.refused.fetch_add(events, Ordering::Relaxed);
    }

    /// Counts a fault and returns how many there are.
    pub(crate) fn fault(&self) -> u64 {
        count(&self.faults)
    }

    pub(super) fn snapshot(&self) -> FollowCounters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FollowCounters {
            batches: get(&self.batches),
            events: get(&self.events),
            refused: get(&self.refused),
            faults: get(&self.faults),
            pasid_walks: PasidWalkCounts {
                directory_pages: get(&self.directory_pages),
                tables: get(&self.tables),
                skipped: get(&self.skipped),
                invalid: get(&self.invalid),
                over_budget: get(&self.over_budget),
            },
        }
    }
}
