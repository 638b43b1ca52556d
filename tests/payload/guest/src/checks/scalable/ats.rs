// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Translations that the device asks for: what it is told, and what is recorded.

use super::bench::{Bench, DOMAIN, IOVA, PASID, VIA, any_entry, any_tables, page_with};
use crate::check::Checks;
use crate::checks::{EDU_VECTOR, Machine};
use crate::dmatest::*;
use crate::interrupts;
use crate::mem::{self, read64, write64};
use crate::vtd::faults::Fault;
use crate::vtd::irte;
use crate::vtd::paging::*;
use crate::vtd::scalable::{DTE, Entry, PRE, SSADE};

/// Requests with the device's own translations.
pub const TRANSLATED: Via = VIA.translated();
pub const PLAIN: Via = Via::PLAIN.translated();

/// Whether unit and device have it.
pub fn offered(machine: &Machine) -> bool {
    let unit = machine.unit;
    unit.has_device_tlb() && machine.dmatest().has_ats() && unit.has_pasids()
}

pub fn run(machine: &Machine, checks: Checks) {
    let unit = machine.unit;
    if !offered(machine) {
        checks.skip("ATS with PASID", "not offered");
        return;
    }
    translations(machine, checks);
    refusals(machine, checks);
    if unit.has_first_stage() {
        rights(machine, checks);
        dirty(machine, checks);
    }
    if unit.has_second_stage_dirty() {
        second_stage_dirty(machine, checks);
    }
    without_pasid(machine, checks);
}

/// Tables for the PASID of the checks, of whatever stage.
pub fn bind(bench: &mut Bench) -> Paging {
    let paging = any_tables(bench.unit);
    let entry = any_entry(bench.unit, &paging, DOMAIN);
    bench.bind(entry);
    paging
}

fn translations(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine);
    let paging = bind(&mut bench);
    let page = page_with(0x1111);
    paging.map(IOVA, page, paging.open());
    let counts = |bench: &Bench| {
        let device = bench.device;
        (device.register(ATC_MISSES), device.register(ATC_HITS))
    };
    let (misses, hits) = counts(&bench);
    let answer = bench.device.run(TRANSLATED, Operation::Touch, IOVA);
    checks.equal(
        "the answer is the page's address",
        page,
        if answer.status == DONE {
            answer.result
        } else {
            0
        },
    );
    checks.equal(
        "read with the translation",
        0x1111_u64,
        bench.load(TRANSLATED, IOVA),
    );
    checks.holds(
        "the device asked once and cached the answer",
        counts(&bench) == (misses + 1, hits + 1),
    );
    bench.store(TRANSLATED, IOVA + 0x800, 0x2222);
    checks.equal(
        "written with the translation",
        0x2222_u64,
        read64(page + 0x800),
    );
    if paging_has_large(&bench) {
        let large = 0x13_4000_0000;
        paging.map_large(large, mem::LARGE[0], 2, paging.open());
        let answer = bench
            .device
            .run(TRANSLATED, Operation::Touch, large + 0x12_3000);
        checks.equal(
            "a page within 2 MiB",
            mem::LARGE[0] + 0x12_3000,
            answer.result,
        );
    }
    if bench.unit.has_pass_through() {
        bench.bind(Entry::pass_through(1));
        checks.equal(
            "pass-through: the address itself",
            0x1111_u64,
            bench.load(TRANSLATED, page),
        );
    }
}

fn paging_has_large(bench: &Bench) -> bool {
    bench.unit.has_first_stage() || bench.unit.has_leaf(2)
}

/// What is missing is told to the device alone, what is broken or not set up is recorded too.
fn refusals(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine);
    let paging = bind(&mut bench);
    let page = page_with(0x1111);
    let leaf = paging.map(IOVA, page, paging.open());
    let missing = IOVA + mem::PAGE;
    let (status, fault) = bench.attempt(TRANSLATED, Operation::Load, missing);
    checks.equal("no page: the device has no right", NO_RIGHT, status);
    checks.fault("no page: nothing is recorded", None, fault);
    let reserved = if bench.unit.has_first_stage() {
        0x72
    } else {
        0x7A
    };
    write64(leaf, page | paging.open() | 1 << 51);
    refused(&bench, checks, "reserved bit in the leaf", reserved);
    write64(leaf, page | paging.open());
    let at = bench.pasids.entry(PASID);
    let before = read64(at);
    write64(at, before & !1);
    bench.forget();
    refused(&bench, checks, "no PASID entry: 0x59", 0x59);
    write64(at, before | 1 << 10);
    bench.forget();
    refused(
        &bench,
        checks,
        "reserved bit in the PASID entry: 0x5A",
        0x5A,
    );
    write64(at, before);
    let context = bench.tables.context(bench.source());
    let word = read64(context);
    write64(context, word & !(DTE | PRE));
    bench.forget();
    refused(&bench, checks, "DTE not set: 0x44", 0x44);
    checks.equal(
        "DTE not set: untranslated requests",
        0x1111_u64,
        bench.load(VIA, IOVA),
    );
    write64(context, word & !1);
    bench.forget();
    refused(&bench, checks, "no context entry: 0x41", 0x41);
    write64(context, word);
    bench.forget();
    checks.equal("all put back", 0x1111_u64, bench.load(TRANSLATED, IOVA));
}

/// A translation request for `IOVA` that is refused, and recorded as such.
fn refused(bench: &Bench, checks: Checks, name: &str, reason: u8) {
    let (status, fault) = bench.attempt(TRANSLATED, Operation::Load, IOVA);
    let expected = Fault {
        address_type: 1,
        ..bench.expect(reason, VIA, Operation::Load, IOVA)
    };
    if status == REFUSED {
        checks.fault(name, Some(expected), fault);
    } else {
        checks.equal(name, REFUSED, status);
    }
}

fn rights(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine);
    let paging = bench.bind_first();
    let page = page_with(0x1111);
    let leaf = paging.map(IOVA, page, P | USER);
    checks.equal(
        "read-only page: read",
        0x1111_u64,
        bench.load(TRANSLATED, IOVA),
    );
    let (status, fault) = bench.attempt(TRANSLATED, Operation::Store(1), IOVA);
    checks.holds(
        "read-only page: no right to write",
        status == NO_RIGHT && fault.is_none(),
    );
    write64(leaf, page | P | WRITABLE);
    bench.forget();
    let (status, fault) = bench.attempt(TRANSLATED, Operation::Load, IOVA);
    checks.holds(
        "a supervisor's page: no right",
        status == NO_RIGHT && fault.is_none(),
    );
    let (status, fault) = bench.attempt(TRANSLATED, Operation::Load, 1 << 63 | IOVA);
    checks.holds(
        "not canonical: no right",
        status == NO_RIGHT && fault.is_none(),
    );
    write64(leaf, page | USER_PAGE);
    bench.forget();
    let (status, fault) = bench.attempt(TRANSLATED.execute(), Operation::Load, IOVA);
    checks.holds(
        "fetch without ERE: no right",
        status == NO_RIGHT && fault.is_none(),
    );
}

/// D is set when the right to write is granted, because the device does not come back before it writes.
fn dirty(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine);
    let paging = bench.bind_first();
    let leaf = paging.map(IOVA, page_with(0x1111), USER_PAGE);
    bench
        .device
        .run(TRANSLATED, Operation::TouchForWriting, IOVA);
    checks.equal(
        "asked for writing: A and D",
        ACCESSED | DIRTY,
        read64(leaf) & (ACCESSED | DIRTY),
    );
    write64(leaf, read64(leaf) & !(ACCESSED | DIRTY));
    bench.forget();
    bench.load(TRANSLATED, IOVA);
    let expected = if bench.unit.has_no_write_flag() {
        ACCESSED
    } else {
        ACCESSED | DIRTY
    };
    checks.equal(
        "asked for reading: D only where the unit does not hear that",
        expected,
        read64(leaf) & (ACCESSED | DIRTY),
    );
    bench.store(TRANSLATED, IOVA, 1);
    checks.equal("then written: D", DIRTY, read64(leaf) & DIRTY);
}

fn second_stage_dirty(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine);
    let paging = Paging::second(bench.unit.max_levels());
    let leaf = paging.map(IOVA, page_with(0x1111), RW);
    bench.bind(Entry::second(&paging, DOMAIN).with(SSADE, 0, 0));
    bench
        .device
        .run(TRANSLATED, Operation::TouchForWriting, IOVA);
    checks.equal(
        "second stage, asked for writing: A and D",
        SECOND_ACCESSED | SECOND_DIRTY,
        read64(leaf) & (SECOND_ACCESSED | SECOND_DIRTY),
    );
}

fn without_pasid(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine);
    let paging = any_tables(bench.unit);
    let page = page_with(0x1111);
    paging.map(IOVA, page, paging.open());
    let entry = any_entry(bench.unit, &paging, DOMAIN);
    bench.bind_to(0, entry);
    checks.equal("without PASID: read", 0x1111_u64, bench.load(PLAIN, IOVA));
    let (status, fault) = bench.attempt(PLAIN, Operation::Load, IOVA + mem::PAGE);
    checks.holds(
        "without PASID: no right",
        status == NO_RIGHT && fault.is_none(),
    );
    // The device is told to send its interrupts untranslated.
    interrupts::clear();
    let (address, data) = (irte::compatible(machine.apic_id), u32::from(EDU_VECTOR));
    let status = bench
        .device
        .run(PLAIN, Operation::Store4(data), address)
        .status;
    checks.holds(
        "an interrupt request is sent untranslated",
        status == DONE && interrupts::arrived(EDU_VECTOR, 1),
    );
}
