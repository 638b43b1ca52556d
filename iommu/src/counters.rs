// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the unit has done, in numbers. Counters are monotonic, survive a reset and order nothing.

mod follow;

pub use follow::FollowCounters;

use crate::fault::{Fault, FaultReason};
use crate::invalidation::Invalidation;
use crate::translator::TranslatorCounters;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A snapshot of the unit's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests of devices that were answered, blocked ones included.
    pub translations: u64,
    /// What translation and its caches have done for them.
    pub translator: TranslatorCounters,
    /// Interrupts that were remapped or passed.
    pub interrupts: u64,
    /// Interrupts among them whose entry says that they are to be posted.
    pub posted: u64,
    /// Blocked requests and interrupts by reason, in the order of the reason codes; reasons that never occurred are absent.
    pub faults: Vec<(FaultReason, u64)>,
    /// Faults that no fault recording register was free for.
    pub faults_lost: u64,
    /// Messages of its own that the unit has sent: fault events and completion events.
    pub events: u64,
    /// Context cache invalidations.
    pub context_invalidations: u64,
    /// IOTLB invalidations of everything or of a domain.
    pub iotlb_invalidations: u64,
    /// IOTLB invalidations of a range of pages.
    pub page_invalidations: u64,
    /// PASID cache invalidations.
    pub pasid_invalidations: u64,
    /// IOTLB invalidations of one PASID, whole or a range.
    pub pasid_iotlb_invalidations: u64,
    /// Invalidations of what a device has cached.
    pub device_tlb_invalidations: u64,
    /// Interrupt entry cache invalidations.
    pub interrupt_invalidations: u64,
    /// Steps of the queue in which a device did not answer an invalidation.
    pub device_tlb_time_outs: u64,
    /// Steps of the queue in which a device answered an invalidation wrongly.
    pub device_tlb_errors: u64,
    /// Translation requests of devices.
    pub translation_requests: u64,
    /// Page requests of devices.
    pub page_requests: u64,
    /// Page requests that found no place in the queue.
    pub page_requests_lost: u64,
    /// Answers to page requests that software sent.
    pub page_responses: u64,
    /// Wait descriptors that were completed.
    pub waits: u64,
    /// Wait descriptors that were aborted, because a device did not answer.
    pub waits_aborted: u64,
    /// Invalidation queue errors.
    pub queue_errors: u64,
    /// States that were restored.
    pub restores: u64,
    /// Register accesses that were ignored because of their size or alignment.
    pub bad_accesses: u64,
    /// What following devices has come to.
    pub follow: FollowCounters,
}

impl Counters {
    /// Blocked requests and interrupts of all reasons.
    #[must_use]
    pub fn faults_total(&self) -> u64 {
        self.faults.iter().map(|(_, count)| count).sum()
    }
}

/// A counter that threads can add to without fetching a cache line from each other, and the first of them without a locked
/// instruction.
#[derive(Debug, Default)]
pub(crate) struct ShardedCounter {
    owned: [Shard; OWNED],
    shared: Shard,
}

/// Threads that have a shard of their own; all later ones share one.
const OWNED: usize = 31;

#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(AtomicU64);

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The number of the thread, which no other thread ever has, once it is asked for.
    static THREAD: Cell<usize> = const { Cell::new(usize::MAX) };
}

#[inline]
fn thread() -> usize {
    let thread = THREAD.get();
    if thread != usize::MAX {
        return thread;
    }
    first_of_thread()
}

#[cold]
fn first_of_thread() -> usize {
    THREAD.set(THREADS.fetch_add(1, Ordering::Relaxed));
    THREAD.get()
}

impl ShardedCounter {
    /// Adds 1.
    #[inline]
    pub(crate) fn add(&self) {
        self.add_many(1);
    }

    /// Adds `amount`.
    #[inline]
    pub(crate) fn add_many(&self, amount: u64) {
        match self.owned.get(thread()) {
            // Nobody else writes it.
            Some(Shard(count)) => {
                let sum = count.load(Ordering::Relaxed).wrapping_add(amount);
                count.store(sum, Ordering::Relaxed);
            }
            None => {
                self.shared.0.fetch_add(amount, Ordering::Relaxed);
            }
        }
    }

    /// The sum.
    pub(crate) fn get(&self) -> u64 {
        self.owned
            .iter()
            .chain([&self.shared])
            .map(|shard| shard.0.load(Ordering::Relaxed))
            .sum()
    }
}

/// The counters themselves.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) interrupts: ShardedCounter,
    faults: [AtomicU64; 256],
    pub(crate) posted: AtomicU64,
    pub(crate) faults_lost: AtomicU64,
    pub(crate) events: AtomicU64,
    context: AtomicU64,
    iotlb: AtomicU64,
    pages: AtomicU64,
    pasid_entries: AtomicU64,
    pasid_pages: AtomicU64,
    device_tlb: AtomicU64,
    interrupt_entries: AtomicU64,
    pub(crate) device_tlb_time_outs: AtomicU64,
    pub(crate) device_tlb_errors: AtomicU64,
    pub(crate) translation_requests: AtomicU64,
    pub(crate) page_requests: AtomicU64,
    pub(crate) page_requests_lost: AtomicU64,
    pub(crate) page_responses: AtomicU64,
    pub(crate) waits: AtomicU64,
    pub(crate) waits_aborted: AtomicU64,
    queue_errors: AtomicU64,
    pub(crate) restores: AtomicU64,
    bad_accesses: AtomicU64,
    pub(crate) follow: follow::FollowTally,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            interrupts: ShardedCounter::default(),
            faults: std::array::from_fn(|_| AtomicU64::new(0)),
            posted: AtomicU64::default(),
            faults_lost: AtomicU64::default(),
            events: AtomicU64::default(),
            context: AtomicU64::default(),
            iotlb: AtomicU64::default(),
            pages: AtomicU64::default(),
            pasid_entries: AtomicU64::default(),
            pasid_pages: AtomicU64::default(),
            device_tlb: AtomicU64::default(),
            interrupt_entries: AtomicU64::default(),
            device_tlb_time_outs: AtomicU64::default(),
            device_tlb_errors: AtomicU64::default(),
            translation_requests: AtomicU64::default(),
            page_requests: AtomicU64::default(),
            page_requests_lost: AtomicU64::default(),
            page_responses: AtomicU64::default(),
            waits: AtomicU64::default(),
            waits_aborted: AtomicU64::default(),
            queue_errors: AtomicU64::default(),
            restores: AtomicU64::default(),
            bad_accesses: AtomicU64::default(),
            follow: follow::FollowTally::default(),
        }
    }
}

impl Tally {
    /// Counts a blocked request and returns how many there are of its reason.
    pub(crate) fn fault(&self, fault: &Fault) -> u64 {
        count(&self.faults[usize::from(fault.reason.code())])
    }

    /// Counts a queue error and returns how many there are.
    pub(crate) fn queue_error(&self) -> u64 {
        count(&self.queue_errors)
    }

    /// Counts an ignored access and returns how many there are.
    pub(crate) fn bad_access(&self) -> u64 {
        count(&self.bad_accesses)
    }

    /// Counts invalidations.
    pub(crate) fn invalidations(&self, batch: &[Invalidation]) {
        for invalidation in batch {
            let counter = match invalidation {
                Invalidation::ContextGlobal
                | Invalidation::ContextDomain(_)
                | Invalidation::ContextDevice { .. } => &self.context,
                Invalidation::IotlbGlobal | Invalidation::IotlbDomain(_) => &self.iotlb,
                Invalidation::IotlbPages { .. } => &self.pages,
                Invalidation::PasidCacheGlobal
                | Invalidation::PasidCacheDomain(_)
                | Invalidation::PasidCacheOne { .. } => &self.pasid_entries,
                Invalidation::PasidIotlbAll { .. } | Invalidation::PasidIotlbPages { .. } => {
                    &self.pasid_pages
                }
                Invalidation::DeviceTlb(_) => &self.device_tlb,
                Invalidation::InterruptGlobal | Invalidation::InterruptIndex { .. } => {
                    &self.interrupt_entries
                }
            };
            count(counter);
        }
    }

    /// The numbers now. They are read one after the other, so they may be apart by what happens meanwhile.
    pub(crate) fn snapshot(&self, translator: TranslatorCounters) -> Counters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            translations: translator.translations,
            translator,
            interrupts: self.interrupts.get(),
            posted: get(&self.posted),
            faults: FaultReason::ALL
                .iter()
                .map(|&reason| (reason, get(&self.faults[usize::from(reason.code())])))
                .filter(|(_, count)| *count != 0)
                .collect(),
            faults_lost: get(&self.faults_lost),
            events: get(&self.events),
            context_invalidations: get(&self.context),
            iotlb_invalidations: get(&self.iotlb),
            page_invalidations: get(&self.pages),
            pasid_invalidations: get(&self.pasid_entries),
            pasid_iotlb_invalidations: get(&self.pasid_pages),
            device_tlb_invalidations: get(&self.device_tlb),
            interrupt_invalidations: get(&self.interrupt_entries),
            device_tlb_time_outs: get(&self.device_tlb_time_outs),
            device_tlb_errors: get(&self.device_tlb_errors),
            translation_requests: get(&self.translation_requests),
            page_requests: get(&self.page_requests),
            page_requests_lost: get(&self.page_requests_lost),
            page_responses: get(&self.page_responses),
            waits: get(&self.waits),
            waits_aborted: get(&self.waits_aborted),
            queue_errors: get(&self.queue_errors),
            restores: get(&self.restores),
            bad_accesses: get(&self.bad_accesses),
            follow: self.follow.snapshot(),
        }
    }
}

/// Adds 1 and returns the sum.
pub(crate) fn count(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::FaultSubject;
    use crate::ids::SourceId;

    #[test]
    fn sharded_counter_sums_what_every_thread_added() {
        let counter = ShardedCounter::default();
        std::thread::scope(|scope| {
            for _ in 0..2 * OWNED {
                scope.spawn(|| (0..100).for_each(|_| counter.add()));
            }
        });
        counter.add_many(7);
        assert_eq!(counter.get(), 2 * OWNED as u64 * 100 + 7);
    }

    #[test]
    fn fault_is_counted_under_its_reason() {
        let tally = Tally::default();
        let fault = Fault {
            reason: FaultReason::SourceValidation,
            subject: FaultSubject::Interrupt {
                source: SourceId(0),
                index: 0,
            },
            record: false,
        };
        assert_eq!(tally.fault(&fault), 1);
        assert_eq!(tally.fault(&fault), 2);
        let counters = tally.snapshot(TranslatorCounters::default());
        assert_eq!(counters.faults, [(FaultReason::SourceValidation, 2)]);
        assert_eq!(counters.faults_total(), 2);
    }
}
