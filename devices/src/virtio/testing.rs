// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A driver for tests: guest memory behind a fake unit, and a queue written byte by byte.

use super::ring::{QueueLayout, Ring};
use super::{Notifier, QueueHandler, Wait};
use iommu::dma::{DmaSpace, Translate};
use iommu::fault::{Fault, FaultReason, FaultSubject};
use iommu::ids::{Requester, SourceId};
use iommu::memory::{PhysMem, Ram};
use iommu::request::{Perms, Request, Translation};
use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use vm_memory::GuestAddress;

/// Guest RAM begins at 0 and has this many bytes.
pub(crate) const RAM: u64 = 0x10_0000;

/// The device sees guest-physical address x at x + this.
pub(crate) const SHIFT: u64 = 0x1_0000_0000;

const PAGE: u64 = 0x1000;

/// Translates page by page, and blocks the pages that a test says.
#[derive(Debug, Default)]
pub(crate) struct FakeUnit {
    blocked: Mutex<BTreeSet<u64>>,
    faults: Mutex<Vec<u64>>,
}

impl FakeUnit {
    /// Blocks the page that holds guest-physical address `gpa`.
    pub(crate) fn block(&self, gpa: u64) {
        self.blocked.lock().unwrap().insert(gpa / PAGE);
    }

    /// The IOVAs that were blocked.
    pub(crate) fn faults(&self) -> Vec<u64> {
        self.faults.lock().unwrap().clone()
    }
}

impl Translate for FakeUnit {
    fn translate(&self, request: &Request) -> Result<Translation, Fault> {
        let gpa = request.address.0.wrapping_sub(SHIFT);
        if gpa >= RAM || self.blocked.lock().unwrap().contains(&(gpa / PAGE)) {
            self.faults.lock().unwrap().push(request.address.0);
            return Err(Fault {
                reason: FaultReason::NoWrite,
                subject: FaultSubject::Dma(*request),
                record: true,
            });
        }
        Ok(Translation {
            gpa: GuestAddress(gpa),
            len: PAGE - gpa % PAGE,
            perms: Perms::READ_WRITE,
        })
    }
}

/// Guest memory and the device's way to it.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) ram: Arc<Ram>,
    pub(crate) unit: Arc<FakeUnit>,
    pub(crate) space: Arc<DmaSpace>,
    shift: u64,
}

impl Guest {
    /// A guest whose device is behind the fake unit.
    pub(crate) fn translated() -> Self {
        let (ram, unit) = (ram(), Arc::<FakeUnit>::default());
        let space = DmaSpace::translated(ram.clone(), requester(), None, unit.clone());
        Self {
            ram,
            unit,
            space,
            shift: SHIFT,
        }
    }

    /// A guest without a unit.
    pub(crate) fn identity() -> Self {
        let ram = ram();
        Self {
            space: DmaSpace::identity(ram.clone(), requester()),
            ram,
            unit: Arc::default(),
            shift: 0,
        }
    }

    /// What the device calls `gpa`.
    pub(crate) fn iova(&self, gpa: u64) -> u64 {
        gpa + self.shift
    }

    pub(crate) fn write(&self, gpa: u64, bytes: &[u8]) {
        PhysMem::write(&*self.ram, GuestAddress(gpa), bytes).unwrap();
    }

    pub(crate) fn read(&self, gpa: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        PhysMem::read(&*self.ram, GuestAddress(gpa), &mut bytes).unwrap();
        bytes
    }

    /// A ring over `queue`, as the transport would make it.
    pub(crate) fn ring(
        &self,
        queue: &RawQueue<'_>,
        features: u64,
        notifier: &Arc<RecordingNotifier>,
    ) -> Ring {
        let space = Arc::clone(&self.space);
        Ring::new(0, queue.layout(), 256, features, space, notifier.clone()).unwrap()
    }
}

fn ram() -> Arc<Ram> {
    let ranges = [(GuestAddress(0), usize::try_from(RAM).unwrap())];
    Arc::new(Ram::from_ranges(&ranges).unwrap())
}

fn requester() -> Arc<Requester> {
    let requester = Arc::new(Requester::new(SourceId(0x0018)));
    requester.set_bus_master(true);
    requester
}

/// A piece of a request: guest-physical address, bytes, whether the device writes it.
pub(crate) type Part = (u64, u32, bool);

/// A queue of 16 entries: descriptors at `base`, available ring a page further on, used ring another page further on.
#[derive(Debug)]
pub(crate) struct RawQueue<'g> {
    guest: &'g Guest,
    base: u64,
    free: u16,
    available: u16,
}

impl<'g> RawQueue<'g> {
    pub(crate) const SIZE: u16 = 16;

    pub(crate) fn new(guest: &'g Guest, base: u64) -> Self {
        Self {
            guest,
            base,
            free: 0,
            available: 0,
        }
    }

    pub(crate) fn layout(&self) -> QueueLayout {
        QueueLayout {
            size: Self::SIZE,
            desc: self.guest.iova(self.base),
            driver: self.guest.iova(self.base + 0x1000),
            device: self.guest.iova(self.base + 0x2000),
        }
    }

    /// Writes descriptor `index`: IOVA, length, flags (1 next, 2 write, 4 indirect), next.
    pub(crate) fn descriptor(&self, index: u16, iova: u64, len: u32, flags: u16, next: u16) {
        let at = self.base + 16 * u64::from(index);
        self.guest.write(at, &iova.to_le_bytes());
        self.guest.write(at + 8, &len.to_le_bytes());
        self.guest.write(at + 12, &flags.to_le_bytes());
        self.guest.write(at + 14, &next.to_le_bytes());
    }

    /// Makes the chain at `head` available.
    pub(crate) fn offer(&mut self, head: u16) {
        let ring = self.base + 0x1000;
        let slot = u64::from(self.available % Self::SIZE);
        self.guest.write(ring + 4 + 2 * slot, &head.to_le_bytes());
        self.available = self.available.wrapping_add(1);
        self.guest.write(ring + 2, &self.available.to_le_bytes());
    }

    /// Makes a chain of `parts` available, from fresh descriptors.
    pub(crate) fn submit(&mut self, parts: &[Part]) -> u16 {
        let head = self.free;
        for (index, (gpa, len, write)) in parts.iter().enumerate() {
            let last = index + 1 == parts.len();
            let flags = u16::from(!last) | u16::from(*write) << 1;
            let next = (self.free + 1) % Self::SIZE;
            self.descriptor(self.free, self.guest.iova(*gpa), *len, flags, next);
            self.free = next;
        }
        self.offer(head);
        head
    }

    /// What the device gave back: head and bytes written, oldest first.
    pub(crate) fn used(&self) -> Vec<(u32, u32)> {
        let ring = self.base + 0x2000;
        let word = |at| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&self.guest.read(at, 4));
            u32::from_le_bytes(bytes)
        };
        let count = u64::from(word(ring) >> 16);
        (0..count)
            .map(|slot| (word(ring + 4 + 8 * slot), word(ring + 8 + 8 * slot)))
            .collect()
    }
}

/// Counts what a device tells its driver.
#[derive(Debug, Default)]
pub(crate) struct RecordingNotifier {
    counts: Mutex<(u32, u32)>,
    changed: Condvar,
}

impl RecordingNotifier {
    /// Signals of used buffers so far.
    pub(crate) fn signals(&self) -> u32 {
        self.counts.lock().unwrap().0
    }

    /// Failures so far.
    pub(crate) fn failures(&self) -> u32 {
        self.counts.lock().unwrap().1
    }

    /// Waits until `done` holds of (signals, failures).
    pub(crate) fn wait(&self, done: impl Fn(u32, u32) -> bool) {
        let counts = self.counts.lock().unwrap();
        let limit = Duration::from_secs(60);
        let (counts, timeout) = self
            .changed
            .wait_timeout_while(counts, limit, |counts| !done(counts.0, counts.1))
            .unwrap();
        assert!(!timeout.timed_out(), "device did not answer: {counts:?}");
    }
}

impl Notifier for RecordingNotifier {
    fn used(&self, _queue: u16) {
        self.counts.lock().unwrap().0 += 1;
        self.changed.notify_all();
    }

    fn needs_reset(&self, _queue: u16) {
        self.counts.lock().unwrap().1 += 1;
        self.changed.notify_all();
    }
}

/// Lets `handler` work until it waits for something.
pub(crate) fn drain(handler: &mut dyn QueueHandler, ring: &mut Ring) -> Wait {
    for _ in 0..64 {
        match handler.process(ring).unwrap() {
            Wait::Nothing => {}
            wait => return wait,
        }
    }
    panic!("the handler never waits");
}
