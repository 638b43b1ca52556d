// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What it takes to have on the host what a guest mapped in 1 GiB of 4 KiB pages: calls of the host, and the time of the walk.
//!
//! Calls are those that a host in memory was asked for. QEMU's intel-iommu makes one for each page, which is 262,144. The walk
//! is that of the mirror's replay, against a sum of volatile 8-byte loads over the bytes of all tables.

use benchmark::measure::ratio;
use benchmark::row::{Goal, Row};
use iommu::address::IovaRange;
use iommu::capabilities::{Capabilities, LegacyOptions};
use iommu::follow::{
    Attachment, DeviceHandle, Domain, FollowEvent, Follower, GuestTables, Invalidated,
};
use iommu::ids::DomainId;
use iommu::memory::Ram;
use iommu::translate::paging::Stages;
use iommu::translate::rights::Rules;
use iommu::walk::range::WalkBudget;
use iommu::walk::second_stage::SecondStage;
use std::hint::black_box;
use std::sync::Arc;
use vfio::backend::fake::{Call, FakeBackend, FakeOptions};
use vfio::mirror::{Budget, Mirror, Options, UnitId};
use vfio::ram::{HostVa, RamMap, RamRegion};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, VolatileMemory};

const PAGE: u64 = 4096;
const PAGES: u64 = 1 << 18;
/// Lowest tables of 1 GiB.
const LEAF_TABLES: u64 = PAGES / 512;
/// The tables, one after the other, the top one first: three levels of one table each, then the lowest.
const TABLES: u64 = 0x10_0000;
const ALL_TABLES: u64 = 3 + LEAF_TABLES;
/// Where what is mapped begins, and how much RAM there is from there on.
const MAPPED: u64 = 0x1000_0000;
const RAM: u64 = 0x6000_0000;
/// Read and write.
const BITS: u64 = 3;

/// In which order the pages of memory are mapped.
#[derive(Clone, Copy)]
enum Order {
    InARow,
    AtRandom,
}

impl Order {
    /// The page of memory that the `n`-th address leads to.
    const fn page(self, n: u64) -> u64 {
        match self {
            Self::InARow => n,
            // Odd, so that every page is led to once; and none leads to the next.
            Self::AtRandom => n * 77_773 % PAGES,
        }
    }
}

fn main() {
    let whole = [(0, RAM)];
    // Within what is mapped, as at the hole below 4 GiB.
    let middle = MAPPED + PAGES / 2 * PAGE;
    let halves = [(0, middle), (middle, RAM - middle)];
    for (what, regions, goal) in [("one piece", &whole[..], 1.0), ("two pieces", &halves, 2.0)] {
        let scene = Scene::new(Order::InARow, regions);
        let what = format!("host calls to replay 1 GiB in a row, {what} of RAM (QEMU: 262,144)");
        Row::print(&what, Goal::Exactly(goal), exact(scene.replay(1)));
    }
    let scene = Scene::new(Order::AtRandom, &whole);
    let calls = exact(scene.replay(1));
    let what = "host calls to replay 1 GiB mapped at random / its pages";
    Row::print(what, Goal::AtMost(1.0), calls / exact(PAGES));
    let what = "host calls to replay it for 8 devices in one domain / for 1";
    Row::print(what, Goal::Exactly(1.0), exact(scene.replay(8)) / calls);
    let what = "host calls to invalidate the domain when nothing changed";
    Row::print(what, Goal::Exactly(0.0), exact(scene.invalidate()));
    for (order, name, goal) in [
        (Order::InARow, "in a row", Goal::AtMost(4.0)),
        (Order::AtRandom, "at random", Goal::None),
    ] {
        let what = format!("walk of 1 GiB {name} / sum of all words of its tables");
        Row::print(&what, goal, Scene::new(order, &whole).walk());
    }
}

fn exact(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::NAN, f64::from)
}

/// A guest whose tables map 1 GiB.
struct Scene {
    memory: Arc<Ram>,
    ram: RamMap,
    capabilities: Capabilities,
}

impl Scene {
    /// With RAM of `regions` (address and bytes), which are not contiguous in the process.
    fn new(order: Order, regions: &[(u64, u64)]) -> Self {
        let bytes = usize::try_from(MAPPED).expect("64 bits");
        let memory = Ram::from_ranges(&[(GuestAddress(0), bytes)]).expect("memory for a guest");
        let set = |gpa: u64, word: u64| {
            let written = memory.write_obj(word | BITS, GuestAddress(gpa));
            written.expect("tables lie in RAM");
        };
        for above in 0..2 {
            let table = TABLES + above * PAGE;
            set(table, table + PAGE);
        }
        let leaves = TABLES + 3 * PAGE;
        for table in 0..LEAF_TABLES {
            set(TABLES + 2 * PAGE + 8 * table, leaves + table * PAGE);
        }
        for n in 0..PAGES {
            set(leaves + 8 * n, MAPPED + order.page(n) * PAGE);
        }
        let far = |(gpa, len): &(u64, u64)| RamRegion {
            gpa: GuestAddress(*gpa),
            len: *len,
            host: HostVa(0x7000_0000_0000 + 2 * gpa),
        };
        Self {
            memory: Arc::new(memory),
            ram: RamMap::new(regions.iter().map(far).collect()).expect("regions apart"),
            capabilities: Capabilities::legacy(&LegacyOptions {
                caching_mode: true,
                ..LegacyOptions::default()
            })
            .expect("a unit"),
        }
    }

    fn domain(&self) -> Domain {
        let stage = SecondStage::plain(GuestAddress(TABLES), 4);
        let stages = Stages::Second(stage);
        let rules = Rules::default();
        Domain::new(DomainId(1), stages, rules, false, &self.capabilities)
    }

    fn tables(&self) -> GuestTables {
        self.domain().tables
    }

    /// A host, and a mirror that has the domain on it for `devices` devices.
    fn attached(&self, devices: u32) -> (FakeBackend, Arc<dyn Follower>) {
        let host = FakeBackend::new(FakeOptions::iommufd());
        let options = Options {
            budget: Budget::for_ram(RAM),
            compaction: true,
        };
        let backend = Box::new(host.clone());
        let mirror = Mirror::new(backend, self.memory.clone(), self.ram.clone(), options);
        let unit = mirror.follower(UnitId(0), self.capabilities);
        let to = Attachment::Domain(self.domain());
        let events: Vec<FollowEvent> = (1..=devices)
            .map(|device| FollowEvent::Attach {
                device: DeviceHandle(device),
                to,
            })
            .collect();
        let answer = unit.apply(&events);
        assert!(answer.results.iter().all(Result::is_ok));
        (host, unit)
    }

    /// Calls that change mappings when `devices` devices are attached.
    fn replay(&self, devices: u32) -> u64 {
        calls(&self.attached(devices).0)
    }

    /// The same when all of the domain is invalidated afterwards.
    fn invalidate(&self) -> u64 {
        let (host, unit) = self.attached(1);
        let _ = host.take_log();
        let answer = unit.apply(&[FollowEvent::Invalidated(Invalidated::ALL)]);
        assert!(answer.results.iter().all(Result::is_ok));
        calls(&host)
    }

    fn walk(&self) -> f64 {
        let tables = self.tables();
        let bytes = usize::try_from(ALL_TABLES * PAGE).expect("64 bits");
        let words = self.memory.get_slice(GuestAddress(TABLES), bytes);
        let words = words.expect("the tables are RAM");
        let words = words
            .get_array_ref::<u64>(0, bytes / 8)
            .expect("tables of words");
        let mut runs = Vec::new();
        ratio(
            || {
                runs.clear();
                let walk = tables.walk(&self.capabilities, &IovaRange::ALL);
                let mut walk = walk.expect("tables that are walked");
                let memory = self.memory.as_ref();
                walk.advance(memory, &self.capabilities, WalkBudget::UNLIMITED, &mut runs);
                assert_eq!(walk.counts().leaves, PAGES);
                black_box(&runs);
            },
            || {
                let sum = (0..words.len()).fold(0, |sum: u64, n| sum.wrapping_add(words.load(n)));
                black_box(sum);
            },
        )
    }
}

fn calls(host: &FakeBackend) -> u64 {
    let log = host.take_log();
    let changes = log.iter().filter(|logged| {
        matches!(
            logged.call,
            Call::Map(..) | Call::Unmap(..) | Call::CutOut(..) | Call::UnmapAll(_)
        )
    });
    changes.count() as u64
}
