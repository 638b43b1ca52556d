// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! 256-bit descriptors: every one is taken, waits complete in order, the ring wraps.

use crate::check::Checks;
use crate::checks::Machine;
use crate::vtd::queue::*;
use crate::vtd::scalable::Tables;
use crate::vtd::unit::*;
use crate::vtd::wide_queue::*;
use crate::{arch, mem};

/// A source id that nobody has.
const ABSENT: u16 = 0xABC8;

pub fn run(machine: &Machine, checks: Checks) {
    let unit = machine.unit;
    for (variant, mode) in [("legacy tables", LEGACY), ("scalable tables", SCALABLE)] {
        unit.quiesce();
        unit.set_root(Tables::new().root | mode);
        let checks = checks.on(variant);
        let mut queue = WideQueue::start(unit);
        waits(unit, &mut queue, checks);
        invalidations(machine, &mut queue, checks);
        interrupt_entries(unit, &mut queue, checks);
        devices(machine, &mut queue, checks);
        more_devices(machine, &mut queue, checks);
        ring(unit, &mut queue, checks);
    }
    unit.quiesce();
    two_pages(unit, checks);
}

fn waits(unit: Unit, queue: &mut WideQueue, checks: Checks) {
    let status = mem::page();
    mem::write64(status, u64::MAX);
    queue.push_wait(status, 0x1234_5678);
    queue.ring();
    arch::poll(arch::SHORT, || mem::read32(status) == 0x1234_5678);
    checks.equal(
        "wait: writes its data and nothing beside it",
        0xFFFF_FFFF_1234_5678_u64,
        mem::read64(status),
    );
    checks.equal("wait: IQH follows by 32 bytes", 0x20_u64, unit.read64(IQH));
    queue.push_wait(status + 8, 1);
    queue.push_wait(status + 8, 2);
    queue.push_wait(status + 12, 3);
    queue.ring();
    let done = queue.drained();
    checks.holds(
        "wait: three in a row, in order",
        done && mem::read64(status + 8) == 3 << 32 | 2,
    );
    queue.push(WAIT | WAIT_FENCE, 0);
    let done = queue.flush();
    checks.holds(
        "wait: fence alone is no error",
        done && unit.read32(FSTS) == 0,
    );
    if unit.has_drain() {
        queue.push(WAIT | WAIT_STATUS | WAIT_DRAIN | 5 << 32, status + 16);
        queue.ring();
        checks.holds(
            "wait: with drain of page requests",
            queue.drained() && mem::read32(status + 16) == 5,
        );
    }
}

/// Whether the queue took a descriptor and the wait behind it.
fn takes(unit: Unit, queue: &mut WideQueue, low: u64, high: u64) -> bool {
    queue.run(low, high) && unit.read32(FSTS) == 0
}

fn invalidations(machine: &Machine, queue: &mut WideQueue, checks: Checks) {
    const PASID: u32 = 0x4B;
    let device = context_device(0, machine.dmatest().source());
    for (name, low, high) in [
        ("context-cache: global", CONTEXT_GLOBAL, 0),
        ("context-cache: domain", CONTEXT_DOMAIN | 2 << 16, 0),
        ("context-cache: device", device, 0),
        (
            "context-cache: device, function mask 3",
            device | 3 << 48,
            0,
        ),
        ("IOTLB: global", IOTLB_GLOBAL, 0),
        ("IOTLB: domain", iotlb(IOTLB_DOMAIN, 2), 0),
        ("IOTLB: page", iotlb(IOTLB_PAGE, 2), 0x1234_5000),
        ("IOTLB: 2^18 pages", iotlb(IOTLB_PAGE, 2), 18),
        ("PASID-cache: global", PASID_CACHE_GLOBAL, 0),
        ("PASID-cache: domain", of_domain(2), 0),
        (
            "PASID-cache: one PASID",
            of_pasid(PASID_CACHE_ONE, 2, PASID),
            0,
        ),
        ("PASID-IOTLB: all", of_pasid(PASID_IOTLB_ALL, 2, PASID), 0),
        (
            "PASID-IOTLB: page",
            of_pasid(PASID_IOTLB_PAGE, 2, PASID),
            0x1234_5000,
        ),
        (
            "PASID-IOTLB: page of the upper half, hint",
            of_pasid(PASID_IOTLB_PAGE, 2, PASID),
            0xFFFF_8000_0000_0000 | LEAF_ONLY,
        ),
        (
            "PASID-IOTLB: 2^51 pages, beyond MAMV",
            of_pasid(PASID_IOTLB_PAGE, 2, PASID),
            51,
        ),
    ] {
        checks.holds(name, takes(machine.unit, queue, low, high));
    }
}

fn interrupt_entries(unit: Unit, queue: &mut WideQueue, checks: Checks) {
    if !unit.has_remapping() {
        checks.skip("interrupt entry", "not offered");
        return;
    }
    for (name, word) in [
        ("interrupt entry: global", IEC_GLOBAL),
        ("interrupt entry: index", iec_index(3, 0)),
        ("interrupt entry: block of 16", iec_index(32, 4)),
    ] {
        checks.holds(name, takes(unit, queue, word, 0));
    }
}

fn devices(machine: &Machine, queue: &mut WideQueue, checks: Checks) {
    let unit = machine.unit;
    let source = machine.dmatest().source();
    if !unit.has_device_tlb() {
        checks.skip("device-TLB", "not offered");
        return;
    }
    for (name, low, high) in [
        ("device-TLB: page", device_tlb(source), 0x1234_5000),
        (
            "device-TLB: 8 KiB",
            device_tlb(source),
            device_range(0x1234_5000, 1, false),
        ),
        ("device-TLB: all", device_tlb(source), device_all(false)),
        (
            "device-TLB: queue depth",
            device_tlb(source) | 0x1F << 16,
            0x1000,
        ),
        ("device-TLB: no such device", device_tlb(ABSENT), 0x1000),
        (
            "PASID device-TLB: page",
            pasid_device_tlb(source, 0x4B),
            0x1234_5000,
        ),
        (
            "PASID device-TLB: all of all PASIDs",
            pasid_device_tlb(source, 0),
            device_all(true) | 1,
        ),
        (
            "PASID device-TLB: queue depth",
            pasid_device_tlb(source, 5) | 0x1F << 4,
            0x1000,
        ),
        (
            "PASID device-TLB: no such device",
            pasid_device_tlb(ABSENT, 5),
            0x1000,
        ),
    ] {
        checks.holds(name, takes(unit, queue, low, high));
    }
}

/// Descriptors with fields that not every unit has.
fn more_devices(machine: &Machine, queue: &mut WideQueue, checks: Checks) {
    let unit = machine.unit;
    let source = machine.dmatest().source();
    if unit.has_physical_function() {
        let function = u64::from(source);
        let fields = (function & 0xF) << 12 | (function >> 4) << 52;
        checks.holds(
            "device-TLB: physical function",
            takes(unit, queue, device_tlb(source) | fields, 0x1000),
        );
        checks.holds(
            "PASID device-TLB: physical function",
            takes(unit, queue, pasid_device_tlb(source, 5) | fields, 0x1000),
        );
    }
    if unit.has_page_requests() {
        checks.holds(
            "page group response that nobody waits for",
            takes(unit, queue, page_response(source, Some(5), 0), 7 << 3),
        );
        checks.holds(
            "page group response to no such device",
            takes(unit, queue, page_response(ABSENT, None, 0), 7 << 3),
        );
        machine.dmatest().take_response_failure();
    }
}

fn ring(unit: Unit, queue: &mut WideQueue, checks: Checks) {
    let status = mem::page();
    for turn in 0..200 {
        queue.push_wait(status, turn);
        if turn % 50 == 49 {
            queue.ring();
            queue.drained();
        }
    }
    checks.holds(
        "200 waits through a ring of 128, the last one last",
        mem::read32(status) == 199 && unit.read64(IQH) == queue.tail(),
    );
}

/// A queue of two pages has 256 descriptors.
fn two_pages(unit: Unit, checks: Checks) {
    let (base, status) = (mem::pages(2, 2 * mem::PAGE), mem::page());
    unit.write32(IQT, 0);
    unit.write64(IQA, base | WIDE | 1);
    unit.set(QIE);
    for (slot, data) in [(0, 0x11u64), (128, 0x22), (254, 0x33)] {
        for at in (base..base + 0x2000).step_by(32) {
            mem::write64(at, IOTLB_GLOBAL);
        }
        mem::write64(base + slot * 32, WAIT | WAIT_STATUS | data << 32);
        mem::write64(base + slot * 32 + 8, status);
        let (tail, _) = arch::halves((slot + 1) * 32);
        unit.write32(IQT, tail);
        arch::poll(arch::SHORT, || unit.read32(IQH) == tail);
    }
    checks.equal(
        "queue of two pages: the wait in the last but one place",
        0x33_u32,
        mem::read32(status),
    );
}
