// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! DMA faults: each reason with its record.

use super::Machine;
use super::dma::{Bench, page_with};
use crate::check::Checks;
use crate::mem::{self, read64, write64};
use crate::vtd::faults::{Fault, READ, WRITE};
use crate::vtd::legacy::{PS, R, RW, TT_PASS_THROUGH, W};
use crate::vtd::unit::TE;

const IOVA: u64 = 0x0A00_0000;

pub fn run(machine: &Machine, checks: Checks) {
    leaf_faults(machine, checks);
    reserved_bits(machine, checks);
    context_faults(machine, checks);
    unreadable(machine, checks);
    table_modes(machine, checks);
    narrow_pass_through(machine, checks);
    suppressed(machine, checks);
    interrupt_range(machine, checks);
    if machine.edu64 {
        beyond_width(machine, checks);
    }
}

fn leaf_faults(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine, 2, 3);
    let page = page_with(1);
    checks.fault(
        "no leaf: read gives 0x6",
        bench.expect(0x6, IOVA, READ),
        bench.faults_on_read(IOVA + 0x568),
    );
    checks.fault(
        "no leaf: write gives 0x5",
        bench.expect(0x5, IOVA, WRITE),
        bench.faults_on_write(IOVA),
    );
    bench.map(IOVA, page, R);
    checks.fault(
        "read-only page: write gives 0x5",
        bench.expect(0x5, IOVA, WRITE),
        bench.faults_on_write(IOVA + 0xFF8),
    );
    checks.fault(
        "read-only page: read gives none",
        None,
        bench.faults_on_read(IOVA),
    );
    bench.map(IOVA, page, W);
    checks.fault(
        "write-only page: read gives 0x6",
        bench.expect(0x6, IOVA, READ),
        bench.faults_on_read(IOVA),
    );
    checks.fault(
        "write-only page: write gives none",
        None,
        bench.faults_on_write(IOVA),
    );
    bench.map(IOVA, page, RW);
    let upper = bench.tables.entry(IOVA, 2);
    write64(upper, read64(upper) & !W);
    bench.forget();
    checks.fault(
        "no write right one level up: 0x5",
        bench.expect(0x5, IOVA, WRITE),
        bench.faults_on_write(IOVA),
    );
    bench.map(IOVA, page, RW);
    write64(upper, read64(upper) | RW);
    bench.forget();
    checks.fault("mended: no fault", None, bench.faults_on_write(IOVA));
    let next = IOVA + mem::PAGE;
    machine.unit.clear_faults();
    machine.edu.read(next - 8, 16);
    checks.fault(
        "read across pages: the second page's address",
        bench.expect(0x6, next, READ),
        machine.unit.wait_fault(),
    );
}

fn reserved_bits(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine, 2, 3);
    let page = page_with(1);
    bench.map(IOVA, page, RW);
    let leaf = bench.tables.entry(IOVA, 1);
    let table = bench.tables.entry(IOVA, 2);
    let whole = read64(table);
    write64(table, whole | 1 << 11);
    bench.forget();
    checks.fault(
        "SNP in a table entry gives 0xC",
        bench.expect(0xC, IOVA, READ),
        bench.faults_on_read(IOVA),
    );
    write64(table, whole);
    if machine.unit.has_leaf(2) {
        write64(table, mem::LARGE[0] | 1 << 13 | RW | PS);
        bench.forget();
        checks.fault(
            "low address bits in a 2 MiB leaf give 0xC",
            bench.expect(0xC, IOVA, READ),
            bench.faults_on_read(IOVA),
        );
        write64(table, whole);
    }
    let snoop = if machine.unit.has_snoop() {
        None
    } else {
        bench.expect(0xC, IOVA, WRITE)
    };
    write64(leaf, page | RW | 1 << 11);
    bench.forget();
    checks.fault(
        "SNP in a leaf gives 0xC unless the unit has snoop control",
        snoop,
        bench.faults_on_write(IOVA),
    );
    write64(leaf, page | RW | 1 << 51);
    bench.forget();
    checks.fault(
        "address bit 51 in a leaf gives 0xC",
        bench.expect(0xC, IOVA, WRITE),
        bench.faults_on_write(IOVA),
    );
    write64(leaf, page | RW | 1 << 52 | 1 << 63 | 0x700);
    bench.forget();
    checks.fault(
        "software's bits in a leaf are ignored",
        None,
        bench.faults_on_write(IOVA),
    );
}

/// Reads at IOVA after `change` was made to the tables; puts root and context back.
fn with_change(bench: &mut Bench, change: impl FnOnce(&Bench)) -> Option<Fault> {
    let (root, context) = (bench.tables.root_entry(), bench.tables.context_entry());
    let before = [root, root + 8, context, context + 8].map(|at| (at, read64(at)));
    change(bench);
    bench.forget();
    let fault = bench.faults_on_read(IOVA);
    for (at, word) in before {
        write64(at, word);
    }
    bench.forget();
    fault
}

/// Name, reason, which of root low, root high, context low, context high to change, and to what from what it was.
type Change = (&'static str, u8, usize, fn(u64) -> u64);

const CHANGES: &[Change] = &[
    ("root entry not present: 0x1", 0x1, 0, |_| 0),
    ("root entry reserved bit 1: 0xA", 0xA, 0, |word| {
        word | 1 << 1
    }),
    ("root entry high word: 0xA", 0xA, 1, |_| 1),
    ("context entry not present: 0x2", 0x2, 2, |_| 0),
    ("context entry reserved bit 4: 0xB", 0xB, 2, |word| {
        word | 1 << 4
    }),
    ("context entry reserved bit 87: 0xB", 0xB, 3, |word| {
        word | 1 << 24
    }),
    ("context entry AW 0: 0x3", 0x3, 3, |word| word & !7),
    ("context entry AW 7: 0x3", 0x3, 3, |word| word | 7),
    ("context entry translation type 3: 0x3", 0x3, 2, |word| {
        word | 3 << 2
    }),
];

fn context_faults(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine, 2, 3);
    bench.map(IOVA, page_with(1), RW);
    for &(name, reason, which, change) in CHANGES {
        let got = with_change(&mut bench, |bench| {
            let at = [bench.tables.root_entry(), bench.tables.context_entry()][which / 2]
                + (which as u64 % 2) * 8;
            write64(at, change(read64(at)));
        });
        checks.fault(name, bench.expect(reason, IOVA, READ), got);
    }
    checks.fault(
        "root and context put back: no fault",
        None,
        bench.faults_on_read(IOVA),
    );
}

fn unreadable(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine, 2, 3);
    bench.map(IOVA, page_with(1), RW);
    let got = with_change(&mut bench, |bench| {
        write64(bench.tables.root_entry(), mem::HOLE | 1)
    });
    checks.fault(
        "context table unreadable: 0x9",
        bench.expect(0x9, IOVA, READ),
        got,
    );
    let got = with_change(&mut bench, |bench| {
        write64(bench.tables.context_entry(), mem::HOLE | 1)
    });
    checks.fault(
        "top table unreadable: 0x3",
        bench.expect(0x3, IOVA, READ),
        got,
    );
    let table = bench.tables.entry(IOVA, 2);
    write64(table, mem::HOLE | RW);
    bench.forget();
    checks.fault(
        "lower table unreadable: 0x7",
        bench.expect(0x7, IOVA, WRITE),
        bench.faults_on_write(IOVA),
    );
    bench.unit.clear(TE);
    bench.unit.set_root(mem::HOLE);
    bench.forget();
    bench.unit.set(TE);
    checks.fault(
        "root table unreadable: 0x8",
        bench.expect(0x8, IOVA, READ),
        bench.faults_on_read(IOVA),
    );
}

fn table_modes(machine: &Machine, checks: Checks) {
    let scalable = machine.unit.ecap >> 43 & 1 != 0;
    for (name, mode, supported) in [
        ("table mode 10: 0x30", 2 << 10, false),
        (
            "table mode 01 without scalable mode: 0x30",
            1 << 10,
            scalable,
        ),
    ] {
        if supported {
            continue;
        }
        let mut bench = Bench::prepare(machine, 2, 3);
        bench.tables.map(IOVA, page_with(1), RW);
        bench.unit.set_root(bench.tables.root | mode);
        bench.forget();
        bench.unit.set(TE);
        checks.fault(
            name,
            bench.expect(0x30, IOVA, READ),
            bench.faults_on_read(IOVA),
        );
    }
}

fn narrow_pass_through(machine: &Machine, checks: Checks) {
    const NAME: &str = "pass-through with a width that is not the largest: 0x4";
    if machine.unit.max_levels() == 3 {
        checks.skip(NAME, "the unit has one width");
        return;
    }
    let bench = Bench::prepare(machine, 2, 3);
    bench
        .tables
        .set_context(TT_PASS_THROUGH << 2 | 1, bench.tables.second_word());
    let bench = bench.go();
    checks.fault(
        NAME,
        bench.expect(0x4, IOVA, READ),
        bench.faults_on_read(IOVA),
    );
}

fn suppressed(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine, 2, 3);
    let fpd = |bench: &Bench| {
        let at = bench.tables.context_entry();
        write64(at, read64(at) | 1 << 1);
    };
    let got = with_change(&mut bench, fpd);
    checks.fault(
        "FPD in the context entry: no record of a missing leaf",
        None,
        got,
    );
    let got = with_change(&mut bench, |bench| {
        write64(bench.tables.context_entry(), 1 << 1)
    });
    checks.fault(
        "FPD in a context entry that is not present: no record",
        None,
        got,
    );
    let got = with_change(&mut bench, |bench| write64(bench.tables.root_entry(), 0));
    checks.fault(
        "a missing root entry knows no FPD",
        bench.expect(0x1, IOVA, READ),
        got,
    );
}

fn interrupt_range(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine, 2, 3);
    bench.map(IOVA, 0xFEE0_0000, RW);
    checks.fault(
        "output in the interrupt range: 0xE",
        bench.expect(0xE, IOVA, WRITE),
        bench.faults_on_write(IOVA),
    );
}

fn beyond_width(machine: &Machine, checks: Checks) {
    let bench = Bench::start(machine, 2, 3);
    let iova = 1 << 39;
    checks.fault(
        "address beyond 3 levels: 0x4",
        bench.expect(0x4, iova, READ),
        bench.faults_on_read(iova),
    );
    let bench = Bench::start(machine, 2, machine.unit.max_levels());
    let iova = 1 << machine.unit.mgaw();
    checks.fault(
        "address beyond MGAW: 0x4",
        bench.expect(0x4, iova, WRITE),
        bench.faults_on_write(iova),
    );
    let iova = 1 << 62;
    checks.fault(
        "address far beyond: 0x4",
        bench.expect(0x4, iova, READ),
        bench.faults_on_read(iova),
    );
}
