// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest in scalable mode whose structures and descriptors are raw words, two devices, the mirror, and a host that nests.

use iommu::capabilities::{Capabilities, LegacyOptions, PasidBits, ScalableOptions};
use iommu::follow::{DeviceHandle, FollowedDevice, GuestTables, PasidBudget};
use iommu::ids::{Pasid, Requester, SourceId};
use iommu::memory::{PhysMem, Ram};
use iommu::saved::SavedUnit;
use iommu::testing::Nobody;
use iommu::translate::paging::Stages;
use iommu::unit::Unit;
use std::sync::Arc;
use std::thread;
use vfio::backend::Endpoint;
use vfio::backend::fake::{FakeBackend, FakeOptions};
use vfio::mirror::{Budget, Content, Mirror, Options, UnitId};
use vfio::ram::{HostVa, RamMap, RamRegion};
use vm_memory::GuestAddress;

pub const RAM: u64 = 0x400_0000;
const QUEUE: u64 = 0x10_0000;
const STATUS: u64 = 0x10_2000;
/// Root tables with one table of contexts each: two for scalable mode, the first of which is used from the beginning, and one for
/// legacy mode.
pub const ROOTS: [u64; 3] = [0x10_3000, 0x10_5000, 0x10_7000];
pub const CONTEXTS: [u64; 3] = [0x10_4000, 0x10_6000, 0x10_8000];
/// A directory of 2^14 entries: all PASIDs.
pub const DIRECTORY: u64 = 0x20_0000;
/// Another one.
pub const OTHER_DIRECTORY: u64 = 0x24_0000;

/// 00:02.0 and 00:03.0.
pub const A: DeviceHandle = DeviceHandle(1);
pub const B: DeviceHandle = DeviceHandle(2);
pub const SOURCES: [(DeviceHandle, u64); 2] = [(A, 0x10), (B, 0x18)];

/// PASID cache and IOTLB descriptors, low words.
pub const PASID_CACHE_GLOBAL: u64 = 0x37;
pub const CONTEXT_GLOBAL: u64 = 0x11;

pub const fn context_domain(domain: u64) -> u64 {
    0x21 | domain << 16
}

pub const fn context_device(source: u64) -> u64 {
    0x31 | source << 32
}

pub const fn pasid_cache_domain(domain: u64) -> u64 {
    0x07 | domain << 16
}

pub const fn pasid_cache_one(domain: u64, pasid: u64) -> u64 {
    0x17 | domain << 16 | pasid << 32
}

pub const IOTLB_GLOBAL: u64 = 0x12;

pub const fn iotlb_domain(domain: u64) -> u64 {
    0x22 | domain << 16
}

pub const fn pasid_iotlb_all(domain: u64, pasid: u64) -> u64 {
    0x26 | domain << 16 | pasid << 32
}

pub const fn pasid_iotlb_pages(domain: u64, pasid: u64) -> u64 {
    0x36 | domain << 16 | pasid << 32
}

/// Words of PASID entries.
pub const fn first(table: u64, domain: u64) -> [u64; 3] {
    [0x41, domain, table]
}

pub const fn second(table: u64, domain: u64) -> [u64; 3] {
    [table | 0x89, domain, 0]
}

/// The first stage on the second.
pub const fn both(first: u64, second: u64, domain: u64) -> [u64; 3] {
    [second | 0xc9, domain, first]
}

pub const fn pass_through(domain: u64) -> [u64; 3] {
    [0x101, domain, 0]
}

/// What the host lets an endpoint reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Nothing,
    AllRam,
    /// The guest's first-stage table, itself.
    First(u64),
    /// A copy of the guest's second-stage table.
    Second(u64),
    /// The guest's first-stage table, itself, on a copy of its second-stage table.
    Both(u64, u64),
}

pub struct Guest {
    pub unit: Arc<Unit>,
    pub ram: Arc<Ram>,
    pub host: FakeBackend,
    pub mirror: Mirror,
    free: u64,
}

impl Guest {
    /// With translation enabled, contexts of both devices that name one directory, and RID_PASID 0.
    pub fn boot(options: FakeOptions) -> Self {
        let ram = Arc::new(Ram::from_ranges(&[(GuestAddress(0), 0x400_0000)]).unwrap());
        let capabilities = Capabilities::scalable(&ScalableOptions {
            base: LegacyOptions {
                caching_mode: true,
                fault_records: 1,
                ..LegacyOptions::default()
            },
            nesting: true,
            abort_mode: true,
            pasid: Some(PasidBits::MAX),
            execute_requests: false,
            supervisor_requests: true,
            extended_accessed: true,
            ..ScalableOptions::default()
        })
        .unwrap();
        let unit = Unit::new(capabilities, Arc::clone(&ram) as _, Nobody::outputs());
        let host = FakeBackend::new(options);
        let map = RamMap::new(vec![RamRegion {
            gpa: GuestAddress(0),
            len: RAM,
            host: HostVa(0x7000_0000_0000),
        }])
        .unwrap();
        let options = Options {
            budget: Budget::for_ram(RAM),
            compaction: true,
        };
        let mirror = Mirror::new(Box::new(host.clone()), Arc::clone(&ram) as _, map, options);
        let follower = mirror.follower(UnitId(0), capabilities);
        unit.set_follower(follower).unwrap();
        let mut guest = Self {
            unit,
            ram,
            host,
            mirror,
            free: 0,
        };
        for (root, contexts) in ROOTS.into_iter().zip(CONTEXTS) {
            guest.set(root, contexts | 1);
        }
        for (_, source) in SOURCES {
            let at = CONTEXTS[0] + 32 * source;
            // 2^(7 + 7) directory entries, PASIDs allowed, present.
            guest.set(at, DIRECTORY | 7 << 9 | 9);
        }
        guest.enable();
        guest
    }

    pub fn set(&self, gpa: u64, word: u64) {
        PhysMem::write(&*self.ram, GuestAddress(gpa), &word.to_le_bytes()).unwrap();
    }

    pub fn word(&self, gpa: u64) -> u64 {
        self.ram.load_u64(GuestAddress(gpa)).unwrap()
    }

    fn w32(&self, offset: u64, value: u32) {
        self.unit.write(offset, &value.to_le_bytes());
    }

    fn w64(&self, offset: u64, value: u64) {
        self.unit.write(offset, &value.to_le_bytes());
    }

    fn r32(&self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.unit.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    /// The queue with descriptors of 256 bits, scalable mode, translation.
    pub fn enable(&mut self) {
        self.free = 0;
        self.w64(0x90, QUEUE | 0x801);
        self.w32(0x18, 0x0400_0000);
        self.latch(ROOTS[0] | 0x400, false);
        self.translate(true);
        assert_eq!(self.r32(0x1c) & 0x8400_0000, 0x8400_0000);
    }

    pub fn translate(&self, on: bool) {
        let command = if on { 0x8400_0000 } else { 0x0400_0000 };
        self.w32(0x18, command);
    }

    /// Sets the root pointer, the mode in bits 11:10, with translation on or off.
    pub fn latch(&self, root: u64, on: bool) {
        self.w64(0x20, root);
        let command = if on { 0xc400_0000 } else { 0x4400_0000 };
        self.w32(0x18, command);
    }

    /// A state to come back to.
    pub fn save(&self) -> (SavedUnit, u64) {
        (self.unit.save(), self.free)
    }

    /// Goes back to a state; memory stays as it is.
    pub fn restore(&mut self, (saved, free): &(SavedUnit, u64)) {
        self.unit.restore(saved).unwrap();
        self.free = *free;
    }

    /// Opens a device on the host and puts it on the bus.
    pub fn plug(&self, handle: DeviceHandle) {
        self.plug_within(handle, 4096, 4096);
    }

    /// The same, with other budgets for its PASIDs and their tables.
    pub fn plug_within(&self, handle: DeviceHandle, bindings: u32, tables: u32) {
        self.host.open(handle);
        let (_, source) = SOURCES
            .into_iter()
            .find(|(known, _)| *known == handle)
            .unwrap();
        self.unit
            .follow(FollowedDevice {
                handle,
                requester: Arc::new(Requester::new(SourceId(u16::try_from(source).unwrap()))),
                pasids: Some(PasidBudget {
                    bits: 20,
                    bindings,
                    tables,
                }),
            })
            .unwrap();
    }

    /// Takes a device away again.
    pub fn unplug(&self, handle: DeviceHandle) {
        self.unit.unfollow(handle);
        self.mirror.forget(handle);
    }

    /// Names the PASID table at `table` for the 64 PASIDs around `pasid`; 0 takes it away.
    pub fn directory(&self, pasid: u64, table: u64) {
        self.set(DIRECTORY + pasid / 64 * 8, table | u64::from(table != 0));
    }

    /// An entry of the PASID table at `table`.
    pub fn entry(&self, table: u64, pasid: u64, words: [u64; 3]) {
        let at = table + pasid % 64 * 64;
        self.set(at, 0);
        self.set(at + 16, words[2]);
        self.set(at + 8, words[1]);
        self.set(at, words[0]);
    }

    /// Puts descriptors and a wait into the queue, writes the tail, and waits for the status.
    pub fn submit(&mut self, descriptors: &[(u64, u64)]) {
        self.set(STATUS, 1);
        for (low, high) in descriptors.iter().chain(&[(0x0000_0002_0000_0025, STATUS)]) {
            let at = QUEUE + 32 * self.free;
            for (offset, word) in [(0, *low), (8, *high), (16, 0), (24, 0)] {
                self.set(at + offset, word);
            }
            self.free = (self.free + 1) % 256;
        }
        self.w32(0x88, u32::try_from(self.free << 5).unwrap());
        while self.word(STATUS) != 2 {
            assert_eq!(self.r32(0x34) & 0x70, 0, "queue error");
            thread::yield_now();
        }
    }

    /// What an endpoint reaches.
    pub fn reach(&self, device: DeviceHandle, pasid: Option<u32>) -> Reach {
        let endpoint = endpoint(device, pasid);
        let Some(table) = self.host.reaches(endpoint) else {
            return Reach::Nothing;
        };
        if Some(table) == self.host.identity() {
            return Reach::AllRam;
        }
        let walks = self.host.walks(endpoint).map(|nested| nested.table.0);
        let ground = self.host.ground(endpoint).unwrap();
        if let Some(first) = walks.filter(|_| Some(ground) == self.host.identity()) {
            return Reach::First(first);
        }
        let tables = self.mirror.tables();
        let status = tables.iter().find(|status| status.table == ground);
        match (status.unwrap().content, walks) {
            (Content::Guest(tables), None) => Reach::Second(root(&tables)),
            (Content::Parent(tables), Some(first)) => Reach::Both(first, root(&tables)),
            other => panic!("{other:?}"),
        }
    }

    /// What the host has mapped where an endpoint's requests end: page, guest-physical page and the right to write.
    pub fn mapped(&self, device: DeviceHandle, pasid: Option<u32>) -> Vec<(u64, u64, bool)> {
        let ground = self.host.ground(endpoint(device, pasid)).unwrap();
        let runs = self.host.mappings(ground).unwrap();
        let pages = runs.iter().flat_map(|run| {
            let page = |n| {
                let gpa = run.gpa.0 + n * 0x1000;
                (run.iova.start().0 + n * 0x1000, gpa, run.rights.write())
            };
            (0..run.len() / 0x1000).map(page)
        });
        pages.collect()
    }

    /// Takes the oldest fault record: its reason, source and PASID.
    pub fn fault(&self) -> Option<(u8, u16, u32)> {
        let mut cap = [0; 8];
        self.unit.read(0x08, &mut cap);
        let at = (u64::from_le_bytes(cap) >> 24 & 0x3ff) * 16;
        let mut high = [0; 8];
        self.unit.read(at + 8, &mut high);
        self.w32(at + 12, 0x8000_0000);
        let high = u64::from_le_bytes(high);
        let reason = u8::try_from(high >> 32 & 0xff).unwrap();
        let source = u16::try_from(high & 0xffff).unwrap();
        let pasid = u32::try_from(high >> 40 & 0xf_ffff).unwrap();
        (high >> 63 == 1).then_some((reason, source, pasid))
    }
}

fn root(tables: &GuestTables) -> u64 {
    match tables.stages {
        Stages::Second(stage) => stage.table.0,
        other => panic!("{other:?}"),
    }
}

pub fn endpoint(device: DeviceHandle, pasid: Option<u32>) -> Endpoint {
    Endpoint {
        device,
        pasid: pasid.and_then(Pasid::new),
    }
}
