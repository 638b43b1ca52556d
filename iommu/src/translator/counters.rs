// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the translator has done, in numbers. A translation that hits adds to one counter only.

use crate::counters::ShardedCounter;

/// A snapshot of the translator's counters. They are read one after the other, so they may be apart by what happens
/// meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TranslatorCounters {
    /// Requests, blocked ones included.
    pub translations: u64,
    /// Requests that passed unchanged because translation was off, their context or PASID entry says so, or they were
    /// translated before.
    pub unchanged: u64,
    /// Requests that were blocked.
    pub blocked: u64,
    /// Requests whose context was cached, or the PASID entry with it.
    pub context_hits: u64,
    /// Requests whose context was read from memory.
    pub context_misses: u64,
    /// Requests whose PASID entry was read from memory.
    pub pasid_misses: u64,
    /// Requests answered with a cached page.
    pub page_hits: u64,
    /// Requests answered by a walk.
    pub page_misses: u64,
    /// Interrupts whose table entry was cached.
    pub entry_hits: u64,
    /// Interrupts whose table entry was read from memory.
    pub entry_misses: u64,
    /// Entries of root, context, PASID and paging tables read from memory.
    pub table_reads: u64,
    /// Entries that invalidations dropped from the caches.
    pub dropped: u64,
}

/// The counters themselves. Each translation adds to exactly one of the first six.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Passed because translation is off.
    pub(super) unchanged: ShardedCounter,
    /// Passed by their context or PASID entry.
    pub(super) unchanged_by_context: ShardedCounter,
    pub(super) page_hits: ShardedCounter,
    pub(super) page_misses: ShardedCounter,
    /// Blocked before any context was looked for.
    pub(super) refused: ShardedCounter,
    /// Blocked by their context or their page.
    pub(super) blocked: ShardedCounter,
    pub(super) context_misses: ShardedCounter,
    pub(super) pasid_misses: ShardedCounter,
    pub(super) entry_hits: ShardedCounter,
    pub(super) entry_misses: ShardedCounter,
    pub(super) table_reads: ShardedCounter,
    pub(super) dropped: ShardedCounter,
}

impl Tally {
    pub(super) fn snapshot(&self) -> TranslatorCounters {
        let context_misses = self.context_misses.get();
        let with_context = self.unchanged_by_context.get()
            + self.page_hits.get()
            + self.page_misses.get()
            + self.blocked.get();
        TranslatorCounters {
            translations: self.unchanged.get() + self.refused.get() + with_context,
            unchanged: self.unchanged.get() + self.unchanged_by_context.get(),
            blocked: self.refused.get() + self.blocked.get(),
            context_hits: with_context.saturating_sub(context_misses),
            context_misses,
            pasid_misses: self.pasid_misses.get(),
            page_hits: self.page_hits.get(),
            page_misses: self.page_misses.get(),
            entry_hits: self.entry_hits.get(),
            entry_misses: self.entry_misses.get(),
            table_reads: self.table_reads.get(),
            dropped: self.dropped.get(),
        }
    }
}
