// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The unit through its registers. Offsets, values and descriptors are raw literals from the specification's tables.

mod access;
mod commands;
mod devices;
mod drain;
mod events;
mod faults;
mod follow;
mod invalidation;
mod page_requests;
mod posted;
mod properties;
mod queue;
mod saved;

use super::*;
use crate::address::{Iova, IovaRange};
use crate::ats::{Completion, PageResponse};
use crate::capabilities::{LegacyOptions, PasidBits, ScalableOptions};
use crate::invalidation::DeviceSpaces;
use crate::request::Access;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::thread::{self, ThreadId};
use vm_memory::GuestAddress;

/// A device that caches translations, in each bench.
const CACHING: u16 = 0x10ff;
/// Where the tests put their queue.
const QUEUE: u64 = 0x4000;

/// Takes what the unit sends, and can be made to hold it up.
#[derive(Debug, Default)]
struct Recorder {
    messages: Mutex<Vec<MsiMessage>>,
    changes: AtomicUsize,
    gate: Mutex<Option<Gate>>,
    /// The device [`CACHING`] does not answer.
    late: AtomicBool,
}

/// Tells that a notice has arrived, and on which thread, and holds it until told to go on.
#[derive(Debug)]
struct Gate {
    arrived: Sender<ThreadId>,
    proceed: Receiver<()>,
}

impl MsiSink for Recorder {
    fn deliver(&self, message: MsiMessage) {
        self.messages.lock().unwrap().push(message);
    }
}

impl InterruptListener for Recorder {
    fn interrupts_changed(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        if let Some(gate) = &*self.gate.lock().unwrap() {
            gate.arrived.send(thread::current().id()).unwrap();
            gate.proceed.recv().unwrap();
        }
    }
}

impl AtsEndpoint for Recorder {
    fn invalidate(&self, _: DeviceSpaces, _: IovaRange) -> Completion {
        if self.late.load(Ordering::SeqCst) {
            Completion::TimedOut
        } else {
            Completion::Completed
        }
    }

    fn respond(&self, _: PageResponse) {}
}

struct Bench {
    unit: Arc<Unit>,
    ram: Arc<Ram>,
    recorder: Arc<Recorder>,
}

impl Bench {
    fn new() -> Self {
        Self::with(&LegacyOptions::default())
    }

    fn with(options: &LegacyOptions) -> Self {
        Self::with_capabilities(Capabilities::legacy(options).unwrap())
    }

    /// With scalable mode and everything that devices can do.
    fn scalable() -> Self {
        let options = ScalableOptions {
            pasid: Some(PasidBits::MAX),
            device_tlb: true,
            page_requests: true,
            ..ScalableOptions::default()
        };
        Self::with_capabilities(Capabilities::scalable(&options).unwrap())
    }

    /// The same with the queue of one page at [`QUEUE`] enabled, 256 bits wide.
    fn with_wide_queue() -> Self {
        let bench = Self::scalable();
        bench.w64(0x90, QUEUE | 0x800);
        bench.w32(0x18, 0x0400_0000);
        bench
    }

    fn with_capabilities(capabilities: Capabilities) -> Self {
        let ram = Arc::new(Ram::from_ranges(&[(GuestAddress(0), 0x10_0000)]).unwrap());
        Self::in_memory(capabilities, Arc::clone(&ram) as _, ram)
    }

    /// With this view of the memory for the unit.
    fn in_memory(capabilities: Capabilities, memory: Arc<dyn PhysMem>, ram: Arc<Ram>) -> Self {
        let recorder = Arc::new(Recorder::default());
        let outputs = Outputs {
            events: Arc::clone(&recorder) as _,
            interrupts: Arc::clone(&recorder) as _,
        };
        let unit = Unit::new(capabilities, memory, outputs);
        let endpoint: Arc<dyn AtsEndpoint> = Arc::clone(&recorder) as _;
        let requester = Arc::new(Requester::new(SourceId(CACHING)));
        unit.register_endpoint(requester, &endpoint);
        Self {
            unit,
            ram,
            recorder,
        }
    }

    /// With the queue of one page at [`QUEUE`] enabled.
    fn with_queue() -> Self {
        let bench = Self::new();
        bench.w64(0x90, QUEUE);
        bench.w32(0x18, 0x0400_0000);
        bench
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

    /// Writes a descriptor into slot `index` of the queue at [`QUEUE`].
    fn put(&self, index: u64, qw0: u64, qw1: u64) {
        let at = QUEUE + 16 * index;
        PhysMem::write(&*self.ram, GuestAddress(at), &qw0.to_le_bytes()).unwrap();
        PhysMem::write(&*self.ram, GuestAddress(at + 8), &qw1.to_le_bytes()).unwrap();
    }

    /// Writes the descriptors from slot 0 on and then the tail behind them.
    fn submit(&self, descriptors: &[(u64, u64)]) {
        for (index, &(qw0, qw1)) in (0..).zip(descriptors) {
            self.put(index, qw0, qw1);
        }
        self.w32(0x88, u32::try_from(descriptors.len() * 16).unwrap());
    }

    /// Writes 256-bit descriptors behind the tail and then the tail behind them.
    fn submit_wide(&self, descriptors: &[(u64, u64)]) {
        let tail = self.r64(0x88) / 16;
        for (index, &(qw0, qw1)) in (0..).zip(descriptors) {
            let slot = (tail + 2 * index) % 256;
            self.put(slot, qw0, qw1);
            self.put(slot + 1, 0, 0);
        }
        let tail = (tail + 2 * descriptors.len() as u64) % 256;
        self.w32(0x88, u32::try_from(tail * 16).unwrap());
    }

    fn memory32(&self, address: u64) -> u32 {
        let mut data = [0; 4];
        PhysMem::read(&*self.ram, GuestAddress(address), &mut data).unwrap();
        u32::from_le_bytes(data)
    }

    fn messages(&self) -> Vec<MsiMessage> {
        std::mem::take(&mut self.recorder.messages.lock().unwrap())
    }

    fn changes(&self) -> usize {
        self.recorder.changes.swap(0, Ordering::SeqCst)
    }

    /// Records a fault of a device that reads or writes `address`.
    fn fault(&self, source: u16, address: u64, access: Access) {
        self.unit.record(&Fault {
            reason: crate::fault::FaultReason::NoRead,
            subject: crate::fault::FaultSubject::Dma(Request::untranslated(
                SourceId(source),
                Iova(address),
                access,
            )),
            record: true,
        });
    }
}
