// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The mirror: the host's tables hold at every moment what the guest's tables say.
//!
//! Each guest domain (root, stage, width and attributes of its tables) has one host table, which all its devices and PASIDs
//! share; the guest's (unit, domain id) pairs are only tags, by which invalidations name it. A batch of events is carried
//! out as one, by its net effect:
//!
//! 1. What is said of devices and PASIDs is noted, and so are invalidated ranges, merged for each domain (`note`). Whatever
//!    the guest blocked is detached at once, and new domains get empty tables (`place`).
//! 2. Each domain's ranges are walked once, filtered by what the host can have (`wanted`), compared with what each of its host
//!    tables has ([`crate::diff`]), and the difference is carried out (`carry_out`). Ranges that the host refused earlier are
//!    among them.
//! 3. Endpoints are attached to tables that are complete, and detached from those that may not be used.
//! 4. Tables that serve nobody are given up, and each event gets its answer.
//!
//! The batch for which a strict guest waits at each of its mappings is a short one (`single`).
//!
//! So a device that arrives late finds everything mapped, a device that moves reaches what it did or what it shall, and when
//! [`Follower::apply`] returns nothing is left of what the guest took away.
//!
//! With one exception: a host that neither removes a mapping, nor detaches the device, nor empties its table. All that is left
//! then is to answer that it was refused. The unit records a fault but completes the invalidation, after which the guest gives
//! the memory to somebody else. [`Mirror::still_reachable`] names such devices, so that the machine can stop them (bus
//! mastering off); each batch tries again.
//!
//! One lock guards everything, over calls of the host too, but it is let go between slices of long work (`slices`); the unit
//! calls with none of its own held. First-stage tables are not copied but walked by the host (`nested`), on top of a copy where the
//! guest has two stages.

mod answer;
mod batch;
mod budget;
mod carry_out;
mod clock;
mod cluster;
mod content;
mod device_memory;
mod dump;
mod histogram;
mod host;
mod leaves;
mod nested;
mod news;
mod place;
mod range_set;
mod registry;
mod report;
mod single;
mod slices;
mod stats;
mod sweep;
mod sync;
mod table;
mod walk;
mod wanted;
mod worker;

pub use budget::{Budget, Options};
pub use clock::{Clock, SinceStart};
pub use content::{Content, Nesting, UnitId};
pub use dump::Subject;
pub use histogram::Histogram;
pub use news::Listener;
pub use range_set::RangeSet;
pub use report::{
    Address, BlockedBy, DomainReport, EndpointName, EndpointReport, Holds, RefusalReport, Report,
    Tag,
};
pub use stats::{DeviceStats, Dropped, HostCalls, Refusals, Stats, TableStatus};
pub use wanted::{INTERRUPT_WINDOW, Left, Reach, Wanted, Why};

use crate::backend::{Backend, Endpoint, Role, TableId};
use crate::ram::RamMap;
use crate::run::Run;
use content::Tags;
use host::Host;
use iommu::capabilities::Capabilities;
use iommu::follow::{Answer, Deferred, DeviceHandle, FollowEvent, Follower};
use iommu::memory::PhysMem;
use nested::Nested;
use place::Member;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use table::HostTable;
use worker::Worker;

/// Keeps the tables of one host equal to what the guest's units say.
#[derive(Clone, Debug)]
pub struct Mirror {
    shared: Arc<Shared>,
    worker: Option<Arc<Worker>>,
}

/// The lock and what belongs to it.
#[derive(Debug)]
struct Shared {
    /// Taken before the lock, and let go with the lock in hand: who waits for the lock has it next.
    door: Mutex<()>,
    state: Mutex<State>,
    /// A content is no longer busy.
    idle: Condvar,
}

/// The lock, taken.
type Held<'a> = MutexGuard<'a, State>;

/// One guest unit's way into the mirror.
#[derive(Debug)]
struct UnitFollower {
    unit: UnitId,
    mirror: Mirror,
}

/// Everything, under the lock.
#[derive(Debug)]
struct State {
    host: Host,
    memory: Arc<dyn PhysMem>,
    ram: RamMap,
    options: Options,
    units: BTreeMap<UnitId, Capabilities>,
    members: BTreeMap<Endpoint, Member>,
    tags: Tags,
    nested: Nested,
    tables: BTreeMap<TableId, HostTable>,
    /// A table for each role that serves nothing yet and that the host did not take back.
    spare: BTreeMap<Role, TableId>,
    contents: BTreeMap<Content, BTreeSet<TableId>>,
    /// Ranges to be compared.
    dirty: BTreeMap<Content, RangeSet>,
    /// Contents that somebody works on without the lock.
    busy: BTreeSet<Content>,
    /// Threads that wait for one of them.
    waiting: u32,
    /// Contents that the batch which has the lock is to see to.
    asked: BTreeSet<Content>,
    /// Endpoints to be placed.
    touched: BTreeSet<Endpoint>,
    /// Endpoints that the host did not detach.
    restless: BTreeSet<Endpoint>,
    /// Endpoints to be attached again to tables that are in use again: no event asks for that.
    returning: BTreeSet<Endpoint>,
    /// Devices of which a fault was told.
    faulted: BTreeSet<DeviceHandle>,
    /// Who hears of devices of a unit what none of its events brought about.
    listeners: BTreeMap<UnitId, Weak<dyn Listener>>,
}

impl Mirror {
    /// A mirror without units and devices, which are opened on a [`crate::shared::Shared`] backend: `memory` holds the guest's
    /// tables, `ram` says where guest RAM lies in this process.
    #[must_use]
    pub fn new(
        backend: Box<dyn Backend>,
        memory: Arc<dyn PhysMem>,
        ram: RamMap,
        options: Options,
    ) -> Self {
        let state = State {
            host: Host::new(backend),
            memory,
            ram,
            options,
            units: BTreeMap::new(),
            members: BTreeMap::new(),
            tags: Tags::default(),
            nested: Nested::default(),
            tables: BTreeMap::new(),
            spare: BTreeMap::new(),
            contents: BTreeMap::new(),
            dirty: BTreeMap::new(),
            busy: BTreeSet::new(),
            waiting: 0,
            asked: BTreeSet::new(),
            touched: BTreeSet::new(),
            restless: BTreeSet::new(),
            returning: BTreeSet::new(),
            faulted: BTreeSet::new(),
            listeners: BTreeMap::new(),
        };
        Self {
            shared: Arc::new(Shared {
                door: Mutex::new(()),
                state: Mutex::new(state),
                idle: Condvar::new(),
            }),
            worker: None,
        }
    }

    /// Gives the mirror a thread of its own, to which units made followed from now on leave their long steps.
    ///
    /// # Errors
    /// The host gives no thread.
    pub fn with_worker(self) -> io::Result<Self> {
        Ok(Self {
            worker: Some(Arc::new(Worker::start()?)),
            ..self
        })
    }

    /// Measures time by `clock` from now on.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        self.state().host.set_clock(clock);
        self
    }

    /// What a unit with `capabilities` is to tell its events. Where there are several units, each is to [`Mirror::listen`] as
    /// well, because they share tables. Device handles are unique over all units.
    #[must_use]
    pub fn follower(&self, unit: UnitId, capabilities: Capabilities) -> Arc<dyn Follower> {
        self.state().units.insert(unit, capabilities);
        Arc::new(UnitFollower {
            unit,
            mirror: self.clone(),
        })
    }

    /// Takes a device off whatever it goes through, because it leaves the machine. The order is binding:
    ///
    /// 1. The function is stopped: bus mastering off, or a reset of it.
    /// 2. Its unit stops following it (`Unit::unfollow`).
    /// 3. This.
    /// 4. The backend closes it.
    ///
    /// Between 2 and 3 nobody tells of the device any more, although it still goes through its table: an invalidation of the
    /// guest may be done while what it takes away is mapped for the device. So nothing may come from it by then.
    pub fn forget(&self, device: DeviceHandle) {
        let mut state = self.state();
        state.forget(device);
        state = self.carry_out(state);
        state.drop_fixed(device);
        if !state.asked.is_empty() {
            state = self.carry_out(state);
        }
        state.drop_members(device);
        state.faulted.remove(&device);
        state.host.forget_device(device);
        let news = state.news(None);
        drop(state);
        self.tell(news);
    }

    /// Devices that may still reach what the guest took away, because the host refused every way to prevent it; ascending.
    /// To be read after each batch that was not carried out whole: such a device must be stopped by other means.
    #[must_use]
    pub fn still_reachable(&self) -> Vec<DeviceHandle> {
        self.state().still_reachable().into_iter().collect()
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.state().host.stats.clone()
    }

    /// The host tables as they are now.
    #[must_use]
    pub fn tables(&self) -> Vec<TableStatus> {
        self.state()
            .tables
            .values()
            .map(HostTable::status)
            .collect()
    }

    /// What the host has in `table`, ascending.
    #[must_use]
    pub fn ledger(&self, table: TableId) -> Vec<Run> {
        let state = self.state();
        let table = state.tables.get(&table);
        table.map_or_else(Vec::new, |table| table.ledger.iter().collect())
    }

    fn state(&self) -> Held<'_> {
        let door = self.shared.door.lock();
        let state = self.shared.state.lock();
        drop(door);
        state.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Follower for UnitFollower {
    fn apply(&self, events: &[FollowEvent]) -> Answer {
        let mut state = self.mirror.state();
        state.host.stats.batches += 1;
        state.host.stats.events += events.len() as u64;
        let named: Vec<BTreeSet<TableId>> = match state.single(self.unit, events) {
            Some(table) if state.is_whole(table) => return Answer::done(events),
            Some(table) => {
                state = self.mirror.settle(state, BTreeSet::new());
                vec![BTreeSet::from([table])]
            }
            None => {
                let note = |event| state.note(self.unit, event);
                let named = events.iter().map(note).collect();
                state = self.mirror.carry_out(state);
                named
            }
        };
        let answer = state.answer(events, &named, self.unit);
        let news = state.news(Some(self.unit));
        drop(state);
        self.mirror.tell(news);
        answer
    }

    fn defer(&self, work: Deferred) -> Option<Deferred> {
        match &self.mirror.worker {
            Some(worker) => worker.take(work),
            None => Some(work),
        }
    }
}

#[cfg(test)]
mod tests;
