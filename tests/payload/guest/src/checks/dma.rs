// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A bench for DMA checks: the `edu` device behind tables, with a page to take from and a page to put to.
//!
//! Both pages are mapped one to one in every table, so they are reached in the same way with translation off or passed through.

use super::Machine;
use crate::mem::{self, read64, write64};
use crate::vtd::faults::Fault;
use crate::vtd::legacy::{RW, Tables};
use crate::vtd::queue::{IOTLB_PAGE, Queue, iotlb};
use crate::vtd::unit::{TE, Unit};

/// What the sink holds before the device writes there.
const POISON: u64 = 0xDEAD_0000_DEAD_0000;

pub struct Bench<'a> {
    pub machine: &'a Machine,
    pub unit: Unit,
    pub tables: Tables,
    pub queue: Queue,
    source: u64,
    sink: u64,
}

impl<'a> Bench<'a> {
    /// Translation on, with empty tables but for the two pages.
    pub fn start(machine: &'a Machine, domain: u16, levels: u64) -> Bench<'a> {
        let bench = Bench::prepare(machine, domain, levels);
        bench.map_own_pages();
        bench.go()
    }

    /// As `start`, but translation still off and the two pages not mapped.
    pub fn prepare(machine: &'a Machine, domain: u16, levels: u64) -> Bench<'a> {
        mem::reset();
        machine.unit.quiesce();
        Bench {
            machine,
            unit: machine.unit,
            tables: Tables::new(machine.edu.source(), domain, levels),
            queue: Queue::start(machine.unit),
            source: mem::page(),
            sink: mem::page(),
        }
    }

    /// Maps the two pages.
    pub fn map_own_pages(&self) {
        self.tables.map(self.source, self.source, RW);
        self.tables.map(self.sink, self.sink, RW);
    }

    /// Root pointer, global invalidation, translation on.
    pub fn go(mut self) -> Bench<'a> {
        self.unit.set_root(self.tables.root);
        self.queue.invalidate_all();
        self.unit.set(TE);
        self
    }

    /// What the device reads at `iova` (8 bytes).
    pub fn load(&self, iova: u64) -> u64 {
        write64(self.sink, POISON);
        // A read that is blocked may leave the device's buffer as it is.
        self.machine.edu.read(self.sink, 8);
        self.machine.edu.read(iova, 8);
        self.machine.edu.write(self.sink, 8);
        read64(self.sink)
    }

    /// The device writes `value` at `iova` (8 bytes).
    pub fn store(&self, iova: u64, value: u64) {
        write64(self.source, value);
        self.machine.edu.read(self.source, 8);
        self.machine.edu.write(iova, 8);
    }

    /// The device reads `count` bytes at `iova`, and the result is seen at the returned address.
    pub fn load_bytes(&self, iova: u64, count: u64) -> u64 {
        self.machine.edu.read(iova, count);
        self.machine.edu.write(self.sink, count);
        self.sink
    }

    /// The device writes the first `count` bytes of the source page, whose address is `source()`, to `iova`.
    pub fn store_bytes(&self, iova: u64, count: u64) {
        self.machine.edu.read(self.source, count);
        self.machine.edu.write(iova, count);
    }

    pub fn source(&self) -> u64 {
        self.source
    }

    /// Whether a read at `iova` gets through to `value`.
    pub fn reads(&self, iova: u64, value: u64) -> bool {
        self.load(iova) == value
    }

    /// Maps a 4 KiB page and invalidates it, as a driver under caching mode must.
    pub fn map(&mut self, iova: u64, address: u64, rights: u64) {
        self.tables.map(iova, address, rights);
        self.invalidate_page(iova, 0);
    }

    /// Page-selective invalidation of 2^`mask` pages.
    pub fn invalidate_page(&mut self, iova: u64, mask: u64) -> bool {
        self.queue
            .run(iotlb(IOTLB_PAGE, self.tables.domain), iova | mask)
    }

    /// The fault of a read at `iova`, if any.
    pub fn faults_on_read(&self, iova: u64) -> Option<Fault> {
        self.unit.clear_faults();
        self.machine.edu.read(iova, 4);
        self.unit.wait_fault()
    }

    /// The fault of a write at `iova`, if any.
    pub fn faults_on_write(&self, iova: u64) -> Option<Fault> {
        self.unit.clear_faults();
        self.machine.edu.write(iova, 4);
        self.unit.wait_fault()
    }

    /// The fault that the `edu` device must have caused.
    pub fn expect(&self, reason: u8, iova: u64, access: u8) -> Option<Fault> {
        Some(Fault::dma(reason, self.machine.edu.source(), iova, access))
    }

    /// Drops all that the unit may hold.
    pub fn forget(&mut self) {
        self.queue.invalidate_all();
    }
}

/// A page whose first word is `value`.
pub fn page_with(value: u64) -> u64 {
    let page = mem::page();
    write64(page, value);
    page
}
