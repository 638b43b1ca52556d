// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Destinations of the unit's own events: with EIM they are 32 bits wide, the upper 24 in the upper half of the address.

use super::bench::{Bench, DOMAIN, IOVA, PASID, VIA, any_entry, any_tables};
use crate::check::Checks;
use crate::checks::{COMPLETION_VECTOR, FAULT_VECTOR, Machine, PAGE_VECTOR};
use crate::dmatest::{Operation, Via};
use crate::vtd::irte;
use crate::vtd::page_queue::PageQueue;
use crate::vtd::queue::{WAIT, WAIT_INTERRUPT};
use crate::vtd::unit::*;
use crate::vtd::wide_queue::page_response;
use crate::{arch, interrupts};

/// No CPU has this bit in its APIC id.
const ELSEWHERE: u32 = 1 << 8;

pub fn run(machine: &Machine, checks: Checks) {
    if !machine.unit.has_eim() || !interrupts::x2apic() {
        checks.skip(
            "32-bit destinations",
            "neither unit nor CPU goes without EIM and x2APIC",
        );
        return;
    }
    let mut bench = Bench::start(machine);
    for (variant, upper, arrives) in [("another CPU", ELSEWHERE, false), ("this CPU", 0, true)] {
        let checks = checks.on(variant);
        completion(&mut bench, upper, arrives, checks);
        fault(&mut bench, upper, arrives, checks);
        page_request(&mut bench, upper, arrives, checks);
    }
}

/// Programs the event whose control register is at `control`, and lets it through.
fn program(bench: &Bench, control: u64, vector: u8, upper: u32) {
    let (address, _) = arch::halves(irte::compatible(bench.machine.apic_id));
    bench.unit.write32(control + 4, vector.into());
    bench.unit.write32(control + 8, address);
    bench.unit.write32(control + 12, upper);
    bench.unit.write32(control, 0);
    interrupts::clear();
}

/// Whether the event came, or stayed away, as it must. It is masked and without upper bits after.
fn judge(bench: &Bench, control: u64, vector: u8, arrives: bool) -> bool {
    let good = if arrives {
        interrupts::arrived(vector, 1)
    } else {
        interrupts::silence()
    };
    // Sent either way, so nothing is pending.
    let sent = bench.unit.read32(control) == 0;
    bench.unit.write32(control, IM);
    bench.unit.write32(control + 12, 0);
    good && sent
}

fn completion(bench: &mut Bench, upper: u32, arrives: bool, checks: Checks) {
    program(bench, IECTL, COMPLETION_VECTOR, upper);
    bench.queue.push(WAIT | WAIT_INTERRUPT, 0);
    bench.queue.ring();
    bench.queue.drained();
    let good = judge(bench, IECTL, COMPLETION_VECTOR, arrives);
    bench.unit.write32(ICS, 1);
    checks.holds("completion event", good);
}

fn fault(bench: &mut Bench, upper: u32, arrives: bool, checks: Checks) {
    bench.unit.clear_faults();
    program(bench, FECTL, FAULT_VECTOR, upper);
    // Nothing is bound to PASID 0.
    bench.device.run(Via::PLAIN, Operation::Load, IOVA);
    let good = judge(bench, FECTL, FAULT_VECTOR, arrives);
    bench.unit.clear_faults();
    checks.holds("fault event", good);
}

fn page_request(bench: &mut Bench, upper: u32, arrives: bool, checks: Checks) {
    let unit = bench.unit;
    if !unit.has_page_requests() || !bench.device.has_pri() || !unit.has_pasids() {
        checks.skip("page request event", "not offered");
        return;
    }
    let entry = any_entry(unit, &any_tables(unit), DOMAIN);
    bench.bind(entry);
    let queue = PageQueue::start(unit, bench.machine.apic_id, PAGE_VECTOR);
    program(bench, PECTL, PAGE_VECTOR, upper);
    let slot = bench.device.start(VIA.asking(), Operation::Load, IOVA);
    arch::poll(arch::SHORT, || queue.tail() != 0);
    let good = judge(bench, PECTL, PAGE_VECTOR, arrives);
    if let Some(request) = queue.take() {
        let low = page_response(bench.source(), Some(PASID), 1);
        bench.queue.run(low, request.group() << 3);
    }
    bench.device.finish(slot);
    checks.holds("page request event", good);
}
