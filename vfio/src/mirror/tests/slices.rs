// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Others have their turn while a large domain is walked or changed, and what they do then does no harm.

use super::rig::*;
use crate::backend::fake::{Call, CallKind, FakeOptions, Injection};
use crate::backend::{Endpoint, HostError};
use crate::mirror::{Budget, Clock, Mirror, Options, Stats, UnitId};
use iommu::address::Gpa;
use iommu::follow::{Attachment, DeviceHandle, Domain, FollowEvent, Follower};
use iommu::ids::DomainId;
use iommu::memory::{MemoryError, PhysMem};
use iommu::testing::FakeMem;
use iommu::translate::paging::Stages;
use iommu::translate::rights::Rules;
use iommu::walk::first_stage::FirstStage;
use iommu::walk::second_stage::SecondStage;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use vm_memory::GuestAddress;

const C: DeviceHandle = DeviceHandle(3);

/// Tables of the large domain: more than what is walked with the lock held.
const LARGE_TABLES: u64 = 1500;

type Act = Box<dyn FnOnce() + Send>;

/// Does something at the n-th time that it is asked.
struct Hook {
    left: AtomicU64,
    act: Mutex<Option<Act>>,
}

impl Hook {
    const fn new() -> Self {
        Self {
            left: AtomicU64::new(u64::MAX),
            act: Mutex::new(None),
        }
    }

    fn set(&self, after: u64, act: impl FnOnce() + Send + 'static) {
        *self.act.lock().unwrap() = Some(Box::new(act));
        self.left.store(after, Ordering::Relaxed);
    }

    fn pass(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            let act = self.act.lock().unwrap().take();
            act.into_iter().for_each(|act| act());
        }
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

/// Memory that acts when a table is read.
#[derive(Debug)]
struct Gate {
    memory: Arc<FakeMem>,
    hook: Arc<Hook>,
}

impl PhysMem for Gate {
    fn read(&self, gpa: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.memory.read(gpa, buf)
    }

    fn write(&self, gpa: Gpa, buf: &[u8]) -> Result<(), MemoryError> {
        self.memory.write(gpa, buf)
    }

    fn load_u64(&self, gpa: Gpa) -> Result<u64, MemoryError> {
        self.memory.load_u64(gpa)
    }

    fn load_words(&self, gpa: Gpa, words: &mut [u64]) -> Result<(), MemoryError> {
        self.hook.pass();
        self.memory.load_words(gpa, words)
    }

    fn store_u32(&self, gpa: Gpa, value: u32) -> Result<(), MemoryError> {
        self.memory.store_u32(gpa, value)
    }

    fn compare_exchange_u64(
        &self,
        gpa: Gpa,
        current: u64,
        new: u64,
    ) -> Result<Result<u64, u64>, MemoryError> {
        self.memory.compare_exchange_u64(gpa, current, new)
    }
}

/// A clock that acts: it is looked at twice for each call of the host.
impl Clock for Hook {
    fn now(&self) -> Duration {
        self.pass();
        Duration::ZERO
    }
}

/// A large domain, a small one, and two units.
struct Scene {
    rig: Rig,
    hook: Arc<Hook>,
    other: Arc<dyn Follower>,
    large: u64,
    small: u64,
}

impl Scene {
    fn new(host: FakeOptions) -> Self {
        let mut rig = Rig::new(host);
        rig.host.open(C);
        let hook = Arc::new(Hook::new());
        let gate = Gate {
            memory: rig.memory.clone(),
            hook: hook.clone(),
        };
        let options = Options {
            budget: Budget::for_ram(2 * GIB),
            compaction: true,
        };
        rig.mirror = Mirror::new(Box::new(rig.host.clone()), Arc::new(gate), ram(), options);
        rig.unit = rig.mirror.follower(UnitId(0), rig.capabilities);
        let other = rig.mirror.follower(UnitId(1), rig.capabilities);
        let (large, small) = (rig.table(), rig.table());
        for n in 0..LARGE_TABLES {
            rig.map(large, n * LARGE, 0x100_0000 + n * PAGE, RW);
        }
        rig.map(small, 0, 0x5000, RW);
        Self {
            rig,
            hook,
            other,
            large,
            small,
        }
    }

    fn to_large(&self) -> Attachment {
        self.rig.domain(1, self.large)
    }

    fn expected(&self) -> Pages {
        let pages = (0..LARGE_TABLES).map(|n| n * LARGE / PAGE);
        self.rig.expected(self.large, pages)
    }

    /// Has the large domain walked for A, and `act` done when `after` of its tables are read.
    fn walk_and(&self, after: u64, act: impl FnOnce() + Send + 'static) {
        self.hook.set(after, act);
        self.rig.attach(A, self.to_large());
    }
}

/// Does `act` in another thread, and waits until it is done: nobody else may have to go on for that.
fn elsewhere(act: impl FnOnce() + Send + 'static) {
    thread::spawn(act).join().unwrap();
}

/// Waits until the mirror has heard of `device`.
fn until_known(mirror: &Mirror, device: DeviceHandle) {
    let known = || {
        let report = mirror.report();
        let mut devices = report.devices.iter();
        devices.any(|endpoint| endpoint.name.device == device.0)
    };
    while !known() {
        thread::yield_now();
    }
}

#[test]
fn others_come_and_go_and_look_while_a_large_domain_is_walked() {
    for host in [FakeOptions::iommufd(), FakeOptions::type1()] {
        let scene = Scene::new(host);
        let (mirror, other) = (scene.rig.mirror.clone(), scene.other.clone());
        let small = scene.rig.domain(2, scene.small);
        let (tell, heard) = channel();
        scene.walk_and(700, move || {
            elsewhere(move || {
                let attached = other.apply(&[attachment(B, small), attachment(C, small)]);
                mirror.forget(C);
                tell.send((attached.results, mirror.stats())).unwrap();
            });
        });
        let (results, stats): (_, Stats) = heard.recv().unwrap();
        assert_eq!(results, [Ok(()), Ok(())]);
        assert_eq!(
            stats.walks, 1,
            "the small domain's; the large one's is not over"
        );
        assert_eq!(scene.rig.pages(A), scene.expected());
        assert_eq!(scene.rig.pages(B), scene.rig.expected(scene.small, 0..8));
        scene.rig.assert_ledger_is_true();
    }
}

#[test]
fn device_that_joins_a_domain_which_is_walked_waits_until_all_of_it_is_there() {
    let scene = Scene::new(FakeOptions::iommufd());
    let (mirror, other, to) = (
        scene.rig.mirror.clone(),
        scene.other.clone(),
        scene.to_large(),
    );
    let (tell, joiner) = channel::<JoinHandle<_>>();
    scene.walk_and(700, move || {
        let join = move || other.apply(&[attachment(B, to)]).results;
        tell.send(thread::spawn(join)).unwrap();
        until_known(&mirror, B);
    });
    assert_eq!(joiner.recv().unwrap().join().unwrap(), [Ok(())]);
    assert_eq!(scene.rig.pages(B), scene.expected());
    let log = scene.rig.host.take_log();
    let last = |is: fn(&Call) -> bool| log.iter().rposition(|logged| is(&logged.call));
    let first = log
        .iter()
        .position(|logged| matches!(logged.call, Call::Attach(..)));
    assert!(last(|call| matches!(call, Call::Map(..))) < first);
    assert_eq!(scene.rig.mirror.stats().walks, 1);
}

#[test]
fn first_stage_on_a_copy_that_is_filled_waits_until_all_of_it_is_there() {
    let scene = Scene::new(FakeOptions::nesting());
    let to = |table| {
        let first = FirstStage {
            table: GuestAddress(table),
            levels: 4,
            no_execute: false,
            extended_accessed: false,
        };
        let second = SecondStage::plain(GuestAddress(scene.large), 4);
        Attachment::Domain(Domain::new(
            DomainId(1),
            Stages::Nested(first, second),
            Rules::default(),
            false,
            &scene.rig.capabilities,
        ))
    };
    let (mirror, other) = (scene.rig.mirror.clone(), scene.other.clone());
    let above = to(0x7000);
    let (tell, joiner) = channel::<JoinHandle<_>>();
    scene.hook.set(700, move || {
        let join = move || other.apply(&[attachment(B, above)]).results;
        tell.send(thread::spawn(join)).unwrap();
        until_known(&mirror, B);
    });
    scene.rig.attach(A, to(0x6000));
    assert_eq!(joiner.recv().unwrap().join().unwrap(), [Ok(())]);
    let host = &scene.rig.host;
    for device in [A, B] {
        let endpoint = Endpoint {
            device,
            pasid: None,
        };
        let ground = host.ground(endpoint).unwrap();
        let held = host.mappings(ground).unwrap();
        assert_eq!(pages_of(&held), scene.expected());
    }
    let log = host.take_log();
    let is_map = |call: &Call| matches!(call, Call::Map(..));
    let last = log.iter().rposition(|logged| is_map(&logged.call));
    let is_attach = |call: &Call| matches!(call, Call::Attach(..));
    let first = log.iter().position(|logged| is_attach(&logged.call));
    assert!(last < first);
    assert_eq!(scene.rig.mirror.stats().walks, 1);
}

#[test]
fn invalidation_during_a_walk_is_not_done_before_what_it_names_is_walked_again() {
    for host in [FakeOptions::iommufd(), FakeOptions::type1()] {
        let scene = Scene::new(host);
        let results = scene
            .other
            .apply(&[attachment(B, scene.to_large())])
            .results;
        assert_eq!(results, [Ok(())]);
        let (mirror, other) = (scene.rig.mirror.clone(), scene.other.clone());
        let (memory, place) = (scene.rig.memory.clone(), {
            let mut rig = Rig::iommufd();
            rig.memory = scene.rig.memory.clone();
            rig.entry(scene.large, 0, 1)
        });
        let (tell, told) = channel::<JoinHandle<_>>();
        scene.hook.set(700, move || {
            // Walked already.
            memory.set(place, 0);
            let batches = mirror.stats().batches;
            let invalidate = move || other.apply(&[pages_invalidated(1, 0, PAGE)]).results;
            tell.send(thread::spawn(invalidate)).unwrap();
            while mirror.stats().batches == batches {
                thread::yield_now();
            }
        });
        // All of it is walked once more, and the page with it.
        scene.rig.tell(FollowEvent::Attach {
            device: A,
            to: scene.to_large(),
        });
        scene.rig.tell(domain_invalidated(1));
        assert_eq!(told.recv().unwrap().join().unwrap(), [Ok(())]);
        for device in [A, B] {
            assert_eq!(scene.rig.pages(device), scene.expected());
        }
        scene.rig.assert_ledger_is_true();
    }
}

#[test]
fn domain_that_nobody_uses_any_more_is_not_walked_to_its_end() {
    let scene = Scene::new(FakeOptions::iommufd());
    let mirror = scene.rig.mirror.clone();
    scene
        .hook
        .set(700, move || elsewhere(move || mirror.forget(A)));
    let _ = scene.rig.unit.apply(&[attachment(A, scene.to_large())]);
    assert!(
        scene.rig.memory.reads() < 700 + 512 + 16,
        "{} tables",
        scene.rig.memory.reads()
    );
    assert_eq!(scene.rig.table_of(A), None);
    assert_eq!(scene.rig.mirror.tables(), []);
    assert_eq!(scene.rig.mapping_calls(), []);
}

#[test]
fn group_that_gets_another_domain_while_the_old_one_is_walked_has_the_new_one_only() {
    let scene = Scene::new(FakeOptions::type1());
    scene.rig.host.open_beside(C, A);
    let (mirror, other) = (scene.rig.mirror.clone(), scene.other.clone());
    scene.hook.set(700, move || {
        // The group disagrees from now on, so that it is to have nothing.
        elsewhere(move || {
            let answer = other.apply(&[attachment(C, Attachment::Identity)]);
            assert!(answer.results[0].is_err());
            drop(mirror);
        });
    });
    let answer = scene.rig.unit.apply(&[attachment(A, scene.to_large())]);
    assert!(answer.results[0].is_err());
    assert_eq!(scene.rig.reached(A), []);
    scene.rig.assert_ledger_is_true();
}

#[test]
fn others_have_a_turn_after_every_few_calls_of_the_host() {
    let mut scene = Scene::new(FakeOptions::iommufd());
    let clock = Arc::new(Hook::new());
    scene.rig.mirror = scene.rig.mirror.clone().with_clock(clock.clone());
    let mirror = scene.rig.mirror.clone();
    let (tell, told) = channel();
    clock.set(200, move || {
        let asked = mirror.clone();
        let ask = move || tell.send(asked.stats().calls.map).unwrap();
        drop(queue(&mirror, ask));
    });
    scene.rig.attach(A, scene.to_large());
    let maps = told.recv().unwrap();
    assert!(
        (90..=256 + 8).contains(&maps),
        "{maps} of {LARGE_TABLES} runs"
    );
    assert_eq!(scene.rig.pages(A), scene.expected());
}

/// Lets `act` wait for the lock of `mirror`, which this thread has: it has it next.
fn queue<T: Send + 'static>(
    mirror: &Mirror,
    act: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let thread = thread::spawn(act);
    while mirror.shared.door.try_lock().is_ok() {
        thread::yield_now();
    }
    thread
}

#[test]
fn table_that_is_put_to_another_use_while_its_domain_is_walked_gets_none_of_that() {
    let scene = Scene::new(FakeOptions::type1());
    let (other, small) = (scene.other.clone(), scene.rig.domain(2, scene.small));
    scene.hook.set(700, move || {
        elsewhere(move || {
            assert_eq!(other.apply(&[attachment(A, small)]).results, [Ok(())]);
        });
    });
    // B still wants it, so that it is walked to its end.
    let events = [A, B].map(|device| attachment(device, scene.to_large()));
    let _ = scene.rig.unit.apply(&events);
    assert_eq!(scene.rig.pages(A), scene.rig.expected(scene.small, 0..8));
    assert_eq!(scene.rig.pages(B), scene.expected());
    scene.rig.assert_ledger_is_true();
}

#[test]
fn table_that_is_put_to_another_use_while_it_is_filled_gets_no_more_of_that() {
    let mut scene = Scene::new(FakeOptions::type1());
    let clock = Arc::new(Hook::new());
    scene.rig.mirror = scene.rig.mirror.clone().with_clock(clock.clone());
    let (mirror, other) = (scene.rig.mirror.clone(), scene.other.clone());
    let small = scene.rig.domain(2, scene.small);
    let (tell, told) = channel();
    clock.set(200, move || {
        let act = move || other.apply(&[attachment(A, small)]).results;
        tell.send(queue(&mirror, act)).unwrap();
    });
    let _ = scene.rig.unit.apply(&[attachment(A, scene.to_large())]);
    assert_eq!(told.recv().unwrap().join().unwrap(), [Ok(())]);
    assert_eq!(scene.rig.pages(A), scene.rig.expected(scene.small, 0..8));
    scene.rig.assert_ledger_is_true();
}

#[test]
fn device_is_not_said_to_have_everything_while_its_table_is_filled() {
    let mut scene = Scene::new(FakeOptions::iommufd());
    let failing = Injection::always(CallKind::Map, HostError::Io);
    scene.rig.host.inject(failing);
    assert!(
        scene
            .rig
            .unit
            .apply(&[attachment(A, scene.to_large())])
            .results[0]
            .is_err()
    );
    scene.rig.host.heal();
    let clock = Arc::new(Hook::new());
    scene.rig.mirror = scene.rig.mirror.clone().with_clock(clock.clone());
    let (mirror, unit) = (scene.rig.mirror.clone(), scene.rig.unit.clone());
    let (tell, told) = channel();
    clock.set(200, move || {
        let act = move || unit.apply(&[domain_invalidated(77)]).resynced;
        tell.send(queue(&mirror, act)).unwrap();
    });
    // What lacks is tried again with whatever comes.
    let _ = scene.other.apply(&[domain_invalidated(77)]);
    assert_eq!(told.recv().unwrap().join().unwrap(), []);
    assert_eq!(scene.rig.pages(A), scene.expected());
    assert_eq!(
        scene.rig.unit.apply(&[domain_invalidated(77)]).resynced,
        [A]
    );
}

#[test]
fn others_do_not_wait_for_what_lacks_in_a_domain_that_is_walked() {
    let scene = Scene::new(FakeOptions::iommufd());
    scene
        .rig
        .host
        .inject(Injection::once(CallKind::Map, HostError::Io));
    assert!(
        scene
            .rig
            .unit
            .apply(&[attachment(A, scene.to_large())])
            .results[0]
            .is_err()
    );
    let (other, small) = (scene.other.clone(), scene.rig.domain(2, scene.small));
    scene.hook.set(700, move || {
        elsewhere(move || {
            assert_eq!(other.apply(&[attachment(B, small)]).results, [Ok(())]);
        });
    });
    scene.rig.tell(domain_invalidated(1));
    assert_eq!(scene.rig.pages(A), scene.expected());
}
