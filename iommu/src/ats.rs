// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Devices that cache translations (Address Translation Services) and ask for pages (Page Request Interface).
//!
//! The unit reaches such a device through [`AtsEndpoint`], by the id that it has at the moment. A device that is not known,
//! because it is absent or was removed, has nothing to drop and nobody to answer, so what names it completes silently.
//!
//! The unit has no clock: how long a device may take is for whoever implements the trait to say.

use crate::address::IovaRange;
use crate::ids::{Pasid, Requester, SourceId};
use crate::invalidation::{DeviceSpaces, DeviceTlbInvalidation};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, Weak};

/// How an invalidation of what a device has cached ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// The device has dropped what was named, and everything that it did with it is done.
    Completed,
    /// The device did not answer in time.
    TimedOut,
    /// The device answered something else.
    Wrong,
}

/// What software answers to page requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseCode {
    /// The pages are there, or may be asked for again.
    Success,
    /// Some page cannot be had.
    InvalidRequest,
    /// Nothing can be had any more: the device must stop asking.
    Failure,
}

impl ResponseCode {
    /// The code of the low four bits of `field`. Undefined codes are failures.
    #[must_use]
    pub const fn from_field(field: u8) -> Self {
        match field & 0xf {
            0 => Self::Success,
            1 => Self::InvalidRequest,
            _ => Self::Failure,
        }
    }
}

/// The answer to the page requests of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageResponse {
    /// The device.
    pub source: SourceId,
    /// The address space, if the answer names one.
    pub pasid: Option<Pasid>,
    /// The group, 9 bits.
    pub group: u16,
    /// The answer.
    pub code: ResponseCode,
}

/// A device that caches translations. It is called with no lock of the unit held, while the queue waits for it: it may read
/// the unit's registers and ask for translations, but not write registers.
pub trait AtsEndpoint: fmt::Debug + Send + Sync {
    /// Drops what is cached of `range` in `spaces`. Returns when nothing of it is in use any more, or when it is too late.
    fn invalidate(&self, spaces: DeviceSpaces, range: IovaRange) -> Completion;

    /// Takes an answer to page requests.
    fn respond(&self, response: PageResponse);
}

/// The devices that the unit knows.
#[derive(Debug, Default)]
pub(crate) struct Endpoints(RwLock<Vec<Endpoint>>);

#[derive(Debug)]
struct Endpoint {
    requester: Arc<Requester>,
    device: Weak<dyn AtsEndpoint>,
}

/// What became of a batch of invalidations: the first device of each kind of failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failures {
    pub(crate) late: Option<SourceId>,
    pub(crate) wrong: Option<SourceId>,
}

impl Endpoints {
    pub(crate) fn register(&self, requester: Arc<Requester>, device: &Arc<dyn AtsEndpoint>) {
        let mut endpoints = self.0.write().unwrap_or_else(PoisonError::into_inner);
        endpoints.retain(|known| known.device.strong_count() != 0);
        endpoints.push(Endpoint {
            requester,
            device: Arc::downgrade(device),
        });
    }

    /// Lets each device drop what it is named for, in order. A device that was late once is not asked again: software has to
    /// repeat everything anyway, and a batch takes as many time-outs as there are devices, not descriptors.
    pub(crate) fn invalidate<'a>(
        &self,
        batch: impl Iterator<Item = &'a DeviceTlbInvalidation>,
    ) -> Failures {
        let mut failures = Failures::default();
        let mut silent = BTreeSet::new();
        for invalidation in batch {
            let source = invalidation.source;
            let Some(device) = self.find(source).filter(|_| !silent.contains(&source)) else {
                continue;
            };
            let failed = match device.invalidate(invalidation.spaces, invalidation.range) {
                Completion::Completed => continue,
                Completion::TimedOut => {
                    silent.insert(source);
                    &mut failures.late
                }
                Completion::Wrong => &mut failures.wrong,
            };
            failed.get_or_insert(source);
        }
        failures
    }

    /// Delivers an answer.
    pub(crate) fn respond(&self, response: PageResponse) {
        if let Some(device) = self.find(response.source) {
            device.respond(response);
        }
    }

    fn find(&self, source: SourceId) -> Option<Arc<dyn AtsEndpoint>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .filter(|known| known.requester.source() == source)
            .find_map(|known| known.device.upgrade())
    }
}
