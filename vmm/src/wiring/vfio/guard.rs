// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Between a unit and the mirror: stops devices that the host lets reach what the guest took away.
//!
//! The mirror itself has no way left then; but a device that may not send reaches nothing.

use super::Roster;
use ::iommu::follow::{Answer, Deferred, FollowEvent, Follower};
use std::sync::Arc;
use vfio::mirror::Mirror;

/// One unit's way into the mirror.
#[derive(Debug)]
pub struct Guard {
    inner: Arc<dyn Follower>,
    mirror: Mirror,
    devices: Arc<Roster>,
}

impl Guard {
    /// Before `inner`, which is a follower of `mirror`.
    #[must_use]
    pub fn new(inner: Arc<dyn Follower>, mirror: Mirror, devices: Arc<Roster>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            mirror,
            devices,
        })
    }
}

impl Follower for Guard {
    fn apply(&self, events: &[FollowEvent]) -> Answer {
        let answer = self.inner.apply(events);
        if self.devices.holds_some() || answer.results.iter().any(Result::is_err) {
            self.devices.hold(&self.mirror.still_reachable());
        }
        answer
    }

    fn defer(&self, work: Deferred) -> Option<Deferred> {
        self.inner.defer(work)
    }
}
