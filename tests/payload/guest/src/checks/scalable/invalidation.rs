// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! IOTLB invalidations of both kinds: what was cached may be used until they complete, and never after.

use super::bench::{Bench, DOMAIN, IOVA, PASID, VIA, page_with};
use super::pasid_cache::live;
use crate::check::Checks;
use crate::checks::Machine;
use crate::mem::{self, read64, write64};
use crate::vtd::paging::{P, PS, Paging, RW, USER, USER_PAGE};
use crate::vtd::queue::{IOTLB_DOMAIN, IOTLB_GLOBAL, IOTLB_PAGE, iotlb};
use crate::vtd::wide_queue::*;

pub fn run(machine: &Machine, checks: Checks) {
    let unit = machine.unit;
    if !unit.has_pasids() {
        checks.skip("requests with PASID", "not offered");
        return;
    }
    if unit.has_first_stage() {
        let mut bench = Bench::start(machine);
        let paging = bench.bind_first();
        leaves(&mut bench, &paging, FIRST_STAGE, checks.on("first stage"));
        shapes(&mut bench, &paging, checks.on("first stage"));
        large_pages(&mut bench, &paging, checks.on("first stage"));
        many(&mut bench, &paging, checks.on("first stage"));
        rights(&mut bench, &paging, checks.on("first stage"));
    } else {
        checks.skip("first stage", "not offered");
    }
    if unit.has_second_stage() {
        let mut bench = Bench::start(machine);
        let paging = bench.bind_second(unit.max_levels());
        leaves(&mut bench, &paging, SECOND_STAGE, checks.on("second stage"));
        second_stage_shapes(&mut bench, &paging, checks.on("second stage"));
    } else {
        checks.skip("second stage", "not offered");
    }
}

const ONE: u64 = PASID_IOTLB_PAGE | (DOMAIN as u64) << 16 | (PASID as u64) << 32;
const ALL: u64 = PASID_IOTLB_ALL | (DOMAIN as u64) << 16 | (PASID as u64) << 32;
const PAGE: u64 = IOTLB_PAGE | (DOMAIN as u64) << 16;
const IN_DOMAIN: u64 = IOTLB_DOMAIN | (DOMAIN as u64) << 16;

/// Name and words of an invalidation after which a changed leaf must be seen.
type Row = (&'static str, u64, u64);

const FIRST_STAGE: &[Row] = &[
    ("leaf changed: PASID-IOTLB page", ONE, IOVA),
    (
        "leaf changed: PASID-IOTLB page, hint",
        ONE,
        IOVA | LEAF_ONLY,
    ),
    (
        "leaf changed: PASID-IOTLB, 2 pages around it",
        ONE,
        (IOVA & !0x1FFF) | 1,
    ),
    (
        "leaf changed: PASID-IOTLB, 512 pages, address not aligned",
        ONE,
        IOVA | 9,
    ),
    (
        "leaf changed: PASID-IOTLB, 2^18 pages",
        ONE,
        (IOVA >> 30 << 30) | 18,
    ),
    (
        "leaf changed: PASID-IOTLB, 2^27 pages, beyond MAMV",
        ONE,
        (IOVA >> 39 << 39) | 27,
    ),
    ("leaf changed: PASID-IOTLB, 2^51 pages", ONE, 51),
    ("leaf changed: PASID-IOTLB all", ALL, 0),
    ("leaf changed: IOTLB global", IOTLB_GLOBAL, 0),
    ("leaf changed: IOTLB domain", IN_DOMAIN, 0),
    (
        "leaf changed: IOTLB page of the domain, any address",
        PAGE,
        0x1000,
    ),
];

const SECOND_STAGE: &[Row] = &[
    ("leaf changed: IOTLB page", PAGE, IOVA),
    ("leaf changed: IOTLB page, hint", PAGE, IOVA | LEAF_ONLY),
    (
        "leaf changed: IOTLB, 2 pages around it",
        PAGE,
        (IOVA & !0x1FFF) | 1,
    ),
    (
        "leaf changed: IOTLB, 512 pages, address not aligned",
        PAGE,
        IOVA | 9,
    ),
    (
        "leaf changed: IOTLB, 2^18 pages",
        PAGE,
        (IOVA >> 30 << 30) | 18,
    ),
    ("leaf changed: IOTLB domain", IN_DOMAIN, 0),
    ("leaf changed: IOTLB global", IOTLB_GLOBAL, 0),
];

fn leaves(bench: &mut Bench, paging: &Paging, rows: &[Row], checks: Checks) {
    let flags = paging.open();
    let mut old = 0x1000;
    let leaf = paging.map(IOVA, page_with(old), flags);
    bench.forget();
    for &(name, low, high) in rows {
        let new = old + 1;
        let page = page_with(new);
        let change = |_: &Bench| write64(leaf, page | flags);
        live(bench, checks, name, [old, new], change, &[(low, high)]);
        old = new;
    }
}

/// Tables and large pages change, not just leaves.
fn shapes(bench: &mut Bench, paging: &Paging, checks: Checks) {
    let first = page_with(0x2000);
    paging.map(IOVA, first, USER_PAGE);
    bench.forget();
    // Another table of level 1, which the paging-structure caches may hold.
    let table = mem::page();
    write64(
        table + (IOVA >> 12 & 0x1FF) * 8,
        page_with(0x2001) | USER_PAGE,
    );
    let upper = paging.entry(IOVA, 2);
    let change = |_: &Bench| write64(upper, table | USER_PAGE);
    live(
        bench,
        checks,
        "table of level 1 changed: page",
        [0x2000, 0x2001],
        change,
        &[(ONE, IOVA)],
    );
    // Another one of level 2.
    let (directory, table) = (mem::page(), mem::page());
    write64(
        table + (IOVA >> 12 & 0x1FF) * 8,
        page_with(0x2002) | USER_PAGE,
    );
    write64(directory + (IOVA >> 21 & 0x1FF) * 8, table | USER_PAGE);
    let upper = paging.entry(IOVA, 3);
    let change = |_: &Bench| write64(upper, directory | USER_PAGE);
    live(
        bench,
        checks,
        "table of level 2 changed: all",
        [0x2001, 0x2002],
        change,
        &[(ALL, 0)],
    );
}

/// Large pages take the place of tables, change, and give way again.
fn large_pages(bench: &mut Bench, paging: &Paging, checks: Checks) {
    paging.map(IOVA, page_with(0x2002), USER_PAGE);
    bench.forget();
    let offset = IOVA & 0x1F_F000;
    write64(mem::LARGE[0] + offset, 0x2003);
    let upper = paging.entry(IOVA, 2);
    let change = |_: &Bench| write64(upper, mem::LARGE[0] | USER_PAGE | PS);
    live(
        bench,
        checks,
        "table to 2 MiB page",
        [0x2002, 0x2003],
        change,
        &[(ONE, IOVA)],
    );
    // Another large page, of which only one small page is invalidated.
    write64(mem::LARGE[1] + offset, 0x2004);
    let change = |_: &Bench| write64(upper, mem::LARGE[1] | USER_PAGE | PS);
    live(
        bench,
        checks,
        "2 MiB page changed: by another of its pages",
        [0x2003, 0x2004],
        change,
        &[(ONE, (IOVA & !0x1F_FFFF) + 0x5000)],
    );
    let table = mem::page();
    write64(
        table + (IOVA >> 12 & 0x1FF) * 8,
        page_with(0x2005) | USER_PAGE,
    );
    let change = |_: &Bench| write64(upper, table | USER_PAGE);
    live(
        bench,
        checks,
        "2 MiB page to table",
        [0x2004, 0x2005],
        change,
        &[(ONE, IOVA)],
    );
}

/// Many pages at once: all of them, and the ones outside stay right.
fn many(bench: &mut Bench, paging: &Paging, checks: Checks) {
    const COUNT: u64 = 16;
    let base = 0x15_0000_0000;
    let pages = mem::pages(2 * COUNT, mem::PAGE);
    for index in 0..2 * COUNT {
        write64(pages + index * mem::PAGE, 0x3000 + index);
    }
    let at = |index: u64| base + index * mem::PAGE;
    for index in 0..COUNT {
        paging.map(at(index), pages + index * mem::PAGE, USER_PAGE);
    }
    bench.forget();
    let shown = |bench: &Bench, first: u64| {
        (0..COUNT).all(|index| bench.load(VIA, at(index)) == 0x3000 + first + index)
    };
    let before = shown(bench, 0);
    for index in 0..COUNT {
        paging.map(at(index), pages + (COUNT + index) * mem::PAGE, USER_PAGE);
    }
    bench.queue.run(ONE, base | 4);
    checks.holds(
        "16 pages changed: one invalidation",
        before && shown(bench, COUNT),
    );
    for index in 0..COUNT {
        paging.map(at(index), pages + index * mem::PAGE, USER_PAGE);
        bench.queue.push(ONE, at(index));
    }
    bench.queue.flush();
    checks.holds("16 pages changed: one invalidation each", shown(bench, 0));
}

/// A right that is taken away, and a page that goes.
fn rights(bench: &mut Bench, paging: &Paging, checks: Checks) {
    let page = page_with(0x4000);
    let leaf = paging.map(IOVA, page, USER_PAGE);
    bench.forget();
    let stored = bench.store(VIA, IOVA, 0x4001);
    write64(leaf, read64(leaf) & !(USER_PAGE & !(P | USER)));
    bench.queue.run(ONE, IOVA | LEAF_ONLY);
    checks.holds("writable before", stored);
    bench.blocks_write(checks, "made read-only: 0x85", VIA, IOVA, 0x85);
    checks.equal(
        "made read-only: still read",
        0x4001_u64,
        bench.load(VIA, IOVA),
    );
    write64(leaf, 0);
    bench.queue.run(ONE, IOVA | LEAF_ONLY);
    bench.blocks_read(checks, "unmapped: 0x71", VIA, IOVA, 0x71);
    // What was not present is not cached, whatever the caching mode.
    write64(leaf, page | USER_PAGE);
    checks.equal(
        "mapped again without invalidation",
        0x4001_u64,
        bench.load(VIA, IOVA),
    );
}

fn second_stage_shapes(bench: &mut Bench, paging: &Paging, checks: Checks) {
    paging.map(IOVA, page_with(0x5000), RW);
    bench.forget();
    let table = mem::page();
    write64(table + (IOVA >> 12 & 0x1FF) * 8, page_with(0x5001) | RW);
    let upper = paging.entry(IOVA, 2);
    let change = |_: &Bench| write64(upper, table | RW);
    live(
        bench,
        checks,
        "table changed: page",
        [0x5000, 0x5001],
        change,
        &[(PAGE, IOVA)],
    );
    if bench.unit.has_leaf(2) {
        write64(mem::LARGE[0] + (IOVA & 0x1F_F000), 0x5002);
        let change = |_: &Bench| write64(upper, mem::LARGE[0] | RW | PS);
        live(
            bench,
            checks,
            "table to 2 MiB page",
            [0x5001, 0x5002],
            change,
            &[(PAGE, IOVA)],
        );
        write64(mem::LARGE[1] + (IOVA & 0x1F_F000), 0x5003);
        let change = |_: &Bench| write64(upper, mem::LARGE[1] | RW | PS);
        live(
            bench,
            checks,
            "2 MiB page changed: by another of its pages",
            [0x5002, 0x5003],
            change,
            &[(PAGE, (IOVA & !0x1F_FFFF) + 0x5000)],
        );
    }
    write64(upper, 0);
    bench.queue.run(iotlb(IOTLB_PAGE, DOMAIN), IOVA);
    bench.blocks_read(checks, "unmapped: 0x79", VIA, IOVA, 0x79);
}
