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
    pub fn edu_only(&self) -> u64 {
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
    pub fn send(&self, address: u64, data: u16) {
        interrupts::clear();
        self.machine.unit.clear_faults();
        self.machine.edu.set_msi(address, data);
        self.machine.edu.send_msi();
    }

    /// Whether such an MSI arrives as `vector` and as nothing else.
    pub fn delivers(&self, address: u64, data: u16, vector: u8) -> bool {
        self.send(address, data);
        interrupts::arrived(vector, 1)
            && (vector == data.to_le_bytes()[0] || interrupts::count(data.to_le_bytes()[0]) == 0)
    }

    /// What such an MSI leaves in the fault log, if nothing arrives.
    pub fn blocked(&self, address: u64, data: u16) -> (bool, Option<Fault>) {
        self.send(address, data);
        let silent = interrupts::silence();
        (silent, self.machine.unit.take_fault())
    }
}

pub fn run(machine: &Machine, checks: Checks) {
    delivery(machine, checks);
    invalidation(machine, checks);
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
