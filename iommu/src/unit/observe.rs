// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Tells somebody, for people, what the unit does.

use crate::fault::Fault;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Hears what the unit does. Called by whatever thread did it, at times during a turn: it must return at once and not call the
/// unit.
pub trait Observer: fmt::Debug + Send + Sync {
    /// A request was blocked; it is number `count` of its reason. Only the first few of each reason are told, then each power
    /// of two.
    fn fault(&self, fault: &Fault, count: u64);

    /// Translation is on or off from now on. Told of changes only.
    fn translation(&self, on: bool);
}

/// Who observes the unit, if anybody does.
#[derive(Debug, Default)]
pub(super) struct Observed {
    observer: OnceLock<Arc<dyn Observer>>,
    translates: AtomicBool,
}

impl Observed {
    /// Returns false when somebody observes already.
    pub(super) fn set(&self, observer: Arc<dyn Observer>) -> bool {
        self.observer.set(observer).is_ok()
    }

    pub(super) fn fault(&self, fault: &Fault, count: u64) {
        if let Some(observer) = self.observer.get() {
            observer.fault(fault, count);
        }
    }

    /// To be called with the turn held, so that changes are told in their order.
    pub(super) fn translation(&self, on: bool) {
        if self.translates.swap(on, Ordering::AcqRel) != on
            && let Some(observer) = self.observer.get()
        {
            observer.translation(on);
        }
    }
}
