// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a follower is told, and when. Tables and descriptors are raw literals.

mod answers;
mod deferred;
mod legacy;
mod pasids;
mod properties;
mod scalable;

use super::*;
use crate::follow::{
    Answer, Attachment, Deferred, DeviceHandle, FollowEvent, FollowedDevice, Follower, Invalidated,
    PasidBudget, Refusal, Unmet,
};
use crate::ids::DomainId;
use crate::translate::paging::Stages;

/// 00:02.0.
const DEVICE: u16 = 0x10;
/// 00:02.1.
const OTHER: u16 = 0x11;
const D: DeviceHandle = DeviceHandle(7);
const E: DeviceHandle = DeviceHandle(9);
/// Where wait descriptors write.
const STATUS: u64 = 0x2000;

/// Why an event fails, if it does.
type Judge = fn(&FollowEvent) -> Option<Unmet>;

/// A follower that remembers.
#[derive(Debug)]
struct Notes {
    ram: Arc<Ram>,
    batches: Mutex<Vec<Vec<FollowEvent>>>,
    /// The status word when each batch came.
    statuses: Mutex<Vec<u32>>,
    judge: Mutex<Judge>,
    resynced: Mutex<Vec<DeviceHandle>>,
    gate: Mutex<Option<Gate>>,
    /// Work that was deferred, if that is wanted.
    deferred: Mutex<Option<Vec<Deferred>>>,
}

impl Follower for Notes {
    fn apply(&self, events: &[FollowEvent]) -> Answer {
        let mut status = [0; 4];
        PhysMem::read(&*self.ram, GuestAddress(STATUS), &mut status).unwrap();
        self.statuses
            .lock()
            .unwrap()
            .push(u32::from_le_bytes(status));
        self.batches.lock().unwrap().push(events.to_vec());
        if let Some(gate) = &*self.gate.lock().unwrap() {
            gate.arrived.send(thread::current().id()).unwrap();
            gate.proceed.recv().unwrap();
        }
        let judge = *self.judge.lock().unwrap();
        let result = |event| judge(event).map_or(Ok(()), |unmet| Err(Refusal::from(unmet)));
        Answer {
            results: events.iter().map(result).collect(),
            resynced: std::mem::take(&mut self.resynced.lock().unwrap()),
        }
    }

    fn defer(&self, work: Deferred) -> Option<Deferred> {
        match &mut *self.deferred.lock().unwrap() {
            Some(deferred) => {
                deferred.push(work);
                None
            }
            None => Some(work),
        }
    }
}

/// A unit whose follower remembers, with a queue, a root table at 0x8000 and room for context tables at 0x9000 and 0xa000.
struct Bed {
    bench: Bench,
    notes: Arc<Notes>,
    wide: bool,
    waits: std::cell::Cell<u32>,
}

fn options() -> ScalableOptions {
    ScalableOptions {
        nesting: true,
        pasid: Some(PasidBits::MAX),
        supervisor_requests: true,
        abort_mode: true,
        ..ScalableOptions::default()
    }
}

const BUDGET: PasidBudget = PasidBudget {
    bits: 20,
    bindings: 100_000,
    tables: 1000,
};

impl Bed {
    /// In legacy mode.
    fn legacy() -> Self {
        let bench = Bench::with_queue();
        bench.w64(0x20, 0x8000);
        Self::of(bench, false)
    }

    /// In scalable mode.
    fn scalable() -> Self {
        let bench = Bench::with_capabilities(Capabilities::scalable(&options()).unwrap());
        bench.w64(0x90, QUEUE | 0x800);
        bench.w32(0x18, 0x0400_0000);
        bench.w64(0x20, 0x8400);
        Self::of(bench, true)
    }

    fn of(bench: Bench, wide: bool) -> Self {
        let notes = Arc::new(Notes {
            ram: Arc::clone(&bench.ram),
            batches: Mutex::default(),
            statuses: Mutex::default(),
            judge: Mutex::new(|_| None),
            resynced: Mutex::default(),
            gate: Mutex::default(),
            deferred: Mutex::default(),
        });
        bench.unit.set_follower(Arc::clone(&notes) as _).unwrap();
        let bed = Self {
            bench,
            notes,
            wide,
            waits: std::cell::Cell::new(0),
        };
        bed.set(0x8000, 0x9001);
        if wide {
            bed.set(0x8008, 0xa001);
        }
        bed.bench.w32(0x18, 0x4400_0000);
        bed
    }

    fn set(&self, at: u64, value: u64) {
        PhysMem::write(&*self.bench.ram, GuestAddress(at), &value.to_le_bytes()).unwrap();
    }

    /// The legacy context of a device on bus 0.
    fn context(&self, source: u16, low: u64, high: u64) {
        let at = 0x9000 + 16 * u64::from(source);
        self.set(at + 8, high);
        self.set(at, low);
    }

    fn follow(&self, handle: DeviceHandle, source: u16) -> Vec<FollowEvent> {
        self.follow_with(handle, source, BUDGET)
    }

    fn follow_with(
        &self,
        handle: DeviceHandle,
        source: u16,
        budget: PasidBudget,
    ) -> Vec<FollowEvent> {
        let device = FollowedDevice {
            handle,
            requester: Arc::new(Requester::new(SourceId(source))),
            pasids: Some(budget),
        };
        self.bench.unit.follow(device).unwrap();
        self.told()
    }

    /// What was told since.
    fn told(&self) -> Vec<FollowEvent> {
        self.batches().concat()
    }

    fn batches(&self) -> Vec<Vec<FollowEvent>> {
        std::mem::take(&mut self.notes.batches.lock().unwrap())
    }

    /// Puts the descriptors into the queue with a wait behind them, and returns what was told.
    fn submit(&self, descriptors: &[(u64, u64)]) -> Vec<FollowEvent> {
        let number = self.waits.get() + 1;
        self.waits.set(number);
        let mut all = descriptors.to_vec();
        all.push((u64::from(number) << 32 | 0x25, STATUS));
        if self.wide {
            self.bench.submit_wide(&all);
        } else {
            let tail = self.bench.r64(0x88) / 16;
            for (index, &(qw0, qw1)) in (0..).zip(&all) {
                self.bench.put((tail + index) % 256, qw0, qw1);
            }
            let tail = (tail + all.len() as u64) % 256;
            self.bench.w64(0x88, tail * 16);
        }
        assert_eq!(self.bench.memory32(STATUS), number, "the wait completed");
        self.told()
    }

    /// Enables translation.
    fn enable(&self) -> Vec<FollowEvent> {
        self.bench.w32(0x18, 0x8400_0000);
        self.told()
    }

    fn judge(&self, judge: Judge) {
        *self.notes.judge.lock().unwrap() = judge;
    }

    /// The faults since: reason code and how many.
    fn faults(&self) -> Vec<(u8, u64)> {
        let faults = self.bench.unit.counters().faults;
        faults
            .iter()
            .map(|(reason, count)| (reason.code(), *count))
            .collect()
    }
}

fn attach(device: DeviceHandle, to: Attachment) -> FollowEvent {
    FollowEvent::Attach { device, to }
}

/// Domain and root of what an event leads to: the second stage's if there is one.
fn leads_to(event: &FollowEvent) -> Option<(u16, u64)> {
    let (FollowEvent::Attach { to, .. }
    | FollowEvent::Bind { to, .. }
    | FollowEvent::Rebind { to, .. }) = event
    else {
        return None;
    };
    match to {
        Attachment::Domain(domain) => {
            let table = match domain.tables.stages {
                Stages::First(first) => first.table,
                Stages::Second(second) | Stages::Nested(_, second) => second.table,
            };
            Some((domain.id.0, table.0))
        }
        _ => None,
    }
}

fn invalidated(domain: u16, pasid: Option<u32>, range: (u64, u64), leaf: bool) -> FollowEvent {
    FollowEvent::Invalidated(Invalidated {
        domain: Some(DomainId(domain)),
        pasid: pasid.and_then(Pasid::new),
        range: IovaRange::new(Iova(range.0), Iova(range.1)).unwrap(),
        leaf_only: leaf,
    })
}

const ALL: (u64, u64) = (0, u64::MAX);
