// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A follower that remembers, refuses at random, and defers or not. It checks each event against what it knows.

use crate::memory::Memory;
use iommu::address::Iova;
use iommu::follow::{
    Answer, Attachment, Deferred, DeviceHandle, FollowEvent, FollowedStatus, Follower, Invalidated,
    Refusal, ToldStatus, Unmet,
};
use iommu::ids::Pasid;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The follower.
#[derive(Debug)]
pub struct Recorder {
    memory: Arc<Memory>,
    /// Where wait descriptors write.
    status: u64,
    record: Mutex<Record>,
}

#[derive(Debug, Default)]
struct Record {
    devices: BTreeMap<u32, Known>,
    /// What was heard since [`Recorder::begin`].
    heard: Vec<FollowEvent>,
    /// The operation that is under way.
    operation: u64,
    /// What the wait at the end of the operation writes, if there is one.
    expected: Option<u32>,
    /// The next events are refused as these bits say.
    refusals: u32,
    defers: bool,
    deferred: Vec<Deferred>,
}

/// What was told of a device.
#[derive(Debug, Default)]
struct Known {
    own: Option<Told>,
    bound: BTreeMap<Pasid, Told>,
}

#[derive(Clone, Copy, Debug)]
struct Told {
    to: Attachment,
    /// The operation in which it was refused.
    refused: Option<u64>,
}

impl Told {
    fn check(&self, status: &ToldStatus) {
        assert_eq!(
            (status.to, status.refused),
            (self.to, self.refused.is_some())
        );
    }
}

impl Recorder {
    /// One that carries everything out at once.
    pub fn new(memory: Arc<Memory>, status: u64) -> Self {
        Self {
            memory,
            status,
            record: Mutex::default(),
        }
    }

    /// What is refused from now on, and whether long work is deferred.
    pub fn behave(&self, refusals: u32, defers: bool) {
        let record = &mut *self.record();
        (record.refusals, record.defers) = (refusals, defers);
    }

    /// Another operation of the guest begins.
    pub fn begin(&self) {
        let record = &mut *self.record();
        record.operation += 1;
        record.heard.clear();
        record.expected = None;
    }

    /// The operation ends with a wait that writes `status`, after everything was told.
    pub fn expect_status(&self, status: u32) {
        self.record().expected = Some(status);
    }

    /// Does what was deferred.
    pub fn run_deferred(&self) {
        let deferred = std::mem::take(&mut self.record().deferred);
        deferred.into_iter().for_each(Deferred::run);
    }

    /// Drops what was deferred. Returns whether that was anything.
    pub fn drop_deferred(&self) -> bool {
        let deferred = std::mem::take(&mut self.record().deferred);
        assert!(deferred.len() <= 1, "one work at a time");
        !deferred.is_empty()
    }

    /// Forgets a device.
    pub fn forget(&self, device: u32) {
        self.record().devices.remove(&device);
    }

    /// Whether all of `tables` was named in this operation.
    pub fn heard_of(&self, tables: &Invalidated) -> bool {
        self.record().heard.iter().any(|event| match event {
            FollowEvent::Invalidated(heard) => {
                (heard.domain.is_none() || heard.domain == tables.domain)
                    && (heard.pasid.is_none() || heard.pasid == tables.pasid)
                    && heard.range.start() <= tables.range.start()
                    && heard.range.last() >= tables.range.last()
                    && (!heard.leaf_only || tables.leaf_only)
            }
            _ => false,
        })
    }

    /// Takes it that the host made everything good for a device, or lost what it goes through. Returns what to tell.
    pub fn host_changed(
        &self,
        device: u32,
        pasid: Option<u32>,
        lost: bool,
    ) -> (Vec<Unmet>, Vec<DeviceHandle>) {
        let record = &mut *self.record();
        let (handle, operation) = (DeviceHandle(device), record.operation);
        let Some(known) = record.devices.get_mut(&device) else {
            return (Vec::new(), vec![handle]);
        };
        if !lost {
            for told in known.own.iter_mut().chain(known.bound.values_mut()) {
                told.refused = None;
            }
            return (Vec::new(), vec![handle]);
        }
        let (told, unmet) = match pasid.and_then(Pasid::new) {
            Some(pasid) => (known.bound.get_mut(&pasid), Unmet::Binding(handle, pasid)),
            None => (known.own.as_mut(), Unmet::Attachment(handle)),
        };
        if let Some(told) = told {
            told.refused = Some(operation);
        }
        (vec![unmet], Vec::new())
    }

    /// All of a device was looked at in this operation: what was refused before was told again.
    pub fn check_told_again(&self, device: u32) {
        let record = &*self.record();
        if let Some(known) = record.devices.get(&device) {
            for told in known.own.iter().chain(known.bound.values()) {
                let again = told
                    .refused
                    .is_none_or(|refused| refused == record.operation);
                assert!(again, "{told:?} was not told again");
            }
        }
    }

    /// Checks that the unit knows what the follower knows.
    pub fn check(&self, status: &FollowedStatus) {
        let record = &*self.record();
        let known = &record.devices[&status.device.0];
        let (own, without) = (known.own.as_ref(), status.without_pasid.as_ref());
        own.expect("it was told")
            .check(without.expect("it was told"));
        assert_eq!(known.bound.len(), status.pasids.len());
        for ((pasid, told), (told_pasid, status)) in known.bound.iter().zip(&status.pasids) {
            assert_eq!(pasid, told_pasid);
            told.check(status);
        }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Follower for Recorder {
    fn apply(&self, events: &[FollowEvent]) -> Answer {
        let record = &mut *self.record();
        let status = self.memory.get(self.status / 8) & 0xffff_ffff;
        let early = record
            .expected
            .is_none_or(|expected| u64::from(expected) != status);
        assert!(early, "told after the guest was");
        let first = events
            .iter()
            .position(|event| matches!(event, FollowEvent::Invalidated(_)));
        let last = events.iter().rposition(|event| event.device().is_some());
        assert!(first.is_none() || last < first, "tables before devices");
        record.heard.extend_from_slice(events);
        Answer {
            results: events.iter().map(|event| record.hear(event)).collect(),
            resynced: Vec::new(),
        }
    }

    fn defer(&self, work: Deferred) -> Option<Deferred> {
        let record = &mut *self.record();
        if record.defers {
            record.deferred.push(work);
            None
        } else {
            Some(work)
        }
    }
}

impl Record {
    /// Takes an event. None may say what was said before, unless that was refused.
    fn hear(&mut self, event: &FollowEvent) -> Result<(), Refusal> {
        let refuses = self.refusals & 1 != 0;
        self.refusals = self.refusals.rotate_right(1);
        let refused = refuses.then_some(self.operation);
        let Some(device) = event.device() else {
            return self.hear_of_all(event, refuses);
        };
        let known = self.devices.entry(device.0).or_default();
        let unmet = match *event {
            FollowEvent::Attach { to, .. } => {
                let old = known.own.replace(Told { to, refused });
                let news = old.is_none_or(|old| old.refused.is_some() || old.to != to);
                assert!(news, "attached again");
                Unmet::Attachment(device)
            }
            FollowEvent::Bind { pasid, to, .. } => {
                let old = known.bound.insert(pasid, Told { to, refused });
                assert!(old.is_none_or(|old| old.refused.is_some()), "bound again");
                assert_ne!(to, Attachment::Blocked);
                Unmet::Binding(device, pasid)
            }
            FollowEvent::Rebind { pasid, to, .. } => {
                let old = known.bound.insert(pasid, Told { to, refused });
                let news = old.is_some_and(|old| old.refused.is_none() && old.to != to);
                assert!(news && to != Attachment::Blocked, "rebound to the same");
                Unmet::Binding(device, pasid)
            }
            FollowEvent::Unbind { pasid, .. } => {
                assert!(known.bound.remove(&pasid).is_some(), "unbound again");
                Unmet::Binding(device, pasid)
            }
            FollowEvent::Invalidated(_) | FollowEvent::Reset => return Ok(()),
        };
        if refuses {
            Err(Refusal::from(unmet))
        } else {
            Ok(())
        }
    }

    /// Takes an event that is about no device.
    fn hear_of_all(&mut self, event: &FollowEvent, refuses: bool) -> Result<(), Refusal> {
        if *event == FollowEvent::Reset {
            for known in self.devices.values_mut() {
                let to = Attachment::Identity;
                known.own = Some(Told { to, refused: None });
                known.bound.clear();
            }
            return Ok(());
        }
        match self.devices.keys().next() {
            Some(&device) if refuses => Err(Refusal::from(Unmet::Unsynced {
                device: DeviceHandle(device),
                pasid: None,
                first: Iova(0),
            })),
            _ => Ok(()),
        }
    }
}
