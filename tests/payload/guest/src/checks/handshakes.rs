// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! GCMD to GSTS: each bit set and cleared, one-shot bits beside level bits, the queue's enabling.

use super::Machine;
use crate::check::Checks;
use crate::mem;
use crate::vtd::legacy::Tables;
use crate::vtd::queue::Queue;
use crate::vtd::unit::*;

pub fn run(machine: &Machine, checks: Checks) {
    let unit = machine.unit;
    unit.quiesce();
    let tables = Tables::new(machine.edu.source(), 2, unit.max_levels());
    let settled = unit.status();
    checks.equal("nothing is enabled", 0u32, settled & (TE | QIE | IRE));

    queue_enable(unit, checks);

    checks.holds("SRTP sets RTPS", unit.set_root(tables.root));
    checks.equal(
        "RTADDR reads back after SRTP",
        tables.root,
        unit.read64(RTADDR),
    );
    checks.holds(
        "SRTP leaves QIES and TES alone",
        unit.status() & (QIE | TE) == QIE,
    );

    let table = mem::page();
    checks.holds("SIRTP sets IRTPS", unit.set_irt(table, 7, false));
    checks.equal("IRTA reads back after SIRTP", table | 7, unit.read64(IRTA));
    checks.holds("IRE sets IRES", unit.set(IRE));
    checks.holds("TE sets TES", unit.set(TE));
    checks.equal(
        "all of them together",
        TE | SRTP | QIE | IRE | SIRTP,
        unit.status(),
    );
    checks.equal("GCMD reads 0 with all enabled", 0u32, unit.read32(GCMD));

    unit.write32(GCMD, TE | QIE | IRE | SRTP | SIRTP);
    checks.equal(
        "SRTP and SIRTP again leave the levels",
        TE | SRTP | QIE | IRE | SIRTP,
        unit.status(),
    );
    unit.write32(GCMD, TE | QIE | IRE | SFL | EAFL);
    checks.equal(
        "SFL and EAFL do nothing without advanced logging",
        0u32,
        unit.status() & (SFL | EAFL),
    );

    checks.holds("CFI sets CFIS", unit.set_at_once(CFI));
    checks.holds("CFI clears CFIS", unit.clear(CFI));
    checks.holds("TE clears TES", unit.clear(TE));
    checks.holds("IRE clears IRES", unit.clear(IRE));
    checks.equal("QIES outlives them", QIE, unit.status() & (TE | QIE | IRE));
    checks.equal("no fault from all this", 0u32, unit.read32(FSTS));
}

/// Leaves the queue enabled and drained.
fn queue_enable(unit: Unit, checks: Checks) {
    let mut queue = Queue::new(unit);
    let status = mem::page();
    queue.push_wait(status, 0xC0DE);
    unit.write64(IQA, queue.base);
    queue.ring();
    checks.equal(
        "IQT written while disabled reads back",
        0x10_u64,
        unit.read64(IQT),
    );
    checks.equal("a disabled queue runs nothing", 0u32, mem::read32(status));
    checks.holds("QIE sets QIES", unit.set(QIE));
    checks.holds(
        "QIE starts at once with what IQT holds",
        queue.drained() && mem::read32(status) == 0xC0DE,
    );
    checks.equal("IQH stands at the tail", 0x10_u64, unit.read64(IQH));
    checks.holds("QIE clears QIES", unit.clear(QIE));
    checks.equal("IQH is 0 after disabling", 0u64, unit.read64(IQH));

    let mut queue = Queue::new(unit);
    checks.holds("QIE sets QIES again", queue.enable());
    checks.equal("IQH is 0 after enabling", 0u64, unit.read64(IQH));
    checks.holds("the queue works after enabling again", queue.flush());
}
