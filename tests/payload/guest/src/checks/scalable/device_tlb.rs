// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Device-TLB invalidations: what the device has cached is dropped before the wait behind them completes; devices that do not
//! answer, or answer wrongly.

use super::ats::{PLAIN, TRANSLATED, bind, offered};
use super::bench::{Bench, DOMAIN, IOVA, PASID, any_entry, any_tables, page_with};
use crate::check::Checks;
use crate::checks::{FAULT_VECTOR, Machine};
use crate::dmatest::*;
use crate::mem::{self, write64};
use crate::vtd::irte;
use crate::vtd::queue::IOTLB_GLOBAL;
use crate::vtd::unit::*;
use crate::vtd::wide_queue::*;
use crate::{arch, interrupts};

pub fn run(machine: &Machine, checks: Checks) {
    if !offered(machine) {
        checks.skip("ATS with PASID", "not offered");
        return;
    }
    invalidations(machine, checks);
    ranges(machine, checks);
    late(machine, checks);
    wrong(machine, checks);
}

/// Name, address space of the translations, words of the descriptor.
type Row = (&'static str, Via, fn(u16) -> u64, u64);

const ROWS: &[Row] = &[
    (
        "PASID, page",
        TRANSLATED,
        |source| pasid_device_tlb(source, PASID),
        IOVA,
    ),
    (
        "PASID, all of it",
        TRANSLATED,
        |source| pasid_device_tlb(source, PASID),
        0x7FFF_FFFF_FFFF_F800,
    ),
    (
        "all PASIDs, page",
        TRANSLATED,
        |source| pasid_device_tlb(source, 0),
        IOVA | 1,
    ),
    (
        "all PASIDs, all of them",
        TRANSLATED,
        |source| pasid_device_tlb(source, 0),
        0x7FFF_FFFF_FFFF_F801,
    ),
    ("no PASID, page", PLAIN, device_tlb, IOVA),
    (
        "no PASID, all of it",
        PLAIN,
        device_tlb,
        0x7FFF_FFFF_FFFF_F001,
    ),
];

/// The page changes; the unit forgets it first, then the device, then a wait tells.
fn invalidations(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine);
    let paging = any_tables(bench.unit);
    let entry = any_entry(bench.unit, &paging, DOMAIN);
    bench.bind(entry);
    bench.bind_to(0, entry);
    let mut old = 0x1000;
    let leaf = paging.map(IOVA, page_with(old), paging.open());
    let source = bench.source();
    for &(name, via, low, high) in ROWS {
        let new = old + 1;
        let before = bench.load(via, IOVA);
        let seen = bench.device.register(ATC_INVALIDATIONS);
        write64(leaf, page_with(new) | paging.open());
        bench.queue.run(IOTLB_GLOBAL, 0);
        let between = bench.load(via, IOVA);
        let completed = bench.queue.run(low(source), high);
        let heard = bench.device.register(ATC_INVALIDATIONS) - seen;
        let good = before == old && (between == old || between == new) && heard == 1 && completed;
        checks
            .on("changed page")
            .equal(name, if good { new } else { old }, bench.load(via, IOVA));
        // What goes to the device leaves the unit's own caches as they are.
        old = new;
        bench.forget();
    }
    checks.equal(
        "nothing is left in the device",
        0u32,
        bench.device.register(ATC_ENTRIES),
    );
}

/// Descriptors of several sizes drop what they name and leave the rest.
fn ranges(machine: &Machine, checks: Checks) {
    const BASE: u64 = 0x16_0000_0000;
    let mut bench = Bench::start(machine);
    let paging = bind(&mut bench);
    for index in 0..16 {
        paging.map(BASE + index * mem::PAGE, page_with(index), paging.open());
    }
    let source = bench.source();
    for (name, address, order, left) in [
        ("one page", BASE + 0x3000, 0, 15u32),
        ("2 pages", BASE + 0x3000, 1, 14),
        ("4 pages", BASE + 0x5000, 2, 12),
        ("8 pages", BASE + 0xF000, 3, 8),
        ("16 pages", BASE, 4, 0),
        ("2^20 pages", BASE, 20, 0),
    ] {
        bench.forget();
        for index in 0..16 {
            bench
                .device
                .run(TRANSLATED, Operation::Touch, BASE + index * mem::PAGE);
        }
        let full = bench.device.register(ATC_ENTRIES);
        let high = device_range(address, order, true);
        bench.queue.run(pasid_device_tlb(source, PASID), high);
        let got = bench.device.register(ATC_ENTRIES);
        checks
            .on("pages left after")
            .equal(name, left, if full == 16 { got } else { 99 });
    }
    bench.forget();
    bench.load(TRANSLATED, BASE);
    for (name, descriptor) in [
        ("another PASID's", pasid_device_tlb(source, PASID + 1)),
        ("those without PASID", device_tlb(source)),
        ("another device's", pasid_device_tlb(source ^ 0x40, PASID)),
    ] {
        bench.queue.run(descriptor, BASE);
        checks
            .on("page left after")
            .equal(name, 1u32, bench.device.register(ATC_ENTRIES));
    }
}

/// A device that never completes: ITE, its source, no wait completes, nothing is fetched until software clears it.
fn late(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine);
    let (unit, source) = (bench.unit, bench.source());
    let (address, _) = arch::halves(irte::compatible(machine.apic_id));
    interrupts::clear();
    unit.write32(FEDATA, FAULT_VECTOR.into());
    unit.write32(FEADDR, address);
    unit.write32(FEUADDR, 0);
    unit.write32(FECTL, 0);
    let status = mem::page();
    bench.device.set_control(WITHHOLD);
    bench.queue.push(pasid_device_tlb(source, PASID), IOVA);
    bench.queue.push_wait(status, 0xA);
    bench.queue.ring();
    let error = arch::poll(arch::SHORT, || unit.read32(FSTS) & ITE != 0);
    checks.holds("no completion: ITE", error);
    checks.equal(
        "no completion: ITESID",
        u64::from(source),
        unit.read64(IQERCD) >> 32 & 0xFFFF,
    );
    checks.holds(
        "no completion: the fault event",
        interrupts::arrived(FAULT_VECTOR, 1),
    );
    unit.write32(FECTL, IM);
    checks.equal(
        "no completion: the wait is never written",
        0u32,
        mem::read32(status),
    );
    bench.device.set_control(0);
    bench.queue.push_wait(status + 4, 0xB);
    bench.queue.ring();
    interrupts::settle();
    checks.equal(
        "while ITE is set nothing runs",
        0u32,
        mem::read32(status + 4),
    );
    unit.write32(FSTS, ITE);
    checks.equal("ITE is cleared by writing 1", 0u32, unit.read32(FSTS) & ITE);
    checks.holds("ITE cleared: the queue goes on", bench.queue.drained());
    checks.equal(
        "ITE cleared: the later wait",
        0xB_u32,
        mem::read32(status + 4),
    );
    checks.equal(
        "ITE cleared: the aborted wait stays so",
        0u32,
        mem::read32(status),
    );
    checks.holds(
        "ITE cleared: the invalidation again",
        bench.queue.run(pasid_device_tlb(source, PASID), IOVA),
    );
}

/// A device that answers wrongly: ICE and its source, and the queue goes on.
fn wrong(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine);
    let (unit, source) = (bench.unit, bench.source());
    bench.device.set_control(WRONG);
    let completed = bench.queue.run(device_tlb(source), IOVA);
    checks.holds("wrong completion: the queue goes on", completed);
    checks.equal(
        "wrong completion: ICE",
        ICE,
        unit.read32(FSTS) & (ICE | ITE | IQE),
    );
    checks.equal(
        "wrong completion: ICESID",
        u64::from(source),
        unit.read64(IQERCD) >> 48,
    );
    bench.device.set_control(0);
    unit.write32(FSTS, ICE);
    checks.equal("ICE is cleared by writing 1", 0u32, unit.read32(FSTS) & ICE);
}
