// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Second-stage tables of three, four and five levels in scalable mode: page sizes, widths, rights, broken tables, dirty bits.

use super::bench::{Bench, DOMAIN, IOVA, PASID, VIA, page_with};
use crate::check::Checks;
use crate::checks::Machine;
use crate::dmatest::{BLOCKED, Operation};
use crate::mem::{self, read64, write64};
use crate::vtd::paging::*;
use crate::vtd::queue::{IOTLB_PAGE, iotlb};
use crate::vtd::scalable::{ERE, Entry, SSADE, SSEE};

pub fn run(machine: &Machine, checks: Checks) {
    let unit = machine.unit;
    if !unit.has_second_stage() || !unit.has_pasids() {
        checks.skip("second stage with PASID", "not offered");
        return;
    }
    for (variant, levels) in [("3 levels", 3), ("4 levels", 4), ("5 levels", 5)] {
        let checks = checks.on(variant);
        if !unit.has_levels(levels) {
            checks.skip("all of it", "not offered");
            continue;
        }
        pages(machine, levels, checks);
        widths(machine, levels, checks);
        rights(machine, levels, checks);
        broken(machine, levels, checks);
    }
    let levels = unit.max_levels();
    if unit.has_second_stage_dirty() {
        dirty(machine, levels, checks);
    } else {
        checks.skip("accessed and dirty bits", "not offered");
    }
    if unit.has_execute() {
        execution(machine, levels, checks);
    } else {
        checks.skip("execution", "not offered");
    }
}

fn pages(machine: &Machine, levels: u64, checks: Checks) {
    let mut bench = Bench::start(machine);
    let paging = bench.bind_second(levels);
    let page = page_with(0x1111);
    let leaf = paging.map(IOVA, page, RW);
    checks.equal("4 KiB: read", 0x1111_u64, bench.load(VIA, IOVA));
    bench.store(VIA, IOVA + 0xFF8, 0x2222);
    checks.equal("4 KiB: write", 0x2222_u64, read64(page + 0xFF8));
    checks.equal("without SSADE nothing is marked", page | RW, read64(leaf));
    let next = page_with(0x3333_3333_4444_4444);
    paging.map(IOVA + mem::PAGE, next, RW);
    write64(page + 0xFF8, 0x5555_5555_6666_6666);
    checks.equal(
        "across pages",
        0x4444_4444_5555_5555_u64,
        bench.load(VIA, IOVA + 0xFFC),
    );
    let (large, huge) = (0x13_4000_0000, 0x14_0000_0000);
    paging.map_large(large, mem::LARGE[0], 2, RW);
    paging.map_large(huge, 0, 3, RW);
    write64(mem::LARGE[0] + 0x12_3008, 0x7777);
    for (name, missing, level, iova, value) in [
        (
            "2 MiB",
            "2 MiB that is not offered: 0x7A",
            2,
            large + 0x12_3008,
            0x7777_u64,
        ),
        (
            "1 GiB",
            "1 GiB that is not offered: 0x7A",
            3,
            huge + page,
            0x1111,
        ),
    ] {
        if bench.unit.has_leaf(level) {
            checks.equal(name, value, bench.load(VIA, iova));
        } else {
            bench.blocks_read(checks, missing, VIA, iova, 0x7A);
        }
    }
}

/// The tables end where the unit or they do, whichever is narrower.
fn widths(machine: &Machine, levels: u64, checks: Checks) {
    let mut bench = Bench::start(machine);
    let paging = bench.bind_second(levels);
    let end: u64 = 1 << (12 + 9 * levels).min(bench.unit.mgaw());
    paging.map(end - mem::PAGE, page_with(0x8888), RW);
    checks.equal(
        "the last page",
        0x8888_u64,
        bench.load(VIA, end - mem::PAGE),
    );
    bench.blocks_read(checks, "the page behind it: 0x83", VIA, end, 0x83);
    bench.blocks_write(checks, "far beyond: 0x83", VIA, 1 << 62, 0x83);
    bench.blocks_write(checks, "the last address of all: 0x83", VIA, !0xFFF, 0x83);
}

fn rights(machine: &Machine, levels: u64, checks: Checks) {
    const READ: Operation = Operation::Load;
    const WRITE: Operation = Operation::Store(1);
    const ATOMIC: Operation = Operation::Add(1);
    let mut bench = Bench::start(machine);
    let paging = bench.bind_second(levels);
    let page = page_with(0);
    let leaf = paging.map(IOVA, page, RW);
    let upper = paging.entry(IOVA, 2);
    let table = read64(upper) & !0xFFF;
    for (name, low, high, operation, reason) in [
        ("read-only page: read", R, RW, READ, 0),
        ("read-only page: write: 0x85", R, RW, WRITE, 0x85),
        ("read-only page: atomic: 0x85", R, RW, ATOMIC, 0x85),
        ("write-only page: write", W, RW, WRITE, 0),
        ("write-only page: read: 0x86", W, RW, READ, 0x86),
        ("write-only page: atomic: 0x86", W, RW, ATOMIC, 0x86),
        ("page without rights: read: 0x79", 0, RW, READ, 0x79),
        ("page without rights: write: 0x79", 0, RW, WRITE, 0x79),
        ("read-only one level up: write: 0x85", RW, R, WRITE, 0x85),
        ("write-only one level up: read: 0x86", RW, W, READ, 0x86),
        ("no rights one level up: 0x79", RW, 0, READ, 0x79),
        ("X alone is no right without SSEE: 0x79", X, RW, READ, 0x79),
        ("all rights: atomic", RW, RW, ATOMIC, 0),
    ] {
        write64(leaf, page | low);
        write64(upper, table | high);
        bench.forget();
        if reason == 0 {
            bench.allows(checks, name, VIA, operation, IOVA);
        } else {
            bench.blocks(checks, name, (VIA, operation, IOVA), reason);
        }
    }
}

fn broken(machine: &Machine, levels: u64, checks: Checks) {
    let mut bench = Bench::start(machine);
    let paging = bench.bind_second(levels);
    let page = page_with(0x1111);
    paging.map(IOVA, page, RW);
    for (name, level, change, reason) in [
        ("leaf: address bit 51: 0x7A", 1, page | RW | 1 << 51, 0x7A),
        (
            "level 2: address bit 51: 0x7A",
            2,
            page | RW | 1 << 51,
            0x7A,
        ),
        ("level 2: SNP: 0x7A", 2, page | RW | SNP, 0x7A),
        ("2 MiB: address bit 13: 0x7A", 2, 1 << 13 | RW | PS, 0x7A),
        ("1 GiB: address bit 29: 0x7A", 3, 1 << 29 | RW | PS, 0x7A),
        ("table unreadable: 0x78", 2, mem::HOLE | RW, 0x78),
        (
            "output in the interrupt range: 0x87",
            1,
            0xFEE0_5000 | RW,
            0x87,
        ),
    ] {
        let at = paging.entry(IOVA, level);
        let before = read64(at);
        write64(at, change);
        bench.forget();
        bench.blocks_read(checks, name, VIA, IOVA, reason);
        write64(at, before);
    }
    if levels > 3 {
        let at = paging.entry(IOVA, 4);
        let before = read64(at);
        write64(at, before | PS);
        bench.forget();
        bench.blocks_read(checks, "level 4: PS: 0x7A", VIA, IOVA, 0x7A);
        write64(at, before);
    }
    let leaf = paging.entry(IOVA, 1);
    write64(leaf, page | RW | 0x3FF << 52 | 1 << 63 | 1 << 10 | 0xF << 3);
    bench.forget();
    bench.allows(checks, "leaf: ignored bits", VIA, Operation::Store(1), IOVA);
    if bench.unit.has_snoop() {
        write64(leaf, page | RW | SNP);
        bench.forget();
        bench.allows(checks, "leaf: SNP", VIA, Operation::Store(1), IOVA);
    }
    let mut nowhere = paging;
    nowhere.top = mem::HOLE;
    bench.bind(Entry::second(&nowhere, DOMAIN));
    bench.blocks_read(checks, "top table unreadable: 0x7B", VIA, IOVA, 0x7B);
}

fn dirty(machine: &Machine, levels: u64, checks: Checks) {
    const BITS: u64 = SECOND_ACCESSED | SECOND_DIRTY;
    let mut bench = Bench::start(machine);
    let paging = Paging::second(levels);
    let page = page_with(0x1111);
    let leaf = paging.map(IOVA, page, RW);
    bench.bind(Entry::second(&paging, DOMAIN).with(SSADE, 0, 0));
    bench.load(VIA, IOVA);
    let all = (1..=levels).all(|level| read64(paging.entry(IOVA, level)) & BITS == SECOND_ACCESSED);
    checks.holds("a read sets A at every level, and D nowhere", all);
    bench.store(VIA, IOVA, 1);
    checks.equal(
        "a write sets D, though a read was cached before",
        page | RW | BITS,
        read64(leaf),
    );
    let upper = (2..=levels).all(|level| read64(paging.entry(IOVA, level)) & SECOND_DIRTY == 0);
    checks.holds("... in the leaf alone", upper);
    write64(leaf, page | RW | SECOND_ACCESSED);
    bench.queue.run(iotlb(IOTLB_PAGE, DOMAIN), IOVA | 1 << 6);
    bench.store(VIA, IOVA, 2);
    checks.equal(
        "D that was cleared and invalidated is set again",
        SECOND_DIRTY,
        read64(leaf) & SECOND_DIRTY,
    );
    write64(leaf, page | R);
    bench.forget();
    bench.blocks_write(checks, "a write that is refused: 0x85", VIA, IOVA, 0x85);
    checks.equal(
        "a write that is refused sets no D",
        0u64,
        read64(leaf) & SECOND_DIRTY,
    );
    if bench.unit.has_leaf(2) {
        let large = 0x13_4000_0000;
        let leaf = paging.map_large(large, mem::LARGE[0], 2, RW);
        bench.store(VIA, large + 0x5000, 3);
        checks.equal(
            "2 MiB: A and D in the leaf of level 2",
            mem::LARGE[0] | RW | PS | BITS,
            read64(leaf),
        );
    }
    // Without coherent walks nothing can be set.
    if bench.unit.has_coherent_walks() {
        write64(leaf, page | RW);
        let entry = Entry::second(&paging, DOMAIN).with(SSADE, 0, 0);
        bench.pasids.set(PASID, entry);
        bench.forget();
        bench.blocks_read(checks, "not snooped, A to be set: 0x7C", VIA, IOVA, 0x7C);
    }
}

fn execution(machine: &Machine, levels: u64, checks: Checks) {
    let fetch = VIA.execute();
    let mut bench = Bench::start(machine);
    let paging = Paging::second(levels);
    let page = page_with(0x1111);
    paging.map(IOVA, page, RW);
    let entry = Entry::second(&paging, DOMAIN).with(0, 0, ERE);
    bench.bind(entry);
    bench.allows(checks, "fetch without SSEE", fetch, Operation::Load, IOVA);
    bench.bind(entry.with(SSEE, 0, 0));
    // By which code is not settled: there is none for X of the second stage.
    let (status, fault) = bench.attempt(fetch, Operation::Load, IOVA);
    checks.holds(
        "fetch with SSEE, without X: blocked",
        status == BLOCKED && fault.is_some(),
    );
    for level in 1..=levels {
        let at = paging.entry(IOVA, level);
        write64(at, read64(at) | X);
    }
    bench.forget();
    bench.allows(
        checks,
        "fetch with SSEE and X",
        fetch,
        Operation::Load,
        IOVA,
    );
    let upper = paging.entry(IOVA, 2);
    write64(upper, read64(upper) & !X);
    bench.forget();
    let (status, _) = bench.attempt(fetch, Operation::Load, IOVA);
    checks.equal(
        "fetch with SSEE, without X one level up: blocked",
        BLOCKED,
        status,
    );
    bench.allows(
        checks,
        "read with SSEE, without X",
        VIA,
        Operation::Load,
        IOVA,
    );
}
