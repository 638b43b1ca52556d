// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What Linux's intel-iommu driver does to a unit from boot to the first fault, register access by register access, with
//! the widths it uses and the checks it makes. Values are the raw ones that the driver writes.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use iommu::address::Iova;
use iommu::capabilities::{Capabilities, LegacyOptions};
use iommu::dma::Translate;
use iommu::ids::SourceId;
use iommu::memory::{PhysMem, Ram};
use iommu::msi::{MsiMessage, MsiSink};
use iommu::request::{Access, Request};
use iommu::unit::{InterruptListener, Outputs, Unit};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use vm_memory::GuestAddress;

const QUEUE: u64 = 0x10_0000;
const STATUS: u64 = 0x10_1000;
const ROOT: u64 = 0x10_2000;
const INTERRUPT_TABLE: u64 = 0x20_0000;

#[derive(Debug, Default)]
struct Machine {
    messages: Mutex<Vec<MsiMessage>>,
    route_changes: AtomicU32,
}

impl MsiSink for Machine {
    fn deliver(&self, message: MsiMessage) {
        self.messages.lock().unwrap().push(message);
    }
}

impl InterruptListener for Machine {
    fn interrupts_changed(&self) {
        self.route_changes.fetch_add(1, Ordering::Relaxed);
    }
}

/// The driver's view of one unit.
struct Linux {
    unit: Arc<Unit>,
    ram: Arc<Ram>,
    machine: Arc<Machine>,
    /// The global command state that the driver remembers.
    gcmd: u32,
    /// The slot that the next descriptor goes to.
    free: u64,
}

impl Linux {
    fn boot(options: &LegacyOptions) -> Self {
        let ram = Arc::new(Ram::from_ranges(&[(GuestAddress(0), 0x40_0000)]).unwrap());
        let machine = Arc::new(Machine::default());
        let outputs = Outputs {
            events: Arc::clone(&machine) as _,
            interrupts: Arc::clone(&machine) as _,
        };
        let capabilities = Capabilities::legacy(options).unwrap();
        Self {
            unit: Unit::new(capabilities, Arc::clone(&ram) as _, outputs),
            ram,
            machine,
            gcmd: 0,
            free: 0,
        }
    }

    fn r32(&self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.unit.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn r64(&self, offset: u64) -> u64 {
        let mut data = [0; 8];
        self.unit.read(offset, &mut data);
        u64::from_le_bytes(data)
    }

    fn w32(&self, offset: u64, value: u32) {
        self.unit.write(offset, &value.to_le_bytes());
    }

    fn w64(&self, offset: u64, value: u64) {
        self.unit.write(offset, &value.to_le_bytes());
    }

    /// Writes a global command and checks that its status bit came.
    fn command(&mut self, bit: u32) {
        self.w32(0x18, self.gcmd | bit);
        assert_eq!(self.r32(0x1c) & bit, bit, "command {bit:#x} is not done");
        // SRTP and SIRTP are not remembered.
        self.gcmd |= bit & !0x4100_0000;
    }

    /// Clears a level bit and checks that its status bit went.
    fn clear(&mut self, bit: u32) {
        self.gcmd &= !bit;
        self.w32(0x18, self.gcmd);
        assert_eq!(self.r32(0x1c) & bit, 0, "command {bit:#x} is not undone");
    }

    /// Puts a descriptor into the next slot.
    fn put(&mut self, qw0: u64, qw1: u64) {
        let at = QUEUE + 16 * self.free;
        PhysMem::write(&*self.ram, GuestAddress(at), &qw0.to_le_bytes()).unwrap();
        PhysMem::write(&*self.ram, GuestAddress(at + 8), &qw1.to_le_bytes()).unwrap();
        self.free = (self.free + 1) % 256;
    }

    /// Puts descriptors and a wait into the queue, writes the tail, and checks that the wait's status came.
    fn submit(&mut self, descriptors: &[(u64, u64)]) {
        for &(qw0, qw1) in descriptors {
            self.put(qw0, qw1);
        }
        // Each slot has a status word: 1 in use, 2 done.
        let status = STATUS + 4 * self.free;
        PhysMem::write(&*self.ram, GuestAddress(status), &[1, 0, 0, 0]).unwrap();
        self.put(0x0000_0002_0000_0025, status);
        self.w32(0x88, u32::try_from(self.free << 4).unwrap());
        assert_eq!(self.r32(0x34) & 0x70, 0, "queue error");
        let mut seen = [0; 4];
        PhysMem::read(&*self.ram, GuestAddress(status), &mut seen).unwrap();
        assert_eq!(seen, [2, 0, 0, 0], "the wait is not done");
    }

    /// The early look at the unit, and the line that names it.
    fn detect(&self) {
        let (cap, ecap) = (self.r64(0x08), self.r64(0x10));
        assert!(cap != u64::MAX || ecap != u64::MAX);
        assert_eq!(self.r32(0x00), 0x10, "version 1.0");
        assert_eq!(cap >> 8 & 0x1f, 0x6, "39 and 48 bits");
        // The mapping of one page must hold the IOTLB and the fault recording registers.
        let iotlb_end = (ecap >> 8 & 0x3ff) * 16 + 16;
        let records_end = (cap >> 24 & 0x3ff) * 16 + ((cap >> 40 & 0xff) + 1) * 16;
        assert!(iotlb_end <= 0x1000 && records_end <= 0x1000);
        assert_eq!(self.r32(0x1c), 0, "nothing is on");
    }

    /// Clears whatever faults there are, as the interrupt handler does.
    fn flush_faults(&self) {
        let status = self.r32(0x34);
        let mut index = u64::from(status >> 8 & 0xff);
        for _ in 0..8 {
            if status & 2 == 0 || self.r32(0x22c + 16 * index) >> 31 == 0 {
                break;
            }
            self.w32(0x22c + 16 * index, 0x8000_0000);
            index = (index + 1) % 8;
        }
        self.w32(0x34, 0x83);
    }

    fn enable_queue(&mut self) {
        self.free = 0;
        self.w32(0x88, 0);
        self.w64(0x90, QUEUE);
        self.command(0x0400_0000);
        assert_eq!(self.r64(0x80), 0);
    }

    /// Interrupt remapping in x2APIC mode: long before anything of DMA.
    fn enable_interrupt_remapping(&mut self) {
        self.flush_faults();
        self.r32(0x1c);
        self.enable_queue();
        self.w64(0xb8, INTERRUPT_TABLE | 0x80f);
        self.command(0x0100_0000);
        self.submit(&[(0x04, 0)]);
        self.command(0x0200_0000);
        assert_eq!(
            self.r32(0x1c) >> 23 & 1,
            0,
            "compatibility format is blocked"
        );
        assert_eq!(self.r64(0xb8), INTERRUPT_TABLE | 0x80f);
    }

    /// The root table, and the flushes that follow it.
    fn set_root(&mut self) {
        self.w64(0x20, ROOT);
        self.command(0x4000_0000);
        self.submit(&[(0x11, 0)]);
        self.submit(&[(0xd2, 0)]);
        assert_eq!(self.r64(0x20), ROOT);
    }

    /// The fault interrupt: vector 0x21 to APIC id 0x101.
    fn request_fault_interrupt(&self) {
        self.w32(0x3c, 0x21);
        self.w32(0x40, 0xfee0_1000);
        self.w32(0x44, 0x100);
        self.w32(0x38, 0);
        assert_eq!(self.r32(0x38), 0);
    }

    fn init(&mut self) {
        self.detect();
        self.enable_interrupt_remapping();
        self.set_root();
        self.request_fault_interrupt();
        self.command(0x8000_0000);
    }
}

#[test]
fn unit_follows_linux_from_boot_to_translation() {
    let mut linux = Linux::boot(&LegacyOptions::default());
    linux.detect();
    linux.enable_interrupt_remapping();
    assert_eq!(linux.r32(0x1c), 0x0700_0000);
    linux.set_root();
    assert_eq!(linux.r32(0x1c), 0x4700_0000);
    linux.request_fault_interrupt();
    linux.command(0x8000_0000);
    assert_eq!(linux.r32(0x1c), 0xc700_0000);
    assert_eq!(linux.gcmd, 0x8600_0000);
    assert_eq!(linux.r32(0x34), 0);
    let counters = linux.unit.counters();
    assert_eq!(counters.waits, 3);
    assert_eq!(counters.context_invalidations, 1);
    assert_eq!(counters.iotlb_invalidations, 1);
    assert_eq!(counters.interrupt_invalidations, 1);
    assert_eq!(counters.events, 0);
    // IEC while interrupts pass, then IRE.
    assert_eq!(linux.machine.route_changes.load(Ordering::Relaxed), 2);
}

#[test]
fn unit_without_interrupt_remapping_ends_with_dma_only() {
    let mut linux = Linux::boot(&LegacyOptions {
        interrupt_remapping: false,
        extended_interrupt_mode: false,
        ..LegacyOptions::default()
    });
    linux.detect();
    linux.flush_faults();
    linux.enable_queue();
    linux.set_root();
    linux.command(0x8000_0000);
    assert_eq!(linux.r32(0x1c), 0xc400_0000);
}

/// With caching mode a device's first mapping is flushed: its context entry under domain 0, then its pages.
#[test]
fn caching_mode_flushes_are_accepted() {
    let mut linux = Linux::boot(&LegacyOptions {
        caching_mode: true,
        ..LegacyOptions::default()
    });
    assert_eq!(linux.r64(0x08) >> 7 & 1, 1);
    linux.init();
    linux.submit(&[(0x0000_0018_0000_0031, 0)]);
    linux.submit(&[(0x0002_00e2, 0)]);
    linux.submit(&[(0x0002_00f2, 0xffff_f000)]);
    linux.submit(&[(0x0002_00f2, 0xffff_0044), (0x0002_00f2, 0xfffe_0003)]);
    assert_eq!(linux.r32(0x34), 0);
}

#[test]
fn queue_is_used_round_and_round() {
    let mut linux = Linux::boot(&LegacyOptions::default());
    linux.init();
    for index in 0..1000u64 {
        linux.submit(&[(0x0000_0000_0000_0014 | index << 32, 0)]);
    }
    assert_eq!(linux.unit.counters().interrupt_invalidations, 1001);
}

/// A bad descriptor: Linux reads the error, replaces the descriptor by the wait behind it, and clears IQE.
#[test]
fn queue_error_is_left_the_way_linux_leaves_it() {
    let mut linux = Linux::boot(&LegacyOptions::default());
    linux.init();
    let first = linux.free;
    linux.put(0x0000_0000_0000_0003, 0);
    linux.put(0x0000_0002_0000_0025, STATUS);
    linux.w32(0x88, u32::try_from((first + 2) << 4).unwrap());
    assert_eq!(linux.r32(0x34) & 0x70, 0x10);
    assert_eq!(linux.r64(0xb0) & 0xf, 3);
    assert_eq!(u64::from(linux.r32(0x80)) >> 4, first);
    let mut wait = [0; 16];
    PhysMem::read(
        &*linux.ram,
        GuestAddress(QUEUE + 16 * (first + 1)),
        &mut wait,
    )
    .unwrap();
    PhysMem::write(&*linux.ram, GuestAddress(QUEUE + 16 * first), &wait).unwrap();
    linux.w32(0x34, 0x10);
    assert_eq!(linux.r32(0x34), 0);
    assert_eq!(linux.r32(0x80), linux.r32(0x88));
    linux.submit(&[(0xd2, 0)]);
}

#[test]
fn fault_interrupts_linux_which_clears_it() {
    let mut linux = Linux::boot(&LegacyOptions::default());
    linux.init();
    let request = Request::untranslated(SourceId(0x18), Iova(0x1234_5678), Access::Write);
    assert!(linux.unit.translate(&request).is_err());
    let messages = std::mem::take(&mut *linux.machine.messages.lock().unwrap());
    assert_eq!(
        messages,
        [MsiMessage {
            address: 0x0000_0100_fee0_1000,
            data: 0x21,
        }]
    );
    assert_eq!(linux.r32(0x34), 2);
    assert_eq!(
        linux.r32(0x22c),
        0x8000_0001,
        "write, root entry not present"
    );
    assert_eq!(linux.r32(0x228), 0x18);
    assert_eq!(linux.r64(0x220), 0x1234_5000);
    linux.flush_faults();
    assert_eq!(linux.r32(0x34), 0);
    assert!(linux.unit.translate(&request).is_err());
    assert_eq!(linux.machine.messages.lock().unwrap().len(), 1);
}

/// A kernel started by kexec finds everything on, switches it off, and starts afresh.
#[test]
fn second_kernel_takes_a_running_unit_over() {
    let mut linux = Linux::boot(&LegacyOptions::default());
    linux.init();
    let status = linux.r32(0x1c);
    assert_eq!(status, 0xc700_0000);
    // What it finds on is what it remembers as commanded.
    linux.gcmd = status & 0x96ff_ffff;
    linux.clear(0x8000_0000);
    assert_eq!(linux.r32(0x88), linux.r32(0x80));
    linux.clear(0x0200_0000);
    linux.clear(0x0400_0000);
    assert_eq!(linux.r64(0x80), 0);
    linux.enable_interrupt_remapping();
    linux.set_root();
    linux.request_fault_interrupt();
    linux.command(0x8000_0000);
    assert_eq!(linux.r32(0x1c), 0xc700_0000);
}

#[test]
fn reset_lets_the_next_boot_find_a_cold_unit() {
    let mut linux = Linux::boot(&LegacyOptions::default());
    linux.init();
    linux.unit.reset();
    linux.gcmd = 0;
    linux.init();
    assert_eq!(linux.r32(0x1c), 0xc700_0000);
}
