// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! First-stage tables of four and five levels: page sizes, canonical addresses, broken tables, accessed and dirty bits.

use super::bench::{Bench, DOMAIN, IOVA, VIA, page_with};
use crate::check::Checks;
use crate::checks::Machine;
use crate::dmatest::Operation;
use crate::mem::{self, read64, write64};
use crate::vtd::paging::*;
use crate::vtd::queue::IOTLB_GLOBAL;
use crate::vtd::scalable::{EAFE, Entry};

pub fn run(machine: &Machine, checks: Checks) {
    let unit = machine.unit;
    if !unit.has_first_stage() || !unit.has_pasids() {
        checks.skip("first stage with PASID", "not offered");
        return;
    }
    for (variant, levels, offered) in [
        ("4 levels", 4, true),
        ("5 levels", 5, unit.has_five_level_first_stage()),
    ] {
        let checks = checks.on(variant);
        if !offered {
            checks.skip("all of it", "not offered");
            continue;
        }
        pages(machine, levels, checks);
        canonical(machine, levels, checks);
        absent(machine, levels, checks);
        unreadable(machine, levels, checks);
        accessed(machine, levels, checks);
    }
    reserved(machine, checks);
    gigabytes(machine, checks);
    dirty(machine, checks);
    not_snooped(machine, checks);
    extended_accessed(machine, checks);
}

fn bind(bench: &mut Bench, levels: u64) -> Paging {
    let paging = Paging::first(levels);
    bench.bind(Entry::first(&paging, DOMAIN));
    paging
}

fn pages(machine: &Machine, levels: u64, checks: Checks) {
    let mut bench = Bench::start(machine);
    let paging = bind(&mut bench, levels);
    let page = page_with(0x1111);
    paging.map(IOVA, page, USER_PAGE);
    checks.equal("4 KiB: read", 0x1111_u64, bench.load(VIA, IOVA));
    let stored = bench.store(VIA, IOVA + 0xFF8, 0x2222);
    checks.equal(
        "4 KiB: write",
        0x2222_u64,
        if stored { read64(page + 0xFF8) } else { 0 },
    );
    let next = page_with(0x3333_3333_4444_4444);
    paging.map(IOVA + mem::PAGE, next, USER_PAGE);
    write64(page + 0xFF8, 0x5555_5555_6666_6666);
    checks.equal(
        "across pages",
        0x4444_4444_5555_5555_u64,
        bench.load(VIA, IOVA + 0xFFC),
    );
    let large = 0x13_4000_0000;
    paging.map_large(large, mem::LARGE[0], 2, USER_PAGE);
    write64(mem::LARGE[0] + 0x12_3008, 0x7777);
    checks.equal(
        "2 MiB: read",
        0x7777_u64,
        bench.load(VIA, large + 0x12_3008),
    );
    bench.store(VIA, large + 0x1F_FFF8, 0x8888);
    checks.equal(
        "2 MiB: write to the last bytes",
        0x8888_u64,
        read64(mem::LARGE[0] + 0x1F_FFF8),
    );
    // Bit 12 of a large page is PAT.
    paging.map_large(large, mem::LARGE[1] | 1 << 12, 2, USER_PAGE);
    bench.forget();
    write64(mem::LARGE[1] + 8, 0x9999);
    checks.equal(
        "2 MiB: PAT is no address",
        0x9999_u64,
        bench.load(VIA, large + 8),
    );
}

fn gigabytes(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine);
    let paging = bind(&mut bench, 4);
    let (huge, page) = (0x14_0000_0000, page_with(0xAAAA));
    paging.map_large(huge, 0, 3, USER_PAGE);
    if bench.unit.has_first_stage_gigabyte() {
        checks.equal("1 GiB: read", 0xAAAA_u64, bench.load(VIA, huge + page));
        paging.map_large(huge, 1 << 29, 3, USER_PAGE);
        bench.forget();
        bench.blocks_read(checks, "1 GiB: address bit 29: 0x72", VIA, huge, 0x72);
    } else {
        bench.blocks_read(checks, "1 GiB that is not offered: 0x72", VIA, huge, 0x72);
    }
}

fn canonical(machine: &Machine, levels: u64, checks: Checks) {
    let mut bench = Bench::start(machine);
    if bench.unit.mgaw() < 48 {
        checks.skip("canonical addresses", "the unit is narrower");
        return;
    }
    let paging = bind(&mut bench, levels);
    let half: u64 = if levels == 4 { 1 << 47 } else { 1 << 56 };
    for (name, iova, value) in [
        ("last page of the lower half", half - mem::PAGE, 0x1_u64),
        ("first page of the upper half", half.wrapping_neg(), 0x2),
        ("last page of all", mem::PAGE.wrapping_neg(), 0x3),
    ] {
        paging.map(iova, page_with(value), USER_PAGE);
        checks.equal(name, value, bench.load(VIA, iova));
    }
    for (name, iova) in [
        ("first address that is not canonical: 0x80", half),
        (
            "last address that is not canonical: 0x80",
            half.wrapping_neg() - mem::PAGE,
        ),
        ("bit 63 alone is not canonical: 0x80", 1 << 63 | IOVA),
    ] {
        bench.blocks_read(checks, name, VIA, iova, 0x80);
    }
}

const ABSENT: [&str; 5] = [
    "leaf not present: 0x71",
    "entry of level 2 not present: 0x71",
    "entry of level 3 not present: 0x71",
    "entry of level 4 not present: 0x71",
    "entry of level 5 not present: 0x71",
];

/// Without P nothing else in an entry counts.
fn absent(machine: &Machine, levels: u64, checks: Checks) {
    let mut bench = Bench::start(machine);
    let paging = bind(&mut bench, levels);
    paging.map(IOVA, page_with(0x1111), USER_PAGE);
    for (name, level) in ABSENT.into_iter().zip(1..=levels) {
        let at = paging.entry(IOVA, level);
        let before = read64(at);
        write64(at, before & !P | 1 << 51);
        bench.forget();
        bench.blocks_write(checks, name, VIA, IOVA, 0x71);
        write64(at, before);
    }
    bench.forget();
    checks.equal("all put back", 0x1111_u64, bench.load(VIA, IOVA));
}

fn unreadable(machine: &Machine, levels: u64, checks: Checks) {
    let mut bench = Bench::start(machine);
    let paging = bind(&mut bench, levels);
    for (name, level) in [
        ("table of level 1 unreadable: 0x70", 2),
        ("table below the top unreadable: 0x70", levels),
    ] {
        paging.map(IOVA, mem::PAGE, USER_PAGE);
        let at = paging.entry(IOVA, level);
        let before = read64(at);
        write64(at, mem::HOLE | USER_PAGE);
        bench.forget();
        bench.blocks_read(checks, name, VIA, IOVA, 0x70);
        write64(at, before);
    }
    let mut nowhere = paging;
    nowhere.top = mem::HOLE;
    bench.bind(Entry::first(&nowhere, DOMAIN));
    bench.blocks_read(checks, "top table unreadable: 0x73", VIA, IOVA, 0x73);
}

fn reserved(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine);
    let paging = bind(&mut bench, 4);
    let page = page_with(0x1111);
    let leaf = paging.map(IOVA, page, USER_PAGE);
    write64(leaf, page | USER_PAGE | 1 << 51);
    bench.blocks_read(checks, "leaf: address bit 51: 0x72", VIA, IOVA, 0x72);
    write64(
        leaf,
        page | USER_PAGE | 0x7FF << 52 | 7 << 9 | 1 << 8 | 3 << 3,
    );
    bench.forget();
    bench.allows(
        checks,
        "leaf: ignored bits, memory types and G",
        VIA,
        Operation::Store(1),
        IOVA,
    );
    write64(leaf, page | USER_PAGE | XD);
    bench.forget();
    bench.allows(
        checks,
        "leaf: XD is ignored without NXE",
        VIA,
        Operation::Load,
        IOVA,
    );
    write64(leaf, page | USER_PAGE | PS);
    bench.forget();
    bench.allows(checks, "leaf: PS is PAT", VIA, Operation::Load, IOVA);
    for (name, level, bits) in [
        ("level 4: PS: 0x72", 4, PS),
        ("level 4: address bit 51: 0x72", 4, 1 << 51),
        ("level 2: address bit 51: 0x72", 2, 1 << 51),
    ] {
        let at = paging.entry(IOVA, level);
        let before = read64(at);
        write64(at, before | bits);
        bench.forget();
        bench.blocks_read(checks, name, VIA, IOVA, 0x72);
        write64(at, before);
    }
    let large = 0x13_4000_0000;
    paging.map_large(large, mem::LARGE[0] | 1 << 13, 2, USER_PAGE);
    bench.blocks_read(checks, "2 MiB: address bit 13: 0x72", VIA, large, 0x72);
    paging.map(IOVA, 0xFEE0_0000, USER_PAGE);
    bench.forget();
    bench.blocks_write(
        checks,
        "output in the interrupt range: 0x87",
        VIA,
        IOVA,
        0x87,
    );
}

/// A is set in every entry that was used, and D in none by a read.
fn accessed(machine: &Machine, levels: u64, checks: Checks) {
    let mut bench = Bench::start(machine);
    let paging = bind(&mut bench, levels);
    let page = page_with(0x1111);
    let leaf = paging.map(IOVA, page, USER_PAGE);
    let used = |set: u64| {
        (1..=levels).all(|level| read64(paging.entry(IOVA, level)) & (ACCESSED | DIRTY) == set)
    };
    let before = used(0);
    bench.load(VIA, IOVA);
    checks.holds(
        "a read sets A at every level, and D nowhere",
        before && used(ACCESSED),
    );
    checks.equal(
        "and changes nothing else of the leaf",
        page | USER_PAGE | ACCESSED,
        read64(leaf),
    );
    bench.store(VIA, IOVA, 1);
    let upper = (2..=levels).all(|level| read64(paging.entry(IOVA, level)) & DIRTY == 0);
    checks.equal(
        "a write sets D in the leaf alone",
        page | USER_PAGE | ACCESSED | DIRTY,
        if upper { read64(leaf) } else { 0 },
    );
}

fn dirty(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine);
    let paging = bind(&mut bench, 4);
    let page = page_with(0x1111);
    let leaf = paging.map(IOVA, page, P | USER);
    bench.blocks_write(checks, "a write that is refused: 0x85", VIA, IOVA, 0x85);
    checks.equal(
        "a write that is refused sets no D",
        0u64,
        read64(leaf) & DIRTY,
    );
    write64(leaf, page | USER_PAGE);
    bench.forget();
    bench.load(VIA, IOVA);
    let clean = read64(leaf) & DIRTY;
    bench.device.run(VIA, Operation::Add(1), IOVA);
    checks.holds(
        "an atomic operation sets D, though a read was cached before",
        clean == 0 && read64(leaf) & DIRTY != 0,
    );
    write64(leaf, page | USER_PAGE);
    bench.queue.run(IOTLB_GLOBAL, 0);
    bench.store(VIA, IOVA, 2);
    checks.equal(
        "A and D that were cleared and invalidated are set again",
        ACCESSED | DIRTY,
        read64(leaf) & (ACCESSED | DIRTY),
    );
    let large = 0x13_4000_0000;
    let leaf = paging.map_large(large, mem::LARGE[0], 2, USER_PAGE);
    bench.store(VIA, large + 0x5000, 3);
    checks.equal(
        "2 MiB: A and D in the leaf of level 2",
        mem::LARGE[0] | USER_PAGE | PS | ACCESSED | DIRTY,
        read64(leaf),
    );
    let leaf = paging.map(IOVA, page, USER_PAGE | ACCESSED);
    bench.forget();
    bench.device.run(VIA, Operation::TouchForWriting, IOVA);
    checks.equal(
        "a request of no bytes for writing sets D",
        page | USER_PAGE | ACCESSED | DIRTY,
        read64(leaf),
    );
}

/// Without PWSNP nothing can be set: what is set already does no harm.
fn not_snooped(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine);
    if !bench.unit.has_coherent_walks() {
        checks.skip("walks that are not snooped", "all walks are");
        return;
    }
    let paging = Paging::first(4);
    let page = page_with(0x1111);
    let leaf = paging.map(IOVA, page, USER_PAGE);
    bench
        .pasids
        .set(super::bench::PASID, Entry::first(&paging, DOMAIN));
    bench.forget();
    bench.blocks_read(checks, "not snooped, A to be set: 0x90", VIA, IOVA, 0x90);
    for level in 1..=4 {
        let at = paging.entry(IOVA, level);
        write64(at, read64(at) | ACCESSED);
    }
    bench.forget();
    bench.allows(
        checks,
        "not snooped, A set already",
        VIA,
        Operation::Load,
        IOVA,
    );
    bench.blocks_write(checks, "not snooped, D to be set: 0x90", VIA, IOVA, 0x90);
    write64(leaf, read64(leaf) | DIRTY);
    bench.forget();
    bench.allows(
        checks,
        "not snooped, D set already",
        VIA,
        Operation::Store(1),
        IOVA,
    );
}

fn extended_accessed(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine);
    let paging = Paging::first(4);
    let page = page_with(0x1111);
    let leaf = paging.map(IOVA, page, USER_PAGE);
    bench.bind(Entry::first(&paging, DOMAIN));
    bench.load(VIA, IOVA);
    checks.equal(
        "EA is left alone without EAFE",
        0u64,
        read64(leaf) & EXTENDED_ACCESSED,
    );
    let entry = Entry::first(&paging, DOMAIN).with(0, 0, EAFE);
    bench.bind(entry);
    if !bench.unit.has_extended_accessed() {
        bench.blocks_read(checks, "EAFE that is not offered: 0x5A", VIA, IOVA, 0x5A);
        return;
    }
    bench.load(VIA, IOVA);
    let all = (1..=4).all(|level| {
        let bits = read64(paging.entry(IOVA, level));
        bits & (ACCESSED | EXTENDED_ACCESSED) == ACCESSED | EXTENDED_ACCESSED
    });
    checks.holds("EA is set at every level with EAFE", all);
}
