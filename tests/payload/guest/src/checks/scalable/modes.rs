// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Table modes: abort, legacy with requests that need scalable mode, and ways from one to another.

use super::bench::{Bench, DOMAIN, IOVA, PASID, VIA, any_entry, any_tables, page_with};
use crate::check::Checks;
use crate::checks::{EDU_VECTOR, Machine};
use crate::dmatest::{BLOCKED, NO_RIGHT, Operation, REFUSED, Via};
use crate::interrupts;
use crate::mem;
use crate::vtd::faults::{Fault, PAGE_REQUEST, READ};
use crate::vtd::irte;
use crate::vtd::legacy;
use crate::vtd::page_queue::PageQueue;
use crate::vtd::unit::*;

pub fn run(machine: &Machine, checks: Checks) {
    if machine.unit.has_abort_mode() {
        abort(machine, checks);
    } else {
        no_abort(machine, checks);
    }
    reserved(machine, checks);
    legacy_tables(machine, checks);
    off(machine, checks);
}

/// Another root pointer and mode.
fn switch(bench: &mut Bench, root: u64) {
    bench.unit.clear(TE);
    bench.unit.set_root(root);
    bench.forget();
    bench.unit.set(TE);
}

/// A bench whose page at `IOVA` and PASID holds 0x1111.
fn start(machine: &Machine) -> Bench<'_> {
    let mut bench = Bench::start(machine);
    let paging = any_tables(bench.unit);
    paging.map(IOVA, page_with(0x1111), paging.open());
    let entry = any_entry(bench.unit, &paging, DOMAIN);
    bench.bind(entry);
    bench.bind_to(0, entry);
    bench
}

/// Everything is aborted, whatever the address field says, but interrupts come through.
fn abort(machine: &Machine, checks: Checks) {
    let mut bench = start(machine);
    let (pasids, source) = (bench.unit.has_pasids(), machine.edu.source());
    for (variant, root) in [
        ("abort mode", bench.tables.root),
        ("abort mode, no tables", mem::HOLE),
    ] {
        let checks = checks.on(variant);
        switch(&mut bench, root | ABORT);
        let (status, _) = bench.attempt(Via::PLAIN, Operation::Load, IOVA);
        checks.equal("without PASID", BLOCKED, status);
        if pasids {
            let (status, _) = bench.attempt(VIA, Operation::Store(1), IOVA);
            checks.equal("with PASID", BLOCKED, status);
        }
        if bench.unit.has_device_tlb() {
            let (status, _) = bench.attempt(Via::PLAIN.translated(), Operation::Load, IOVA);
            checks.equal("translation request", REFUSED, status);
        }
        let page = page_with(0x2222);
        machine.edu.read(page, 8);
        bench.unit.clear_faults();
        machine.edu.write(page + 8, 8);
        let fault = bench.unit.take_fault();
        checks.equal("edu", 0u64, mem::read64(page + 8));
        // Whether each abort is recorded is not settled; if so, then by this reason.
        let recorded = Fault::dma(0x33, source, page, crate::vtd::faults::WRITE);
        checks.holds(
            "no other reason",
            fault.is_none_or(|fault| fault == recorded),
        );
        interrupts::clear();
        machine
            .edu
            .set_msi(irte::compatible(machine.apic_id), EDU_VECTOR.into());
        machine.edu.send_msi();
        checks.holds("interrupts arrive", interrupts::arrived(EDU_VECTOR, 1));
        machine.edu.set_intx();
    }
    let root = bench.tables.root | SCALABLE;
    switch(&mut bench, root);
    if pasids {
        checks.equal("back to scalable mode", 0x1111_u64, bench.load(VIA, IOVA));
    }
    checks.equal(
        "back to scalable mode, without PASID",
        0x1111_u64,
        bench.load(Via::PLAIN, IOVA),
    );
}

fn no_abort(machine: &Machine, checks: Checks) {
    let mut bench = start(machine);
    let root = bench.tables.root | ABORT;
    switch_without_queue(&mut bench, root);
    bench.blocks_read(
        checks,
        "abort mode that is not offered: 0x30",
        Via::PLAIN,
        IOVA,
        0x30,
    );
}

/// In a mode that the queue does not run in.
fn switch_without_queue(bench: &mut Bench, root: u64) {
    bench.unit.clear(TE);
    bench.unit.clear(QIE);
    bench.unit.set_root(root);
    bench.unit.set(TE);
}

fn reserved(machine: &Machine, checks: Checks) {
    let mut bench = start(machine);
    let root = bench.tables.root | RESERVED_MODE;
    switch_without_queue(&mut bench, root);
    bench.blocks_read(checks, "reserved table mode: 0x30", Via::PLAIN, IOVA, 0x30);
    bench.unit.clear(TE);
    let root = bench.tables.root | SCALABLE;
    bench.unit.set_root(root);
    bench.queue = crate::vtd::wide_queue::WideQueue::start(bench.unit);
    bench.forget();
    bench.unit.set(TE);
    checks.equal(
        "back from the reserved mode",
        0x1111_u64,
        bench.load(Via::PLAIN, IOVA),
    );
}

/// Legacy tables in a unit that knows scalable mode.
fn legacy_tables(machine: &Machine, checks: Checks) {
    let mut bench = start(machine);
    let unit = bench.unit;
    let levels = unit.max_levels();
    let tables = legacy::Tables::new(bench.source(), DOMAIN, levels);
    tables.map(IOVA, page_with(0x3333), legacy::RW);
    switch(&mut bench, tables.root);
    checks.equal("legacy tables", 0x3333_u64, bench.load(Via::PLAIN, IOVA));
    if unit.has_pasids() {
        bench.blocks_read(
            checks,
            "PASID in legacy mode: 0x31",
            Via::pasid(PASID),
            IOVA,
            0x31,
        );
    }
    if unit.has_device_tlb() && bench.device.has_ats() {
        device_tlb(&mut bench, &tables, checks);
    } else {
        checks.skip("ATS in legacy mode", "not offered");
    }
    let root = bench.tables.root | SCALABLE;
    switch(&mut bench, root);
    checks.equal("and back", 0x1111_u64, bench.load(Via::PLAIN, IOVA));
}

fn device_tlb(bench: &mut Bench, tables: &legacy::Tables, checks: Checks) {
    let translated = Via::PLAIN.translated();
    let (status, fault) = bench.attempt(translated, Operation::Load, IOVA);
    let expected = Fault {
        address_type: 1,
        ..Fault::dma(0xD, bench.source(), IOVA, READ)
    };
    checks.fault(
        "translation request where the type forbids it: 0xD",
        Some(expected),
        fault,
    );
    checks.equal("... is refused", REFUSED, status);
    tables.set_context(tables.top | 0b01 << 2 | 1, tables.second_word());
    bench.forget();
    checks.equal(
        "translation type 01: translated requests",
        0x3333_u64,
        bench.load(translated, IOVA),
    );
    checks.equal(
        "translation type 01: untranslated requests",
        0x3333_u64,
        bench.load(Via::PLAIN, IOVA),
    );
    let missing = IOVA + mem::PAGE;
    let (status, fault) = bench.attempt(translated, Operation::Load, missing);
    checks.holds(
        "translation type 01: no page, no right",
        status == NO_RIGHT && fault.is_none(),
    );
    if !bench.unit.has_page_requests() || !bench.device.has_pri() {
        checks.skip("page request in legacy mode", "not offered");
        return;
    }
    let queue = PageQueue::start(bench.unit, bench.machine.apic_id, EDU_VECTOR);
    let (_, fault) = bench.attempt(Via::PLAIN.asking(), Operation::Load, missing);
    let expected = Fault::dma(0x32, bench.source(), missing, PAGE_REQUEST);
    checks.fault("page request in legacy mode: 0x32", Some(expected), fault);
    checks.equal("... is not queued", 0u64, queue.tail());
    bench.device.take_response_failure();
}

/// With translation off addresses are what they are.
fn off(machine: &Machine, checks: Checks) {
    let bench = start(machine);
    let plain = page_with(0x4444);
    bench.unit.clear(TE);
    checks.equal("translation off", 0x4444_u64, bench.load(Via::PLAIN, plain));
    bench.unit.set(TE);
    checks.equal(
        "translation on again",
        0x1111_u64,
        bench.load(Via::PLAIN, IOVA),
    );
}
