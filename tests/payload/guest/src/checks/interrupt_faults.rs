// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Interrupt requests that must be refused: each reason with its record, and no interrupt; source validation.

use super::intremap::Remapper;
use super::{EDU_VECTOR, Machine};
use crate::check::Checks;
use crate::vtd::faults::Fault;
use crate::vtd::irte::{self, Irt};
use crate::vtd::queue::IEC_GLOBAL;
use crate::{interrupts, mem};

pub fn run(machine: &Machine, checks: Checks) {
    refusals(machine, checks);
    source_validation(machine, checks);
    unreadable_table(machine, checks);
    if machine.edu64 {
        written_by_dma(machine, checks);
    }
}

fn unreadable_table(machine: &Machine, checks: Checks) {
    let mut remapper = Remapper::start(machine, false);
    machine.unit.set_irt(mem::HOLE, Irt::SIZE, false);
    remapper.queue.run(IEC_GLOBAL, 0);
    let (silent, fault) = remapper.blocked(irte::address(3), EDU_VECTOR.into());
    checks.holds("table unreadable: no interrupt", silent);
    let expected = Fault::interrupt(0x23, machine.edu.source(), 3);
    checks.fault("table unreadable: 0x23", Some(expected), fault);
}

/// The device's DMA engine reaches the interrupt range: a 4-byte write there is an interrupt request.
fn written_by_dma(machine: &Machine, checks: Checks) {
    let mut remapper = Remapper::start(machine, false);
    let (low, high) = (remapper.low(EDU_VECTOR), remapper.edu_only());
    remapper.set(5, low, high);
    let request = |address: u64, data: u32| {
        interrupts::clear();
        machine.unit.clear_faults();
        let page = mem::page();
        mem::write32(page, data);
        machine.edu.read(page, 4);
        machine.edu.write(address, 4);
    };
    request(irte::address(5), 0x1234_5678);
    checks.holds(
        "a 4-byte DMA write is an interrupt request",
        interrupts::arrived(EDU_VECTOR, 1),
    );
    request(irte::address_with_subhandle(5), 0x1_0000);
    checks.holds(
        "data bits 31:16 with a subhandle: no interrupt",
        interrupts::silence(),
    );
    let expected = Fault::interrupt(0x20, machine.edu.source(), 0);
    checks.fault(
        "data bits 31:16 with a subhandle: 0x20",
        Some(expected),
        machine.unit.take_fault(),
    );
    interrupts::clear();
    machine.edu.read(irte::address(5), 4);
    checks.holds(
        "a DMA read of the interrupt range raises nothing",
        interrupts::silence(),
    );
}

/// An entry that must be refused: its words, and the reason (0 for no record).
struct Refusal {
    silent_name: &'static str,
    fault_name: &'static str,
    low: u64,
    high: u64,
    reason: u8,
}

const fn refusal(names: [&'static str; 2], low: u64, high: u64, reason: u8) -> Refusal {
    let [silent_name, fault_name] = names;
    Refusal {
        silent_name,
        fault_name,
        low,
        high,
        reason,
    }
}

fn refuse(machine: &Machine, checks: Checks, refusals: &[Refusal]) {
    let mut remapper = Remapper::start(machine, false);
    for &Refusal {
        silent_name,
        fault_name,
        low,
        high,
        reason,
    } in refusals
    {
        remapper.set(20, low, high);
        let (silent, fault) = remapper.blocked(irte::address(20), EDU_VECTOR.into());
        checks.holds(silent_name, silent);
        let expected = (reason != 0).then(|| Fault::interrupt(reason, machine.edu.source(), 20));
        checks.fault(fault_name, expected, fault);
    }
}

const POSTED: [&str; 2] = [
    "posted without CAP.PI: no interrupt",
    "posted without CAP.PI: 0x24",
];

fn refusals(machine: &Machine, checks: Checks) {
    let low = Irt {
        base: 0,
        eime: false,
    }
    .low(EDU_VECTOR, machine.apic_id);
    let high = irte::SVT_SOURCE | u64::from(machine.edu.source());
    let quiet = low | irte::FPD;
    let absent: &[Refusal] = &[
        refusal(
            ["not present: no interrupt", "not present: 0x22"],
            0,
            0,
            0x22,
        ),
        refusal(
            [
                "not present, FPD: no interrupt",
                "not present, FPD: no record",
            ],
            irte::FPD,
            0,
            0,
        ),
    ];
    refuse(machine, checks, absent);
    let reserved: &[Refusal] = &[
        refusal(
            ["reserved bit 12: no interrupt", "reserved bit 12: 0x24"],
            low | 1 << 12,
            high,
            0x24,
        ),
        refusal(
            ["reserved bit 84: no interrupt", "reserved bit 84: 0x24"],
            low,
            high | 1 << 20,
            0x24,
        ),
        refusal(
            [
                "reserved bit, FPD: no interrupt",
                "reserved bit, FPD: no record",
            ],
            quiet | 1 << 12,
            high,
            0,
        ),
    ];
    refuse(machine, checks, reserved);
    foreign_sources(machine, checks, low, high);
    if machine.unit.cap >> 59 & 1 == 0 {
        refuse(
            machine,
            checks,
            &[refusal(POSTED, low | 1 << 15, high, 0x24)],
        );
    }
    refused_indices(machine, checks);
}

fn foreign_sources(machine: &Machine, checks: Checks, low: u64, high: u64) {
    let foreign: &[Refusal] = &[
        refusal(
            ["other source: no interrupt", "other source: 0x26"],
            low,
            high ^ 1,
            0x26,
        ),
        refusal(
            [
                "other source, FPD: no interrupt",
                "other source, FPD: no record",
            ],
            low | irte::FPD,
            high ^ 1,
            0,
        ),
        refusal(
            ["SVT 11: no interrupt", "SVT 11: 0x26"],
            low,
            high | 3 << 18,
            0x26,
        ),
    ];
    refuse(machine, checks, foreign);
}

fn refused_indices(machine: &Machine, checks: Checks) {
    let remapper = Remapper::start(machine, false);
    let expected = Some(Fault::interrupt(0x21, machine.edu.source(), 256));
    let (silent, fault) = remapper.blocked(irte::address(256), EDU_VECTOR.into());
    checks.holds("index beyond the table: no interrupt", silent);
    checks.fault("index beyond the table: 0x21", expected, fault);
    let (silent, fault) = remapper.blocked(irte::address_with_subhandle(250), 6);
    checks.holds("index and subhandle beyond the table: no interrupt", silent);
    checks.fault(
        "index and subhandle beyond the table: 0x21",
        expected,
        fault,
    );
}

fn source_validation(machine: &Machine, checks: Checks) {
    let mut remapper = Remapper::start(machine, false);
    let source = u64::from(machine.edu.source());
    let bus = source >> 8;
    let low = remapper.low(EDU_VECTOR);
    for (name, high) in [
        ("SVT 00: any source", 0xABCD),
        (
            "SVT 01, SQ 01: function bit 2 ignored",
            irte::SVT_SOURCE | 0b01 << 16 | (source ^ 4),
        ),
        (
            "SVT 01, SQ 10: function bits 2:1 ignored",
            irte::SVT_SOURCE | 0b10 << 16 | (source ^ 6),
        ),
        (
            "SVT 01, SQ 11: function ignored",
            irte::SVT_SOURCE | 0b11 << 16 | (source ^ 7),
        ),
        (
            "SVT 10: bus in a range of one",
            irte::SVT_BUS | bus << 8 | bus,
        ),
        (
            "SVT 10: start bus is the high byte",
            irte::SVT_BUS | bus << 8 | 0x20,
        ),
    ] {
        remapper.set(30, low, high);
        checks.holds(name, remapper.delivers(irte::address(30), 0, EDU_VECTOR));
    }
    for (silent_name, name, high) in [
        (
            "SVT 01, SQ 01: function bit 0 counts",
            "SVT 01, SQ 01: 0x26",
            irte::SVT_SOURCE | 0b01 << 16 | (source ^ 1),
        ),
        (
            "SVT 01, SQ 11: device counts",
            "SVT 01, SQ 11: 0x26",
            irte::SVT_SOURCE | 0b11 << 16 | (source ^ 8),
        ),
        (
            "SVT 10: bus below the range",
            "SVT 10: 0x26",
            irte::SVT_BUS | 0x10 << 8 | 0x20,
        ),
    ] {
        remapper.set(30, low, high);
        let (silent, fault) = remapper.blocked(irte::address(30), EDU_VECTOR.into());
        checks.holds(silent_name, silent);
        checks.fault(
            name,
            Some(Fault::interrupt(0x26, machine.edu.source(), 30)),
            fault,
        );
    }
}
