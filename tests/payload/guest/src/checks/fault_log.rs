// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The fault log: status bits, the order of records, overflow, and the fault event.

use super::dma::Bench;
use super::{FAULT_VECTOR, Machine};
use crate::check::Checks;
use crate::vtd::faults::{READ, WRITE};
use crate::vtd::irte;
use crate::vtd::unit::*;
use crate::{arch, interrupts, mem};

const IOVA: u64 = 0x0B00_0000;

pub fn run(machine: &Machine, checks: Checks) {
    log(machine, checks);
    overflow(machine, checks);
    event(machine, checks);
}

fn log(machine: &Machine, checks: Checks) {
    Bench::start(machine, 2, 3);
    let unit = machine.unit;
    machine.edu.read(IOVA, 4);
    let pending = arch::poll(arch::SHORT, || unit.read32(FSTS) & PPF != 0);
    checks.holds("log: a fault sets PPF", pending);
    let first = unit.fault_index();
    checks.holds(
        "log: FRI names a record with F set",
        first < unit.records() && unit.fault_at(first).is_some(),
    );
    unit.write32(FSTS, PPF);
    checks.equal(
        "log: writing 1 to PPF does nothing",
        PPF,
        unit.read32(FSTS) & PPF,
    );
    let top = unit.record(first) + 12;
    unit.write32(top, 0);
    checks.equal(
        "log: writing 0 to F leaves it set",
        1u32,
        unit.read32(top) >> 31,
    );
    unit.write32(top, 1 << 31);
    checks.equal(
        "log: writing 1 to F clears it",
        0u32,
        unit.read32(top) >> 31,
    );
    checks.equal(
        "log: PPF falls with the last F",
        0u32,
        unit.read32(FSTS) & PPF,
    );
    machine.edu.read(IOVA, 4);
    arch::poll(arch::SHORT, || unit.read32(FSTS) & PPF != 0);
    checks.equal(
        "log: the next fault goes to the next record",
        (first + 1) % unit.records(),
        unit.fault_index(),
    );
}

fn overflow(machine: &Machine, checks: Checks) {
    let bench = Bench::start(machine, 2, 3);
    let unit = machine.unit;
    // More than fit; each on another page.
    for page in 0..unit.records() + 2 {
        machine.edu.read(IOVA + page * mem::PAGE, 4);
    }
    arch::poll(arch::SHORT, || unit.read32(FSTS) & PPF != 0);
    let set = (0..unit.records())
        .filter(|&index| unit.fault_at(index).is_some())
        .count() as u64;
    let overflowed = unit.read32(FSTS) & PFO != 0 && set == unit.records();
    // The specification lets a unit keep one pending record a source.
    let compressed = unit.read32(FSTS) & PFO == 0 && set == 1;
    checks.holds(
        "overflow: PFO with all records full, or one record for one source",
        overflowed || compressed,
    );
    let index = unit.fault_index();
    checks.fault(
        "overflow: the first fault is kept",
        bench.expect(0x6, IOVA, READ),
        unit.fault_at(index),
    );
    unit.write32(FSTS, PFO);
    checks.equal(
        "overflow: writing 1 clears PFO",
        0u32,
        unit.read32(FSTS) & PFO,
    );
    unit.clear_faults();
    checks.fault(
        "overflow: faults are recorded again after",
        bench.expect(0x5, IOVA, WRITE),
        bench.faults_on_write(IOVA),
    );
}

fn event(machine: &Machine, checks: Checks) {
    Bench::start(machine, 2, 3);
    let unit = machine.unit;
    let (address, _) = arch::halves(irte::compatible(machine.apic_id));
    unit.write32(FEDATA, FAULT_VECTOR.into());
    unit.write32(FEADDR, address);
    unit.write32(FEUADDR, 0);
    unit.write32(FECTL, 0);
    interrupts::clear();
    machine.edu.read(IOVA, 4);
    checks.holds(
        "event: a fault sends the MSI once",
        interrupts::arrived(FAULT_VECTOR, 1),
    );
    checks.equal(
        "event: not pending after delivery",
        0u32,
        unit.read32(FECTL),
    );
    interrupts::clear();
    machine.edu.read(IOVA + mem::PAGE, 4);
    checks.holds(
        "event: none for a fault while another is pending",
        interrupts::silence(),
    );
    unit.clear_faults();
    machine.edu.read(IOVA, 4);
    checks.holds(
        "event: again after clearing",
        interrupts::arrived(FAULT_VECTOR, 1),
    );

    unit.clear_faults();
    unit.write32(FECTL, IM);
    interrupts::clear();
    machine.edu.read(IOVA, 4);
    checks.holds("event: none while masked", interrupts::silence());
    checks.equal("event: IP is set while masked", IM | IP, unit.read32(FECTL));
    unit.write32(FECTL, 0);
    checks.holds(
        "event: unmasking delivers it",
        interrupts::arrived(FAULT_VECTOR, 1),
    );
    checks.equal("event: IP is clear after", 0u32, unit.read32(FECTL));

    unit.clear_faults();
    unit.write32(FECTL, IM);
    machine.edu.read(IOVA, 4);
    unit.clear_faults();
    checks.equal(
        "event: clearing the fault clears IP",
        IM,
        unit.read32(FECTL),
    );
    interrupts::clear();
    unit.write32(FECTL, 0);
    checks.holds("event: nothing is left to deliver", interrupts::silence());
}
