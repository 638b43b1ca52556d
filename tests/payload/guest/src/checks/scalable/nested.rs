// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Nested translation: first-stage tables and their output go through the second stage.
//!
//! The first stage's tables lie at guest-physical addresses that are no host addresses, so nothing is found by mistake.

mod bits;

use super::bench::{Bench, DOMAIN, IOVA, VIA, page_with};
use crate::check::Checks;
use crate::checks::Machine;
use crate::dmatest::Operation;
use crate::mem::{self, read64, write64};
use crate::vtd::paging::*;
use crate::vtd::queue::{IOTLB_DOMAIN, IOTLB_PAGE, iotlb};
use crate::vtd::scalable::Entry;
use crate::vtd::wide_queue::{PASID_IOTLB_PAGE, of_pasid};

/// What guest-physical addresses of tables are greater by: writable, and read-only.
const BIAS: u64 = 0x1_0000_0000;
const READ_ONLY_BIAS: u64 = 0x2_0000_0000;
/// A guest-physical page of data.
const GPA: u64 = 0x3_0000_0000;
/// Guest-physical memory that there is not.
const NOWHERE: u64 = 0x4_0000_0000;
/// What the tables can lie in.
const TABLES: core::ops::Range<u64> = 0x100_0000..0x300_0000;

pub fn run(machine: &Machine, checks: Checks) {
    let unit = machine.unit;
    if !unit.has_nesting() || !unit.has_pasids() || !unit.has_leaf(2) {
        checks.skip("nesting with PASID and 2 MiB pages", "not offered");
        return;
    }
    for (variant, first, second) in [
        ("4 levels on 3", 4, 3),
        ("4 levels on 4", 4, 4),
        ("5 levels on 5", 5, 5),
    ] {
        let checks = checks.on(variant);
        let offered = unit.has_levels(second) && (first == 4 || unit.has_five_level_first_stage());
        if !offered {
            checks.skip("all of it", "not offered");
            continue;
        }
        let mut nested = Nested::start(machine, first, second);
        product(&mut nested, checks);
        sizes(&mut nested, checks);
        tables(&mut nested, checks);
        widths(&mut nested, checks);
        bits::run(&mut nested, checks);
        changes(&mut nested, checks);
    }
}

struct Nested<'a> {
    bench: Bench<'a>,
    first: Paging,
    second: Paging,
}

impl<'a> Nested<'a> {
    fn start(machine: &'a Machine, first: u64, second: u64) -> Nested<'a> {
        let bench = Bench::start(machine);
        let (first, second) = (Paging::biased(first, BIAS), Paging::second(second));
        for at in TABLES.step_by(0x20_0000) {
            second.map_large(at + BIAS, at, 2, RW);
            second.map_large(at + READ_ONLY_BIAS, at, 2, R);
        }
        let mut nested = Nested {
            bench,
            first,
            second,
        };
        nested.bind(0);
        nested
    }

    fn entry(&self) -> Entry {
        Entry::nested(&self.first, &self.second, DOMAIN)
    }

    /// With these bits in the first word.
    fn bind(&mut self, low: u64) {
        let entry = self.entry().with(low, 0, 0);
        self.bench.bind(entry);
    }
}

/// Name, rights of the first stage, rights of the second, what is tried, 0 or the reason.
type Product = (&'static str, u64, u64, Operation, u8);

const PRODUCTS: &[Product] = &[
    (
        "first stage read-only: read",
        P | USER,
        RW,
        Operation::Load,
        0,
    ),
    (
        "first stage read-only: 0x85",
        P | USER,
        RW,
        Operation::Store(1),
        0x85,
    ),
    (
        "second stage read-only: read",
        USER_PAGE,
        R,
        Operation::Load,
        0,
    ),
    (
        "second stage read-only: 0x85",
        USER_PAGE,
        R,
        Operation::Store(1),
        0x85,
    ),
    (
        "second stage write-only: 0x86",
        USER_PAGE,
        W,
        Operation::Load,
        0x86,
    ),
    (
        "second stage not present: 0x79",
        USER_PAGE,
        0,
        Operation::Load,
        0x79,
    ),
    (
        "first stage not present: 0x71",
        0,
        RW,
        Operation::Load,
        0x71,
    ),
    (
        "first stage a supervisor's: 0x81",
        P | WRITABLE,
        RW,
        Operation::Load,
        0x81,
    ),
    ("both: atomic", USER_PAGE, RW, Operation::Add(1), 0),
];

/// Rights are those that both stages give.
fn product(nested: &mut Nested, checks: Checks) {
    let page = page_with(0x1111);
    let outer = nested.first.map(IOVA, GPA, USER_PAGE);
    let inner = nested.second.map(GPA, page, RW);
    let bench = &mut nested.bench;
    checks.equal("read", 0x1111_u64, bench.load(VIA, IOVA));
    bench.store(VIA, IOVA + 0xFF8, 0x2222);
    checks.equal("write", 0x2222_u64, read64(page + 0xFF8));
    for &(name, first, second, operation, reason) in PRODUCTS {
        write64(outer, GPA | first);
        write64(inner, page | second);
        bench.forget();
        if reason == 0 {
            bench.allows(checks, name, VIA, operation, IOVA);
        } else {
            bench.blocks(checks, name, (VIA, operation, IOVA), reason);
        }
    }
}

/// Pages of different sizes: the smaller one counts.
fn sizes(nested: &mut Nested, checks: Checks) {
    let (iova, gpa) = (0x13_4000_0000, 0x3_4000_0000);
    nested.first.map_large(iova, gpa, 2, USER_PAGE);
    nested.second.map(gpa, page_with(0x1111), RW);
    nested.second.map(gpa + 0x1000, page_with(0x2222), RW);
    for (name, offset, value) in [
        ("2 MiB on 4 KiB: first page", 0, 0x1111_u64),
        ("2 MiB on 4 KiB: second page", 0x1000, 0x2222),
    ] {
        checks.equal(name, value, nested.bench.load(VIA, iova + offset));
    }
    nested.bench.blocks_read(
        checks,
        "2 MiB on 4 KiB: third page: 0x79",
        VIA,
        iova + 0x2000,
        0x79,
    );
    let (iova, gpa) = (0x13_4020_0000, 0x3_4020_0000);
    nested.second.map_large(gpa, mem::LARGE[0], 2, RW);
    nested.first.map(iova, gpa + 0x3000, USER_PAGE);
    nested.first.map(iova + 0x1000, gpa + 0x1000, USER_PAGE);
    write64(mem::LARGE[0] + 0x3000, 0x3333);
    write64(mem::LARGE[0] + 0x1000, 0x4444);
    for (name, offset, value) in [
        ("4 KiB on 2 MiB: first page", 0, 0x3333_u64),
        ("4 KiB on 2 MiB: second page", 0x1000, 0x4444),
    ] {
        checks.equal(name, value, nested.bench.load(VIA, iova + offset));
    }
    // The interrupt range is memory like any other between the stages, and not behind them.
    let page = page_with(0x5555);
    nested.first.map(iova + 0x2000, 0xFEE0_0000, USER_PAGE);
    nested.second.map(0xFEE0_0000, page, RW);
    checks.equal(
        "interrupt range between the stages",
        0x5555_u64,
        nested.bench.load(VIA, iova + 0x2000),
    );
    nested.second.map(0xFEE0_0000, 0xFEE0_0000, RW);
    nested.bench.forget();
    nested.bench.blocks_write(
        checks,
        "interrupt range behind them: 0x87",
        VIA,
        iova + 0x2000,
        0x87,
    );
}

/// First-stage tables that the second stage does not show.
fn tables(nested: &mut Nested, checks: Checks) {
    nested.first.map(IOVA, GPA, USER_PAGE);
    nested.second.map(GPA, page_with(0x1111), RW);
    let at = nested.first.entry(IOVA, 2);
    let before = read64(at);
    for (name, word, reason) in [
        (
            "first-stage table not in the second stage: 0x76",
            NOWHERE | USER_PAGE,
            0x76,
        ),
        (
            "first-stage entry with address bit 51: 0x72",
            before | 1 << 51,
            0x72,
        ),
    ] {
        write64(at, word);
        nested.bench.forget();
        nested.bench.blocks_read(checks, name, VIA, IOVA, reason);
    }
    write64(at, before);
    let inner = nested.second.map(NOWHERE, mem::HOLE, RW);
    write64(at, NOWHERE | USER_PAGE);
    nested.bench.forget();
    nested.bench.blocks_read(
        checks,
        "first-stage table that is no memory: 0x70",
        VIA,
        IOVA,
        0x70,
    );
    write64(at, before);
    write64(inner, 0);
    let nowhere = Paging::biased(nested.first.levels, NOWHERE);
    let entry = Entry::nested(&nowhere, &nested.second, DOMAIN);
    nested.bench.bind(entry);
    nested.bench.blocks_read(
        checks,
        "top first-stage table not in the second stage: 0x75",
        VIA,
        IOVA,
        0x75,
    );
    nested.bind(0);
    checks.equal("all put back", 0x1111_u64, nested.bench.load(VIA, IOVA));
}

/// Guest-physical addresses end where the second stage does.
fn widths(nested: &mut Nested, checks: Checks) {
    let bits = (12 + 9 * nested.second.levels).min(nested.bench.unit.mgaw());
    if bits >= nested.bench.machine.host_width.into() {
        checks.skip(
            "guest-physical addresses beyond the second stage",
            "tables hold no such address",
        );
        return;
    }
    let beyond = 1 << bits;
    nested.first.map(IOVA, beyond, USER_PAGE);
    nested.bench.forget();
    nested.bench.blocks_read(
        checks,
        "output beyond the second stage: 0x84",
        VIA,
        IOVA,
        0x84,
    );
    let at = nested.first.entry(IOVA, 2);
    let before = read64(at);
    write64(at, beyond | USER_PAGE);
    nested.bench.forget();
    nested.bench.blocks_read(
        checks,
        "first-stage table beyond the second stage: 0x74",
        VIA,
        IOVA,
        0x74,
    );
    write64(at, before);
    nested.bench.forget();
}

/// What either stage changes holds after the invalidation that names it.
fn changes(nested: &mut Nested, checks: Checks) {
    let [old, new, newer, newest] = [0xA1, 0xA2, 0xA3, 0xA4].map(page_with);
    let outer = nested.first.map(IOVA, GPA, USER_PAGE);
    let inner = nested.second.map(GPA, old, RW);
    nested.second.map(GPA + 0x1000, new, RW);
    nested.bench.forget();
    let before = nested.bench.load(VIA, IOVA);
    write64(outer, (GPA + 0x1000) | USER_PAGE);
    let one = of_pasid(PASID_IOTLB_PAGE, DOMAIN, super::bench::PASID);
    nested.bench.queue.run(one, IOVA);
    checks.equal("before any change", 0xA1_u64, before);
    checks.equal(
        "first stage changed, PASID-IOTLB page",
        0xA2_u64,
        nested.bench.load(VIA, IOVA),
    );
    write64(outer, GPA | USER_PAGE);
    nested.bench.queue.run(one, IOVA);
    nested.bench.load(VIA, IOVA);
    write64(inner, newer | RW);
    nested.bench.queue.run(iotlb(IOTLB_PAGE, DOMAIN), GPA);
    checks.equal(
        "second stage changed, IOTLB page of the guest-physical address",
        0xA3_u64,
        nested.bench.load(VIA, IOVA),
    );
    write64(inner, newest | RW);
    nested.bench.queue.run(iotlb(IOTLB_DOMAIN, DOMAIN), 0);
    checks.equal(
        "second stage changed, IOTLB domain",
        0xA4_u64,
        nested.bench.load(VIA, IOVA),
    );
}
