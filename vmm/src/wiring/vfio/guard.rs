// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Between a unit and the mirror: stops devices that the host lets reach what the guest took away.
//!
//! The mirror itself has no way left then; but a device that may not send reaches nothing.

use super::Roster;
use crate::events::{Event, Events};
use ::iommu::follow::{Answer, Deferred, FollowEvent, Follower, Unmet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vfio::mirror::Mirror;

/// One unit's way into the mirror.
#[derive(Debug)]
pub struct Guard {
    inner: Arc<dyn Follower>,
    mirror: Mirror,
    devices: Arc<Roster>,
    events: Arc<Events>,
    refused: AtomicU64,
}

impl Guard {
    /// Before `inner`, which is a follower of `mirror`. What is refused is told to `events`.
    #[must_use]
    pub fn new(
        inner: Arc<dyn Follower>,
        mirror: Mirror,
        devices: Arc<Roster>,
        events: Arc<Events>,
    ) -> Arc<Self> {
        Arc::new(Self {
            inner,
            mirror,
            devices,
            events,
            refused: AtomicU64::new(0),
        })
    }

    /// Tells the first few refusals, then each power of two of them: a guest can have the same one again and again.
    fn tell(&self, answer: &Answer) {
        for refusal in answer
            .results
            .iter()
            .filter_map(|result| result.as_ref().err())
        {
            for unmet in &refusal.unmet {
                let count = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
                if count > 8 && !count.is_power_of_two() {
                    continue;
                }
                self.events.tell(Event::HostRefusal {
                    device: self.devices.name(unmet.device()),
                    what: describe(unmet),
                });
            }
        }
        for device in &answer.resynced {
            let device = self.devices.name(*device);
            self.events.tell(Event::HostResynced { device });
        }
    }
}

impl Follower for Guard {
    fn apply(&self, events: &[FollowEvent]) -> Answer {
        let answer = self.inner.apply(events);
        if self.devices.holds_some() || answer.results.iter().any(Result::is_err) {
            self.devices.hold(&self.mirror.still_reachable());
        }
        self.tell(&answer);
        answer
    }

    fn defer(&self, work: Deferred) -> Option<Deferred> {
        self.inner.defer(work)
    }
}

/// What is not in effect, for people.
fn describe(unmet: &Unmet) -> String {
    let of = |pasid: &Option<_>| {
        let pasid: Option<&::iommu::ids::Pasid> = pasid.as_ref();
        pasid.map_or_else(String::new, |pasid| format!(" of PASID {}", pasid.get()))
    };
    match unmet {
        Unmet::Attachment(_) => "it could not be attached and is blocked".to_owned(),
        Unmet::Binding(_, pasid) => {
            format!("PASID {} could not be bound and is blocked", pasid.get())
        }
        Unmet::Unsynced { pasid, first, .. } => {
            format!(
                "the host's tables{} lack what the guest maps at {first}",
                of(pasid)
            )
        }
    }
}
