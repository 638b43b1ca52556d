// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A unit whose devices are followed: what its follower knows ([`recorder`]) and what a naive reader makes of the same tables
//! ([`naive`]).

pub mod naive;
pub mod recorder;

use crate::memory::Memory;
use iommu::capabilities::{Capabilities, LegacyOptions, PasidBits, ScalableOptions};
use iommu::follow::{DeviceHandle, FollowedDevice, PasidBudget};
use iommu::ids::{Requester, SourceId};
use iommu::testing::Nobody;
use iommu::unit::Unit;
use naive::{Model, Tables};
use recorder::Recorder;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The word that wait descriptors write.
const STATUS: u64 = 0;
/// The queue, of one page.
const QUEUE: u64 = 0x1000;
/// Root tables.
pub const ROOTS: [u64; 2] = [0x2000, 0x3000];
/// Context tables.
pub const CONTEXTS: [u64; 2] = [0x4000, 0x5000];
/// PASID directories.
pub const DIRECTORIES: [u64; 2] = [0x7000, 0x8000];
/// PASID tables.
pub const PASID_TABLES: [u64; 3] = [0x9000, 0xa000, 0xb000];
/// Top tables of stages, in which nobody looks here.
pub const STAGES: [u64; 2] = [0xc000, 0xd000];
/// Ids that devices can have, in both halves of the bus.
pub const SOURCES: [u16; 3] = [0x10, 0x11, 0x90];
/// Devices there are.
pub const DEVICES: u32 = 2;

const BUDGET: PasidBudget = PasidBudget {
    bits: 20,
    bindings: 1 << 20,
    tables: 1 << 14,
};

/// The unit, its follower, and the model of each followed device.
#[derive(Debug)]
pub struct Bed {
    /// The unit's memory.
    pub memory: Arc<Memory>,
    /// The unit.
    pub unit: Arc<Unit>,
    /// Its follower.
    pub recorder: Arc<Recorder>,
    scalable: bool,
    /// Translation is on, with the root table of this number.
    on: Option<usize>,
    /// The number of the root table that is latched.
    root: usize,
    tail: u64,
    waits: u32,
    devices: BTreeMap<u32, (Arc<Requester>, Model)>,
}

impl Bed {
    /// A unit in one of the modes, with its queue on, translation off and every device followed.
    pub fn new(scalable: bool) -> Self {
        let memory = Arc::new(Memory::default());
        let capabilities = if scalable {
            Capabilities::scalable(&ScalableOptions {
                nesting: true,
                pasid: Some(PasidBits::MAX),
                supervisor_requests: true,
                ..ScalableOptions::default()
            })
        } else {
            Capabilities::legacy(&LegacyOptions::default())
        };
        let capabilities = capabilities.expect("the options agree with each other");
        let unit = Unit::new(capabilities, Arc::clone(&memory) as _, Nobody::outputs());
        let recorder = Arc::new(Recorder::new(Arc::clone(&memory), STATUS));
        unit.set_follower(Arc::clone(&recorder) as _)
            .expect("it is the first");
        let mut bed = Self {
            memory,
            unit,
            recorder,
            scalable,
            on: None,
            root: 0,
            tail: 0,
            waits: 0,
            devices: BTreeMap::new(),
        };
        bed.set_up();
        for device in 0..DEVICES {
            bed.follow(device, SOURCES[0]);
        }
        bed
    }

    /// Sets the word at `gpa`.
    pub fn set(&self, gpa: u64, value: u64) {
        self.memory.set(gpa / 8, value);
    }

    /// Whether the unit is in scalable mode.
    pub const fn is_scalable(&self) -> bool {
        self.scalable
    }

    /// Begins to follow a device that is not followed, with this id.
    pub fn follow(&mut self, device: u32, source: u16) {
        let requester = Arc::new(Requester::new(SourceId(source)));
        let followed = FollowedDevice {
            handle: DeviceHandle(device),
            requester: Arc::clone(&requester),
            pasids: Some(BUDGET),
        };
        self.recorder.begin();
        let is_new = !self.devices.contains_key(&device);
        assert_eq!(self.unit.follow(followed).is_ok(), is_new);
        if is_new {
            let mut model = Model::default();
            model.reread(&self.tables(source));
            self.devices.insert(device, (requester, model));
        }
        self.check();
    }

    /// Gives a followed device another id, of which the unit is told.
    pub fn renumber(&mut self, device: u32, source: u16) {
        let Some((requester, _)) = self.devices.get(&device) else {
            return;
        };
        requester.set_source(SourceId(source));
        self.recorder.begin();
        self.unit.refollow(DeviceHandle(device));
        let tables = self.tables(source);
        if let Some((_, model)) = self.devices.get_mut(&device) {
            model.reread(&tables);
        }
        self.recorder.check_told_again(device);
        self.check();
    }

    /// Follows a device no longer.
    pub fn unfollow(&mut self, device: u32) {
        self.unit.unfollow(DeviceHandle(device));
        self.devices.remove(&device);
        self.recorder.forget(device);
        self.check();
    }

    /// Switches translation.
    pub fn translate(&mut self, on: bool) {
        if on == self.on.is_some() {
            return;
        }
        self.on = on.then_some(self.root);
        self.recorder.begin();
        self.command(0);
        self.reread_all();
    }

    /// Latches a root table.
    pub fn latch(&mut self, root: usize) {
        self.root = root % ROOTS.len();
        if self.on.is_some() {
            self.on = Some(self.root);
        }
        let mode = u64::from(self.scalable) << 10;
        self.unit
            .write(0x20, &(ROOTS[self.root] | mode).to_le_bytes());
        self.recorder.begin();
        self.command(1 << 30);
        if self.on.is_some() {
            self.reread_all();
        }
        self.check();
    }

    /// Resets the unit, and sets it up again.
    pub fn reset(&mut self) {
        self.on = None;
        self.recorder.begin();
        self.unit.reset();
        self.reread_all();
        self.set_up();
    }

    /// Puts descriptors into the queue with a wait behind them. What is deferred is lost first if `lossy`.
    pub fn submit(&mut self, descriptors: &[[u64; 2]], lossy: bool) {
        self.waits += 1;
        self.recorder.begin();
        self.recorder.expect_status(self.waits);
        let wait = [u64::from(self.waits) << 32 | 0x25, STATUS];
        for words in descriptors.iter().chain([&wait]) {
            self.put(*words);
        }
        self.write_tail();
        if lossy && self.recorder.drop_deferred() {
            assert_ne!(self.status(), self.waits, "a step that nobody took");
            self.write_tail();
        }
        self.recorder.run_deferred();
        assert_eq!(self.status(), self.waits, "the wait is done");
        let readers: Vec<_> = self.devices.keys().copied().collect();
        for device in readers {
            self.name(device, descriptors);
        }
        for descriptor in descriptors {
            if let Some(tables) = naive::named_tables(descriptor) {
                let used = self.devices.values().any(|(_, model)| model.uses(&tables));
                assert!(!used || self.recorder.heard_of(&tables), "{tables:?}");
            }
        }
        self.check();
    }

    /// The host made good, or lost, what a device goes through.
    pub fn host_changed(&self, device: u32, pasid: Option<u32>, lost: bool) {
        let (unmet, resynced) = self.recorder.host_changed(device, pasid, lost);
        self.unit.host_changed(&unmet, &resynced);
        self.check();
    }

    fn name(&mut self, device: u32, descriptors: &[[u64; 2]]) {
        let Some((requester, _)) = self.devices.get(&device) else {
            return;
        };
        let tables = self.tables(requester.source().0);
        if let Some((_, model)) = self.devices.get_mut(&device)
            && model.invalidated(&tables, descriptors)
        {
            self.recorder.check_told_again(device);
        }
    }

    fn reread_all(&mut self) {
        let sources: Vec<_> = (self.devices.iter())
            .map(|(device, (requester, _))| (*device, requester.source().0))
            .collect();
        for (device, source) in sources {
            let tables = self.tables(source);
            if let Some((_, model)) = self.devices.get_mut(&device) {
                model.reread(&tables);
            }
            self.recorder.check_told_again(device);
        }
        self.check();
    }

    /// Checks that unit, follower and naive readers agree.
    fn check(&self) {
        let status = self.unit.followed();
        assert_eq!(status.len(), self.devices.len());
        for (status, (device, (requester, model))) in status.iter().zip(&self.devices) {
            assert_eq!(status.device.0, *device);
            assert_eq!(status.source, requester.source());
            model.check(status);
            self.recorder.check(status);
        }
    }

    fn tables(&self, source: u16) -> Tables {
        Tables {
            memory: Arc::clone(&self.memory),
            root: self.on.map(|root| ROOTS[root]),
            scalable: self.scalable,
            source,
        }
    }

    fn set_up(&mut self) {
        let wide = u64::from(self.scalable) << 11;
        self.unit.write(0x88, &0u64.to_le_bytes());
        self.unit.write(0x90, &(QUEUE | wide).to_le_bytes());
        self.tail = 0;
        self.command(0);
        self.latch(self.root);
    }

    /// Writes GCMD: queue, translation as it is to be, and `once`.
    fn command(&self, once: u32) {
        let translation = u32::from(self.on.is_some()) << 31;
        let command = 1 << 26 | translation | once;
        self.unit.write(0x18, &command.to_le_bytes());
    }

    fn put(&mut self, words: [u64; 2]) {
        let size = if self.scalable { 32 } else { 16 };
        let at = QUEUE + self.tail;
        for word in 0..size / 8 {
            let value = usize::try_from(word).ok().and_then(|word| words.get(word));
            self.set(at + 8 * word, value.copied().unwrap_or(0));
        }
        self.tail = (self.tail + size) % 0x1000;
    }

    fn write_tail(&self) {
        self.unit.write(0x88, &self.tail.to_le_bytes());
    }

    fn status(&self) -> u32 {
        u32::try_from(self.memory.get(STATUS / 8) & 0xffff_ffff).unwrap_or(0)
    }
}
