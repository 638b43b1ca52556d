// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the translator has done, in numbers. A translation that hits adds to one counter only.

use crate::counters::ShardedCounter;
use crate::translate::paging::Stages;

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
    /// Requests answered by a walk: the sum of the next three.
    pub page_misses: u64,
    /// Walks of first-stage tables alone.
    pub first_stage_walks: u64,
    /// Walks of second-stage tables alone, those of legacy mode included.
    pub second_stage_walks: u64,
    /// Walks of first-stage tables that stand on second-stage ones.
    pub nested_walks: u64,
    /// Walks among them that had five levels in the stage that the request entered.
    pub five_level_walks: u64,
    /// Interrupts whose table entry was cached.
    pub entry_hits: u64,
    /// Interrupts whose table entry was read from memory.
    pub entry_misses: u64,
    /// Entries of root, context, PASID and paging tables read from memory.
    pub table_reads: u64,
    /// Entries that invalidations dropped from the caches.
    pub dropped: u64,
}

/// The counters themselves. Each translation adds to exactly one of the first eight.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Passed because translation is off.
    pub(super) unchanged: ShardedCounter,
    /// Passed by their context or PASID entry.
    pub(super) unchanged_by_context: ShardedCounter,
    pub(super) page_hits: ShardedCounter,
    first_stage_walks: ShardedCounter,
    second_stage_walks: ShardedCounter,
    nested_walks: ShardedCounter,
    /// Blocked before any context was looked for.
    pub(super) refused: ShardedCounter,
    /// Blocked by their context or their page.
    pub(super) blocked: ShardedCounter,
    five_level_walks: ShardedCounter,
    pub(super) context_misses: ShardedCounter,
    pub(super) pasid_misses: ShardedCounter,
    pub(super) entry_hits: ShardedCounter,
    pub(super) entry_misses: ShardedCounter,
    pub(super) table_reads: ShardedCounter,
    pub(super) dropped: ShardedCounter,
}

impl Tally {
    /// Counts a request that a walk through `stages` answered.
    #[inline]
    pub(super) fn walked(&self, stages: &Stages) {
        let (counter, levels) = match stages {
            Stages::First(first) => (&self.first_stage_walks, first.levels),
            Stages::Second(second) => (&self.second_stage_walks, second.levels),
            Stages::Nested(first, _) => (&self.nested_walks, first.levels),
        };
        counter.add();
        if levels == 5 {
            self.five_level_walks.add();
        }
    }

    pub(super) fn snapshot(&self) -> TranslatorCounters {
        let context_misses = self.context_misses.get();
        let (first_stage_walks, second_stage_walks, nested_walks) = (
            self.first_stage_walks.get(),
            self.second_stage_walks.get(),
            self.nested_walks.get(),
        );
        let page_misses = first_stage_walks + second_stage_walks + nested_walks;
        let with_context = self.unchanged_by_context.get()
            + self.page_hits.get()
            + page_misses
            + self.blocked.get();
        TranslatorCounters {
            translations: self.unchanged.get() + self.refused.get() + with_context,
            unchanged: self.unchanged.get() + self.unchanged_by_context.get(),
            blocked: self.refused.get() + self.blocked.get(),
            context_hits: with_context.saturating_sub(context_misses),
            context_misses,
            pasid_misses: self.pasid_misses.get(),
            page_hits: self.page_hits.get(),
            page_misses,
            first_stage_walks,
            second_stage_walks,
            nested_walks,
            five_level_walks: self.five_level_walks.get(),
            entry_hits: self.entry_hits.get(),
            entry_misses: self.entry_misses.get(),
            table_reads: self.table_reads.get(),
            dropped: self.dropped.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::first_stage::FirstStage;
    use crate::walk::second_stage::SecondStage;
    use vm_memory::GuestAddress;

    #[test]
    fn walks_are_counted_by_stages_and_by_the_depth_of_the_stage_entered() {
        let first = |levels| FirstStage {
            table: GuestAddress(0),
            levels,
            no_execute: false,
            extended_accessed: false,
        };
        let second = |levels| SecondStage::plain(GuestAddress(0), levels);
        let tally = Tally::default();
        for stages in [
            Stages::First(first(4)),
            Stages::First(first(5)),
            Stages::Second(second(5)),
            Stages::Second(second(3)),
            Stages::Second(second(4)),
            Stages::Nested(first(4), second(5)),
        ] {
            tally.walked(&stages);
        }
        let counters = tally.snapshot();
        assert_eq!(
            (
                counters.first_stage_walks,
                counters.second_stage_walks,
                counters.nested_walks,
                counters.five_level_walks
            ),
            (2, 3, 1, 2)
        );
        assert_eq!((counters.page_misses, counters.translations), (6, 6));
    }
}
