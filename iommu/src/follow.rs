// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The seam to the host side: what somebody must do who keeps the translations of devices outside this unit, such as those
//! of devices passed through, equal to what the guest's tables say.
//!
//! The unit reads what the guest says of the devices that it was told to follow, compares it with what it told last, and
//! tells the difference: in batches up to the next wait descriptor, one after the other as the guest caused them. In a batch,
//! what devices go through comes before what tables say, because all of it was in memory before any of it was read. The
//! [`Follower`] answers each event, and only then the guest learns that its invalidation is done. What did not change is not
//! told again, unless it was refused.
//!
//! Contexts are read when an invalidation of contexts names them, PASID entries through the context as it was read last. A
//! range of a domain that nothing followed goes through is not told: whoever keeps such tables has to begin anew.
//!
//! Not here: which pages a table maps. Whoever needs that walks the table ([`GuestTables::walk`]), when it is told of the
//! table and for each range that was invalidated since. Nor what followed devices cache themselves, nor their page requests.

mod batch;
mod device;
mod directory;
mod guest;
mod roster;

pub(crate) use batch::is_short;
pub(crate) use device::Batch;
pub use directory::PasidWalkCounts;
pub(crate) use guest::Guest;
pub(crate) use roster::Roster;

use crate::address::{Iova, IovaRange};
use crate::capabilities::Capabilities;
use crate::ids::{DomainId, Pasid, Requester, SourceId};
use crate::memory::PhysMem;
use crate::translate::paging::Stages;
use crate::translate::rights::Rules;
use crate::walk::range::{RangeWalk, Trace};
use std::fmt;
use std::sync::Arc;

/// Names a followed device. Whoever follows chooses the number, one for each device of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceHandle(pub u32);

impl fmt::Display for DeviceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device {}", self.0)
    }
}

/// A device to follow.
#[derive(Clone, Debug)]
pub struct FollowedDevice {
    /// Its name in events.
    pub handle: DeviceHandle,
    /// Its identity on the bus: the entries of whatever id it has at the time count.
    pub requester: Arc<Requester>,
    /// Whether its PASIDs are followed too, and how many at most.
    pub pasids: Option<PasidBudget>,
}

/// How much a guest may make of the PASIDs of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasidBudget {
    /// Width in bits of the PASIDs that the device can send, 1 to 20; higher ones are never bound.
    pub bits: u32,
    /// PASIDs that are bound at a time. When all are looked at, those with the lowest numbers come first. The others are
    /// blocked, of which the guest learns by a fault.
    pub bindings: u32,
    /// PASID tables (4 KiB each) that are read when all are looked at. What lies beyond is blocked as well.
    pub tables: u32,
}

/// What requests go through from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attachment {
    /// None passes.
    Blocked,
    /// They pass unchanged, and reach all that they could reach without the unit.
    Identity,
    /// Through the guest's tables.
    Domain(Domain),
}

/// Tables of the guest, and the tag by which it names them in invalidations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Domain {
    /// The tag. Two tags may name the same tables, and one tag may, by mistake of the guest, name different ones.
    pub id: DomainId,
    /// The second part of the tag where there is a first stage: the PASID of the entry, RID_PASID included. Invalidations that
    /// name a PASID mean it.
    pub pasid: Option<Pasid>,
    /// The tables.
    pub tables: GuestTables,
}

/// Tables of the guest and how they are read. Equal values translate equally, so that one host table serves all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GuestTables {
    /// Root, stage, levels and format.
    pub stages: Stages,
    /// Width in bits of the addresses that go in: 39, 48 or 57, and never more than the unit offers where there is no first
    /// stage. First-stage addresses repeat their highest bit up to bit 63.
    pub width: u32,
    /// What requests may do. The default where there is no first stage, which is all that it matters to.
    pub rules: Rules,
    /// Requests have supervisor privilege though they do not say so (RID_PRIV). False where there is no first stage.
    pub privileged: bool,
}

/// Something to be done outside, in the order of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowEvent {
    /// The device's requests without PASID go by this from now on, instead of what was told last. The first event about a
    /// device. In scalable mode this is the entry of RID_PASID, which is not told as a PASID then.
    Attach {
        /// The device.
        device: DeviceHandle,
        /// What its requests go through.
        to: Attachment,
    },
    /// The device's requests with this PASID, all of which were blocked, go by this from now on.
    Bind {
        /// The device.
        device: DeviceHandle,
        /// The PASID.
        pasid: Pasid,
        /// What its requests go through. Never [`Attachment::Blocked`].
        to: Attachment,
    },
    /// The device's requests with this PASID, which is bound, go by this instead from now on.
    Rebind {
        /// The device.
        device: DeviceHandle,
        /// The PASID.
        pasid: Pasid,
        /// What its requests go through. Never [`Attachment::Blocked`].
        to: Attachment,
    },
    /// The device's requests with this PASID, which was bound or refused before, are blocked from now on.
    Unbind {
        /// The device.
        device: DeviceHandle,
        /// The PASID.
        pasid: Pasid,
    },
    /// What tables say may have changed.
    Invalidated(Invalidated),
    /// The unit was reset: every device passes unchanged ([`Attachment::Identity`]), no PASID is bound, and nothing of the
    /// guest's tables counts any more.
    Reset,
}

impl FollowEvent {
    /// The device that the event is about, if it is about one.
    #[must_use]
    pub const fn device(&self) -> Option<DeviceHandle> {
        match *self {
            Self::Attach { device, .. }
            | Self::Bind { device, .. }
            | Self::Rebind { device, .. }
            | Self::Unbind { device, .. } => Some(device),
            Self::Invalidated(_) | Self::Reset => None,
        }
    }

    /// What is not in effect when the event is not carried out, if that is one thing.
    const fn undone(&self) -> Option<Unmet> {
        match *self {
            Self::Attach { device, .. } => Some(Unmet::Attachment(device)),
            Self::Bind { device, pasid, .. }
            | Self::Rebind { device, pasid, .. }
            | Self::Unbind { device, pasid } => Some(Unmet::Binding(device, pasid)),
            Self::Invalidated(_) | Self::Reset => None,
        }
    }
}

/// Which translations software says that it may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Invalidated {
    /// Of the tables with this tag; `None` for all tables.
    pub domain: Option<DomainId>,
    /// Of the first-stage and nested tables of this PASID only; `None` for all of the domain.
    pub pasid: Option<Pasid>,
    /// Of these addresses, which the tables translate.
    pub range: IovaRange,
    /// Only leaf entries changed (IH).
    pub leaf_only: bool,
}

impl Invalidated {
    /// Everything.
    pub const ALL: Self = Self {
        domain: None,
        pasid: None,
        range: IovaRange::ALL,
        leaf_only: false,
    };
}

/// Why something that the guest asked for is not in effect on the host. Each becomes one fault record, unless the guest
/// keeps faults of the entry silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unmet {
    /// The device could not be attached, and is blocked. The reason code is 0x3, in scalable mode 0x43.
    Attachment(DeviceHandle),
    /// The PASID could not be bound, and is blocked: 0x5b.
    Binding(DeviceHandle, Pasid),
    /// The host's tables for the device, or for one of its PASIDs, lack something: 0x7, in scalable mode 0x78.
    Unsynced {
        /// The device.
        device: DeviceHandle,
        /// The PASID, if it is none of the requests without.
        pasid: Option<Pasid>,
        /// The first page that is not as the guest says.
        first: Iova,
    },
}

impl Unmet {
    /// The device that suffers.
    #[must_use]
    pub const fn device(&self) -> DeviceHandle {
        match *self {
            Self::Attachment(device) | Self::Binding(device, _) | Self::Unsynced { device, .. } => {
                device
            }
        }
    }
}

/// One event was not carried out, or not whole. Says whom that hits; what happened is the follower's to log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// What is not in effect now. One invalidation may hit several devices.
    pub unmet: Vec<Unmet>,
}

impl From<Unmet> for Refusal {
    fn from(unmet: Unmet) -> Self {
        Self { unmet: vec![unmet] }
    }
}

/// The answer to a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// One result for each event, in their order. A result that is missing counts as a success.
    pub results: Vec<Result<(), Refusal>>,
    /// Devices for which everything is in effect again that was not, so that the next failure is worth a fault.
    pub resynced: Vec<DeviceHandle>,
}

impl Answer {
    /// Everything was done.
    #[must_use]
    pub fn done(events: &[FollowEvent]) -> Self {
        Self {
            results: vec![Ok(()); events.len()],
            resynced: Vec::new(),
        }
    }

    /// Nothing was done.
    #[must_use]
    pub(crate) fn refused(events: &[FollowEvent]) -> Self {
        Self {
            results: events
                .iter()
                .map(|event| Err(event.undone().map_or_else(Refusal::default, Refusal::from)))
                .collect(),
            resynced: Vec::new(),
        }
    }
}

/// Keeps translations outside the unit equal to what the guest says.
pub trait Follower: fmt::Debug + Send + Sync {
    /// Carries the events out, in their order; a failed one does not stop the others. Returns when what the guest took away
    /// can no longer be used by any device.
    ///
    /// What was refused is told again at the next invalidation that names it, if it is an attachment or a binding; what
    /// tables lack the follower makes up for itself, at the next event.
    ///
    /// Called by one thread at a time with no lock held that a read of a register or a DMA takes. It must not call the unit,
    /// except to read registers.
    fn apply(&self, events: &[FollowEvent]) -> Answer;

    /// Takes over a step of the queue that may be long, because whole tables are named, and what is queued behind it, from the
    /// thread that wrote the tail: a processor of the guest. It must be run soon, on another thread and outside
    /// [`Follower::apply`], which it calls; until it ends no other work comes. What is given back is done at once by the
    /// caller; by default everything. Work that is dropped without being run, or that panics, is not done, and the queue stands
    /// until the guest writes the tail again.
    ///
    /// Called during an operation of the unit, for whose end the work waits: so it must not wait for the work, nor call the
    /// unit, except to read registers.
    fn defer(&self, work: Deferred) -> Option<Deferred> {
        Some(work)
    }
}

/// Work to be done on another thread.
pub struct Deferred(Box<dyn FnOnce() + Send>);

impl Deferred {
    pub(crate) fn new(work: impl FnOnce() + Send + 'static) -> Self {
        Self(Box::new(work))
    }

    /// Does it.
    pub fn run(self) {
        (self.0)();
    }
}

impl fmt::Debug for Deferred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deferred").finish_non_exhaustive()
    }
}

/// What was told of one kind of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToldStatus {
    /// What they are to go through.
    pub to: Attachment,
    /// The tag of the entry that says so, if there is one.
    pub domain: Option<DomainId>,
    /// The follower could not do it, so they are blocked.
    pub refused: bool,
}

/// What was told of a followed device, for whoever looks at the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowedStatus {
    /// The device.
    pub device: DeviceHandle,
    /// Its id on the bus now.
    pub source: SourceId,
    /// Requests without PASID.
    pub without_pasid: Option<ToldStatus>,
    /// Requests with each PASID that is bound or refused, in ascending order.
    pub pasids: Vec<(Pasid, ToldStatus)>,
    /// The host's tables lack something.
    pub unsynced: bool,
}

/// A device cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// Nobody was named who follows.
    #[error("{0} cannot be followed: the unit has no follower yet")]
    NoFollower(DeviceHandle),
    /// Somebody follows already.
    #[error("the unit has a follower already")]
    SecondFollower,
    /// The handle is taken.
    #[error("{0} is followed already")]
    HandleTaken(DeviceHandle),
}

impl Domain {
    /// The domain with this tag and these tables, as the unit reads them.
    #[must_use]
    pub fn new(
        id: DomainId,
        stages: Stages,
        rules: Rules,
        privileged: bool,
        capabilities: &Capabilities,
    ) -> Self {
        let (width, first_stage) = match stages {
            Stages::First(first) | Stages::Nested(first, _) => (first.width(), true),
            Stages::Second(second) => (second.width(capabilities), false),
        };
        Self {
            id,
            pasid: None,
            tables: GuestTables {
                stages,
                width,
                rules: if first_stage { rules } else { Rules::new() },
                privileged: privileged && first_stage,
            },
        }
    }
}

impl Domain {
    /// The same, from the entry of `pasid`.
    #[must_use]
    pub const fn of_entry(self, pasid: Pasid) -> Self {
        let pasid = match self.tables.stages {
            Stages::First(_) | Stages::Nested(..) => Some(pasid),
            Stages::Second(_) => None,
        };
        Self { pasid, ..self }
    }

    /// Whether an invalidation means these tables.
    #[must_use]
    pub fn is_named(&self, by: &Invalidated) -> bool {
        by.domain.is_none_or(|domain| domain == self.id)
            && (by.pasid.is_none() || by.pasid == self.pasid)
    }
}

impl GuestTables {
    /// The second stage by itself, where both are there: what translates the addresses of the first stage's tables and pages,
    /// which are no requests.
    #[must_use]
    pub fn beneath(&self, capabilities: &Capabilities) -> Option<Self> {
        let Stages::Nested(_, second) = self.stages else {
            return None;
        };
        Some(Self {
            stages: Stages::Second(second),
            width: second.width(capabilities),
            rules: Rules::new(),
            privileged: false,
        })
    }

    /// A walk of what they map of `range`; `None` for nested tables, which are not walked.
    #[must_use]
    pub fn walk(&self, capabilities: &Capabilities, range: &IovaRange) -> Option<RangeWalk> {
        match self.stages {
            Stages::First(stage) => Some(RangeWalk::first_stage(
                stage,
                self.rules,
                self.privileged,
                range,
            )),
            Stages::Second(stage) => Some(RangeWalk::second_stage(stage, capabilities, range)),
            Stages::Nested(..) => None,
        }
    }

    /// The way of `iova` through them; `None` for nested tables, which are not walked.
    #[must_use]
    pub fn trace<M: PhysMem + ?Sized>(
        &self,
        memory: &M,
        capabilities: &Capabilities,
        iova: Iova,
    ) -> Option<Trace> {
        let range = IovaRange::new(iova, iova)?;
        let walk = self.walk(capabilities, &range)?;
        Some(walk.trace(memory, capabilities, iova))
    }
}
