// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Capabilities of scalable mode, and the registers that only it or page requests have. Sees reset values.

use crate::check::Checks;
use crate::checks::Machine;
use crate::vtd::unit::*;
use crate::vtd::wide_queue::WIDE;

pub fn run(machine: &Machine, checks: Checks) {
    let unit = machine.unit;
    capabilities(unit, checks);
    table_modes(unit, checks);
    if unit.has_page_requests() {
        page_requests(unit, checks);
    } else {
        no_page_requests(unit, checks);
    }
}

/// ECAP bits that must not be without another.
const NEEDS: &[(&str, u32, u32)] = &[
    ("ECAP: SMTS needs QI", 43, 1),
    ("ECAP: FSTS needs SMTS", 47, 43),
    ("ECAP: SSTS needs SMTS", 46, 43),
    ("ECAP: SSADS needs SSTS", 45, 46),
    ("ECAP: SMPWC needs SMTS", 48, 43),
    ("ECAP: RPS needs SMTS", 49, 43),
    ("ECAP: NEST needs FSTS", 26, 47),
    ("ECAP: NEST needs SSTS", 26, 46),
    ("ECAP: PASID needs SMTS", 40, 43),
    ("ECAP: ERS needs PASID", 30, 40),
    ("ECAP: SRS needs PASID", 31, 40),
    ("ECAP: RPRIVS needs SRS", 53, 31),
    ("ECAP: EAFS needs PASID", 34, 40),
    ("ECAP: NWFS needs DT", 33, 2),
    ("ECAP: DIT needs DT", 41, 2),
    ("ECAP: PRS needs DT", 29, 2),
    ("ECAP: PDS needs PRS", 42, 29),
];

fn capabilities(unit: Unit, checks: Checks) {
    for &(name, bit, needed) in NEEDS {
        let has = |bit: u32| unit.ecap >> bit & 1 != 0;
        checks.holds(name, !has(bit) || has(needed));
    }
    checks.holds(
        "ECAP: some stage",
        unit.has_first_stage() || unit.has_second_stage(),
    );
    let width = unit.ecap >> 35 & 0x1F;
    let widest = if unit.has_pasids() { 19 } else { 0 };
    checks.holds("ECAP: PSS names a width", width <= widest);
    checks.holds(
        "CAP: FS5LP and FS1GP need FSTS",
        unit.has_first_stage()
            || !unit.has_five_level_first_stage() && !unit.has_first_stage_gigabyte(),
    );
    checks.holds(
        "CAP: PI needs interrupt remapping",
        unit.has_remapping() || !unit.has_posting(),
    );
}

fn table_modes(unit: Unit, checks: Checks) {
    for (name, mode) in [
        ("RTADDR keeps table mode 01", SCALABLE),
        ("RTADDR keeps table mode 10", RESERVED_MODE),
        ("RTADDR keeps table mode 11", ABORT),
    ] {
        unit.write64(RTADDR, 0x1_2345_6000 | mode);
        checks.equal(name, 0x1_2345_6000 | mode, unit.read64(RTADDR));
    }
    unit.write64(RTADDR, 0);
    unit.write64(IQA, 0x1_2345_6000 | WIDE);
    checks.equal("IQA keeps DW", 0x1_2345_6000 | WIDE, unit.read64(IQA));
    unit.write64(IQA, 0);
    unit.clear_faults();
}

fn page_requests(unit: Unit, checks: Checks) {
    checks.equal(
        "reset: PQH, PQT and PQA",
        0u64,
        unit.read64(PQH) | unit.read64(PQT) | unit.read64(PQA),
    );
    checks.equal("reset: PRS", 0u32, unit.read32(PRS));
    checks.equal("reset: PECTL", IM, unit.read32(PECTL));
    checks.equal(
        "reset: PEDATA, PEADDR and PEUADDR",
        0u32,
        unit.read32(PEDATA) | unit.read32(PEADDR) | unit.read32(PEUADDR),
    );
    for (name, register) in [
        ("writable: PQH keeps bits 18:5", PQH),
        ("writable: PQT keeps bits 18:5", PQT),
    ] {
        unit.write64(register, u64::MAX);
        checks.equal(name, 0x7_FFE0_u64, unit.read64(register));
        unit.write64(register, 0);
    }
    unit.write64(PQA, 0x1_2345_6FFF);
    checks.equal(
        "writable: PQA keeps address and size, not bits 11:3",
        0x1_2345_6007_u64,
        unit.read64(PQA),
    );
    unit.write64(PQA, 0);
    unit.write32(PRS, u32::MAX);
    checks.equal("read-only: PRS takes no ones", 0u32, unit.read32(PRS));
    unit.write32(PECTL, 0x7FFF_FFFF);
    let clear = unit.read32(PECTL);
    unit.write32(PECTL, u32::MAX);
    checks.holds(
        "writable: PECTL has IM only",
        clear == 0 && unit.read32(PECTL) == IM,
    );
    unit.write32(PEDATA, 0x43);
    checks.equal("writable: PEDATA", 0x43_u32, unit.read32(PEDATA));
    unit.write32(PEADDR, u32::MAX);
    checks.equal(
        "writable: PEADDR, not bits 1:0",
        0xFFFF_FFFC_u32,
        unit.read32(PEADDR),
    );
    let upper: u32 = if unit.has_eim() { 0xFFFF_FF00 } else { 0 };
    unit.write32(PEUADDR, 0xFFFF_FF00);
    checks.equal(
        "writable: PEUADDR with EIM only",
        upper,
        unit.read32(PEUADDR),
    );
    for register in [PEDATA, PEADDR, PEUADDR] {
        unit.write32(register, 0);
    }
}

fn no_page_requests(unit: Unit, checks: Checks) {
    let mut bits = 0;
    for offset in (PQH..PEUADDR + 4).step_by(4) {
        unit.write32(offset, u32::MAX);
        bits |= unit.read32(offset);
    }
    checks.equal("without PRS its registers are reserved", 0u32, bits);
}
