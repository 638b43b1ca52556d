// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Requests without PASID: through the entry that RID_PASID names, of `edu` and of `dmatest`.

use super::bench::{Bench, DOMAIN, PASID, VIA, any_entry, any_tables, missing, page_with};
use crate::check::Checks;
use crate::checks::Machine;
use crate::dmatest::{DONE, Operation, Via};
use crate::mem::{self, read64, write64};
use crate::vtd::faults::{Fault, READ, WRITE};
use crate::vtd::paging::Paging;
use crate::vtd::scalable::{Entry, Pasids, RID_PRIV, SRE};

/// `edu` has addresses of 28 bits.
const IOVA: u64 = 0x0A00_0000;
const SINK: u64 = 0x0B00_0000;
/// What RID_PASID names where the unit honours it.
const OWN: u32 = 0x77;
const POISON: u64 = 0xDEAD_0000_DEAD_0000;

pub fn run(machine: &Machine, checks: Checks) {
    let mut edu = Edu::start(machine);
    for (variant, offered, first) in [
        ("edu, first stage", machine.unit.has_first_stage(), true),
        ("edu, second stage", machine.unit.has_second_stage(), false),
    ] {
        if offered {
            translated(&mut edu, first, checks.on(variant));
        } else {
            checks.skip(variant, "not offered");
        }
    }
    passed_through(&mut edu, checks.on("edu, pass-through"));
    honoured(machine, checks);
    interrupt_range(machine, checks);
    if machine.unit.has_rid_privilege() && machine.unit.has_first_stage() {
        privileged(machine, checks);
    } else {
        checks.skip("RID_PRIV", "not offered");
    }
}

/// `edu` with a PASID directory of its own, beside `dmatest`.
struct Edu<'a> {
    bench: Bench<'a>,
    pasids: Pasids,
    pasid: u32,
    /// Where memory shows what the device read.
    sink: u64,
}

impl<'a> Edu<'a> {
    fn start(machine: &'a Machine) -> Edu<'a> {
        let bench = Bench::start(machine);
        let pasid = if bench.unit.has_rid_pasid() { OWN } else { 0 };
        let pasids = Pasids::new(Pasids::PAGE);
        bench
            .tables
            .set_context(machine.edu.source(), pasids.context_word(), pasid.into());
        Edu {
            bench,
            pasids,
            pasid,
            sink: mem::page(),
        }
    }

    fn bind(&mut self, entry: Entry) {
        let snoop = self.bench.snoop();
        self.pasids.set(self.pasid, entry.with(0, snoop, 0));
        self.bench.forget();
    }

    /// What the device reads at `iova`; `sink` is where it can write.
    fn load(&self, iova: u64, sink: u64) -> u64 {
        let edu = self.bench.machine.edu;
        write64(self.sink, POISON);
        edu.read(sink, 8);
        edu.read(iova, 8);
        edu.write(sink, 8);
        read64(self.sink)
    }

    fn fault(&self, reason: u8, iova: u64, access: u8) -> Option<Fault> {
        let source = self.bench.machine.edu.source();
        Some(Fault::dma(reason, source, iova, access))
    }

    fn faults_on_read(&self, iova: u64) -> Option<Fault> {
        self.bench.unit.clear_faults();
        self.bench.machine.edu.read(iova, 8);
        self.bench.unit.wait_fault()
    }

    fn faults_on_write(&self, iova: u64) -> Option<Fault> {
        self.bench.unit.clear_faults();
        self.bench.machine.edu.write(iova, 8);
        self.bench.unit.wait_fault()
    }
}

fn translated(edu: &mut Edu, first: bool, checks: Checks) {
    let levels = if edu.bench.unit.has_levels(3) { 3 } else { 4 };
    let (paging, entry, reasons) = if first {
        let paging = Paging::first(4);
        (paging, Entry::first(&paging, DOMAIN), [0x71, 0x71])
    } else {
        let paging = Paging::second(levels);
        (paging, Entry::second(&paging, DOMAIN), [0x79, 0x79])
    };
    let page = page_with(0x1111);
    paging.map(IOVA, page, paging.open());
    paging.map(SINK, edu.sink, paging.open());
    edu.bind(entry);
    checks.equal("read through the tables", 0x1111_u64, edu.load(IOVA, SINK));
    write64(page, 0x2222);
    edu.bench.machine.edu.read(IOVA, 8);
    edu.bench.machine.edu.write(IOVA + 0x800, 8);
    checks.equal(
        "written through the tables",
        0x2222_u64,
        read64(page + 0x800),
    );
    let free = IOVA + mem::PAGE;
    checks.fault(
        "unmapped page: read",
        edu.fault(reasons[0], free, READ),
        edu.faults_on_read(free),
    );
    checks.fault(
        "unmapped page: write",
        edu.fault(reasons[1], free, WRITE),
        edu.faults_on_write(free),
    );
    edu.pasids.clear(edu.pasid);
    edu.bench.forget();
    checks.fault(
        "no entry: 0x59",
        edu.fault(0x59, IOVA, READ),
        edu.faults_on_read(IOVA),
    );
}

fn passed_through(edu: &mut Edu, checks: Checks) {
    if !edu.bench.unit.has_pass_through() {
        checks.skip("pass-through", "not offered");
        return;
    }
    edu.bind(Entry::pass_through(1));
    let page = page_with(0x3333);
    checks.equal("the address itself", 0x3333_u64, edu.load(page, edu.sink));
}

/// RID_PASID of `dmatest`: another value leads to another table, and requests with PASID don't care.
fn honoured(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine);
    let unit = bench.unit;
    let [zero, own] = [0x4444, 0x5555].map(|value| {
        let paging = any_tables(unit);
        paging.map(IOVA, page_with(value), paging.open());
        paging
    });
    bench.bind_to(0, any_entry(unit, &zero, DOMAIN));
    bench.bind_to(OWN, any_entry(unit, &own, DOMAIN + 1));
    checks.equal("RID_PASID 0", 0x4444_u64, bench.load(Via::PLAIN, IOVA));
    if !unit.has_rid_pasid() {
        checks.skip("RID_PASID", "not offered");
        return;
    }
    bench.set_context(0, OWN.into());
    bench.forget();
    checks.equal(
        "another RID_PASID",
        0x5555_u64,
        bench.load(Via::PLAIN, IOVA),
    );
    bench.blocks_read(
        checks,
        "a fault of a request without PASID shows none",
        Via::PLAIN,
        IOVA + mem::PAGE,
        missing(unit),
    );
    bench.set_context(0, u64::from(OWN) + 1);
    bench.forget();
    bench.blocks_read(
        checks,
        "RID_PASID without entry: 0x59",
        Via::PLAIN,
        IOVA,
        0x59,
    );
}

/// 0xFEExxxxx is no memory without PASID, and memory like any other with one.
fn interrupt_range(machine: &Machine, checks: Checks) {
    const RANGE: u64 = 0xFEE0_1000;
    let mut bench = Bench::start(machine);
    let unit = bench.unit;
    let paging = any_tables(unit);
    paging.map(RANGE, page_with(0x6666), paging.open());
    bench.bind_to(0, any_entry(unit, &paging, DOMAIN));
    let answer = bench.device.run(Via::PLAIN, Operation::Load, RANGE);
    checks.holds(
        "interrupt range without PASID: not translated",
        answer.status != DONE,
    );
    if unit.has_pasids() {
        bench.bind_to(PASID, any_entry(unit, &paging, DOMAIN));
        checks.equal(
            "interrupt range with PASID: translated",
            0x6666_u64,
            bench.load(VIA, RANGE),
        );
    }
}

/// RID_PRIV makes requests without PASID a supervisor's.
fn privileged(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine);
    let paging = Paging::first(4);
    // Present and writable, but not a user's.
    paging.map(IOVA, page_with(0x7777), 0x3);
    bench.bind_to(0, Entry::first(&paging, DOMAIN).with(0, 0, SRE));
    bench.blocks_read(
        checks,
        "without RID_PRIV a user: 0x81",
        Via::PLAIN,
        IOVA,
        0x81,
    );
    bench.set_context(0, RID_PRIV);
    bench.forget();
    checks.equal(
        "with RID_PRIV a supervisor",
        0x7777_u64,
        bench.load(Via::PLAIN, IOVA),
    );
    bench.bind_to(0, Entry::first(&paging, DOMAIN));
    bench.blocks_read(
        checks,
        "a supervisor where SRE is 0: 0x5D",
        Via::PLAIN,
        IOVA,
        0x5D,
    );
}
