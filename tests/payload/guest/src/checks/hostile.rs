// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Tables that no honest guest writes, for a device that somebody else translates for: tables that are their own subtables, tables
//! that are used again and again, tables and leaves where there is no memory. Each time every command completes, and another
//! device's translations work.
//!
//! The device is an NVMe controller, which nobody here drives: it only has a context entry.

use super::Machine;
use super::dma::{Bench, page_with};
use crate::check::Checks;
use crate::mem;
use crate::pci::Config;
use crate::vtd::legacy::RW;
use crate::vtd::queue::{IOTLB_DOMAIN, context_device, iotlb};

/// An NVMe controller as QEMU makes them.
const NVME: (u16, u16) = (0x1B36, 0x0010);

/// Its domain; the other device's is 2.
const DOMAIN: u16 = 9;

/// The reason that stands for tables that the host does not follow: an access to a second-stage table failed.
const REFUSED: u8 = 0x07;

/// An IOVA of the other device's.
const IOVA: u64 = 0x0C00_0000;

const ENTRIES: u64 = 512;

pub fn run(machine: &Machine, checks: Checks) {
    let Some(nvme) = Config::find(None, NVME.0, NVME.1) else {
        checks.holds("an NVMe controller on bus 0", false);
        return;
    };
    let mut victim = Victim {
        bench: Bench::start(machine, 2, machine.unit.max_levels()),
        source: nvme.source,
        checks,
        values: 0,
    };
    victim.refused("a table that is each of its own subtables", |_| {
        let table = mem::page();
        fill(table, table);
        table
    });
    victim.refused("an empty table that is used everywhere", |levels| {
        (1..levels).fold(mem::page(), |below, _| {
            let table = mem::page();
            fill(table, below);
            table
        })
    });
    victim.refused(
        "a table of scattered pages that is used everywhere",
        |levels| {
            let leaves = mem::page();
            for entry in 0..ENTRIES {
                mem::write64(leaves + entry * 8, (entry % 2 * 8 + 16) * mem::PAGE | RW);
            }
            (1..levels).fold(leaves, |below, _| {
                let table = mem::page();
                fill(table, below);
                table
            })
        },
    );
    victim.served("tables where there is no memory", |_| {
        let table = mem::page();
        fill(table, mem::HOLE);
        table
    });
    victim.served("leaves where there is no memory", |levels| {
        let leaves = mem::page();
        fill(leaves, mem::HOLE);
        (1..levels).fold(leaves, |below, _| {
            let table = mem::page();
            mem::write64(table, below | RW);
            table
        })
    });
    victim.served("an honest table again", |_| mem::page());
}

/// Every entry leads to `address`.
fn fill(table: u64, address: u64) {
    for entry in 0..ENTRIES {
        mem::write64(table + entry * 8, address | RW);
    }
}

/// The device with the tables, beside one whose translations must go on working.
struct Victim<'a> {
    bench: Bench<'a>,
    source: u16,
    checks: Checks,
    values: u32,
}

impl Victim<'_> {
    /// Tables that cost too much: the device is blocked, which is a fault. There is one until the device is served again, so
    /// it has honest tables first.
    fn refused(&mut self, name: &str, top: impl FnOnce(u64) -> u64) {
        self.give(name, |_| mem::page());
        self.bench.unit.clear_faults();
        self.give(name, top);
        let fault = self.bench.unit.wait_fault();
        let found = fault.map(|fault| (fault.reason, fault.source));
        self.checks
            .holds(name, found == Some((REFUSED, self.source)));
        self.other_lives(name);
    }

    /// Tables that are strange and do not cost much: the device reaches what there is.
    fn served(&mut self, name: &str, top: impl FnOnce(u64) -> u64) {
        self.give(name, top);
        self.checks.fault(name, None, self.bench.unit.take_fault());
        self.other_lives(name);
    }

    /// Makes tables the device's and has them looked at.
    fn give(&mut self, name: &str, top: impl FnOnce(u64) -> u64) {
        let bench = &mut self.bench;
        let levels = bench.tables.levels;
        let entry = bench.tables.context + u64::from(self.source & 0xFF) * 16;
        let top = top(levels);
        mem::write64(entry + 8, (levels - 2) | u64::from(DOMAIN) << 8);
        mem::write64(entry, top | 1);
        bench.queue.push(context_device(DOMAIN, self.source), 0);
        bench.queue.push(iotlb(IOTLB_DOMAIN, DOMAIN), 0);
        self.checks.holds(name, bench.queue.flush_patiently());
    }

    /// The other device is given a new page, and reaches it.
    fn other_lives(&mut self, name: &str) {
        self.values += 1;
        let value = 0xC0DE_0000 | u64::from(self.values);
        self.bench.map(IOVA, page_with(value), RW);
        self.checks.equal(name, value, self.bench.load(IOVA));
    }
}
