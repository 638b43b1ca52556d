// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! PASIDs whose requests pass unchanged.

use super::bench::{Bench, VIA, page_with};
use crate::check::Checks;
use crate::checks::Machine;
use crate::dmatest::{Operation, Via};
use crate::mem::read64;
use crate::vtd::scalable::{ERE, Entry, SRE};

pub fn run(machine: &Machine, checks: Checks) {
    let unit = machine.unit;
    if !unit.has_pass_through() || !unit.has_pasids() {
        checks.skip("pass-through with PASID", "not offered");
        return;
    }
    let mut bench = Bench::start(machine);
    let page = page_with(0x1111);
    // The width counts for the second stage only.
    for (variant, width) in [("width 0", 0), ("width of the unit", unit.max_levels() - 2)] {
        let checks = checks.on(variant);
        bench.bind(Entry::pass_through(1).with(width << 2, 0, 0));
        checks.equal("read", 0x1111_u64, bench.load(VIA, page));
        bench.store(VIA, page + 8, 0x2222);
        checks.equal("write", 0x2222_u64, read64(page + 8));
    }
    bench.bind_to(0, Entry::pass_through(1));
    checks.equal("without PASID", 0x1111_u64, bench.load(Via::PLAIN, page));
    bench.blocks_write(
        checks,
        "beyond the unit's width: 0x83",
        VIA,
        1 << unit.mgaw(),
        0x83,
    );
    bench.blocks_write(checks, "far beyond: 0x83", VIA, 1 << 62, 0x83);
    bench.blocks_write(
        checks,
        "interrupt range with PASID: 0x87",
        VIA,
        0xFEE0_0000,
        0x87,
    );
    bench.blocks(
        checks,
        "supervisor without SRE: 0x5D",
        (VIA.privileged(), Operation::Load, page),
        0x5D,
    );
    bench.blocks(
        checks,
        "fetch without ERE: 0x5C",
        (VIA.execute(), Operation::Load, page),
        0x5C,
    );
    if unit.has_supervisor() && unit.has_execute() {
        bench.bind(Entry::pass_through(1).with(0, 0, SRE | ERE));
        let via = VIA.privileged().execute();
        bench.allows(
            checks,
            "supervisor's fetch with both",
            via,
            Operation::Load,
            page,
        );
    }
}
