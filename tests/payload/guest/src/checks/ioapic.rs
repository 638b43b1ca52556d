// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Interrupt remapping of the IOAPIC: the `edu` device's INTx line through an entry in remappable format, edge and level.

use super::intremap::Remapper;
use super::{EDU_VECTOR, Machine, OTHER_VECTOR};
use crate::check::Checks;
use crate::ioapic::{self, LEVEL, MASKED, REMOTE_IRR};
use crate::vtd::faults::Fault;
use crate::vtd::irte;
use crate::{arch, interrupts};

pub fn run(machine: &Machine, checks: Checks) {
    let pin = machine.edu.pin();
    if !checks.holds("the edu device has an interrupt line below 24", pin < 24) {
        return;
    }
    machine.edu.set_intx();
    machine.edu.lower();
    edge(machine, pin, checks);
    eoi_register(machine, pin, checks);
    if interrupts::kept_in_service() {
        level(machine, pin, checks);
        masked(machine, pin, checks);
    } else {
        checks.skip("level", "this KVM's local APIC ends interrupts by itself");
        checks.skip("masked", "this KVM's local APIC ends interrupts by itself");
    }
    ioapic::set_entry(pin, MASKED);
    machine.edu.lower();
}

/// High word that admits only the IOAPIC.
fn ioapic_only(machine: &Machine) -> u64 {
    irte::SVT_SOURCE | u64::from(machine.ioapic)
}

fn edge(machine: &Machine, pin: u8, checks: Checks) {
    let mut remapper = Remapper::start(machine, false);
    let low = remapper.low(EDU_VECTOR);
    remapper.set(40, low, ioapic_only(machine));
    ioapic::set_entry(pin, ioapic::remappable(40, OTHER_VECTOR, 0));
    checks.equal(
        "the entry reads back",
        ioapic::remappable(40, OTHER_VECTOR, 0),
        ioapic::entry(pin),
    );
    interrupts::clear();
    machine.edu.raise();
    let arrived = interrupts::arrived(EDU_VECTOR, 1) && interrupts::count(OTHER_VECTOR) == 0;
    checks.holds("edge: the remapped vector arrives once", arrived);
    machine.edu.lower();
    checks.holds(
        "edge: the falling line raises nothing",
        interrupts::arrived(EDU_VECTOR, 1),
    );
    machine.edu.raise();
    checks.holds(
        "edge: again on the next rise",
        interrupts::arrived(EDU_VECTOR, 2),
    );
    machine.edu.lower();

    remapper.set(40, low, ioapic_only(machine) ^ 1);
    interrupts::clear();
    machine.unit.clear_faults();
    machine.edu.raise();
    let silent = interrupts::silence();
    machine.edu.lower();
    checks.holds("another source's entry: no interrupt", silent);
    let expected = Fault::interrupt(0x26, machine.ioapic, 40);
    checks.fault(
        "another source's entry: 0x26",
        Some(expected),
        machine.unit.take_fault(),
    );
}

fn level(machine: &Machine, pin: u8, checks: Checks) {
    let mut remapper = Remapper::start(machine, false);
    let low = remapper.low(EDU_VECTOR) | irte::LEVEL;
    remapper.set(41, low, ioapic_only(machine));
    ioapic::set_entry(pin, ioapic::remappable(41, EDU_VECTOR, LEVEL));
    interrupts::clear();
    interrupts::hold_end_of_interrupt(true);
    machine.edu.raise();
    checks.holds(
        "level: the vector arrives",
        interrupts::arrived(EDU_VECTOR, 1),
    );
    checks.equal(
        "level: remote IRR is set until the EOI",
        REMOTE_IRR,
        ioapic::entry(pin) & REMOTE_IRR,
    );
    interrupts::end_of_interrupt();
    checks.holds(
        "level: arrives again while the line is high",
        interrupts::arrived(EDU_VECTOR, 2),
    );
    machine.edu.lower();
    interrupts::end_of_interrupt();
    checks.holds(
        "level: not again once the line is low",
        interrupts::arrived(EDU_VECTOR, 2),
    );
    checks.equal(
        "level: remote IRR falls with the EOI",
        0u64,
        ioapic::entry(pin) & REMOTE_IRR,
    );
    interrupts::hold_end_of_interrupt(false);
}

/// As Linux does it: the remapping entry says edge, the redirection entry level and another vector, and the IOAPIC's own
/// register, written with that vector, ends it.
fn eoi_register(machine: &Machine, pin: u8, checks: Checks) {
    if ioapic::version() < 0x20 {
        checks.skip("EOI register", "the IOAPIC's version is below 0x20");
        return;
    }
    let mut remapper = Remapper::start(machine, false);
    let low = remapper.low(EDU_VECTOR);
    remapper.set(42, low, ioapic_only(machine));
    ioapic::set_entry(pin, ioapic::remappable(42, OTHER_VECTOR, LEVEL));
    interrupts::clear();
    machine.edu.raise();
    checks.holds(
        "EOI register: the vector arrives",
        interrupts::arrived(EDU_VECTOR, 1),
    );
    checks.equal(
        "EOI register: the APIC's EOI leaves remote IRR",
        REMOTE_IRR,
        ioapic::entry(pin) & REMOTE_IRR,
    );
    ioapic::end_of_interrupt(OTHER_VECTOR);
    checks.holds(
        "EOI register: arrives again while the line is high",
        interrupts::arrived(EDU_VECTOR, 2),
    );
    machine.edu.lower();
    ioapic::end_of_interrupt(OTHER_VECTOR);
    checks.equal(
        "EOI register: remote IRR falls",
        0u64,
        ioapic::entry(pin) & REMOTE_IRR,
    );
    checks.holds(
        "EOI register: not again once the line is low",
        interrupts::arrived(EDU_VECTOR, 2),
    );
}

fn masked(machine: &Machine, pin: u8, checks: Checks) {
    let mut remapper = Remapper::start(machine, false);
    let low = remapper.low(EDU_VECTOR) | irte::LEVEL;
    remapper.set(43, low, ioapic_only(machine));
    ioapic::set_entry(pin, ioapic::remappable(43, EDU_VECTOR, LEVEL | MASKED));
    interrupts::clear();
    machine.edu.raise();
    checks.holds("masked: nothing arrives", interrupts::silence());
    interrupts::hold_end_of_interrupt(true);
    ioapic::set_entry(pin, ioapic::remappable(43, EDU_VECTOR, LEVEL));
    let arrived = arch::poll(arch::SHORT, || {
        interrupts::settle();
        interrupts::count(EDU_VECTOR) != 0
    });
    checks.holds("unmasked with the line high: arrives", arrived);
    machine.edu.lower();
    interrupts::end_of_interrupt();
    interrupts::hold_end_of_interrupt(false);
}
