// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the host says of passed-through devices by itself: that it wants one back, or that one has failed.

use crate::events::{Event, Events};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
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

    /// Hears what the host says of `function`, which people know by `name` and which can go while the guest runs if it is
    /// `in_slot`. A host without such events is not heard.
    pub fn watch(&self, name: String, in_slot: bool, function: &Arc<Passthrough>) {
        let wish = Wish {
            name: name.clone(),
            in_slot,
            told: AtomicBool::new(false),
        };
        let this = self.clone();
        if let Err(error) = function.watch(move |notice| this.hear(&wish, notice)) {
            tracing::warn!("{name}: the host is not heard when it wants the device back: {error}");
        }
    }

    fn hear(&self, wish: &Wish, notice: Notice) {
        match notice {
            Notice::Failed => self.events.tell(Event::HostRefusal {
                device: wish.name.clone(),
                what: "the device has failed, and is stopped until it is reset".to_owned(),
            }),
            Notice::Wanted => match self.give_back.get().filter(|_| wish.in_slot) {
                Some(give_back) => give_back(&wish.name),
                None => self.keep(wish),
            },
        }
    }

    /// The host asks again and again; people are told once.
    fn keep(&self, wish: &Wish) {
        if wish.told.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::warn!("{}: {KEPT}", wish.name);
        self.events.tell(Event::DeviceKept {
            id: wish.name.clone(),
            why: KEPT.to_owned(),
        });
    }
}

/// One device's.
#[derive(Debug)]
struct Wish {
    name: String,
    in_slot: bool,
    told: AtomicBool,
}

/// Why a device stays that the host wants back.
const KEPT: &str = "the host wants it back, but it is behind no root port with a hotplug slot and cannot go while the guest runs: \
                    the host waits until this machine ends";

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    fn wish(in_slot: bool) -> Wish {
        Wish {
            name: "disk".to_owned(),
            in_slot,
            told: AtomicBool::new(false),
        }
    }

    #[test]
    fn device_in_a_slot_is_asked_for_each_time_and_another_one_is_told_of_once() {
        let events = Arc::new(Events::new().unwrap());
        let wishes = Wishes::new(&events);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let names = Arc::clone(&asked);
        wishes.set(Box::new(move |name| {
            names.lock().unwrap().push(name.to_owned());
        }));
        let (slot, fixed) = (wish(true), wish(false));
        for _ in 0..3 {
            wishes.hear(&slot, Notice::Wanted);
            wishes.hear(&fixed, Notice::Wanted);
        }
        assert_eq!(*asked.lock().unwrap(), ["disk"; 3]);
        let told = events.after(0, 10);
        assert_eq!(told.len(), 1);
        let Event::DeviceKept { id, why } = &told[0].event else {
            panic!("{told:?}");
        };
        assert!(id == "disk" && why.contains("no root port with a hotplug slot"));
    }
}
