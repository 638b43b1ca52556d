// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the queue refuses: IQE, IQH at the offender, the code in IQERCD, and how it goes on after.

use super::{FAULT_VECTOR, Machine};
use crate::check::Checks;
use crate::vtd::irte;
use crate::vtd::queue::*;
use crate::vtd::unit::*;
use crate::{arch, interrupts, mem};

/// Names of the checks of one bad descriptor, the descriptor and the code it must give.
struct Bad {
    stops: &'static str,
    code: &'static str,
    low: u64,
    high: u64,
    iqei: u64,
}

const fn bad(stops: &'static str, code: &'static str, low: u64, high: u64, iqei: u64) -> Bad {
    Bad {
        stops,
        code,
        low,
        high,
        iqei,
    }
}

const BAD: &[Bad] = &[
    bad("type 0 stops the queue", "type 0: IQERCD", 0, 0, 3),
    bad("type 15 stops the queue", "type 15: IQERCD", 0xF, 0, 3),
    // Whether bits 11:9 belong to the type or are reserved differs between revisions: no code is asked for.
    bad(
        "type beyond 4 bits stops the queue",
        "",
        CONTEXT_GLOBAL | 1 << 9,
        0,
        0,
    ),
    bad(
        "context-cache granularity 0 stops the queue",
        "context-cache granularity 0: IQERCD",
        0x01,
        0,
        4,
    ),
    bad(
        "context-cache reserved bit stops the queue",
        "context-cache reserved bit: IQERCD",
        CONTEXT_GLOBAL | 1 << 63,
        0,
        4,
    ),
    bad(
        "context-cache high word stops the queue",
        "context-cache high word: IQERCD",
        CONTEXT_GLOBAL,
        1,
        4,
    ),
    bad(
        "IOTLB granularity 0 stops the queue",
        "IOTLB granularity 0: IQERCD",
        0x02,
        0,
        4,
    ),
    bad(
        "IOTLB reserved bit stops the queue",
        "IOTLB reserved bit: IQERCD",
        IOTLB_GLOBAL | 1 << 40,
        0,
        4,
    ),
    bad(
        "IOTLB address bit 8 stops the queue",
        "IOTLB address bit 8: IQERCD",
        IOTLB_PAGE | 2 << 16,
        1 << 8,
        4,
    ),
    bad(
        "IOTLB mask beyond MAMV stops the queue",
        "IOTLB mask beyond MAMV: IQERCD",
        IOTLB_PAGE | 2 << 16,
        0x3F,
        4,
    ),
    bad(
        "interrupt entry reserved bit stops the queue",
        "interrupt entry reserved bit: IQERCD",
        IEC_GLOBAL | 1 << 5,
        0,
        4,
    ),
    bad(
        "wait reserved bit stops the queue",
        "wait reserved bit: IQERCD",
        WAIT | WAIT_STATUS | 1 << 8,
        0x1000,
        4,
    ),
    bad(
        "wait address bit 0 stops the queue",
        "wait address bit 0: IQERCD",
        WAIT | WAIT_STATUS,
        0x1001,
        4,
    ),
];

pub fn run(machine: &Machine, checks: Checks) {
    let unit = machine.unit;
    for bad in BAD {
        bad_descriptor(unit, bad, checks);
    }
    recovery(unit, checks);
    tail_beyond_queue(unit, checks);
    unreadable_queue(unit, checks);
    fault_event(machine, checks);
}

fn iqe(unit: Unit) -> bool {
    arch::poll(arch::SHORT, || unit.read32(FSTS) & IQE != 0)
}

/// A good wait, the bad descriptor, a wait that must not run.
struct Stopped {
    queue: Queue,
    status: u64,
    at: u64,
}

impl Stopped {
    fn new(unit: Unit, low: u64, high: u64) -> Stopped {
        unit.quiesce();
        let (mut queue, status) = (Queue::start(unit), mem::page());
        queue.push_wait(status, 0xA);
        let at = queue.tail();
        queue.push(low, high);
        queue.push_wait(status + 4, 0xB);
        queue.ring();
        Stopped { queue, status, at }
    }

    /// Replaces the bad descriptor by a wait, so that the queue can go on.
    fn mend(&self) {
        mem::write64(self.queue.base + self.at + 8, self.status + 8);
        mem::write64(self.queue.base + self.at, WAIT | WAIT_STATUS | 0xC << 32);
    }

    fn words(&self) -> (u32, u32, u32) {
        (
            mem::read32(self.status),
            mem::read32(self.status + 4),
            mem::read32(self.status + 8),
        )
    }
}

fn bad_descriptor(unit: Unit, bad: &Bad, checks: Checks) {
    let stopped = Stopped::new(unit, bad.low, bad.high);
    let error = iqe(unit);
    let head = unit.read64(IQH);
    checks.holds(
        bad.stops,
        error && head == stopped.at && stopped.words() == (0xA, 0, 0),
    );
    if !bad.code.is_empty() {
        checks.equal(bad.code, bad.iqei, unit.read64(IQERCD) & 0xF);
    }
    stopped.mend();
    unit.write32(FSTS, IQE);
    stopped.queue.ring();
    stopped.queue.drained();
}

fn recovery(unit: Unit, checks: Checks) {
    let stopped = Stopped::new(unit, 0xF, 0);
    iqe(unit);
    stopped.mend();
    stopped.queue.ring();
    interrupts::settle();
    checks.holds(
        "recovery: a tail write while IQE is set runs nothing",
        stopped.words() == (0xA, 0, 0),
    );
    unit.write32(FSTS, 0);
    checks.equal(
        "recovery: writing 0 leaves IQE set",
        IQE,
        unit.read32(FSTS) & IQE,
    );
    unit.write32(FSTS, IQE);
    checks.equal(
        "recovery: writing 1 clears IQE",
        0u32,
        unit.read32(FSTS) & IQE,
    );
    arch::poll(arch::SHORT / 8, || unit.read64(IQH) == stopped.queue.tail());
    checks.holds(
        "recovery: clearing IQE resumes at IQH",
        stopped.words() == (0xA, 0xB, 0xC),
    );
    stopped.queue.ring();
    let drained = stopped.queue.drained();
    checks.holds(
        "recovery: all has run after the next tail write",
        drained && stopped.words() == (0xA, 0xB, 0xC),
    );
}

fn tail_beyond_queue(unit: Unit, checks: Checks) {
    unit.quiesce();
    let mut queue = Queue::start(unit);
    queue.flush();
    let head = unit.read64(IQH);
    unit.write32(IQT, 0x1000);
    checks.holds("tail beyond the queue: IQE", iqe(unit));
    checks.equal("tail beyond the queue: IQH stays", head, unit.read64(IQH));
    checks.equal(
        "tail beyond the queue: IQERCD",
        1u64,
        unit.read64(IQERCD) & 0xF,
    );
    queue.ring();
    unit.write32(FSTS, IQE);
    queue.ring();
    checks.holds("tail beyond the queue: works again after", queue.flush());
}

fn unreadable_queue(unit: Unit, checks: Checks) {
    const NAME: &str = "unreadable queue: IQE";
    if checks.excepted(NAME) {
        checks.skip(NAME, "oracle exception");
        return;
    }
    unit.quiesce();
    unit.write32(IQT, 0);
    unit.write64(IQA, mem::HOLE);
    unit.set(QIE);
    unit.write32(IQT, 0x10);
    checks.holds(NAME, iqe(unit));
    checks.equal("unreadable queue: IQERCD", 2u64, unit.read64(IQERCD) & 0xF);
    unit.write32(IQT, 0);
    unit.write32(FSTS, IQE);
    unit.clear(QIE);
}

fn fault_event(machine: &Machine, checks: Checks) {
    let unit = machine.unit;
    unit.quiesce();
    interrupts::clear();
    let (address, _) = arch::halves(irte::compatible(machine.apic_id));
    unit.write32(FEDATA, FAULT_VECTOR.into());
    unit.write32(FEADDR, address);
    unit.write32(FEUADDR, 0);
    unit.write32(FECTL, 0);
    let (mut queue, status) = (Queue::start(unit), mem::page());
    queue.push(0xF, 0);
    queue.ring();
    checks.holds(
        "IQE raises the fault event",
        interrupts::arrived(FAULT_VECTOR, 1),
    );
    checks.equal(
        "the fault event is not pending after delivery",
        0u32,
        unit.read32(FECTL),
    );
    mem::write64(queue.base + 8, status);
    mem::write64(queue.base, WAIT | WAIT_STATUS | 1 << 32);
    unit.write32(FSTS, IQE);
    queue.ring();
    queue.drained();
}
