// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A bench for scalable mode: `dmatest` behind tables of its own, with every kind of request allowed that the unit offers.

use crate::arch;
use crate::check::Checks;
use crate::checks::Machine;
use crate::dmatest::{BLOCKED, DONE, Dmatest, Operation, Via};
use crate::mem;
use crate::vtd::faults::{ATOMIC, Fault, READ, WRITE};
use crate::vtd::paging::Paging;
use crate::vtd::scalable::{DTE, Entry, PASIDE, PRE, PWSNP, Pasids, Tables};
use crate::vtd::unit::{SCALABLE, TE, Unit};
use crate::vtd::wide_queue::{WideQueue, device_all, device_tlb, pasid_device_tlb};

/// PASID, of 7 bits, and domain of most checks.
pub const PASID: u32 = 0x55;
pub const DOMAIN: u16 = 0x123;
/// A request with it.
pub const VIA: Via = Via::pasid(PASID);
/// An address that every table reaches and no memory has.
pub const IOVA: u64 = 0x12_3456_7000;
/// What `Bench::load` says of a read that was not done, beside the device's status.
pub const NOT_DONE: u64 = 0xBAD0_BAD0_0000_0000;

pub struct Bench<'a> {
    pub machine: &'a Machine,
    pub unit: Unit,
    pub device: Dmatest,
    pub tables: Tables,
    pub pasids: Pasids,
    pub queue: WideQueue,
}

impl<'a> Bench<'a> {
    /// Translation on in scalable mode, with no PASID bound.
    pub fn start(machine: &'a Machine) -> Bench<'a> {
        Bench::prepare(machine, Pasids::PAGE).go()
    }

    /// As `start`, but translation still off, and with a directory of 2^(`size` + 7) entries.
    pub fn prepare(machine: &'a Machine, size: u64) -> Bench<'a> {
        mem::reset();
        machine.unit.quiesce();
        let bench = Bench {
            machine,
            unit: machine.unit,
            device: machine.dmatest(),
            tables: Tables::new(),
            pasids: Pasids::new(size),
            queue: WideQueue::start(machine.unit),
        };
        bench.device.set_control(0);
        bench.set_context(0, 0);
        bench
    }

    /// Root pointer, global invalidation, translation on.
    pub fn go(mut self) -> Bench<'a> {
        self.unit.set_root(self.tables.root | SCALABLE);
        self.forget();
        self.unit.set(TE);
        self
    }

    /// Writes the context entry: everything allowed that the unit offers, and what is passed.
    pub fn set_context(&self, low: u64, high: u64) {
        self.tables
            .set_context(self.source(), self.context_word() | low, high);
    }

    /// The first word of the context entry.
    pub fn context_word(&self) -> u64 {
        let mut word = self.pasids.context_word();
        for (offered, bit) in [
            (self.unit.has_device_tlb(), DTE),
            (self.unit.has_pasids(), PASIDE),
            (
                self.unit.has_page_requests() && self.unit.has_device_tlb(),
                PRE,
            ),
        ] {
            if offered {
                word |= bit;
            }
        }
        word
    }

    pub fn source(&self) -> u16 {
        self.device.source()
    }

    /// PWSNP where the unit has it.
    pub fn snoop(&self) -> u64 {
        snoop(self.unit)
    }

    /// Binds the PASID of the checks.
    pub fn bind(&mut self, entry: Entry) {
        self.bind_to(PASID, entry);
    }

    /// Binds a PASID, with coherent walks where the unit has them.
    pub fn bind_to(&mut self, pasid: u32, entry: Entry) {
        self.pasids.set(pasid, entry.with(0, self.snoop(), 0));
        self.forget();
    }

    /// Empty first-stage tables of 4 levels, bound to the PASID of the checks.
    pub fn bind_first(&mut self) -> Paging {
        let paging = Paging::first(4);
        self.bind(Entry::first(&paging, DOMAIN));
        paging
    }

    /// Empty second-stage tables, bound to the PASID of the checks.
    pub fn bind_second(&mut self, levels: u64) -> Paging {
        let paging = Paging::second(levels);
        self.bind(Entry::second(&paging, DOMAIN));
        paging
    }

    /// Drops all that unit and device may hold.
    pub fn forget(&mut self) {
        if self.unit.has_device_tlb() {
            let source = self.device.source();
            self.queue.push(device_tlb(source), device_all(false));
            self.queue
                .push(pasid_device_tlb(source, 0), device_all(true) | 1);
        }
        self.queue.invalidate_all();
    }

    /// What the device reads at `iova`, 8 bytes; with its status in `NOT_DONE` when it could not.
    pub fn load(&self, via: Via, iova: u64) -> u64 {
        let answer = self.device.run(via, Operation::Load, iova);
        if answer.status == DONE {
            self.device.loaded()
        } else {
            NOT_DONE | u64::from(answer.status)
        }
    }

    /// Whether the device could write `value` at `iova`.
    pub fn store(&self, via: Via, iova: u64, value: u64) -> bool {
        self.device.run(via, Operation::Store(value), iova).status == DONE
    }

    /// The device's status after `operation` at `iova`, and the fault that the unit recorded meanwhile.
    pub fn attempt(&self, via: Via, operation: Operation, iova: u64) -> (u32, Option<Fault>) {
        self.unit.clear_faults();
        let status = self.device.run(via, operation, iova).status;
        (status, self.unit.take_fault())
    }

    /// The fault that such an attempt must have caused.
    pub fn expect(&self, reason: u8, via: Via, operation: Operation, iova: u64) -> Fault {
        let access = match operation {
            Operation::Load | Operation::Touch => READ,
            Operation::Add(_) => ATOMIC,
            _ => WRITE,
        };
        Fault {
            pasid: via.pasid,
            execute: via.is_execute(),
            privileged: via.is_privileged(),
            ..Fault::dma(reason, self.source(), iova, access)
        }
    }

    /// Checks that the unit blocks `operation` for this reason and records it.
    pub fn blocks(
        &self,
        checks: Checks,
        name: &str,
        (via, operation, iova): (Via, Operation, u64),
        reason: u8,
    ) {
        let expected = self.expect(reason, via, operation, iova);
        let (status, fault) = self.attempt(via, operation, iova);
        if status == BLOCKED {
            checks.fault(name, Some(expected), fault);
        } else {
            checks.equal(name, BLOCKED, status);
        }
    }

    /// Checks that a read is blocked for this reason.
    pub fn blocks_read(&self, checks: Checks, name: &str, via: Via, iova: u64, reason: u8) {
        self.blocks(checks, name, (via, Operation::Load, iova), reason);
    }

    /// Checks that a write is blocked for this reason.
    pub fn blocks_write(&self, checks: Checks, name: &str, via: Via, iova: u64, reason: u8) {
        self.blocks(checks, name, (via, Operation::Store(0), iova), reason);
    }

    /// Checks that the unit blocks a read and records nothing.
    pub fn blocks_silently(&self, checks: Checks, name: &str, via: Via, iova: u64) {
        let (status, fault) = self.attempt(via, Operation::Load, iova);
        if status == BLOCKED {
            checks.fault(name, None, fault);
        } else {
            checks.equal(name, BLOCKED, status);
        }
    }

    /// Checks that `operation` is done and nothing recorded.
    pub fn allows(&self, checks: Checks, name: &str, via: Via, operation: Operation, iova: u64) {
        let (status, fault) = self.attempt(via, operation, iova);
        if status == DONE {
            checks.fault(name, None, fault);
        } else {
            checks.equal(name, DONE, status);
        }
    }
}

/// Width of the PASIDs that unit and device have, in bits.
pub fn pasid_bits(machine: &Machine) -> u32 {
    let (bits, _) = arch::halves((machine.unit.ecap >> 35 & 0x1F) + 1);
    bits.min(machine.dmatest().pasid_bits())
}

/// PWSNP where the unit has it.
pub fn snoop(unit: Unit) -> u64 {
    if unit.has_coherent_walks() { PWSNP } else { 0 }
}

/// A page whose first word is `value`.
pub fn page_with(value: u64) -> u64 {
    let page = mem::page();
    mem::write64(page, value);
    page
}

/// Empty tables of a stage that the unit has, of the fewest levels.
pub fn any_tables(unit: Unit) -> Paging {
    if unit.has_first_stage() {
        Paging::first(4)
    } else {
        Paging::second(if unit.has_levels(3) { 3 } else { 4 })
    }
}

/// An entry for such tables.
pub fn any_entry(unit: Unit, tables: &Paging, domain: u16) -> Entry {
    if unit.has_first_stage() {
        Entry::first(tables, domain)
    } else {
        Entry::second(tables, domain)
    }
}

/// The reason for which an address that such tables do not map is blocked.
pub fn missing(unit: Unit) -> u8 {
    if unit.has_first_stage() { 0x71 } else { 0x79 }
}
