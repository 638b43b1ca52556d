// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Interrupt remapping table entries in posted format: the vector becomes a bit in memory, and a notification is sent.

use crate::check::Checks;
use crate::checks::intremap::Remapper;
use crate::checks::{EDU_VECTOR, Machine, OTHER_VECTOR, POSTED_VECTOR};
use crate::interrupts;
use crate::mem::{self, read64, write64};
use crate::vtd::faults::Fault;
use crate::vtd::irte;
use crate::vtd::queue::IEC_GLOBAL;

/// Notification vectors are `POSTED_VECTOR`; the posted ones have no handler's meaning.
const VECTOR: u8 = 0xC1;
const OTHER: u8 = 0x3F;
const INDEX: u16 = 17;

/// Bits of the descriptor's fifth word.
const ON: u64 = 1 << 0;
const SN: u64 = 1 << 1;
/// Bits of the entry's low word.
const POSTED: u64 = 1 << 15;
const URGENT: u64 = 1 << 14;

pub fn run(machine: &Machine, checks: Checks) {
    if !machine.unit.has_posting() || !machine.unit.has_remapping() {
        checks.skip("posted interrupts", "not offered");
        return;
    }
    for (variant, eime) in [("8-bit destinations", false), ("32-bit destinations", true)] {
        let checks = checks.on(variant);
        if eime && !(machine.unit.has_eim() && interrupts::x2apic()) {
            checks.skip(
                "all of it",
                "neither unit nor CPU goes without EIM and x2APIC",
            );
            continue;
        }
        let mut posting = Posting::start(machine, eime);
        notification(&mut posting, checks);
        suppression(&mut posting, checks);
        formats(&mut posting, checks);
        refusals(&mut posting, checks);
        descriptors(&mut posting, checks);
    }
}

struct Posting<'a> {
    machine: &'a Machine,
    remapper: Remapper<'a>,
    /// The posted-interrupt descriptor.
    at: u64,
    eime: bool,
}

impl<'a> Posting<'a> {
    fn start(machine: &'a Machine, eime: bool) -> Posting<'a> {
        mem::reset();
        let remapper = Remapper::start(machine, eime);
        let posting = Posting {
            machine,
            remapper,
            at: mem::page() + 0x40,
            eime,
        };
        posting.clear(0);
        posting
    }

    /// No requests, and this in the control word beside vector and destination.
    fn clear(&self, control: u64) {
        for offset in (0..32).step_by(8) {
            write64(self.at + offset, 0);
        }
        write64(self.at + 32, self.target() | control);
        for offset in (40..64).step_by(8) {
            write64(self.at + offset, 0);
        }
    }

    /// Notification vector and destination, as the control word has them.
    fn target(&self) -> u64 {
        let apic_id = u64::from(self.machine.apic_id);
        let destination = if self.eime { apic_id } else { apic_id << 8 };
        u64::from(POSTED_VECTOR) << 16 | destination << 32
    }

    fn low(&self, vector: u8) -> u64 {
        (self.at >> 6 & 0x3FF_FFFF) << 38 | u64::from(vector) << 16 | POSTED | 1
    }

    fn high(&self) -> u64 {
        self.at >> 32 << 32 | self.remapper.edu_only()
    }

    fn set(&mut self, low: u64, high: u64) {
        self.remapper.set(INDEX, low, high);
    }

    /// The device sends an MSI through the entry.
    fn send(&self) {
        self.remapper.send(irte::address(INDEX), 0);
    }

    /// Whether exactly these vectors are requested.
    fn requested(&self, vectors: &[u8]) -> bool {
        (0u8..4).all(|word| {
            let bits = vectors
                .iter()
                .filter(|&&vector| vector / 64 == word)
                .fold(0u64, |bits, vector| bits | 1 << (vector % 64));
            read64(self.at + u64::from(word) * 8) == bits
        })
    }

    /// ON and SN.
    fn control(&self) -> u64 {
        let word = read64(self.at + 32);
        if word & !(ON | SN) == self.target() {
            word & (ON | SN)
        } else {
            word
        }
    }
}

fn notification(posting: &mut Posting, checks: Checks) {
    posting.set(posting.low(VECTOR), posting.high());
    posting.send();
    checks.holds(
        "the notification arrives, and nothing else",
        interrupts::arrived(POSTED_VECTOR, 1) && interrupts::count(VECTOR) == 0,
    );
    checks.holds(
        "the vector is requested, and no other",
        posting.requested(&[VECTOR]),
    );
    checks.equal("ON is set", ON, posting.control());
    checks.fault(
        "nothing is recorded",
        None,
        posting.machine.unit.take_fault(),
    );
    posting.set(posting.low(OTHER), posting.high());
    posting.send();
    checks.holds(
        "while ON is set there is no notification",
        interrupts::silence(),
    );
    checks.holds(
        "... but the request is noted",
        posting.requested(&[OTHER, VECTOR]),
    );
    posting.clear(0);
    posting.send();
    checks.holds(
        "ON cleared: a notification again",
        interrupts::arrived(POSTED_VECTOR, 1) && posting.requested(&[OTHER]),
    );
    // Vectors of all four words of the requests.
    for (name, vector) in [
        ("the lowest vector", 0x00),
        ("a vector of the second word", 0x7F),
        ("the highest vector", 0xFF),
    ] {
        posting.clear(0);
        posting.set(posting.low(vector), posting.high());
        posting.send();
        let arrived = interrupts::arrived(POSTED_VECTOR, 1);
        checks.holds(name, arrived && posting.requested(&[vector]));
    }
}

/// SN suppresses notifications unless the entry is urgent.
fn suppression(posting: &mut Posting, checks: Checks) {
    posting.clear(SN);
    posting.set(posting.low(VECTOR), posting.high());
    posting.send();
    checks.holds("SN: no notification", interrupts::silence());
    checks.equal("SN: ON stays clear", SN, posting.control());
    checks.holds("SN: the request is noted", posting.requested(&[VECTOR]));
    posting.set(posting.low(OTHER) | URGENT, posting.high());
    posting.send();
    checks.holds(
        "SN, urgent: a notification",
        interrupts::arrived(POSTED_VECTOR, 1),
    );
    checks.equal("SN, urgent: ON is set", SN | ON, posting.control());
    posting.send();
    checks.holds("urgent, ON set: no notification", interrupts::silence());
}

/// An entry changes from one format to the other.
fn formats(posting: &mut Posting, checks: Checks) {
    posting.clear(0);
    let (low, high) = (
        posting.remapper.low(EDU_VECTOR),
        posting.remapper.edu_only(),
    );
    posting.set(low, high);
    let address = irte::address(INDEX);
    checks.holds(
        "remapped format",
        posting.remapper.delivers(address, 0, EDU_VECTOR) && posting.requested(&[]),
    );
    posting.set(posting.low(VECTOR), posting.high());
    posting.send();
    checks.holds(
        "to posted format, with an index-selective invalidation",
        interrupts::arrived(POSTED_VECTOR, 1) && posting.requested(&[VECTOR]),
    );
    posting.clear(0);
    posting
        .remapper
        .irt
        .set(INDEX, posting.remapper.low(OTHER_VECTOR), high);
    posting.remapper.queue.run(IEC_GLOBAL, 0);
    checks.holds(
        "back to remapped format, with a global invalidation",
        posting.remapper.delivers(address, 0, OTHER_VECTOR) && posting.requested(&[]),
    );
}

/// Entries that must be refused: nothing is noted, nothing arrives.
fn refusals(posting: &mut Posting, checks: Checks) {
    let (low, high) = (posting.low(VECTOR), posting.high());
    for (name, low, high, reason) in [
        ("entry bit 2: 0x24", low | 1 << 2, high, 0x24),
        ("entry bit 7: 0x24", low | 1 << 7, high, 0x24),
        ("entry bit 12: 0x24", low | 1 << 12, high, 0x24),
        ("entry bit 24: 0x24", low | 1 << 24, high, 0x24),
        ("entry bit 37: 0x24", low | 1 << 37, high, 0x24),
        ("entry bit 84: 0x24", low, high | 1 << 20, 0x24),
        ("entry bit 95: 0x24", low, high | 1 << 31, 0x24),
        ("another source: 0x26", low, high ^ 8, 0x26),
        ("not present: 0x22", low & !1, high, 0x22),
        ("not present, FPD: no record", low & !1 | irte::FPD, high, 0),
        (
            "entry bit 12, FPD: no record",
            low | 1 << 12 | irte::FPD,
            high,
            0,
        ),
    ] {
        posting.clear(0);
        posting.set(low, high);
        blocked(posting, checks, name, reason);
    }
    posting.clear(0);
    posting.set(low | 0xF << 8, high);
    posting.send();
    checks.holds(
        "available bits of the entry are ignored",
        interrupts::arrived(POSTED_VECTOR, 1) && posting.requested(&[VECTOR]),
    );
}

fn blocked(posting: &Posting, checks: Checks, name: &str, reason: u8) {
    let (silent, fault) = posting.remapper.blocked(irte::address(INDEX), 0);
    let source = posting.machine.edu.source();
    let expected = (reason != 0).then(|| Fault::interrupt(reason, source, INDEX.into()));
    if silent && posting.requested(&[]) {
        checks.fault(name, expected, fault);
    } else {
        checks.holds(name, false);
    }
}

/// Descriptors that must be refused.
fn descriptors(posting: &mut Posting, checks: Checks) {
    posting.set(posting.low(VECTOR), posting.high());
    for (name, offset, bit) in [
        ("descriptor bit 258: 0x28", 32, 2),
        ("descriptor bit 271: 0x28", 32, 15),
        ("descriptor bit 280: 0x28", 32, 24),
        ("descriptor bit 287: 0x28", 32, 31),
        ("descriptor bit 320: 0x28", 40, 0),
        ("descriptor bit 511: 0x28", 56, 63),
    ] {
        posting.clear(0);
        let at = posting.at + offset;
        write64(at, read64(at) | 1 << bit);
        blocked(posting, checks, name, 0x28);
    }
    posting.clear(0);
    let entry = posting.low(VECTOR) & 0x3F_FFFF_FFFF;
    let nowhere = mem::HOLE;
    let (low, high) = (
        entry | (nowhere >> 6 & 0x3FF_FFFF) << 38,
        nowhere >> 32 << 32 | posting.remapper.edu_only(),
    );
    posting.set(low, high);
    blocked(posting, checks, "descriptor that is no memory: 0x27", 0x27);
    posting.set(low | irte::FPD, high);
    blocked(
        posting,
        checks,
        "descriptor that is no memory, FPD: no record",
        0,
    );
}
