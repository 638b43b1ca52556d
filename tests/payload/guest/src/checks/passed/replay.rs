// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Everything is read anew: translation off and on, another root while it is on, another directory in the context, a table that
//! leaves its directory. Of what stays the same the host is asked nothing, but where translation was off.

use core::array;

use super::spaces::{Leads, Space, entry, lead};
use crate::arch;
use crate::check::{self, Checks};
use crate::checks::Machine;
use crate::checks::scalable::bench::Bench;
use crate::dmatest::Via;
use crate::mem::{read64, write64};
use crate::vtd::queue::{CONTEXT_GLOBAL, context_device};
use crate::vtd::scalable::{Pasids, Tables};
use crate::vtd::unit::{SCALABLE, TE};
use crate::vtd::wide_queue::PASID_CACHE_GLOBAL;

/// Two in each of three PASID tables.
const PASIDS: [u32; 6] = [0x10, 0x11, 0x50, 0x51, 0x90, 0x91];
/// Requests without PASID go through this one's entry.
const OWN: u32 = 0;
const DOMAIN: u16 = 0x700;
/// Which of them differ in the second directory.
const MOVED: usize = 1;
const GONE: usize = 4;

type All = [Leads; PASIDS.len()];

pub fn run(machine: &Machine, checks: Checks) {
    let mut bench = Bench::prepare(machine, Pasids::PAGE);
    let unit = bench.unit;
    let own = Space::first(unit, DOMAIN);
    bench.pasids.set(OWN, own.entry);
    let first: All = array::from_fn(|number| {
        let space = match number {
            3 => Space::second(unit, DOMAIN + 1),
            _ => Space::first(unit, DOMAIN),
        };
        (PASIDS[number], Some(space))
    });
    write(&bench.pasids, &first);
    unit.set_root(bench.tables.root | SCALABLE);
    bench.queue.invalidate_all();
    check::hold("off");
    for (name, on, off) in [
        ("switched on", "on", "off-again"),
        ("switched on again", "on-again", "off-at-last"),
    ] {
        checks.holds(name, switch(&bench, true));
        lead(&bench, checks, name, &first);
        let found = bench.load(Via::PLAIN, own.iova);
        checks.equal("requests without PASID: own table", read64(own.page), found);
        check::hold(on);
        checks.holds("switched off", switch(&bench, false));
        lead(
            &bench,
            checks,
            "switched off: blocked",
            &first.map(|(pasid, _)| (pasid, None)),
        );
        let found = bench.load(Via::PLAIN, own.page);
        checks.equal(
            "requests without PASID: all of memory",
            read64(own.page),
            found,
        );
        check::hold(off);
    }
    checks.holds("switched on", switch(&bench, true));
    check::hold("on-at-last");
    changes(&mut bench, checks, &own, first);
}

/// Other structures in the place of those above the entries.
fn changes(bench: &mut Bench, checks: Checks, own: &Space, first: All) {
    let (mut second, unit) = (first, bench.unit);
    second[MOVED].1 = Some(Space::first(unit, DOMAIN));
    second[GONE].1 = None;
    let other = Pasids::new(Pasids::PAGE);
    other.set(OWN, own.entry);
    write(&other, &second);

    let tables = Tables::new();
    let word = bench.context_word() - bench.pasids.context_word() + other.context_word();
    tables.set_context(bench.source(), word, OWN.into());
    unit.set_root(tables.root | SCALABLE);
    bench.queue.push(CONTEXT_GLOBAL, 0);
    bench.queue.push(PASID_CACHE_GLOBAL, 0);
    checks.holds("another root: done", bench.queue.flush_to_host());
    lead(bench, checks, "another root", &second);
    check::hold("root");

    tables.set_context(bench.source(), bench.context_word(), OWN.into());
    lead(
        bench,
        checks,
        "another directory: not before it is named",
        &second,
    );
    bench.queue.push(context_device(0, bench.source()), 0);
    bench.queue.push(PASID_CACHE_GLOBAL, 0);
    checks.holds("another directory: done", bench.queue.flush_to_host());
    lead(bench, checks, "another directory", &first);
    check::hold("context");

    write64(bench.pasids.directory_entry(PASIDS[2]), 0);
    bench.queue.push(PASID_CACHE_GLOBAL, 0);
    checks.holds("a table less: done", bench.queue.flush_to_host());
    let left = first.map(|(pasid, space)| (pasid, space.filter(|_| pasid >> 6 != PASIDS[2] >> 6)));
    lead(bench, checks, "a table less", &left);
    check::hold("directory");
}

fn write(pasids: &Pasids, leads: &All) {
    for &(pasid, space) in leads {
        pasids.set(pasid, entry(space));
    }
}

/// Switches translation; whether that was done, for which the host has to do something for each PASID.
fn switch(bench: &Bench, on: bool) -> bool {
    let unit = bench.unit;
    if on {
        unit.set(TE);
    } else {
        unit.clear(TE);
    }
    arch::poll(arch::LONG, || (unit.status() & TE != 0) == on)
}
