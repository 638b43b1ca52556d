// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Interrupt remapping of MSIs: through the entry to its vector, source validation, compatibility format, 32-bit destinations.

use super::{EDU_VECTOR, Machine, OTHER_VECTOR};
use crate::check::Checks;
use crate::interrupts;
use crate::vtd::faults::Fault;
use crate::vtd::irte::{self, Irt};
use crate::vtd::queue::{IEC_GLOBAL, Queue, iec_index};
use crate::vtd::unit::{CFI, IRE};

/// Remapping on, with an empty table.
pub struct Remapper<'a> {
    machine: &'a Machine,
    pub irt: Irt,
    pub queue: Queue,
}

impl<'a> Remapper<'a> {
    pub fn start(machine: &'a Machine, eime: bool) -> Remapper<'a> {
        machine.unit.quiesce();
        let (irt, mut queue) = (Irt::new(eime), Queue::start(machine.unit));
        machine.unit.set_irt(irt.base, Irt::SIZE, eime);
        queue.run(IEC_GLOBAL, 0);
        machine.unit.set(IRE);
        Remapper {
            machine,
            irt,
            queue,
        }
    }

    /// High word that admits only the `edu` device.
    fn edu_only(&self) -> u64 {
        irte::SVT_SOURCE | u64::from(self.machine.edu.source())
    }

    /// Low word for this CPU.
    pub fn low(&self, vector: u8) -> u64 {
        self.irt.low(vector, self.machine.apic_id)
    }

    /// Writes an entry and invalidates what the unit may hold of it.
    pub fn set(&mut self, index: u16, low: u64, high: u64) {
        self.irt.set(index, low, high);
        self.queue.run(iec_index(index, 0), 0);
    }

    /// The device sends an MSI with this address and data.
    fn send(&self, address: u64, data: u16) {
        interrupts::clear();
        self.machine.unit.clear_faults();
        self.machine.edu.set_msi(address, data);
        self.machine.edu.send_msi();
    }

    /// Whether such an MSI arrives as `vector` and as nothing else.
    fn delivers(&self, address: u64, data: u16, vector: u8) -> bool {
        self.send(address, data);
        interrupts::arrived(vector, 1)
            && (vector == data.to_le_bytes()[0] || interrupts::count(data.to_le_bytes()[0]) == 0)
    }

    /// What such an MSI leaves in the fault log, if nothing arrives.
    fn blocked(&self, address: u64, data: u16) -> (bool, Option<Fault>) {
        self.send(address, data);
        let silent = interrupts::silence();
        (silent, self.machine.unit.take_fault())
    }
}

pub fn run(machine: &Machine, checks: Checks) {
    delivery(machine, checks);
    invalidation(machine, checks);
    refusals(machine, checks);
    source_validation(machine, checks);
    compatibility(machine, checks);
    if machine.unit.has_eim() && interrupts::x2apic() {
        extended(machine, checks);
    } else {
        checks.skip(
            "32-bit destinations",
            "neither unit nor CPU goes without EIM and x2APIC",
        );
    }
}

fn delivery(machine: &Machine, checks: Checks) {
    let mut remapper = Remapper::start(machine, false);
    let (low, high) = (remapper.low(EDU_VECTOR), remapper.edu_only());
    remapper.set(3, low, high);
    checks.holds(
        "MSI arrives with the entry's vector",
        remapper.delivers(irte::address(3), OTHER_VECTOR.into(), EDU_VECTOR),
    );
    remapper.set(200, remapper.low(OTHER_VECTOR), high);
    checks.holds(
        "another index, another vector",
        remapper.delivers(irte::address(200), 0, OTHER_VECTOR),
    );
    let address = irte::address_with_subhandle(190);
    checks.holds(
        "subhandle is added to the handle",
        remapper.delivers(address, 10, OTHER_VECTOR),
    );
    checks.holds(
        "subhandle is ignored when not valid",
        remapper.delivers(irte::address(200), 7, OTHER_VECTOR),
    );
    checks.fault("delivery records no fault", None, machine.unit.take_fault());
    machine.edu.set_msi(irte::address(3), 0);
    interrupts::clear();
    for _ in 0..3 {
        machine.edu.send_msi();
        interrupts::settle();
    }
    checks.holds(
        "three MSIs arrive three times",
        interrupts::arrived(EDU_VECTOR, 3),
    );
}

fn invalidation(machine: &Machine, checks: Checks) {
    let mut remapper = Remapper::start(machine, false);
    let high = remapper.edu_only();
    let first = remapper.low(EDU_VECTOR);
    remapper.set(9, first, high);
    let before = remapper.delivers(irte::address(9), 0, EDU_VECTOR);
    remapper.set(9, remapper.low(OTHER_VECTOR), high);
    let after = remapper.delivers(irte::address(9), 0, OTHER_VECTOR);
    checks.holds(
        "changed entry is used after an index-selective invalidation",
        before && after,
    );
    for (name, descriptor, vector) in [
        ("... of a block of 16", iec_index(0, 4), EDU_VECTOR),
        ("... after a global invalidation", IEC_GLOBAL, OTHER_VECTOR),
    ] {
        remapper.irt.set(9, remapper.low(vector), high);
        remapper.queue.run(descriptor, 0);
        checks.holds(name, remapper.delivers(irte::address(9), 0, vector));
    }
    let other = Irt::new(false);
    other.set(9, other.low(EDU_VECTOR, machine.apic_id), high);
    machine.unit.set_irt(other.base, Irt::SIZE, false);
    remapper.queue.run(IEC_GLOBAL, 0);
    checks.holds(
        "a new table by SIRTP is used",
        remapper.delivers(irte::address(9), 0, EDU_VECTOR),
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

fn compatibility(machine: &Machine, checks: Checks) {
    let remapper = Remapper::start(machine, false);
    let address = irte::compatible(machine.apic_id);
    let (silent, fault) = remapper.blocked(address, EDU_VECTOR.into());
    checks.holds("compatibility format: blocked", silent);
    checks.holds(
        "compatibility format: 0x25",
        fault.is_some_and(|fault| fault.reason == 0x25),
    );
    let set = machine.unit.set_at_once(CFI);
    let delivered = remapper.delivers(address, EDU_VECTOR.into(), EDU_VECTOR);
    checks.holds("compatibility format with CFI: delivered", set && delivered);
    machine.unit.clear(CFI);
    let (silent, _) = remapper.blocked(address, EDU_VECTOR.into());
    checks.holds("compatibility format, CFI cleared again: blocked", silent);
    machine.unit.clear(IRE);
    checks.holds(
        "remapping off: an MSI passes untouched",
        remapper.delivers(address, OTHER_VECTOR.into(), OTHER_VECTOR),
    );
}

fn extended(machine: &Machine, checks: Checks) {
    let mut remapper = Remapper::start(machine, true);
    let (low, high) = (remapper.low(EDU_VECTOR), remapper.edu_only());
    remapper.set(3, low, high);
    checks.holds(
        "32-bit destination: this CPU",
        remapper.delivers(irte::address(3), 0, EDU_VECTOR),
    );
    remapper.set(
        4,
        remapper.irt.low(EDU_VECTOR, machine.apic_id | 0x100),
        high,
    );
    remapper.send(irte::address(4), 0);
    checks.holds(
        "32-bit destination: bits beyond 8 count",
        interrupts::silence(),
    );
    machine.unit.set_at_once(CFI);
    let (silent, fault) = remapper.blocked(irte::compatible(machine.apic_id), EDU_VECTOR.into());
    checks.holds(
        "compatibility format with EIME: blocked though CFI is set",
        silent && fault.is_some_and(|fault| fault.reason == 0x25),
    );
    machine.unit.clear(CFI);
}
