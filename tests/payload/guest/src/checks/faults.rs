// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! DMA faults: the record of each, the log's status bits, overflow, and the fault event.

use super::dma::{Bench, page_with};
use super::{FAULT_VECTOR, Machine};
use crate::check::Checks;
use crate::mem::{self, read64, write64};
use crate::vtd::faults::{Fault, READ, WRITE};
use crate::vtd::irte;
use crate::vtd::legacy::{PS, R, RW, W};
use crate::vtd::unit::*;
use crate::{arch, interrupts};

const IOVA: u64 = 0x0A00_0000;

pub fn run(machine: &Machine, checks: Checks) {
    leaf_faults(machine, checks);
    reserved_bits(machine, checks);
    context_faults(machine, checks);
    suppressed(machine, checks);
    interrupt_range(machine, checks);
    if machine.edu64 {
        beyond_width(machine, checks);
    }
    log(machine, checks);
    overflow(machine, checks);
    event(machine, checks);
}

impl Bench<'_> {
    fn faults_on_read(&self, iova: u64) -> Option<Fault> {
        self.unit.clear_faults();
        self.machine.edu.read(iova, 4);
        self.unit.wait_fault()
    }

    fn faults_on_write(&self, iova: u64) -> Option<Fault> {
        self.unit.clear_faults();
        self.machine.edu.write(iova, 4);
        self.unit.wait_fault()
    }

    fn expect(&self, reason: u8, iova: u64, access: u8) -> Option<Fault> {
        Some(Fault::dma(reason, self.machine.edu.source(), iova, access))
    }

    fn forget(&mut self) {
        self.queue.invalidate_all();
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

fn log(machine: &Machine, checks: Checks) {
    Bench::start(machine, 2, 3);
    let unit = machine.unit;
    machine.edu.read(IOVA, 4);
    let pending = arch::poll(arch::SHORT, || unit.read32(FSTS) & PPF != 0);
    checks.holds("log: a fault sets PPF", pending);
    let first = unit.fault_index();
    checks.holds(
        "log: FRI names a record with F set",
        first < unit.records() && unit.fault_at(first).is_some(),
    );
    unit.write32(FSTS, PPF);
    checks.equal(
        "log: writing 1 to PPF does nothing",
        PPF,
        unit.read32(FSTS) & PPF,
    );
    let top = unit.record(first) + 12;
    unit.write32(top, 0);
    checks.equal(
        "log: writing 0 to F leaves it set",
        1u32,
        unit.read32(top) >> 31,
    );
    unit.write32(top, 1 << 31);
    checks.equal(
        "log: writing 1 to F clears it",
        0u32,
        unit.read32(top) >> 31,
    );
    checks.equal(
        "log: PPF falls with the last F",
        0u32,
        unit.read32(FSTS) & PPF,
    );
    machine.edu.read(IOVA, 4);
    arch::poll(arch::SHORT, || unit.read32(FSTS) & PPF != 0);
    checks.equal(
        "log: the next fault goes to the next record",
        (first + 1) % unit.records(),
        unit.fault_index(),
    );
}

fn overflow(machine: &Machine, checks: Checks) {
    let bench = Bench::start(machine, 2, 3);
    let unit = machine.unit;
    // More than fit; each on another page.
    for page in 0..unit.records() + 2 {
        machine.edu.read(IOVA + page * mem::PAGE, 4);
    }
    arch::poll(arch::SHORT, || unit.read32(FSTS) & PPF != 0);
    let set = (0..unit.records())
        .filter(|&index| unit.fault_at(index).is_some())
        .count() as u64;
    let overflowed = unit.read32(FSTS) & PFO != 0 && set == unit.records();
    // The specification lets a unit keep one pending record a source.
    let compressed = unit.read32(FSTS) & PFO == 0 && set == 1;
    checks.holds(
        "overflow: PFO with all records full, or one record for one source",
        overflowed || compressed,
    );
    let index = unit.fault_index();
    checks.fault(
        "overflow: the first fault is kept",
        bench.expect(0x6, IOVA, READ),
        unit.fault_at(index),
    );
    unit.write32(FSTS, PFO);
    checks.equal(
        "overflow: writing 1 clears PFO",
        0u32,
        unit.read32(FSTS) & PFO,
    );
    unit.clear_faults();
    checks.fault(
        "overflow: faults are recorded again after",
        bench.expect(0x5, IOVA, WRITE),
        bench.faults_on_write(IOVA),
    );
}

fn event(machine: &Machine, checks: Checks) {
    Bench::start(machine, 2, 3);
    let unit = machine.unit;
    let (address, _) = arch::halves(irte::compatible(machine.apic_id));
    unit.write32(FEDATA, FAULT_VECTOR.into());
    unit.write32(FEADDR, address);
    unit.write32(FEUADDR, 0);
    unit.write32(FECTL, 0);
    interrupts::clear();
    machine.edu.read(IOVA, 4);
    checks.holds(
        "event: a fault sends the MSI once",
        interrupts::arrived(FAULT_VECTOR, 1),
    );
    checks.equal(
        "event: not pending after delivery",
        0u32,
        unit.read32(FECTL),
    );
    interrupts::clear();
    machine.edu.read(IOVA + mem::PAGE, 4);
    checks.holds(
        "event: none for a fault while another is pending",
        interrupts::silence(),
    );
    unit.clear_faults();
    machine.edu.read(IOVA, 4);
    checks.holds(
        "event: again after clearing",
        interrupts::arrived(FAULT_VECTOR, 1),
    );

    unit.clear_faults();
    unit.write32(FECTL, IM);
    interrupts::clear();
    machine.edu.read(IOVA, 4);
    checks.holds("event: none while masked", interrupts::silence());
    checks.equal("event: IP is set while masked", IM | IP, unit.read32(FECTL));
    unit.write32(FECTL, 0);
    checks.holds(
        "event: unmasking delivers it",
        interrupts::arrived(FAULT_VECTOR, 1),
    );
    checks.equal("event: IP is clear after", 0u32, unit.read32(FECTL));

    unit.clear_faults();
    unit.write32(FECTL, IM);
    machine.edu.read(IOVA, 4);
    unit.clear_faults();
    checks.equal(
        "event: clearing the fault clears IP",
        IM,
        unit.read32(FECTL),
    );
    interrupts::clear();
    unit.write32(FECTL, 0);
    checks.holds("event: nothing is left to deliver", interrupts::silence());
}
