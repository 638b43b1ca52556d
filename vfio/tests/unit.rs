// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From a descriptor in the guest's queue to a mapping of the host: a real unit, the mirror and a fake host. The guest is one
//! with caching mode in legacy mode; its tables and descriptors are raw words.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use iommu::address::{Iova, IovaRange};
use iommu::capabilities::{Capabilities, LegacyOptions};
use iommu::follow::{DeviceHandle, FollowedDevice};
use iommu::ids::{Requester, SourceId};
use iommu::memory::{PhysMem, Ram};
use iommu::testing::Nobody;
use iommu::unit::Unit;
use std::sync::Arc;
use std::thread;
use vfio::backend::fake::{CallKind, FakeBackend, FakeOptions, Injection};
use vfio::backend::{Endpoint, HostError, TableId};
use vfio::mirror::{Budget, Mirror, Options, UnitId};
use vfio::ram::{HostVa, RamMap, RamRegion};
use vfio::run::{Rights, Run};
use vm_memory::GuestAddress;

const RAM: u64 = 0x400_0000;
const QUEUE: u64 = 0x10_0000;
const STATUS: u64 = 0x10_1000;
const ROOT: u64 = 0x10_2000;
const CONTEXTS: u64 = 0x10_3000;
/// Four levels of tables, one page each, for IOVAs below 2 MiB.
const TABLES: [u64; 4] = [0x10_4000, 0x10_5000, 0x10_6000, 0x10_7000];

/// 00:02.0 and 00:03.0.
const DEVICES: [(DeviceHandle, u8); 2] = [(DeviceHandle(1), 0x10), (DeviceHandle(2), 0x18)];

struct Guest {
    unit: Arc<Unit>,
    ram: Arc<Ram>,
    host: FakeBackend,
    mirror: Mirror,
    free: u64,
}

impl Guest {
    fn boot(options: FakeOptions, worker: bool) -> Self {
        let ram = Arc::new(Ram::from_ranges(&[(GuestAddress(0), 0x400_0000)]).unwrap());
        let capabilities = Capabilities::legacy(&LegacyOptions {
            caching_mode: true,
            ..LegacyOptions::default()
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
        let mut mirror = Mirror::new(Box::new(host.clone()), Arc::clone(&ram) as _, map, options);
        if worker {
            mirror = mirror.with_worker().unwrap();
        }
        let follower = mirror.follower(UnitId(0), capabilities);
        unit.set_follower(follower).unwrap();
        let guest = Self {
            unit,
            ram,
            host,
            mirror,
            free: 0,
        };
        for pair in TABLES.windows(2) {
            guest.set(pair[0], pair[1] | 3);
        }
        guest.set(ROOT, CONTEXTS | 1);
        guest
    }

    fn set(&self, gpa: u64, word: u64) {
        PhysMem::write(&*self.ram, GuestAddress(gpa), &word.to_le_bytes()).unwrap();
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

    /// Opens a device on the host and puts it on the bus.
    fn plug(&self, device: usize) {
        let (handle, devfn) = DEVICES[device];
        self.host.open(handle);
        self.unit
            .follow(FollowedDevice {
                handle,
                requester: Arc::new(Requester::new(SourceId::new(0, devfn))),
                pasids: None,
            })
            .unwrap();
    }

    /// Switches the queue and translation on.
    fn enable(&self) {
        self.w64(0x90, QUEUE);
        self.w32(0x18, 0x0400_0000);
        self.w64(0x20, ROOT);
        self.w32(0x18, 0x4400_0000);
        self.w32(0x18, 0x8400_0000);
        assert_eq!(self.r32(0x1c) & 0x8400_0000, 0x8400_0000);
    }

    /// Puts a device into domain 5, whose tables they are: 48 bits.
    fn attach(&mut self, device: usize) {
        let at = CONTEXTS + u64::from(DEVICES[device].1) * 16;
        self.set(at + 8, 0x502);
        self.set(at, TABLES[0] | 1);
        // Context cache, device-selective: entries that were not present belong to domain 0.
        let source = u64::from(DEVICES[device].1);
        self.submit(&[(source << 32 | 0x31, 0)]);
    }

    fn map(&mut self, page: u64, entry: u64) {
        self.set(TABLES[3] + page * 8, entry);
    }

    /// Pages of domain 5 from `page` on, 2^`order` of them.
    fn invalidate(&mut self, page: u64, order: u64) {
        self.submit(&[(0x5_0032, page << 12 | order)]);
    }

    /// Puts descriptors and a wait into the queue, writes the tail, and waits for the status.
    fn submit(&mut self, descriptors: &[(u64, u64)]) {
        self.set(STATUS, 1);
        for (low, high) in descriptors.iter().chain(&[(0x0000_0002_0000_0025, STATUS)]) {
            let at = QUEUE + 16 * self.free;
            self.set(at, *low);
            self.set(at + 8, *high);
            self.free = (self.free + 1) % 256;
        }
        self.w32(0x88, u32::try_from(self.free << 4).unwrap());
        while self.ram.load_u64(GuestAddress(STATUS)).unwrap() != 2 {
            assert_eq!(self.r32(0x34) & 0x70, 0, "queue error");
            thread::yield_now();
        }
    }

    fn place(&self, device: usize) -> Option<TableId> {
        self.host.reaches(Endpoint {
            device: DEVICES[device].0,
            pasid: None,
        })
    }

    fn reached(&self, device: usize) -> Vec<Run> {
        let table = self.place(device);
        table.map_or_else(Vec::new, |table| self.host.mappings(table).unwrap())
    }

    /// Whether a device reaches all RAM: by the host's table of it, or by mappings of its own.
    fn reaches_all_ram(&self, device: usize) -> bool {
        match self.host.identity() {
            Some(identity) => self.place(device) == Some(identity),
            None => self.reached(device) == [run(0, RAM >> 12, 0, Rights::ReadWrite)],
        }
    }

    /// Takes the oldest fault record: its reason, source and page.
    fn fault(&self) -> Option<(u8, u16, u64)> {
        let mut cap = [0; 8];
        self.unit.read(0x08, &mut cap);
        let at = (u64::from_le_bytes(cap) >> 24 & 0x3ff) * 16;
        let mut record = [[0; 8]; 2];
        for (half, offset) in record.iter_mut().zip([at, at + 8]) {
            self.unit.read(offset, half);
        }
        let [low, high] = record.map(u64::from_le_bytes);
        self.w32(at + 12, 0x8000_0000);
        let reason = u8::try_from(high >> 32 & 0xff).unwrap();
        let source = u16::try_from(high & 0xffff).unwrap();
        (high >> 63 == 1).then_some((reason, source, low & !0xfff))
    }
}

fn run(page: u64, pages: u64, gpa: u64, rights: Rights) -> Run {
    Run {
        iova: IovaRange::from_len(Iova(page << 12), pages << 12).unwrap(),
        gpa: GuestAddress(gpa),
        rights,
    }
}

fn guests() -> Vec<Guest> {
    let hosts = [FakeOptions::iommufd, FakeOptions::type1];
    let both = |host: fn() -> FakeOptions| [false, true].map(|worker| Guest::boot(host(), worker));
    hosts.into_iter().flat_map(both).collect()
}

#[test]
fn mapping_is_on_the_host_when_the_wait_is_done() {
    for mut guest in guests() {
        guest.plug(0);
        guest.enable();
        guest.attach(0);
        assert_eq!(guest.reached(0), []);
        for page in 0..4 {
            guest.map(16 + page, 0x20_0003 + (page << 12));
        }
        guest.map(20, 0x30_0000 | 1);
        guest.invalidate(16, 3);
        assert_eq!(
            guest.reached(0),
            [
                run(16, 4, 0x20_0000, Rights::ReadWrite),
                run(20, 1, 0x30_0000, Rights::Read)
            ]
        );
        guest.map(17, 0);
        guest.invalidate(17, 0);
        assert_eq!(guest.reached(0).len(), 3);
        // The whole domain.
        guest.map(18, 0);
        guest.submit(&[(0x5_0022, 0)]);
        assert_eq!(guest.reached(0).len(), 3);
        assert_eq!(guest.fault(), None);
    }
}

#[test]
fn device_that_arrives_late_has_everything_when_it_is_there() {
    for mut guest in guests() {
        guest.enable();
        guest.attach(0);
        guest.attach(1);
        for page in 0..512 {
            guest.map(page, 0x20_0003 + (page << 12));
        }
        guest.invalidate(0, 9);
        assert_eq!(
            guest.mirror.stats().batches,
            0,
            "nobody is there to be told of"
        );
        guest.plug(1);
        assert_eq!(
            guest.reached(1),
            [run(0, 512, 0x20_0000, Rights::ReadWrite)]
        );
        guest.plug(0);
        assert_eq!(guest.reached(0), guest.reached(1));
    }
}

#[test]
fn translation_on_and_off_and_a_reset_take_the_device_between_all_ram_and_its_domain() {
    for mut guest in guests() {
        guest.plug(0);
        assert!(guest.reaches_all_ram(0));
        guest.map(3, 0x20_0003);
        guest.enable();
        assert_eq!(guest.reached(0), [], "no context entry is present");
        assert!(!guest.reaches_all_ram(0));
        guest.attach(0);
        assert_eq!(guest.reached(0), [run(3, 1, 0x20_0000, Rights::ReadWrite)]);
        guest.w32(0x18, 0x0400_0000);
        assert!(guest.reaches_all_ram(0));
        guest.w32(0x18, 0x8400_0000);
        assert_eq!(guest.reached(0), [run(3, 1, 0x20_0000, Rights::ReadWrite)]);
        guest.unit.reset();
        assert!(guest.reaches_all_ram(0));
    }
}

#[test]
fn refused_mapping_is_one_fault_until_it_is_there() {
    for mut guest in guests() {
        guest.plug(0);
        guest.enable();
        guest.attach(0);
        guest
            .host
            .inject(Injection::always(CallKind::Map, HostError::LockedMemory));
        guest.map(9, 0x20_0003);
        guest.invalidate(9, 0);
        assert_eq!(guest.fault(), Some((0x7, 0x10, 0x9000)));
        guest.invalidate(9, 0);
        assert_eq!(guest.fault(), None, "one is enough");
        guest.host.heal();
        guest.invalidate(100, 0);
        assert_eq!(guest.reached(0), [run(9, 1, 0x20_0000, Rights::ReadWrite)]);
        assert_eq!(guest.fault(), None);
    }
}
