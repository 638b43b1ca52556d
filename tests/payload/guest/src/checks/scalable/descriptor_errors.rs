// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a queue of 256-bit descriptors refuses: IQE, IQH at the offender, the code in IQERCD, and how it goes on after.

use crate::check::Checks;
use crate::checks::Machine;
use crate::vtd::queue::{
    CONTEXT_GLOBAL, IEC_GLOBAL, IOTLB_GLOBAL, IOTLB_PAGE, Queue, WAIT, WAIT_STATUS, iotlb,
};
use crate::vtd::scalable::Tables;
use crate::vtd::unit::*;
use crate::vtd::wide_queue::*;
use crate::{arch, mem};

/// Name, the words of the descriptor, the code it must give.
type Bad = (&'static str, [u64; 4], u64);

const BAD: &[Bad] = &[
    ("type 0", [0, 0, 0, 0], 3),
    ("type 10, page stream response", [0xA, 0, 0, 0], 3),
    ("type 15", [0xF, 0, 0, 0], 3),
    ("context-cache: granularity 0", [0x01, 0, 0, 0], 4),
    (
        "context-cache: bit 63",
        [CONTEXT_GLOBAL | 1 << 63, 0, 0, 0],
        4,
    ),
    ("context-cache: second word", [CONTEXT_GLOBAL, 1, 0, 0], 4),
    ("context-cache: third word", [CONTEXT_GLOBAL, 0, 1, 0], 4),
    ("IOTLB: granularity 0", [0x02, 0, 0, 0], 4),
    ("IOTLB: bit 40", [IOTLB_GLOBAL | 1 << 40, 0, 0, 0], 4),
    ("IOTLB: mask beyond MAMV", [IOTLB_PAGE, 0x3F, 0, 0], 4),
    ("IOTLB: fourth word", [IOTLB_GLOBAL, 0, 0, 1 << 63], 4),
    (
        "wait: bit 8",
        [WAIT | WAIT_STATUS | 1 << 8, 0x1000, 0, 0],
        4,
    ),
    ("wait: third word", [WAIT | WAIT_STATUS, 0x1000, 1, 0], 4),
    ("PASID-IOTLB: granularity 0", [0x06, 0, 0, 0], 4),
    ("PASID-IOTLB: granularity 1", [0x16, 0, 0, 0], 4),
    ("PASID-IOTLB: bit 6", [PASID_IOTLB_ALL | 1 << 6, 0, 0, 0], 4),
    (
        "PASID-IOTLB: bit 52",
        [PASID_IOTLB_ALL | 1 << 52, 0, 0, 0],
        4,
    ),
    (
        "PASID-IOTLB: address bit 7",
        [PASID_IOTLB_PAGE, 1 << 7, 0, 0],
        4,
    ),
    ("PASID-IOTLB: third word", [PASID_IOTLB_ALL, 0, 1, 0], 4),
    ("PASID-cache: granularity 2", [0x27, 0, 0, 0], 4),
    (
        "PASID-cache: bit 12",
        [PASID_CACHE_ONE | 1 << 12, 0, 0, 0],
        4,
    ),
    (
        "PASID-cache: bit 63",
        [PASID_CACHE_ONE | 1 << 63, 0, 0, 0],
        4,
    ),
    (
        "PASID-cache: second word",
        [PASID_CACHE_GLOBAL, 1 << 12, 0, 0],
        4,
    ),
];

const BAD_FOR_INTERRUPTS: &[Bad] = &[
    ("interrupt entry: bit 5", [IEC_GLOBAL | 1 << 5, 0, 0, 0], 4),
    ("interrupt entry: third word", [IEC_GLOBAL, 0, 1, 0], 4),
];

const BAD_FOR_DEVICES: &[Bad] = &[
    ("device-TLB: bit 21", [0x03 | 1 << 21, 0, 0, 0], 4),
    ("device-TLB: bit 48", [0x03 | 1 << 48, 0, 0, 0], 4),
    ("device-TLB: address bit 1", [0x03, 1 << 1, 0, 0], 4),
    ("PASID device-TLB: address bit 10", [0x08, 1 << 10, 0, 0], 4),
    ("PASID device-TLB: fourth word", [0x08, 0, 0, 1], 4),
];

const BAD_RESPONSES: &[Bad] = &[
    ("page group response: bit 5", [0x09 | 1 << 5, 0, 0, 0], 4),
    ("page group response: bit 52", [0x09 | 1 << 52, 0, 0, 0], 4),
    ("page group response: address", [0x09, 1 << 12, 0, 0], 4),
];

pub fn run(machine: &Machine, checks: Checks) {
    let unit = machine.unit;
    refused(unit, BAD, checks);
    if unit.has_remapping() {
        refused(unit, BAD_FOR_INTERRUPTS, checks);
    }
    if unit.has_device_tlb() {
        refused(unit, BAD_FOR_DEVICES, checks);
        if !unit.has_physical_function() {
            let bad: &[Bad] = &[
                (
                    "device-TLB: physical function without DIT",
                    [0x03 | 1 << 52, 0, 0, 0],
                    4,
                ),
                (
                    "PASID device-TLB: physical function without DIT",
                    [0x08 | 1 << 12, 0, 0, 0],
                    4,
                ),
            ];
            refused(unit, bad, checks);
        }
    } else {
        let bad: &[Bad] = &[
            ("device-TLB is unknown without DT", [0x03, 0, 0, 0], 3),
            ("PASID device-TLB is unknown without DT", [0x08, 0, 0, 0], 3),
        ];
        refused(unit, bad, checks);
    }
    if unit.has_page_requests() {
        refused(unit, BAD_RESPONSES, checks);
    } else {
        let bad: &[Bad] = &[(
            "page group response is unknown without PRS",
            [0x09, 0, 0, 0],
            3,
        )];
        refused(unit, bad, checks);
    }
    if !unit.has_drain() {
        let word = WAIT | WAIT_STATUS | WAIT_DRAIN;
        refused(
            unit,
            &[("wait: drain without PDS", [word, 0x1000, 0, 0], 4)],
            checks,
        );
    }
    narrow(unit, checks);
    tails(unit, checks);
    modes(unit, checks);
}

fn iqe(unit: Unit) -> bool {
    arch::poll(arch::SHORT, || unit.read32(FSTS) & IQE != 0)
}

fn code(unit: Unit) -> u64 {
    unit.read64(IQERCD) & 0xF
}

/// Each behind a good wait, and before one that must not run until the queue was mended.
fn refused(unit: Unit, bad: &[Bad], checks: Checks) {
    for &(name, words, iqei) in bad {
        unit.quiesce();
        unit.set_root(Tables::new().root | SCALABLE);
        let (mut queue, status) = (WideQueue::start(unit), mem::page());
        queue.push_wait(status, 0xA);
        let at = queue.tail();
        queue.push_all(words);
        queue.push_wait(status + 4, 0xB);
        queue.ring();
        let stopped = iqe(unit) && unit.read64(IQH) == at;
        let before = mem::read64(status) == 0xA;
        let got = code(unit);
        mem::write64(queue.base + at + 16, 0);
        mem::write64(queue.base + at + 24, 0);
        mem::write64(queue.base + at + 8, 0);
        mem::write64(queue.base + at, IOTLB_GLOBAL);
        unit.write32(FSTS, IQE);
        queue.ring();
        let after = queue.drained() && mem::read64(status) == 0xB << 32 | 0xA;
        if stopped && before && after {
            checks.equal(name, iqei, got);
        } else {
            checks.holds(name, false);
        }
        mem::reset();
    }
}

/// What has 256 bits is unknown in a queue of 128-bit descriptors.
fn narrow(unit: Unit, checks: Checks) {
    for (name, word) in [
        ("128 bits: PASID-IOTLB is unknown", PASID_IOTLB_ALL),
        ("128 bits: PASID-cache is unknown", PASID_CACHE_GLOBAL),
        ("128 bits: PASID device-TLB is unknown", 0x08),
        ("128 bits: page group response is unknown", 0x09),
    ] {
        unit.quiesce();
        unit.set_root(mem::page());
        let mut queue = Queue::start(unit);
        queue.push(word, 0);
        queue.ring();
        let stopped = iqe(unit) && unit.read64(IQH) == 0;
        checks.equal(name, 3u64, if stopped { code(unit) } else { 0xFF });
        mend_narrow(unit, &queue);
    }
    unit.quiesce();
    unit.set_root(Tables::new().root | SCALABLE);
    let mut queue = Queue::start(unit);
    queue.push(iotlb(IOTLB_GLOBAL, 0), 0);
    queue.ring();
    // By which code is not settled: the width of descriptors, or their type.
    checks.holds(
        "128 bits: not with scalable tables",
        iqe(unit) && matches!(code(unit), 3 | 5),
    );
    unit.set_root(mem::page());
    mend_narrow(unit, &queue);
}

fn mend_narrow(unit: Unit, queue: &Queue) {
    mem::write64(queue.base, IOTLB_GLOBAL);
    unit.write32(FSTS, IQE);
    queue.ring();
    queue.drained();
}

fn tails(unit: Unit, checks: Checks) {
    for (name, tail, iqei) in [
        ("tail not aligned to 32 bytes", 0x30, 6u64),
        ("tail beyond the queue", 0x1000, 1),
    ] {
        unit.quiesce();
        unit.set_root(mem::page());
        let mut queue = WideQueue::start(unit);
        queue.flush();
        let head = unit.read64(IQH);
        unit.write32(IQT, tail);
        let stopped = iqe(unit) && unit.read64(IQH) == head;
        checks.equal(name, iqei, if stopped { code(unit) } else { 0xFF });
        queue.ring();
        unit.write32(FSTS, IQE);
        checks
            .on("it works again after a")
            .holds(name, queue.flush());
    }
    unit.quiesce();
    unit.write32(IQT, 0);
    unit.write64(IQA, mem::HOLE | WIDE);
    unit.set(QIE);
    unit.write32(IQT, 0x20);
    let stopped = iqe(unit);
    checks.equal(
        "unreadable queue",
        2u64,
        if stopped { code(unit) } else { 0xFF },
    );
    unit.write32(IQT, 0);
    unit.write32(FSTS, IQE);
    unit.clear(QIE);
}

/// A reserved table mode that SRTP took stops the queue.
fn modes(unit: Unit, checks: Checks) {
    unit.quiesce();
    unit.set_root(mem::page() | RESERVED_MODE);
    let mut queue = WideQueue::start(unit);
    queue.push(CONTEXT_GLOBAL, 0);
    queue.ring();
    let stopped = iqe(unit) && unit.read64(IQH) == 0;
    checks.equal(
        "reserved table mode",
        7u64,
        if stopped { code(unit) } else { 0xFF },
    );
    unit.set_root(mem::page());
    unit.write32(FSTS, IQE);
    queue.ring();
    checks.holds("reserved table mode: works again after", queue.drained());
}
