// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Live changes of PASID entries, directories and contexts: what was may be used until the invalidation, and never after it.

use super::bench::{Bench, DOMAIN, IOVA, PASID, VIA, any_entry, any_tables, missing, page_with};
use crate::check::Checks;
use crate::checks::Machine;
use crate::dmatest::Via;
use crate::mem::{self, read64, write64};
use crate::vtd::paging::Paging;
use crate::vtd::queue::{
    CONTEXT_DOMAIN, CONTEXT_GLOBAL, IOTLB_DOMAIN, IOTLB_GLOBAL, context_device, iotlb,
};
use crate::vtd::scalable::{Entry, Pasids};
use crate::vtd::wide_queue::*;

/// A second PASID of the same domain.
const OTHER: u32 = PASID + 1;

pub fn run(machine: &Machine, checks: Checks) {
    if !machine.unit.has_pasids() {
        checks.skip("requests with PASID", "not offered");
        return;
    }
    granularities(machine, checks);
    same_domain(machine, checks);
    two_pasids(machine, checks);
    types(machine, checks);
    presence(machine, checks);
    directories(machine, checks);
    contexts(machine, checks);
    root(machine, checks);
}

/// What holds before and after a live change of `VIA`'s path to `IOVA`.
pub fn live(
    bench: &mut Bench,
    checks: Checks,
    name: &str,
    [old, new]: [u64; 2],
    change: impl FnOnce(&Bench),
    invalidation: &[(u64, u64)],
) {
    let before = bench.load(VIA, IOVA);
    change(bench);
    let between = bench.load(VIA, IOVA);
    for &(low, high) in invalidation {
        bench.queue.push(low, high);
    }
    let completed = bench.queue.flush();
    let after = bench.load(VIA, IOVA);
    if before != old || between != old && between != new {
        checks.equal(name, old, if before == old { between } else { before });
    } else if !completed {
        checks.holds(name, false);
    } else {
        checks.equal(name, new, after);
    }
}

/// Tables whose page at `IOVA` holds `value`.
fn tables(bench: &Bench, value: u64) -> Paging {
    let paging = any_tables(bench.unit);
    paging.map(IOVA, page_with(value), paging.open());
    paging
}

/// An entry of tables whose page at `IOVA` holds `value`, in `domain`.
fn entry(bench: &Bench, value: u64, domain: u16) -> Entry {
    let entry = any_entry(bench.unit, &tables(bench, value), domain);
    entry.with(0, bench.snoop(), 0)
}

/// Another domain for the PASID, with the old one invalidated.
fn granularities(machine: &Machine, checks: Checks) {
    const ROWS: &[(&str, u64)] = &[
        ("another domain: PASID-selective", PASID_CACHE_ONE),
        ("another domain: domain-selective", PASID_CACHE_DOMAIN),
        ("another domain: global", PASID_CACHE_GLOBAL),
        ("another domain: PASID-selective again", PASID_CACHE_ONE),
    ];
    let mut bench = Bench::start(machine);
    let first = entry(&bench, 0x100, DOMAIN);
    bench.bind(first);
    for (&(name, kind), (domain, old)) in ROWS.iter().zip((DOMAIN..).zip(0x100..)) {
        let next = entry(&bench, old + 1, domain + 1);
        let cache = match kind {
            PASID_CACHE_ONE => of_pasid(kind, domain, PASID),
            PASID_CACHE_DOMAIN => of_domain(domain),
            _ => kind,
        };
        let pages = of_pasid(PASID_IOTLB_ALL, domain, PASID);
        let change = |bench: &Bench| bench.pasids.set(PASID, next);
        let invalidation = [(cache, 0), (pages, 0)];
        live(
            &mut bench,
            checks,
            name,
            [old, old + 1],
            change,
            &invalidation,
        );
    }
}

/// Other tables in the same domain: what is cached of the old ones has to go too.
fn same_domain(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine);
    let first = entry(&bench, 0x200, DOMAIN);
    bench.bind(first);
    for (name, cache, pages, [old, new]) in [
        (
            "same domain: PASID-selective, PASID-IOTLB",
            of_pasid(PASID_CACHE_ONE, DOMAIN, PASID),
            of_pasid(PASID_IOTLB_ALL, DOMAIN, PASID),
            [0x200, 0x201],
        ),
        (
            "same domain: domain-selective, IOTLB domain",
            of_domain(DOMAIN),
            iotlb(IOTLB_DOMAIN, DOMAIN),
            [0x201, 0x202],
        ),
        (
            "same domain: global, IOTLB global",
            PASID_CACHE_GLOBAL,
            IOTLB_GLOBAL,
            [0x202, 0x203],
        ),
    ] {
        // Whose pages are told apart by PASID differs between the stages.
        let pages = if bench.unit.has_first_stage() {
            pages
        } else {
            iotlb(IOTLB_DOMAIN, DOMAIN)
        };
        let next = entry(&bench, new, DOMAIN);
        let change = |bench: &Bench| bench.pasids.set(PASID, next);
        live(
            &mut bench,
            checks,
            name,
            [old, new],
            change,
            &[(cache, 0), (pages, 0)],
        );
    }
}

/// A domain-selective invalidation is for every PASID of the domain.
fn two_pasids(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine);
    let (one, other) = (
        entry(&bench, 0x300, DOMAIN),
        entry(&bench, 0x400, DOMAIN + 1),
    );
    bench.bind_to(OTHER, other);
    bench.bind(one);
    checks.equal(
        "two PASIDs: the second",
        0x400_u64,
        bench.load(Via::pasid(OTHER), IOVA),
    );
    let next = entry(&bench, 0x301, DOMAIN + 2);
    let change = |bench: &Bench| bench.pasids.set(PASID, next);
    let one = (of_pasid(PASID_CACHE_ONE, DOMAIN, PASID), 0);
    live(
        &mut bench,
        checks,
        "two PASIDs: the first changes",
        [0x300, 0x301],
        change,
        &[one],
    );
    checks.equal(
        "two PASIDs: the second stays",
        0x400_u64,
        bench.load(Via::pasid(OTHER), IOVA),
    );
    // Both in one domain now, in which second-stage pages would be the same for both.
    if !bench.unit.has_first_stage() {
        checks.skip("two PASIDs of a domain", "the unit has no first stage");
        return;
    }
    for (pasid, value) in [(OTHER, 0x502), (PASID, 0x501)] {
        let entry = entry(&bench, value, DOMAIN + 3);
        bench.bind_to(pasid, entry);
    }
    let shown = |bench: &Bench| [PASID, OTHER].map(|pasid| bench.load(Via::pasid(pasid), IOVA));
    let before = shown(&bench);
    for (pasid, value) in [(OTHER, 0x602), (PASID, 0x601)] {
        bench.pasids.set(pasid, entry(&bench, value, DOMAIN + 4));
    }
    bench.queue.run(of_domain(DOMAIN + 3), 0);
    checks.holds(
        "two PASIDs of a domain: both change by one invalidation",
        before == [0x501, 0x502] && shown(&bench) == [0x601, 0x602],
    );
}

/// From one translation type to another.
fn types(machine: &Machine, checks: Checks) {
    let unit = machine.unit;
    let both = unit.has_first_stage() && unit.has_second_stage();
    let mut bench = Bench::start(machine);
    let start = entry(&bench, 0x700, DOMAIN);
    bench.bind(start);
    let old = of_pasid(PASID_CACHE_ONE, DOMAIN, PASID);
    let pages = iotlb(IOTLB_DOMAIN, DOMAIN);
    if both {
        let second = Paging::second(unit.max_levels());
        second.map(IOVA, page_with(0x701), second.open());
        let next = Entry::second(&second, DOMAIN + 1).with(0, bench.snoop(), 0);
        let change = |bench: &Bench| bench.pasids.set(PASID, next);
        live(
            &mut bench,
            checks,
            "first stage to second stage",
            [0x700, 0x701],
            change,
            &[(old, 0), (pages, 0)],
        );
        bench.bind(start);
    } else {
        checks.skip("first stage to second stage", "not offered");
    }
    if !unit.has_pass_through() {
        checks.skip("to pass-through", "not offered");
        return;
    }
    let next = Entry::pass_through(DOMAIN + 1).with(0, bench.snoop(), 0);
    let plain = page_with(0x702);
    bench.load(VIA, IOVA);
    bench.pasids.set(PASID, next);
    bench.queue.push(old, 0);
    bench.queue.run(pages, 0);
    checks.equal("to pass-through", 0x702_u64, bench.load(VIA, plain));
    bench.pasids.set(PASID, start);
    bench
        .queue
        .push(of_pasid(PASID_CACHE_ONE, DOMAIN + 1, PASID), 0);
    bench
        .queue
        .run(of_pasid(PASID_IOTLB_ALL, DOMAIN + 1, PASID), 0);
    checks.equal("and back", 0x700_u64, bench.load(VIA, IOVA));
    bench.blocks_read(
        checks,
        "and back: the plain address is unmapped again",
        VIA,
        plain,
        missing(unit),
    );
}

/// An entry that goes, and comes again.
fn presence(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine);
    let here = entry(&bench, 0x800, DOMAIN);
    bench.bind(here);
    for (name, of) in [
        (
            "PASID-selective: gone: 0x59",
            of_pasid(PASID_CACHE_ONE, DOMAIN, PASID),
        ),
        ("domain-selective: gone: 0x59", of_domain(DOMAIN)),
        ("global: gone: 0x59", PASID_CACHE_GLOBAL),
    ] {
        let before = bench.load(VIA, IOVA);
        let at = bench.pasids.entry(PASID);
        write64(at, read64(at) & !1);
        bench.queue.push(of, 0);
        bench.queue.run(of_pasid(PASID_IOTLB_ALL, DOMAIN, PASID), 0);
        bench.blocks_read(checks, name, VIA, IOVA, 0x59);
        write64(at, read64(at) | 1);
        if bench.unit.caching_mode() {
            bench.queue.push(of_pasid(PASID_CACHE_ONE, 0, PASID), 0);
            bench.queue.run(of_pasid(PASID_CACHE_ONE, DOMAIN, PASID), 0);
        }
        let after = bench.load(VIA, IOVA);
        checks.equal(
            "back again",
            0x800_u64,
            if before == 0x800 { after } else { before },
        );
    }
}

/// Another table for the directory entry, and another directory for the context.
fn directories(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine);
    let [first, second, third] = [
        entry(&bench, 0x900, DOMAIN),
        entry(&bench, 0x901, DOMAIN + 1),
        entry(&bench, 0x902, DOMAIN + 2),
    ];
    bench.bind(first);
    let others = Pasids::new(Pasids::PAGE);
    others.set(PASID, second);
    let (at, word) = (
        bench.pasids.directory_entry(PASID),
        read64(others.directory_entry(PASID)),
    );
    live(
        &mut bench,
        checks,
        "another table in the directory: PASID-cache global",
        [0x900, 0x901],
        |_| write64(at, word),
        &[(PASID_CACHE_GLOBAL, 0), (IOTLB_GLOBAL, 0)],
    );
    let table = mem::page();
    write64(table + u64::from(PASID & 63) * 64 + 16, third.0[2]);
    write64(table + u64::from(PASID & 63) * 64 + 8, third.0[1]);
    write64(table + u64::from(PASID & 63) * 64, third.0[0]);
    live(
        &mut bench,
        checks,
        "another table in the directory: PASID-cache of the domain",
        [0x901, 0x902],
        |_| write64(at, table | 1),
        &[
            (of_domain(DOMAIN + 1), 0),
            (iotlb(IOTLB_DOMAIN, DOMAIN + 1), 0),
        ],
    );
    write64(at, 0);
    bench.queue.push(PASID_CACHE_GLOBAL, 0);
    bench.queue.run(IOTLB_GLOBAL, 0);
    bench.blocks_read(checks, "directory entry gone: 0x51", VIA, IOVA, 0x51);
}

fn contexts(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine);
    let source = bench.source();
    let start = entry(&bench, 0xA00, DOMAIN);
    bench.bind(start);
    let device = context_device(0, source);
    let mut old = 0xA00;
    for (name, descriptor) in [
        ("another directory: context device-selective", device),
        (
            "another directory: context device-selective with function mask",
            context_device(0, source | 7) | 3 << 48,
        ),
        (
            "another directory: context domain-selective",
            CONTEXT_DOMAIN | 5 << 16,
        ),
        ("another directory: context global", CONTEXT_GLOBAL),
    ] {
        let new = old + 1;
        let next = Pasids::new(Pasids::PAGE);
        let domain = u16::try_from(new).unwrap_or(1);
        next.set(PASID, entry(&bench, new, domain));
        let word = bench.context_word() & 0xFFF | next.directory;
        let at = bench.tables.context(source);
        live(
            &mut bench,
            checks,
            name,
            [old, new],
            |_| write64(at, word),
            &[(descriptor, 0), (PASID_CACHE_GLOBAL, 0), (IOTLB_GLOBAL, 0)],
        );
        old = new;
    }
    let at = bench.tables.context(source);
    write64(at, read64(at) & !1);
    bench.queue.push(device, 0);
    bench.queue.push(PASID_CACHE_GLOBAL, 0);
    bench.queue.run(IOTLB_GLOBAL, 0);
    bench.blocks_read(checks, "context entry gone: 0x41", VIA, IOVA, 0x41);
}

/// Another root table by SRTP, with translation on.
fn root(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine);
    let start = entry(&bench, 0xB00, DOMAIN);
    bench.bind(start);
    let before = bench.load(VIA, IOVA);
    bench.tables = crate::vtd::scalable::Tables::new();
    bench.pasids = Pasids::new(Pasids::PAGE);
    bench.set_context(0, 0);
    let next = entry(&bench, 0xB01, DOMAIN);
    bench.pasids.set(PASID, next);
    let mut bench = bench.go();
    let after = bench.load(VIA, IOVA);
    checks.equal(
        "another root table by SRTP",
        0xB01_u64,
        if before == 0xB00 { after } else { before },
    );
    bench.forget();
}
