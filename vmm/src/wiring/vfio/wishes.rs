// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the host says of passed-through devices by itself: that it wants one back, or that one has failed.

use crate::events::{Event, Events};
use std::fmt;
use std::sync::{Arc, OnceLock};
use vfio::device::function::Passthrough;
use vfio::device::watch::Notice;

/// Takes the device of this name out of the guest in an orderly way.
pub type GiveBack = Box<dyn Fn(&str) + Send + Sync>;

/// Who hears of it.
#[derive(Clone)]
pub struct Wishes {
    events: Arc<Events>,
    give_back: Arc<OnceLock<GiveBack>>,
}

impl fmt::Debug for Wishes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wishes").finish_non_exhaustive()
    }
}

impl Wishes {
    /// `events` are told; nobody takes devices out yet.
    pub fn new(events: &Arc<Events>) -> Self {
        Self {
            events: Arc::clone(events),
            give_back: Arc::default(),
        }
    }

    /// Who takes devices out from now on; once.
    pub fn set(&self, give_back: GiveBack) {
        let _ = self.give_back.set(give_back);
    }

    /// Hears what the host says of `function`, which people know by `name`. A host without such events is not heard.
    pub fn watch(&self, name: String, function: &Arc<Passthrough>) {
        let (this, known) = (self.clone(), name.clone());
        if let Err(error) = function.watch(move |notice| this.tell(&known, notice)) {
            tracing::warn!("{name}: the host is not heard when it wants the device back: {error}");
        }
    }

    fn tell(&self, name: &str, notice: Notice) {
        match notice {
            Notice::Failed => self.events.tell(Event::HostRefusal {
                device: name.to_owned(),
                what: "the device has failed, and is stopped until it is reset".to_owned(),
            }),
            Notice::Wanted => match self.give_back.get() {
                Some(give_back) => give_back(name),
                None => tracing::warn!(
                    "{name}: the host wants the device back, and waits until this machine ends"
                ),
            },
        }
    }
}
