// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A device comes into a slot for which context and PASID tables are full already: each binding is there when it has come.

use core::array;

use super::slot::Slot;
use super::spaces::{Leads, Space, entry, lead};
use crate::check::{self, Checks};
use crate::checks::Machine;
use crate::checks::scalable::bench::{Bench, IOVA};
use crate::dmatest::{DONE, Dmatest, Operation, Via};
use crate::vtd::scalable::{PASIDE, Pasids, Tables};
use crate::vtd::unit::{SCALABLE, TE, Unit};
use crate::vtd::wide_queue::{PASID_CACHE_ONE, PASID_IOTLB_ALL, WideQueue, of_pasid};
use crate::{acpi, mem};

/// PASIDs that are bound: most to first-stage tables, some to second-stage ones, one to all of memory.
const PASIDS: usize = 20;
/// Requests without PASID go through this one's entry.
const OWN: u32 = 0;
const DOMAIN: u16 = 0x600;

pub fn run(machine: &Machine, checks: Checks) {
    let Some(slot) = Slot::find(acpi::ecam()) else {
        checks.holds("a root port with a hotplug slot", false);
        return;
    };
    if !checks.holds("the slot is empty", slot.is_empty()) {
        return;
    }
    machine.unit.quiesce();
    let mut filled = Filled::new(machine.unit, slot.function().source);
    checks.holds("translation on with nobody there", filled.enable());
    check::hold("arrive");
    if !checks.holds("a device comes", slot.power_on()) {
        return;
    }
    slot.place();
    let device = Dmatest::at(slot.function());
    checks.equal("it is dmatest", 0x5441_4D44u32, device.register(0));
    let Filled { own, mut leads, .. } = filled;
    let mut bench = Bench {
        machine,
        unit: machine.unit,
        device,
        tables: filled.tables,
        pasids: filled.pasids,
        queue: filled.queue,
    };
    let name = "each PASID leads where its entry said before";
    lead(&bench, checks, name, &leads);
    lead_own(&bench, checks, &own);
    let name = "a PASID without entry is blocked";
    lead(&bench, checks, name, &[(pasid(PASIDS), None)]);
    check::hold("arrived");
    change(&mut bench, checks, &mut leads);
    check::hold("changed");
}

/// Tables for a slot in which there is nothing.
struct Filled {
    unit: Unit,
    tables: Tables,
    pasids: Pasids,
    queue: WideQueue,
    own: Space,
    leads: [Leads; PASIDS],
}

impl Filled {
    fn new(unit: Unit, source: u16) -> Filled {
        let (tables, pasids) = (Tables::new(), Pasids::new(Pasids::PAGE));
        // The context tables of bus 0 serve the bus behind the port as well.
        mem::write64(tables.root_word(source), mem::read64(tables.root));
        tables.set_context(source, pasids.context_word() | PASIDE, OWN.into());
        let own = Space::first(unit, DOMAIN);
        pasids.set(OWN, own.entry);
        let leads = array::from_fn(|number| {
            let domain = DOMAIN + 1 + u16::try_from(number).unwrap_or(0);
            let space = match number % 8 {
                3 => Space::second(unit, domain),
                5 if number < 8 => Space::pass_through(unit, domain),
                _ => Space::first(unit, domain),
            };
            pasids.set(pasid(number), space.entry);
            (pasid(number), Some(space))
        });
        Filled {
            unit,
            tables,
            pasids,
            queue: WideQueue::start(unit),
            own,
            leads,
        }
    }

    /// Root pointer, invalidation, translation on.
    fn enable(&mut self) -> bool {
        self.unit.set_root(self.tables.root | SCALABLE);
        self.queue.invalidate_all() && self.unit.set(TE)
    }
}

/// One moves, one goes.
fn change(bench: &mut Bench, checks: Checks, leads: &mut [Leads; PASIDS]) {
    let moved = Space::first(bench.unit, DOMAIN + 1);
    for (number, space) in [(0, Some(moved)), (1, None)] {
        let (pasid, before) = leads[number];
        leads[number].1 = space;
        bench.pasids.set(pasid, entry(space));
        let domain = before.map_or(DOMAIN, |space| space.domain());
        let queue = &mut bench.queue;
        queue.push(of_pasid(PASID_CACHE_ONE, domain, pasid), 0);
        queue.push(of_pasid(PASID_IOTLB_ALL, domain, pasid), 0);
        checks.holds("changed after arrival: done", queue.flush_to_host());
    }
    let name = "changed after arrival: each where it belongs";
    lead(bench, checks, name, leads);
}

/// Checks requests without PASID.
fn lead_own(bench: &Bench, checks: Checks, own: &Space) {
    let name = "requests without PASID go through the entry of RID_PASID";
    checks.equal(name, mem::read64(own.page), bench.load(Via::PLAIN, IOVA));
    let answer = bench.device.run(Via::PLAIN, Operation::Store(7), IOVA + 8);
    checks.equal(name, DONE, answer.status);
    checks.equal(name, 7u64, mem::read64(own.page + 8));
}

/// PASIDs of several tables.
fn pasid(number: usize) -> u32 {
    9 + 41 * u32::try_from(number).unwrap_or(0)
}
