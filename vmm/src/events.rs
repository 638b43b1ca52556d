// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What happens in a machine, told to whoever listens.
//!
//! Any thread tells an event at any time; telling never waits for a listener. The last [`CAPACITY`] events are kept, and a
//! listener that is slower than that misses some and knows how many. Lock rule: the lock is held to put one event in or to
//! take some out; nothing is called under it.

use crate::error::Error;
use crate::refusal::Refusal;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Events that are kept for those who listen.
pub const CAPACITY: usize = 1024;

/// Who brought something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// The guest.
    Guest,
    /// A request on the control socket.
    Control,
    /// The host, which wants its device back.
    Host,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The guest runs.
    Started,
    /// No processor runs guest code and no emulated device reaches memory.
    Paused,
    /// The guest runs again.
    Resumed,
    /// The machine was reset and starts again.
    Reset {
        /// Who wanted it.
        by: By,
    },
    /// The guest was asked to power off.
    ShutdownRequested,
    /// The run is over.
    Stopped {
        /// The reason in one word, as in the result file.
        reason: String,
        /// The exit status.
        status: u8,
        /// The reason for people.
        message: String,
    },
    /// A device is there.
    DeviceAdded {
        /// Its name.
        id: String,
        /// What it is: the name of its option.
        kind: String,
        /// The root port that it is behind.
        bus: String,
    },
    /// The guest was asked to let a device go.
    UnplugRequested {
        /// Its name.
        id: String,
        /// Who wanted it.
        by: By,
    },
    /// A device is gone.
    DeviceRemoved {
        /// Its name.
        id: String,
        /// Who wanted it.
        by: By,
    },
    /// The guest did not let a device go, or the host wants one back that cannot go while the guest runs.
    DeviceKept {
        /// Its name.
        id: String,
        /// Why not, as far as is known.
        why: String,
    },
    /// A device could not be added or removed.
    DeviceRefused {
        /// Its name or its option.
        id: String,
        /// Why not.
        error: Refusal,
    },
    /// A unit translates from now on.
    IommuEnabled {
        /// The unit's number.
        unit: usize,
    },
    /// A unit does not translate any more.
    IommuDisabled {
        /// The unit's number.
        unit: usize,
    },
    /// A request or an interrupt was blocked. The first of each reason are told, then every so many.
    GuestFault {
        /// The unit's number.
        unit: usize,
        /// The fault reason's code.
        reason: u8,
        /// What it says.
        what: String,
        /// How many there were of this reason.
        count: u64,
    },
    /// The host did not do what the guest's tables ask for.
    HostRefusal {
        /// The device, by its name or its number.
        device: String,
        /// What is not in effect.
        what: String,
    },
    /// Everything that the host refused for this device is in effect again.
    HostResynced {
        /// The device, by its name or its number.
        device: String,
    },
    /// Events that this listener missed, because it was too slow.
    Lost {
        /// How many.
        count: u64,
    },
}

/// An event and when it happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// Counts the events of a machine from 1.
    pub seq: u64,
    /// Seconds since the machine was made.
    pub time: f64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

#[derive(Debug, Default)]
struct Kept {
    last: u64,
    events: VecDeque<Told>,
}

/// The events of a machine.
#[derive(Debug)]
pub struct Events {
    begun: Instant,
    kept: Mutex<Kept>,
    listened: AtomicBool,
    wake: EventFd,
}

impl Events {
    /// No event yet.
    ///
    /// # Errors
    /// No file descriptor can be had.
    pub fn new() -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self {
            begun: Instant::now(),
            kept: Mutex::default(),
            listened: AtomicBool::new(false),
            wake: EventFd::new(EFD_NONBLOCK)
                .map_err(|e| Error::host("create an eventfd for events", e))?,
        }))
    }

    /// Tells that `event` has happened. Returns at once.
    pub fn tell(&self, event: Event) {
        let mut kept = self.kept();
        kept.last += 1;
        let told = Told {
            seq: kept.last,
            time: self.seconds(),
            event,
        };
        if kept.events.len() == CAPACITY {
            kept.events.pop_front();
        }
        kept.events.push_back(told);
        drop(kept);
        if self.listened.load(Ordering::Acquire) {
            // An eventfd that cannot take another 1 is readable already.
            let _ = self.wake.write(1);
        }
    }

    /// Seconds since the machine was made.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        // To the microsecond: more would only be digits.
        (self.begun.elapsed().as_secs_f64() * 1e6).round() / 1e6
    }

    /// The number of the last event, after which a new listener begins.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.kept().last
    }

    /// At most `most` events after number `seen`, and before them how many of those were missed, if any were.
    #[must_use]
    pub fn after(&self, seen: u64, most: usize) -> Vec<Told> {
        let kept = self.kept();
        let first = kept.events.front().map_or(kept.last + 1, |told| told.seq);
        let missed = first.saturating_sub(seen + 1);
        let mut told = Vec::new();
        if missed > 0 && most > 0 {
            told.push(Told {
                seq: first - 1,
                time: self.seconds(),
                event: Event::Lost { count: missed },
            });
        }
        let skip = usize::try_from((seen + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        let room = most.saturating_sub(told.len());
        told.extend(kept.events.iter().skip(skip).take(room).cloned());
        told
    }

    /// Whether [`Self::wake`] becomes readable at each event from now on.
    pub fn listen(&self, on: bool) {
        self.listened.store(on, Ordering::Release);
    }

    /// Readable after an event.
    #[must_use]
    pub const fn wake(&self) -> &EventFd {
        &self.wake
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seqs(told: &[Told]) -> Vec<u64> {
        told.iter().map(|told| told.seq).collect()
    }

    #[test]
    fn listener_gets_what_came_after_it_began() {
        let events = Events::new().unwrap();
        events.tell(Event::Started);
        let seen = events.last();
        assert!(events.after(seen, 10).is_empty());
        events.tell(Event::Paused);
        events.tell(Event::Resumed);
        let told = events.after(seen, 10);
        assert_eq!(seqs(&told), [2, 3]);
        assert_eq!(told[0].event, Event::Paused);
        assert_eq!(seqs(&events.after(seen, 1)), [2]);
        assert!(events.after(3, 10).is_empty());
    }

    #[test]
    fn slow_listener_knows_how_many_it_missed() {
        let events = Events::new().unwrap();
        let capacity = CAPACITY as u64;
        for _ in 0..capacity + 5 {
            events.tell(Event::Paused);
        }
        let told = events.after(2, 3);
        assert_eq!(told[0].event, Event::Lost { count: 3 });
        assert_eq!(seqs(&told), [5, 6, 7]);
        // It goes on behind the last one that it got, and misses nothing more.
        let rest = events.after(7, usize::MAX);
        assert_eq!((rest[0].seq, rest.len()), (8, CAPACITY - 2));
        assert_eq!(rest.last().map(|told| told.seq), Some(capacity + 5));
    }

    #[test]
    fn wake_is_silent_until_somebody_listens() {
        let events = Events::new().unwrap();
        events.tell(Event::Paused);
        assert!(events.wake().read().is_err());
        events.listen(true);
        events.tell(Event::Resumed);
        assert_eq!(events.wake().read().unwrap(), 1);
    }

    #[test]
    fn event_is_one_flat_object() {
        let told = Told {
            seq: 7,
            time: 1.5,
            event: Event::DeviceRemoved {
                id: "d0".into(),
                by: By::Control,
            },
        };
        let text = serde_json::to_string(&told).unwrap();
        let expected = r#"{"seq":7,"time":1.5,"event":"device-removed","id":"d0","by":"control"}"#;
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Told>(&text).unwrap(), told);
    }
}
