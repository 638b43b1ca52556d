// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A live PASID entry changes to other tables while other PASIDs of the device do DMA: none of theirs may meet an error.

use core::array;

use super::spaces::{Space, entry, lead};
use crate::check::{self, Checks};
use crate::checks::Machine;
use crate::checks::scalable::bench::{Bench, IOVA, page_with, snoop};
use crate::dmatest::{BLOCKED, Batch, DONE, Operation, Via};
use crate::mem::{self, read64};
use crate::vtd::paging::Paging;
use crate::vtd::scalable::Entry;
use crate::vtd::wide_queue::{PASID_CACHE_GLOBAL, PASID_CACHE_ONE, PASID_IOTLB_ALL, of_pasid};

/// The PASID whose entry changes, and its domain.
const MOVED: u32 = 0x55;
const DOMAIN: u16 = 0x500;
/// Those that do DMA meanwhile: the first's neighbours.
const OTHERS: usize = 7;
/// Addresses that lead to each one's page, in pages.
const SPAN: u64 = 1024;
/// Moves between two first-stage tables.
const MOVES: usize = 16;
/// Commands of a batch, and of a turn, in which each PASID has one.
const COMMANDS: u64 = 60;
const TURN: u64 = OTHERS as u64 + 1;
/// Where in its page the moved PASID's commands write.
const TRACE: u64 = 16;

pub fn run(machine: &Machine, checks: Checks) {
    let mut traffic = Traffic::start(machine);
    let unit = traffic.bench.unit;
    let spaces = [Space::first(unit, DOMAIN), Space::first(unit, DOMAIN)];
    traffic.change(checks, "bound under DMA", Some(spaces[0]));
    check::hold("bound");
    for turn in 1..=MOVES {
        let name = "to another first-stage table under DMA";
        traffic.change(checks, name, Some(spaces[turn % 2]));
    }
    check::hold("moved");
    let kinds = [
        (
            "to a second-stage table under DMA",
            Some(Space::second(unit, DOMAIN + 1)),
        ),
        (
            "to pass-through under DMA",
            Some(Space::pass_through(unit, DOMAIN + 2)),
        ),
        ("back to a first-stage table under DMA", Some(spaces[0])),
        (
            "to pass-through at once under DMA",
            Some(Space::pass_through(unit, DOMAIN)),
        ),
        ("to not present under DMA", None),
        ("bound again under DMA", Some(spaces[1])),
        ("from a first-stage table to not present under DMA", None),
    ];
    for (name, space) in kinds {
        traffic.change(checks, name, space);
    }
    check::hold("kinds");
    check::count("replaced", traffic.replaced);
}

/// A bench with PASIDs that do DMA.
struct Traffic<'a> {
    bench: Bench<'a>,
    /// Pages of the other PASIDs.
    pages: [u64; OTHERS],
    /// Where the moved PASID leads.
    now: Option<Space>,
    /// What the last batch wrote begins with this.
    pattern: u64,
    /// Bytes of a command.
    length: u64,
    replaced: u64,
}

impl<'a> Traffic<'a> {
    fn start(machine: &'a Machine) -> Traffic<'a> {
        let mut bench = Bench::start(machine);
        let unit = bench.unit;
        let pages = array::from_fn(|number| {
            let (paging, page) = (Paging::first(4), page_with(0));
            for at in 0..SPAN {
                paging.map(IOVA + at * mem::PAGE, page, paging.open());
            }
            let entry = Entry::first(&paging, DOMAIN).with(0, snoop(unit), 0);
            bench.pasids.set(pasid(number), entry);
            page
        });
        bench.queue.push(PASID_CACHE_GLOBAL, 0);
        bench.queue.flush_to_host();
        Traffic {
            bench,
            pages,
            now: None,
            pattern: 0,
            length: 16 * mem::PAGE,
            replaced: 0,
        }
    }

    /// Has the moved PASID lead to `space`, by one entry and its invalidation in the middle of DMA of all PASIDs.
    fn change(&mut self, checks: Checks, name: &str, space: Option<Space>) {
        for _ in 0..8 {
            let before = self.now;
            self.pattern += 1 << 16;
            let batch = self.start_batch(space.or(before));
            let began = self.bench.device.is_busy();
            let completed = self.lead_to(space);
            let outlasted = self.bench.device.is_busy();
            let left = before.map(|old| read64(old.page + TRACE));
            let statuses = batch.finish().map(|answer| answer.status);
            let unharmed = self.all_well(statuses);
            let good = completed && unharmed;
            if began && outlasted || !good {
                checks.holds(name, good);
                let later = before.map(|old| read64(old.page + TRACE));
                if left != later {
                    checks.holds("the old table is not used once the change is done", false);
                }
                lead(&self.bench, checks, name, &[(MOVED, space)]);
                return;
            }
            // The DMA was over before the change was: again, from where we were, and with more of it.
            self.lead_to(before);
            self.length = (self.length * 2).min(SPAN * mem::PAGE);
        }
        checks.holds("DMA outlasts a change", false);
    }

    /// Starts a batch, in which the moved PASID goes where it would in `space`.
    fn start_batch(&self, space: Option<Space>) -> Batch {
        let (pattern, length) = (self.pattern, self.length);
        let trace = space.map_or(IOVA, |space| space.iova) + TRACE;
        self.bench
            .device
            .start_all((0..COMMANDS).map(move |number| match who(number) {
                Some(other) => (
                    Via::pasid(pasid(other)),
                    Operation::Fill(pattern | number, length),
                    IOVA,
                ),
                None => (Via::pasid(MOVED), Operation::Store(pattern | number), trace),
            }))
    }

    /// Whether the other PASIDs met no error and their pages hold what they wrote last.
    fn all_well(&self, statuses: impl Iterator<Item = u32>) -> bool {
        let mut good = true;
        for (number, status) in (0..).zip(statuses) {
            // The moved one may be blocked while its entry is replaced.
            good &= status == DONE || status == BLOCKED && who(number).is_none();
        }
        for number in COMMANDS - TURN..COMMANDS {
            let Some(page) = who(number).and_then(|other| self.pages.get(other)) else {
                continue;
            };
            for at in [0, mem::PAGE - 8] {
                good &= read64(page + at) == self.pattern | number;
            }
        }
        good
    }

    /// Writes the entry and invalidates what it said before; whether that completed.
    fn lead_to(&mut self, space: Option<Space>) -> bool {
        let old = self.now.or(space).map_or(DOMAIN, |space| space.domain());
        self.replaced += u64::from(self.now.is_some() && space.is_some());
        self.now = space;
        self.bench.pasids.set(MOVED, entry(space));
        let queue = &mut self.bench.queue;
        queue.push(of_pasid(PASID_CACHE_ONE, old, MOVED), 0);
        queue.push(of_pasid(PASID_IOTLB_ALL, old, MOVED), 0);
        queue.flush_to_host()
    }
}

/// Whose command it is: one of the others', or the moved PASID's.
fn who(number: u64) -> Option<usize> {
    usize::try_from(number % TURN)
        .ok()
        .filter(|who| *who < OTHERS)
}

fn pasid(other: usize) -> u32 {
    MOVED + 1 + u32::try_from(other).unwrap_or(0)
}
