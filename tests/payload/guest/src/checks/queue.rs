// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Queued invalidation: every 128-bit descriptor is taken, waits complete in order, the ring wraps.

use super::{COMPLETION_VECTOR, Machine};
use crate::check::Checks;
use crate::vtd::irte;
use crate::vtd::queue::*;
use crate::vtd::unit::*;
use crate::{arch, interrupts, mem};

const STATUS_AND_INTERRUPT: &str = "interrupt: a wait with status and interrupt does both";

pub fn run(machine: &Machine, checks: Checks) {
    let unit = machine.unit;
    unit.quiesce();
    let mut queue = Queue::start(unit);
    waits(unit, &mut queue, checks);
    descriptors(machine, &mut queue, checks);
    ring(unit, &mut queue, checks);
    completion_interrupt(machine, &mut queue, checks);
    unit.quiesce();
    two_pages(unit, checks);
    // Last: a unit that takes it for an error needs a new queue.
    unit.quiesce();
    fence(unit, checks);
}

fn waits(unit: Unit, queue: &mut Queue, checks: Checks) {
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
    checks.equal("wait: IQH follows", queue.tail(), unit.read64(IQH));

    queue.push_wait(status + 8, 1);
    queue.push_wait(status + 8, 2);
    queue.push_wait(status + 12, 3);
    queue.ring();
    let done = queue.drained();
    checks.holds(
        "wait: three in a row, in order",
        done && mem::read64(status + 8) == 3 << 32 | 2,
    );

    queue.push(WAIT | WAIT_STATUS | WAIT_FENCE | 7 << 32, status + 16);
    queue.ring();
    checks.holds(
        "wait: with fence and status",
        queue.drained() && mem::read32(status + 16) == 7,
    );
}

fn descriptors(machine: &Machine, queue: &mut Queue, checks: Checks) {
    let source = u64::from(machine.edu.source());
    let device = CONTEXT_DEVICE | 2 << 16 | source << 32;
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
        ("IOTLB: global without drain bits", 0x12, 0),
        ("IOTLB: domain", IOTLB_DOMAIN | 2 << 16, 0),
        ("IOTLB: page", IOTLB_PAGE | 2 << 16, 0x1234_5000),
        (
            "IOTLB: page, hint, 9 address bits masked",
            IOTLB_PAGE | 2 << 16,
            0x1234_5000 | 1 << 6 | 9,
        ),
        (
            "IOTLB: page, widest mask",
            IOTLB_PAGE | 2 << 16,
            machine.unit.cap >> 48 & 0x3F,
        ),
        ("interrupt entry: global", IEC_GLOBAL, 0),
        ("interrupt entry: index", iec_index(5, 0), 0),
        ("interrupt entry: 16 indices", iec_index(16, 4), 0),
    ] {
        let done = queue.run(low, high);
        checks.holds(name, done && machine.unit.read32(FSTS) == 0);
    }
}

fn ring(unit: Unit, queue: &mut Queue, checks: Checks) {
    for _ in 0..200 {
        queue.push(IOTLB_GLOBAL, 0);
    }
    checks.holds("ring: 200 descriptors at once", queue.flush());
    // Up to two before the end, then across it in one go.
    while queue.tail() != BYTES - 32 {
        queue.push(CONTEXT_GLOBAL, 0);
    }
    checks.holds("ring: up to two before the end", queue.settle());
    for _ in 0..3 {
        queue.push(IOTLB_GLOBAL, 0);
    }
    checks.holds("ring: across the end", queue.flush());
    checks.equal("ring: IQH wrapped", queue.tail(), unit.read64(IQH));
    checks.holds("ring: the new head is near the start", queue.tail() < 0x100);
    let mut good = true;
    for _ in 0..300 {
        good &= queue.flush();
    }
    checks.holds("ring: 300 waits one by one", good && unit.read32(FSTS) == 0);
}

fn two_pages(unit: Unit, checks: Checks) {
    let base = mem::pages(2, 2 * mem::PAGE);
    let status = mem::page();
    for index in 0..400 {
        mem::write64(base + index * 16, IOTLB_GLOBAL);
    }
    mem::write64(base + 400 * 16, WAIT | WAIT_STATUS | 9 << 32);
    mem::write64(base + 400 * 16 + 8, status);
    unit.write32(IQT, 0);
    unit.write64(IQA, base | 1);
    checks.holds("two pages: enabled", unit.set(QIE));
    unit.write32(IQT, 401 * 16);
    arch::poll(arch::SHORT, || mem::read32(status) == 9);
    checks.equal(
        "two pages: a wait in the second page completes",
        9u32,
        mem::read32(status),
    );
    checks.equal(
        "two pages: IQH beyond the first page",
        401 * 16_u64,
        unit.read64(IQH),
    );
}

fn completion_interrupt(machine: &Machine, queue: &mut Queue, checks: Checks) {
    let unit = machine.unit;
    interrupts::clear();
    let (address, _) = arch::halves(irte::compatible(machine.apic_id));
    unit.write32(IEDATA, COMPLETION_VECTOR.into());
    unit.write32(IEADDR, address);
    unit.write32(IEUADDR, 0);
    unit.write32(IECTL, 0);
    let mut interrupt_wait = |data: u64, status: u64| {
        queue.push(
            WAIT | WAIT_INTERRUPT | if status != 0 { WAIT_STATUS } else { 0 } | data << 32,
            status,
        );
        queue.ring();
        queue.drained()
    };
    interrupt_wait(0, 0);
    checks.holds(
        "interrupt: a wait with IF alone raises it",
        interrupts::arrived(COMPLETION_VECTOR, 1),
    );
    checks.equal("interrupt: ICS.IWC is set", 1u32, unit.read32(ICS));
    interrupts::clear();
    interrupt_wait(0, 0);
    checks.holds("interrupt: none while IWC is set", interrupts::silence());
    unit.write32(ICS, 1);
    checks.equal("interrupt: writing 1 clears IWC", 0u32, unit.read32(ICS));
    interrupt_wait(0, 0);
    checks.holds(
        "interrupt: raised again",
        interrupts::arrived(COMPLETION_VECTOR, 1),
    );
    if checks.excepted(STATUS_AND_INTERRUPT) {
        checks.skip(STATUS_AND_INTERRUPT, "oracle exception");
    } else {
        unit.write32(ICS, 1);
        interrupts::clear();
        let status = mem::page();
        interrupt_wait(0x77, status);
        let arrived = interrupts::arrived(COMPLETION_VECTOR, 1);
        checks.holds(STATUS_AND_INTERRUPT, arrived && mem::read32(status) == 0x77);
    }

    masked_completion(unit, queue, checks);
}

fn masked_completion(unit: Unit, queue: &mut Queue, checks: Checks) {
    let mut interrupt_wait = || {
        queue.push(WAIT | WAIT_INTERRUPT, 0);
        queue.settle()
    };
    unit.write32(ICS, 1);
    unit.write32(IECTL, IM);
    interrupts::clear();
    interrupt_wait();
    checks.holds("interrupt: none while masked", interrupts::silence());
    checks.equal(
        "interrupt: pending while masked",
        IM | IP,
        unit.read32(IECTL),
    );
    unit.write32(IECTL, 0);
    checks.holds(
        "interrupt: unmasking delivers it",
        interrupts::arrived(COMPLETION_VECTOR, 1),
    );
    checks.equal("interrupt: no longer pending", 0u32, unit.read32(IECTL));

    unit.write32(ICS, 1);
    unit.write32(IECTL, IM);
    interrupt_wait();
    unit.write32(ICS, 1);
    checks.equal(
        "interrupt: clearing IWC clears the pending bit",
        IM,
        unit.read32(IECTL),
    );
}

fn fence(unit: Unit, checks: Checks) {
    const NAME: &str = "wait: fence alone is no error";
    if checks.excepted(NAME) {
        checks.skip(NAME, "oracle exception");
        return;
    }
    let mut queue = Queue::start(unit);
    queue.push(WAIT | WAIT_FENCE | 2 << 32, 0);
    let done = queue.flush();
    checks.holds(NAME, done && unit.read32(FSTS) == 0);
    queue.push(WAIT, 0);
    let done = queue.flush();
    checks.holds(
        "wait: neither status, interrupt nor fence",
        done && unit.read32(FSTS) == 0,
    );
}
