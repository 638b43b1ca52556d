// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! DMA through second-stage tables: every depth and leaf size, rights, and what each invalidation must drop.

use super::Machine;
use super::dma::{Bench, page_with};
use crate::check::Checks;
use crate::mem::{self, LARGE, PAGE, read64, write64};
use crate::vtd::legacy::{PS, R, RW, TT_PASS_THROUGH, W};
use crate::vtd::queue::*;

/// An IOVA that equals no address in use.
const IOVA: u64 = 0x0800_0000;

pub fn run(machine: &Machine, checks: Checks) {
    for levels in [3, 4, 5] {
        if machine.unit.has_levels(levels) {
            leaves(machine, levels, checks);
            gigabyte(machine, levels, checks);
        }
    }
    crossing(machine, checks);
    rights(machine, checks);
    pass_through(machine, checks);
    page_selective(machine, checks);
    wider_selective(machine, checks);
    large_page_split(machine, checks);
    presence(machine, checks);
    if machine.edu64 {
        high_addresses(machine, checks);
    }
}

fn leaves(machine: &Machine, levels: u64, checks: Checks) {
    let [read, write, large_read, large_write] = match levels {
        3 => [
            "3 levels: 4 KiB read",
            "3 levels: 4 KiB write",
            "3 levels: 2 MiB read",
            "3 levels: 2 MiB write",
        ],
        4 => [
            "4 levels: 4 KiB read",
            "4 levels: 4 KiB write",
            "4 levels: 2 MiB read",
            "4 levels: 2 MiB write",
        ],
        _ => [
            "5 levels: 4 KiB read",
            "5 levels: 4 KiB write",
            "5 levels: 2 MiB read",
            "5 levels: 2 MiB write",
        ],
    };
    let mut bench = Bench::start(machine, 2, levels);
    let page = page_with(0x1111_0000 + levels);
    bench.map(IOVA, page, RW);
    checks.equal(read, 0x1111_0000 + levels, bench.load(IOVA));
    bench.store(IOVA + 0x7F8, 0x2222_0000 + levels);
    checks.equal(write, 0x2222_0000 + levels, read64(page + 0x7F8));
    if !machine.unit.has_leaf(2) {
        checks.skip(large_read, "the unit has no 2 MiB pages");
        return;
    }
    bench.tables.map_large(IOVA + 0x20_0000, LARGE[0], 2, RW);
    bench.invalidate_page(IOVA + 0x20_0000, 9);
    write64(LARGE[0] + 0x12_3458, 0x3333_0000 + levels);
    checks.equal(
        large_read,
        0x3333_0000 + levels,
        bench.load(IOVA + 0x20_0000 + 0x12_3458),
    );
    bench.store(IOVA + 0x20_0000 + 0x1F_FFF8, 0x4444_0000 + levels);
    checks.equal(
        large_write,
        0x4444_0000 + levels,
        read64(LARGE[0] + 0x1F_FFF8),
    );
    checks.equal(
        "no fault from good DMA",
        0u32,
        machine.unit.read32(crate::vtd::unit::FSTS),
    );
}

fn gigabyte(machine: &Machine, levels: u64, checks: Checks) {
    let name = match levels {
        3 => "3 levels: 1 GiB read and write",
        4 => "4 levels: 1 GiB read and write",
        _ => "5 levels: 1 GiB read and write",
    };
    if !machine.unit.has_leaf(3) {
        checks.skip(name, "the unit has no 1 GiB pages");
        return;
    }
    // The page maps the first GiB one to one: the two pages of the bench lie in it.
    let bench = Bench::prepare(machine, 2, levels);
    bench.tables.map_large(0, 0, 3, RW);
    let bench = bench.go();
    write64(LARGE[1] + 0xABC8, 0x5555_0000 + levels);
    let read = bench.load(LARGE[1] + 0xABC8) == 0x5555_0000 + levels;
    bench.store(LARGE[1] + 0x10, 0x6666_0000 + levels);
    checks.holds(
        name,
        read && read64(LARGE[1] + 0x10) == 0x6666_0000 + levels,
    );
}

fn crossing(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine, 2, machine.unit.max_levels());
    let (second, hole, first) = (mem::page(), mem::page(), mem::page());
    bench.map(IOVA, first, RW);
    bench.map(IOVA + PAGE, second, RW);
    write64(first + PAGE - 8, 0x7777_0001);
    write64(second, 0x7777_0002);
    let sink = bench.load_bytes(IOVA + PAGE - 8, 16);
    checks.holds(
        "a read across pages takes from both frames",
        read64(sink) == 0x7777_0001 && read64(sink + 8) == 0x7777_0002,
    );
    write64(bench.source(), 0x7777_0003);
    write64(bench.source() + 8, 0x7777_0004);
    bench.store_bytes(IOVA + PAGE - 8, 16);
    checks.holds(
        "a write across pages reaches both frames and no other",
        read64(first + PAGE - 8) == 0x7777_0003
            && read64(second) == 0x7777_0004
            && read64(hole) == 0,
    );
    for offset in (0..PAGE).step_by(8) {
        write64(first + offset, offset * 0x1_0001);
    }
    // QEMU's edu refuses to fill its buffer to the last byte.
    let sink = bench.load_bytes(IOVA, PAGE - 8);
    let same = (0..PAGE - 8)
        .step_by(8)
        .all(|offset| read64(sink + offset) == offset * 0x1_0001);
    checks.holds("all of a page but one word arrives", same);
}

fn rights(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine, 2, 3);
    let page = page_with(0x8888_0001);
    bench.map(IOVA, page, R);
    checks.equal("read-only page: read", 0x8888_0001_u64, bench.load(IOVA));
    bench.store(IOVA, 0x8888_0002);
    checks.equal(
        "read-only page: write leaves it alone",
        0x8888_0001_u64,
        read64(page),
    );
    bench.map(IOVA, page, W);
    bench.store(IOVA, 0x8888_0003);
    checks.equal("write-only page: write", 0x8888_0003_u64, read64(page));
    checks.holds(
        "write-only page: read gets nothing of it",
        bench.load(IOVA) != 0x8888_0003,
    );
    bench.map(IOVA, page, RW);
    write64(page, 0x8888_0004);
    checks.equal(
        "rights given and invalidated: read",
        0x8888_0004_u64,
        bench.load(IOVA),
    );
    // Rights of the level above count as well.
    let upper = bench.tables.entry(IOVA, 2);
    write64(upper, read64(upper) & !W);
    bench.invalidate_page(IOVA, 0);
    bench.store(IOVA, 0x8888_0005);
    checks.equal(
        "write right missing one level up: write leaves the page alone",
        0x8888_0004_u64,
        read64(page),
    );
    checks.equal(
        "write right missing one level up: read",
        0x8888_0004_u64,
        bench.load(IOVA),
    );
}

fn pass_through(machine: &Machine, checks: Checks) {
    let bench = Bench::prepare(machine, 2, machine.unit.max_levels());
    bench
        .tables
        .set_context(TT_PASS_THROUGH << 2 | 1, bench.tables.second_word());
    let bench = bench.go();
    let page = page_with(0x9999_0001);
    checks.equal("pass-through: read", 0x9999_0001_u64, bench.load(page));
    bench.store(page + 8, 0x9999_0002);
    checks.equal("pass-through: write", 0x9999_0002_u64, read64(page + 8));
}

fn page_selective(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine, 2, machine.unit.max_levels());
    let (old, new) = (page_with(0xAAAA_0001), page_with(0xAAAA_0002));
    bench.map(IOVA, old, RW);
    checks.equal(
        "change: the old page at first",
        0xAAAA_0001_u64,
        bench.load(IOVA),
    );
    bench.tables.map(IOVA, new, RW);
    let early = bench.load(IOVA);
    checks.holds(
        "change: old or new before the invalidation",
        early == 0xAAAA_0001 || early == 0xAAAA_0002,
    );
    bench.invalidate_page(IOVA, 0);
    checks.equal(
        "change: new after page-selective invalidation, read",
        0xAAAA_0002_u64,
        bench.load(IOVA),
    );
    bench.store(IOVA + 8, 0xAAAA_0003);
    checks.holds(
        "change: new, write",
        read64(new + 8) == 0xAAAA_0003 && read64(old + 8) == 0,
    );
    bench.tables.unmap(IOVA);
    bench.invalidate_page(IOVA, 0);
    bench.store(IOVA + 16, 0xAAAA_0004);
    checks.holds(
        "unmapped and invalidated: write goes nowhere",
        read64(new + 16) == 0 && read64(old + 16) == 0,
    );
    checks.holds(
        "unmapped and invalidated: read gets nothing",
        bench.load(IOVA) != 0xAAAA_0002,
    );
}

fn wider_selective(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine, 2, machine.unit.max_levels());
    let old = page_with(0xBBBB_0001);
    for page in 0..4 {
        bench.map(IOVA + page * PAGE, old, RW);
    }
    let first = bench.reads(IOVA, 0xBBBB_0001) && bench.reads(IOVA + 3 * PAGE, 0xBBBB_0001);
    let new = page_with(0xBBBB_0002);
    for page in 0..4 {
        bench.tables.map(IOVA + page * PAGE, new, RW);
    }
    // An address in the middle of the four: its low bits do not count.
    bench.invalidate_page(IOVA + 2 * PAGE, 2);
    let last = bench.reads(IOVA, 0xBBBB_0002) && bench.reads(IOVA + 3 * PAGE, 0xBBBB_0002);
    checks.holds(
        "page-selective with 2 address bits masked drops all four pages",
        first && last,
    );

    for (name, descriptor, value) in [
        (
            "domain-selective drops the domain",
            iotlb(IOTLB_DOMAIN, 2),
            0xBBBB_0003,
        ),
        ("global drops all", IOTLB_GLOBAL, 0xBBBB_0004),
    ] {
        let new = page_with(value);
        bench.tables.map(IOVA, new, RW);
        bench.queue.run(descriptor, 0);
        checks.equal(name, value, bench.load(IOVA));
    }
}

fn large_page_split(machine: &Machine, checks: Checks) {
    const NAME: &str = "a page-selective invalidation inside a 2 MiB page drops that page";
    if !machine.unit.has_leaf(2) {
        checks.skip(NAME, "the unit has no 2 MiB pages");
        return;
    }
    let mut bench = Bench::start(machine, 2, 3);
    let inside = 5 * PAGE;
    write64(LARGE[0] + inside, 0xCCCC_0001);
    bench.tables.map_large(IOVA, LARGE[0], 2, RW);
    bench.invalidate_page(IOVA, 9);
    let before = bench.load(IOVA + inside);
    let (table, new) = (mem::page(), page_with(0xCCCC_0002));
    for page in 0..512 {
        write64(table + page * 8, (LARGE[0] + page * PAGE) | RW);
    }
    write64(table + inside / PAGE * 8, new | RW);
    let entry = bench.tables.entry(IOVA, 2);
    write64(entry, table | RW);
    bench.invalidate_page(IOVA + inside, 0);
    checks.holds(
        NAME,
        before == 0xCCCC_0001 && bench.load(IOVA + inside) == 0xCCCC_0002,
    );
    write64(entry, LARGE[1] | RW | PS);
    bench.invalidate_page(IOVA, 9);
    write64(LARGE[1] + inside, 0xCCCC_0003);
    checks.equal(
        "a table replaced by a 2 MiB page",
        0xCCCC_0003_u64,
        bench.load(IOVA + inside),
    );
}

fn presence(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine, 2, machine.unit.max_levels());
    let page = page_with(0xDDDD_0001);
    checks.holds(
        "not mapped: nothing is read",
        bench.load(IOVA) != 0xDDDD_0001,
    );
    bench.tables.map(IOVA, page, RW);
    if machine.unit.caching_mode() {
        bench.invalidate_page(IOVA, 0);
    }
    // Without caching mode a unit may not remember that there was nothing.
    checks.equal(
        "made present: used at once, or with caching mode after invalidation",
        0xDDDD_0001_u64,
        bench.load(IOVA),
    );
    machine.unit.clear_faults();
}

fn high_addresses(machine: &Machine, checks: Checks) {
    for (name, levels) in [
        ("top page of 3 levels", 3),
        ("top page of 4 levels", 4),
        ("top page of 5 levels", 5),
    ] {
        if !machine.unit.has_levels(levels) {
            continue;
        }
        let width = machine.unit.mgaw().min(12 + 9 * levels);
        let mut bench = Bench::start(machine, 2, levels);
        let (page, iova) = (mem::page(), (1 << width) - PAGE);
        write64(page + PAGE - 8, 0x1234_0001);
        bench.map(iova, page, RW);
        checks.equal(name, 0x1234_0001_u64, bench.load(iova + PAGE - 8));
    }
}
