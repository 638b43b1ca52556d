// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! PASID directories of every size, and the two context tables of a bus.

use super::bench::{
    Bench, DOMAIN, IOVA, VIA, any_entry, any_tables, missing, page_with, pasid_bits,
};
use crate::check::Checks;
use crate::checks::Machine;
use crate::dmatest::{DONE, Operation, Via};
use crate::mem::{self, write64};

pub fn run(machine: &Machine, checks: Checks) {
    if !machine.unit.has_pasids() || machine.dmatest().pasid_bits() == 0 {
        checks.skip("requests with PASID", "not offered");
        return;
    }
    sizes(machine, checks);
    widest(machine, checks);
    upper_half(machine, checks);
}

/// A directory of 128 entries holds PASIDs of 13 bits.
fn sizes(machine: &Machine, checks: Checks) {
    if pasid_bits(machine) < 14 {
        checks.skip(
            "PASIDs beyond a directory",
            "unit or device have too few bits",
        );
        return;
    }
    let mut bench = Bench::prepare(machine, 0).go();
    let unit = bench.unit;
    let paging = any_tables(unit);
    paging.map(IOVA, page_with(0x2222), paging.open());
    let entry = any_entry(unit, &paging, DOMAIN);
    bench.bind_to(0x1FFF, entry);
    checks.equal(
        "the last PASID of the smallest directory",
        0x2222_u64,
        bench.load(Via::pasid(0x1FFF), IOVA),
    );
    bench.blocks_read(
        checks,
        "a PASID beyond the directory: 0x46",
        Via::pasid(0x2000),
        IOVA,
        0x46,
    );
    bench.blocks_read(
        checks,
        "another PASID of the same table: 0x59",
        Via::pasid(0x1FFE),
        IOVA,
        0x59,
    );
    bench.blocks_read(
        checks,
        "a PASID without table: 0x51",
        Via::pasid(0x40),
        IOVA,
        0x51,
    );
    if unit.has_rid_pasid() {
        bench.set_context(0, 0x2000);
        bench.forget();
        bench.blocks_read(
            checks,
            "RID_PASID beyond the directory: 0x48",
            Via::PLAIN,
            IOVA,
            0x48,
        );
    }
}

/// PASIDs of as many bits as unit and device have.
fn widest(machine: &Machine, checks: Checks) {
    let bits = pasid_bits(machine);
    if bits < 14 {
        checks.skip("PASIDs of 20 bits", "unit or device have fewer");
        return;
    }
    let mut bench = Bench::prepare(machine, u64::from(bits) - 13).go();
    let unit = bench.unit;
    let last = (1 << bits) - 1;
    for (pasid, value, domain) in [(last, 0x3333, 3), (last - 64, 0x4444, 4), (0, 0x5555, 5)] {
        let paging = any_tables(unit);
        paging.map(IOVA, page_with(value), paging.open());
        bench.bind_to(pasid, any_entry(unit, &paging, domain));
    }
    for (name, pasid, value) in [
        ("the last PASID", last, 0x3333_u64),
        ("a PASID of the table before", last - 64, 0x4444),
        ("PASID 0", 0, 0x5555),
        ("the last PASID again", last, 0x3333),
    ] {
        checks.equal(name, value, bench.load(Via::pasid(pasid), IOVA));
    }
    bench.blocks_read(
        checks,
        "an unmapped page of the last PASID: all of its bits are recorded",
        Via::pasid(last),
        IOVA + mem::PAGE,
        missing(unit),
    );
}

/// Functions from 10.0 on have a context table of their own.
fn upper_half(machine: &Machine, checks: Checks) {
    const NAME: &str = "the upper half of the bus has its own context table";
    if machine.dmatest().source() & 0x80 == 0 {
        checks.skip(NAME, "the last dmatest device is below 10.0");
        return;
    }
    let mut bench = Bench::start(machine);
    let unit = bench.unit;
    let paging = any_tables(unit);
    paging.map(IOVA, page_with(0x6666), paging.open());
    bench.bind(any_entry(unit, &paging, DOMAIN));
    let lower = bench.tables.root;
    write64(lower, 0);
    bench.forget();
    let (status, fault) = bench.attempt(VIA, Operation::Load, IOVA);
    checks.holds(NAME, status == DONE && fault.is_none());
    write64(lower + 8, 0);
    bench.forget();
    bench.blocks_read(checks, "without it: 0x39", VIA, IOVA, 0x39);
}
