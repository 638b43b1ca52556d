// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Following devices: the shell around [`crate::follow`].
//!
//! What is told is worked out and told during a turn, so that the follower hears of one thing after the other, and of a
//! device that arrives late before the next invalidation. The roster's lock comes after the turn. It is held while entries of
//! followed devices are read, up to whole PASID directories, and not while the follower works.

use super::Unit;
use crate::fault::Fault;
use crate::follow::{
    Answer, Batch, Deferred, DeviceHandle, FollowError, FollowedDevice, FollowedStatus, Follower,
    Guest, Roster, Unmet,
};
use crate::invalidation::Invalidation;
use crate::rate_limit;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Who follows what.
#[derive(Debug, Default)]
pub(super) struct Following {
    follower: OnceLock<Arc<dyn Follower>>,
    /// Some device is followed. Changes during a turn only.
    active: AtomicBool,
    roster: Mutex<Roster>,
}

impl Following {
    fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who has to be told, if anybody.
    pub(super) fn follower(&self) -> Option<&Arc<dyn Follower>> {
        let active = self.active.load(Ordering::Acquire);
        self.follower.get().filter(|_| active)
    }
}

impl Unit {
    /// Names who follows devices of this unit, once and for all. A follower that refers to the unit does so weakly.
    ///
    /// # Errors
    /// Somebody was named before.
    pub fn set_follower(&self, follower: Arc<dyn Follower>) -> Result<(), FollowError> {
        (self.following.follower.set(follower)).map_err(|_| FollowError::SecondFollower)
    }

    /// Follows a device: before this returns the follower is told what its requests and its PASIDs go through now, and from
    /// then on what changes. Waits for the operation that is under way. Not to be called by the follower.
    ///
    /// # Errors
    /// There is no follower, or the handle is taken.
    pub fn follow(&self, device: FollowedDevice) -> Result<(), FollowError> {
        let handle = device.handle;
        let _turn = self.turns.take();
        if self.following.follower.get().is_none() {
            return Err(FollowError::NoFollower(handle));
        }
        let batch = self.following.roster().add(device, &self.guest())?;
        self.following.active.store(true, Ordering::Release);
        self.tell(&batch);
        Ok(())
    }

    /// Looks at a device again, because its id on the bus is another one. As [`Unit::follow`].
    pub fn refollow(&self, device: DeviceHandle) {
        let _turn = self.turns.take();
        let batch = self.following.roster().reread(device, &self.guest());
        self.tell(&batch);
    }

    /// Follows a device no longer: no event names it once this returns. Waits for the operation that is under way. Not to be
    /// called by the follower.
    ///
    /// The device must be unable to issue requests by then (bus mastering off, or reset): the follower may still translate
    /// for it until it is told to let go of it, by a way of its own, and invalidations done in between do not wait for that.
    pub fn unfollow(&self, device: DeviceHandle) {
        let _turn = self.turns.take();
        let mut roster = self.following.roster();
        roster.remove(device);
        self.following
            .active
            .store(!roster.is_empty(), Ordering::Release);
    }

    /// What was told of each followed device. Does not wait for the follower, but for entries that are being read, which may
    /// be a whole PASID directory for each device.
    #[must_use]
    pub fn followed(&self) -> Vec<FollowedStatus> {
        self.following.roster().status()
    }

    /// Takes news of the host that are no answer to events: what is not in effect any more, and devices for which everything
    /// is in effect again. May be called at any time by any thread, but not from within a [`Follower::apply`] of this unit.
    pub fn host_changed(&self, unmet: &[Unmet], resynced: &[DeviceHandle]) {
        let faults = {
            let mut roster = self.following.roster();
            for device in resynced {
                roster.resynced(*device);
            }
            roster.unmet(unmet, self.guest().mode())
        };
        self.fail(&faults);
    }

    /// Leaves `work` to the follower's thread, or gives it back.
    pub(super) fn defer(&self, work: Deferred) -> Option<Deferred> {
        match self.following.follower() {
            Some(follower) => follower.defer(work),
            None => Some(work),
        }
    }

    /// Tells what `named` changes, and returns when that is in effect.
    pub(super) fn follow_invalidations(&self, named: &[Invalidation]) {
        if self.following.follower().is_some() {
            let batch = self.following.roster().invalidated(&self.guest(), named);
            self.tell(&batch);
        }
    }

    /// Tells what another root pointer changes. With `contents`, tables that stay may say something else, too.
    pub(super) fn follow_root(&self, contents: bool) {
        if self.following.follower().is_some() {
            let batch = self.following.roster().reread_all(&self.guest(), contents);
            self.tell(&batch);
        }
    }

    /// Tells that the unit was reset.
    pub(super) fn follow_reset(&self) {
        if self.following.follower().is_some() {
            let batch = self.following.roster().reset();
            self.tell(&batch);
        }
    }

    fn guest(&self) -> Guest<'_> {
        Guest {
            memory: &*self.memory,
            capabilities: &self.capabilities,
            root: self.translator.root(),
        }
    }

    fn tell(&self, batch: &Batch) {
        let Some(follower) = self.following.follower() else {
            return;
        };
        self.tally.follow.walked(&batch.counts);
        let mut answer = Ok(Answer::default());
        if !batch.events.is_empty() {
            self.tally.follow.batch(batch.events.len());
            // All that it shares with others here is the roster, which takes the answer.
            answer = catch_unwind(AssertUnwindSafe(|| follower.apply(&batch.events)));
        }
        // Nobody knows what was done by a follower that panicked, so nothing counts as done.
        let (answer, panic) = match answer {
            Ok(answer) => (answer, None),
            Err(panic) => (Answer::refused(&batch.events), Some(panic)),
        };
        let refused = answer.results.iter().filter(|result| result.is_err());
        self.tally.follow.refused(refused.count() as u64);
        let mode = self.guest().mode();
        let faults = self.following.roster().answered(batch, &answer, mode);
        self.fail(&faults);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Lets the guest know of what is not in effect.
    fn fail(&self, faults: &[Fault]) {
        for fault in faults {
            let count = self.tally.follow.fault();
            if rate_limit::admits(count) {
                tracing::warn!(
                    ?fault,
                    count,
                    "the host could not do what the guest asks for"
                );
            }
            self.record(fault);
        }
    }
}
