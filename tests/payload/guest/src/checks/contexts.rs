// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Another domain for the device, another root table, translation off and on.

use super::Machine;
use super::dma::{Bench, page_with};
use crate::check::Checks;
use crate::vtd::legacy::{RW, Tables};
use crate::vtd::queue::*;
use crate::vtd::unit::TE;

/// An IOVA that equals no address in use.
const IOVA: u64 = 0x0C00_0000;

pub fn run(machine: &Machine, checks: Checks) {
    contexts(machine, checks);
    enabling(machine, checks);
}

fn contexts(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine, 2, 3);
    let source = machine.edu.source();
    bench.map(IOVA, page_with(0xEEEE_0001), RW);
    let first = bench.load(IOVA);
    let other = Tables::new(source, 3, 3);
    other.map(IOVA, page_with(0xEEEE_0002), RW);
    bench.tables.top = other.top;
    bench.map_own_pages();
    bench.tables.domain = 3;
    bench.tables.set_context(other.top | 1, other.second_word());
    bench.queue.push(context_device(2, source), 0);
    bench.queue.push(iotlb(IOTLB_DOMAIN, 2), 0);
    bench.queue.push(iotlb(IOTLB_DOMAIN, 3), 0);
    bench.queue.flush();
    checks.equal("context: first domain", 0xEEEE_0001_u64, first);
    checks.equal(
        "context: other domain after a device-selective invalidation",
        0xEEEE_0002_u64,
        bench.load(IOVA),
    );

    let mut domain = 3;
    for (name, descriptor, value) in [
        (
            "context: device-selective with function mask",
            context_device(3, source | 7) | 3 << 48,
            0xEEEE_0003,
        ),
        (
            "context: domain-selective",
            CONTEXT_DOMAIN | 4 << 16,
            0xEEEE_0004,
        ),
        ("context: global", CONTEXT_GLOBAL, 0xEEEE_0005_u64),
    ] {
        domain += 1;
        let next = Tables::new(source, domain, 3);
        next.map(IOVA, page_with(value), RW);
        bench.tables.top = next.top;
        bench.tables.domain = domain;
        bench.map_own_pages();
        bench.tables.set_context(next.top | 1, next.second_word());
        bench.queue.push(descriptor, 0);
        bench.queue.push(iotlb(IOTLB_DOMAIN, domain - 1), 0);
        bench.queue.push(iotlb(IOTLB_DOMAIN, domain), 0);
        bench.queue.flush();
        checks.equal(name, value, bench.load(IOVA));
    }
}

fn enabling(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine, 2, machine.unit.max_levels());
    let (plain, mapped) = (page_with(0xFFFF_0001), page_with(0xFFFF_0002));
    bench.map(plain, mapped, RW);
    checks.equal(
        "translation on: translated",
        0xFFFF_0002_u64,
        bench.load(plain),
    );
    bench.unit.clear(TE);
    checks.equal(
        "translation off: the address itself",
        0xFFFF_0001_u64,
        bench.load(plain),
    );
    bench.unit.set(TE);
    checks.equal(
        "translation on again: translated",
        0xFFFF_0002_u64,
        bench.load(plain),
    );
    bench.tables = Tables::new(machine.edu.source(), 5, 3);
    bench.map_own_pages();
    bench.tables.map(plain, page_with(0xFFFF_0003), RW);
    let bench = bench.go();
    checks.equal("new root table by SRTP", 0xFFFF_0003_u64, bench.load(plain));
}
