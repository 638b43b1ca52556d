// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Global invalidations of PASID entries, which name every entry of every device: the host is asked to do what differs.

use core::array;

use super::spaces::{Leads, Space, entry, lead};
use crate::check::{self, Checks};
use crate::checks::Machine;
use crate::checks::scalable::bench::Bench;
use crate::vtd::queue::IOTLB_GLOBAL;
use crate::vtd::scalable::Entry;
use crate::vtd::wide_queue::PASID_CACHE_GLOBAL;

/// PASIDs, in domains of four.
const PASIDS: usize = 24;
/// One more, which comes later.
const NEW: u32 = 0x7F0;
/// Which of them change.
const MOVED: usize = 3;
const GONE: usize = 7;
const RENAMED: usize = 11;
const OTHER_STAGE: usize = 15;

pub fn run(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine);
    let unit = bench.unit;
    check::hold("empty");
    let mut leads: [Leads; PASIDS + 1] = array::from_fn(|number| match pasid(number) {
        Some(pasid) => (pasid, Some(Space::first(unit, domain(number)))),
        None => (NEW, None),
    });
    for &(pasid, space) in &leads {
        bench.pasids.set(pasid, entry(space));
    }
    checks.holds("all bound: done", global(&mut bench));
    lead(&bench, checks, "all bound: each to its own table", &leads);
    check::hold("bound");

    checks.holds("nothing changed: done", nothing_else(&mut bench));
    lead(&bench, checks, "nothing changed: each as before", &leads);
    check::hold("same");

    let before = leads;
    leads[MOVED].1 = Some(Space::first(unit, domain(MOVED)));
    leads[GONE].1 = None;
    leads[OTHER_STAGE].1 = Some(Space::second(unit, 0x300));
    leads[PASIDS].1 = Some(Space::first(unit, 0x301));
    if let Some(space) = &mut leads[RENAMED].1 {
        let [low, middle, high] = space.entry.0;
        // The domain alone is another one.
        space.entry = Entry([low, middle & !0xFFFF | 0x302, high]);
    }
    for number in [MOVED, GONE, RENAMED, OTHER_STAGE, PASIDS] {
        let (pasid, space) = leads[number];
        bench.pasids.set(pasid, entry(space));
    }
    lead(
        &bench,
        checks,
        "some changed: not before they are named",
        &before,
    );
    checks.holds("some changed: done", global(&mut bench));
    lead(
        &bench,
        checks,
        "some changed: each where it belongs",
        &leads,
    );
    check::hold("changed");

    for (pasid, space) in &mut leads {
        bench.pasids.clear(*pasid);
        *space = None;
    }
    checks.holds("all gone: done", global(&mut bench));
    lead(&bench, checks, "all gone: each is blocked", &leads);
    check::hold("gone");
}

/// PASIDs of more than one table.
fn pasid(number: usize) -> Option<u32> {
    let pasid = 5 + 70 * u32::try_from(number).ok()?;
    (number < PASIDS).then_some(pasid)
}

fn domain(number: usize) -> u16 {
    u16::try_from(0x200 + number / 4).unwrap_or(0x2FF)
}

/// All PASID entries, and what was cached through them.
fn global(bench: &mut Bench) -> bool {
    bench.queue.push(PASID_CACHE_GLOBAL, 0);
    bench.queue.push(IOTLB_GLOBAL, 0);
    bench.queue.flush_to_host()
}

/// All PASID entries, and nothing else.
fn nothing_else(bench: &mut Bench) -> bool {
    bench.queue.push(PASID_CACHE_GLOBAL, 0);
    bench.queue.flush_to_host()
}
