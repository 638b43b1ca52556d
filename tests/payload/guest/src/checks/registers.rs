// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Register file: reset values, access types and widths. Runs first, so that it sees the reset values.

use super::Machine;
use crate::check::Checks;
use crate::pci::Config;
use crate::vtd::unit::*;

pub fn run(machine: &Machine, checks: Checks) {
    let unit = machine.unit;
    checks.holds(
        "machine: DMAR table found, its checksum right",
        machine.dmar,
    );
    checks.holds(
        "machine: MCFG table found, ECAM reaches the edu device",
        machine.ecam,
    );
    let by_ports = Config::find(None, 0x1234, 0x11E8).map(|config| config.source);
    checks.holds(
        "machine: ports CF8 and CFC reach it as well",
        by_ports == Some(machine.edu.source()),
    );
    checks.equal(
        "machine: edu identification",
        0x0100_00ED_u32,
        machine.edu.identification(),
    );
    reset_values(unit, checks);
    capabilities(unit, checks);
    reserved(unit, checks);
    read_only(unit, checks);
    widths(unit, checks);
    writable(unit, checks);
}

fn reset_values(unit: Unit, checks: Checks) {
    checks.equal("reset: GCMD reads 0", 0u32, unit.read32(GCMD));
    checks.equal("reset: GSTS", 0u32, unit.status());
    checks.equal("reset: RTADDR", 0u64, unit.read64(RTADDR));
    checks.equal("reset: CCMD", 0u64, unit.read64(CCMD));
    checks.equal("reset: FSTS", 0u32, unit.read32(FSTS));
    checks.equal("reset: FECTL", IM, unit.read32(FECTL));
    checks.equal("reset: FEDATA", 0u32, unit.read32(FEDATA));
    checks.equal("reset: FEADDR", 0u32, unit.read32(FEADDR));
    checks.equal("reset: FEUADDR", 0u32, unit.read32(FEUADDR));
    checks.equal("reset: IQH", 0u64, unit.read64(IQH));
    checks.equal("reset: IQT", 0u64, unit.read64(IQT));
    checks.equal("reset: IQA", 0u64, unit.read64(IQA));
    checks.equal("reset: ICS", 0u32, unit.read32(ICS));
    checks.equal("reset: IECTL", IM, unit.read32(IECTL));
    checks.equal("reset: IEDATA", 0u32, unit.read32(IEDATA));
    checks.equal("reset: IEADDR", 0u32, unit.read32(IEADDR));
    checks.equal("reset: IEUADDR", 0u32, unit.read32(IEUADDR));
    checks.equal("reset: IQERCD", 0u64, unit.read64(IQERCD));
    checks.equal("reset: IRTA", 0u64, unit.read64(IRTA));
    checks.equal("reset: IOTLB", 0u64, unit.read64(unit.iva() + 8));
    let records = (0..unit.records()).fold(0, |bits, index| {
        bits | unit.read64(unit.record(index)) | unit.read64(unit.record(index) + 8)
    });
    checks.equal("reset: fault records", 0u64, records);
}

fn capabilities(unit: Unit, checks: Checks) {
    let version = unit.read32(VER);
    checks.holds("VER: major version 1 to 7", (0x10..0x80).contains(&version));
    checks.equal(
        "CAP: reserved bits",
        0u64,
        unit.cap & (7 << 13 | 1 << 23 | 1 << 38 | 3 << 57),
    );
    checks.holds(
        "CAP: SAGAW names a known width and no other",
        unit.cap & 0xE00 != 0 && unit.cap & 0x1100 == 0,
    );
    checks.holds(
        "CAP: MGAW between 39 and 57 bits",
        (39..=57).contains(&unit.mgaw()),
    );
    checks.holds("CAP: ND names a size", unit.cap & 7 < 7);
    checks.holds(
        "CAP: fault records inside the page",
        unit.record(unit.records()) <= 0x1000 && unit.record(0) >= 0x100,
    );
    checks.equal(
        "ECAP: reserved and retired bits",
        0u64,
        unit.ecap & (1 << 5 | 3 << 18 | 1 << 28 | 1 << 32 | 1 << 54),
    );
    checks.holds(
        "ECAP: IOTLB registers inside the page",
        (0xF0..=0xFF0).contains(&unit.iva()),
    );
    checks.holds("ECAP: queued invalidation", unit.has_queue());
    checks.holds("ECAP: interrupt remapping", unit.has_remapping());
    checks.holds("ECAP: pass-through", unit.has_pass_through());
}

fn reserved(unit: Unit, checks: Checks) {
    let mut bits = 0;
    for offset in [0x04, 0x30, 0x48, 0x4C, 0x50, 0x54, 0x60, 0x98, 0x200 - 4] {
        unit.write32(offset, u32::MAX);
        bits |= unit.read32(offset);
    }
    checks.equal("reserved offsets read 0 after writing ones", 0u32, bits);
}

fn read_only(unit: Unit, checks: Checks) {
    let read = || {
        (
            unit.read32(VER),
            unit.read64(CAP),
            unit.read64(ECAP),
            unit.read64(IQH),
            unit.read64(IQERCD),
        )
    };
    let before = read();
    for offset in [CAP, ECAP, IQH, IQERCD] {
        unit.write64(offset, u64::MAX);
        unit.write32(offset, u32::MAX);
        unit.write32(offset + 4, u32::MAX);
    }
    unit.write32(VER, u32::MAX);
    checks.holds(
        "read-only: VER, CAP, ECAP, IQH, IQERCD ignore writes",
        before == read(),
    );
    unit.write32(GSTS, u32::MAX);
    checks.equal("read-only: GSTS ignores writes", 0u32, unit.status());
    unit.write64(unit.record(0), u64::MAX);
    unit.write32(unit.record(0) + 8, u32::MAX);
    checks.equal(
        "read-only: fault record, low word",
        0u64,
        unit.read64(unit.record(0)),
    );
    checks.equal(
        "read-only: fault record, high word",
        0u64,
        unit.read64(unit.record(0) + 8),
    );
    unit.write32(FSTS, u32::MAX);
    checks.equal("read-only: FSTS takes no ones", 0u32, unit.read32(FSTS));
}

fn widths(unit: Unit, checks: Checks) {
    let pair =
        |offset: u64| u64::from(unit.read32(offset + 4)) << 32 | u64::from(unit.read32(offset));
    checks.equal("widths: CAP by 4 bytes as by 8", unit.cap, pair(CAP));
    checks.equal("widths: ECAP by 4 bytes as by 8", unit.ecap, pair(ECAP));
    checks.equal(
        "widths: GCMD and GSTS by 8 bytes",
        u64::from(unit.status()) << 32,
        unit.read64(GCMD),
    );
    for (name, offset) in [
        ("widths: RTADDR", RTADDR),
        ("widths: IRTA", IRTA),
        ("widths: IQA", IQA),
    ] {
        unit.write64(offset, 0x12_3456_7000);
        let by_halves = pair(offset);
        unit.write32(offset, 0x89AB_C000);
        unit.write32(offset + 4, 0x0000_0007);
        checks.holds(
            name,
            by_halves == 0x12_3456_7000 && unit.read64(offset) == 0x7_89AB_C000,
        );
        unit.write64(offset, 0);
    }
    let feaddr = 0xFEE0_1000;
    unit.write64(FEADDR, feaddr);
    checks.equal(
        "widths: FEADDR and FEUADDR by one 8-byte write",
        feaddr,
        unit.read64(FEADDR),
    );
    unit.write64(FEADDR, 0);
}

fn writable(unit: Unit, checks: Checks) {
    unit.write64(RTADDR, 0x1_2345_63FF);
    checks.equal(
        "writable: RTADDR keeps the address, not bits 9:0",
        0x1_2345_6000_u64,
        unit.read64(RTADDR) & !0xC00,
    );
    unit.write64(RTADDR, 0);
    unit.write64(IRTA, 0x1_2345_67FF);
    checks.equal(
        "writable: IRTA keeps address and size, not bits 10:4",
        0x1_2345_600F_u64,
        unit.read64(IRTA),
    );
    unit.write64(IRTA, 0);
    unit.write64(IQA, 0x1_2345_67FF);
    checks.equal(
        "writable: IQA keeps address and size, not bits 10:3",
        0x1_2345_6007_u64,
        unit.read64(IQA),
    );
    unit.write64(IQA, 0);
    unit.write32(IQT, 0x0007_FFF0);
    checks.equal(
        "writable: IQT keeps bits 18:4",
        0x0007_FFF0_u64,
        unit.read64(IQT),
    );
    unit.write32(IQT, 0);
    event_registers(unit, checks);
}

fn event_registers(unit: Unit, checks: Checks) {
    for (name, control) in [
        ("writable: FECTL has IM only", FECTL),
        ("writable: IECTL has IM only", IECTL),
    ] {
        unit.write32(control, 0x7FFF_FFFF);
        let clear = unit.read32(control);
        unit.write32(control, u32::MAX);
        checks.holds(name, clear == 0 && unit.read32(control) == IM);
    }
    unit.write32(FEDATA, 0x41);
    checks.equal("writable: FEDATA", 0x41_u32, unit.read32(FEDATA));
    unit.write32(IEDATA, 0x42);
    checks.equal("writable: IEDATA", 0x42_u32, unit.read32(IEDATA));
    unit.write32(FEADDR, u32::MAX);
    checks.equal(
        "writable: FEADDR, not bits 1:0",
        0xFFFF_FFFC_u32,
        unit.read32(FEADDR),
    );
    unit.write32(IEADDR, u32::MAX);
    checks.equal(
        "writable: IEADDR, not bits 1:0",
        0xFFFF_FFFC_u32,
        unit.read32(IEADDR),
    );
    let upper: u32 = if unit.has_eim() { 0xFFFF_FF00 } else { 0 };
    unit.write32(FEUADDR, 0xFFFF_FF00);
    checks.equal(
        "writable: FEUADDR with EIM only",
        upper,
        unit.read32(FEUADDR),
    );
    unit.write32(IEUADDR, 0xFFFF_FF00);
    checks.equal(
        "writable: IEUADDR with EIM only",
        upper,
        unit.read32(IEUADDR),
    );
    for offset in [FEDATA, FEADDR, FEUADDR, IEDATA, IEADDR, IEUADDR] {
        unit.write32(offset, 0);
    }
}
