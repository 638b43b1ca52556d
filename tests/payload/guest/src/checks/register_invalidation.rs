// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Invalidation by CCMD, IVA and IOTLB, with the queue off; and their refusal with the queue on.

use super::Machine;
use super::dma::{Bench, page_with};
use crate::check::Checks;
use crate::vtd::legacy::{RW, Tables};
use crate::vtd::unit::{CCMD, QIE, TE};

const IOVA: u64 = 0x0900_0000;
/// Granularities: CIRG and IIRG share the first two; the third is device or page.
const GLOBAL: u64 = 1;
const DOMAIN: u64 = 2;
const DEVICE: u64 = 3;
const PAGE: u64 = 3;

/// Whether the unit did what was asked, or more.
fn done(asked: u64, did: Option<u64>) -> bool {
    did.is_some_and(|did| did != 0 && did <= asked)
}

pub fn run(machine: &Machine, checks: Checks) {
    let unit = machine.unit;
    if unit.read32(crate::vtd::unit::VER) >= 0x60 {
        checks.skip(
            "all",
            "a unit of major version 6 or more may lack these registers",
        );
        return;
    }
    let mut bench = Bench::prepare(machine, 2, 3);
    bench.queue.flush();
    unit.clear(QIE);
    bench.map_own_pages();
    bench.tables.map(IOVA, page_with(0x1000_0001), RW);
    unit.set_root(bench.tables.root);
    checks.holds(
        "CCMD: global",
        done(GLOBAL, unit.context_command(GLOBAL, 0, 0)),
    );
    checks.holds(
        "IOTLB: global",
        done(GLOBAL, unit.iotlb_command(GLOBAL, 0, 0)),
    );
    unit.set(TE);
    checks.equal(
        "translation with register-based invalidation",
        0x1000_0001_u64,
        bench.load(IOVA),
    );

    for (name, granularity, address, value) in [
        ("IOTLB: page", PAGE, IOVA, 0x1000_0002_u64),
        (
            "IOTLB: page, with an address mask",
            PAGE,
            IOVA | 4,
            0x1000_0003,
        ),
        ("IOTLB: domain", DOMAIN, 0, 0x1000_0004),
        ("IOTLB: global drops all", GLOBAL, 0, 0x1000_0005),
    ] {
        bench.tables.map(IOVA, page_with(value), RW);
        let did = unit.iotlb_command(granularity, 2, address);
        checks.holds(name, done(granularity, did) && bench.reads(IOVA, value));
    }
    contexts(machine, &mut bench, checks);
    refusals(machine, checks);
}

fn contexts(machine: &Machine, bench: &mut Bench, checks: Checks) {
    let (unit, source) = (machine.unit, machine.edu.source());
    for (name, granularity, domain, value) in [
        ("CCMD: device drops the context", DEVICE, 3, 0x1000_0006_u64),
        ("CCMD: domain drops the context", DOMAIN, 4, 0x1000_0007),
        ("CCMD: global drops the context", GLOBAL, 5, 0x1000_0008),
    ] {
        let next = Tables::new(source, domain, 3);
        next.map(IOVA, page_with(value), RW);
        bench.tables.top = next.top;
        bench.map_own_pages();
        bench.tables.set_context(next.top | 1, next.second_word());
        let did = unit.context_command(granularity, domain - 1, source);
        unit.iotlb_command(GLOBAL, 0, 0);
        checks.holds(name, done(granularity, did) && bench.reads(IOVA, value));
    }
}

fn refusals(machine: &Machine, checks: Checks) {
    let unit = machine.unit;
    checks.equal(
        "CCMD: granularity 0 is refused with CAIG 0",
        0u64,
        unit.context_command(0, 0, 0).unwrap_or(9),
    );
    checks.equal(
        "IOTLB: granularity 0 is refused with IAIG 0",
        0u64,
        unit.iotlb_command(0, 0, 0).unwrap_or(9),
    );
    let wide = IOVA | 0x3F;
    checks.equal(
        "IOTLB: mask beyond MAMV is refused with IAIG 0",
        0u64,
        unit.iotlb_command(PAGE, 2, wide).unwrap_or(9),
    );
    unit.write32(CCMD, 0x1234_0005);
    checks.equal(
        "CCMD: the low half alone starts nothing",
        5u64,
        unit.read64(CCMD) & (1 << 63 | 0xFFFF),
    );
    unit.write32(CCMD + 4, 1 << 31 | 1 << 29);
    let finished = crate::arch::poll(crate::arch::SHORT, || unit.read32(CCMD + 4) >> 31 == 0);
    checks.holds(
        "CCMD: the high half starts the command",
        finished && unit.read32(CCMD + 4) >> 27 & 3 == 1,
    );
    for (name, iotlb) in [
        ("CCMD: refused while the queue is on", false),
        ("IOTLB: refused while the queue is on", true),
    ] {
        if checks.excepted(name) {
            checks.skip(name, "oracle exception");
            continue;
        }
        let bench = Bench::start(machine, 2, 3);
        let did = if iotlb {
            bench.unit.iotlb_command(GLOBAL, 0, 0)
        } else {
            bench.unit.context_command(GLOBAL, 0, 0)
        };
        checks.equal(name, 0u64, did.unwrap_or(9));
    }
}
