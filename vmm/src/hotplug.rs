// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Devices that come and go while the guest runs: the machine's side of its hotplug slots.
//!
//! Whoever asks, asks by [`Slots`]. A device that comes is built, put behind its root port and announced; nobody waits for the
//! guest to take it. A device that goes in an orderly way goes when the guest has switched its slot off ([`unplug`]); one thread
//! looks at the slots when the guest did something to one of them, and when the time of a removal is up. A device that is taken
//! by force goes at once: first its DMA is blocked, then it is off the bus, then the guest is told.
//!
//! A reset of the machine takes out what was about to go: nobody uses it any more. A guest that is not up yet, or has no driver
//! for its slots, finds a device that came when its driver starts, and keeps what it was asked to let go.
//!
//! Lock rule: `work` is held over every change from beginning to end and before all other locks; `places` only to look something
//! up or to write it down. What the guest does to a slot only rings the bell.

mod bell;
mod error;
mod place;
pub mod unplug;

pub use place::{Arrival, Made, Maker, Place, Release};

use crate::board;
use crate::error::Error;
use crate::events::{By, Event, Events};
use crate::refusal::Refusal;
use crate::slots::{Added, DeviceOption, Removal, Slot, Slots};
use bell::Bell;
use devices::pci::PciFunction;
use devices::pci::root::PciRoot;
use devices::pci::root_port::SlotView;
use iommu::ids::SourceId;
use place::{Device, Leaving, Places};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use unplug::{Again, Kept, Step, Unplug};

/// The slots of a machine.
#[derive(Debug)]
pub struct Hotplug {
    root: Arc<PciRoot>,
    maker: Arc<dyn Maker>,
    events: Arc<Events>,
    begun: Instant,
    bell: Arc<Bell>,
    work: Mutex<()>,
    count: usize,
    places: Mutex<Places>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Hotplug {
    /// The slots `places` of `root`, in the order of the configuration. `fixed` are the names that devices elsewhere have, and
    /// the names of ports.
    #[must_use]
    pub fn new(
        root: Arc<PciRoot>,
        maker: Arc<dyn Maker>,
        events: Arc<Events>,
        places: Vec<Place>,
        fixed: Vec<String>,
    ) -> Arc<Self> {
        let bell = Arc::new(Bell::default());
        for place in &places {
            place.port.set_listener(Arc::clone(&bell) as _);
        }
        Arc::new(Self {
            root,
            maker,
            events,
            begun: Instant::now(),
            bell,
            work: Mutex::default(),
            count: places.len(),
            places: Mutex::new(Places::new(places, fixed)),
            thread: Mutex::default(),
        })
    }

    /// Starts the thread that looks after removals. It ends with [`board::Reset::stop`].
    ///
    /// # Errors
    /// The host has no thread for it.
    pub fn start(self: &Arc<Self>) -> Result<(), Error> {
        let hotplug = Arc::clone(self);
        let thread = std::thread::Builder::new()
            .name("hotplug".into())
            .spawn(move || hotplug.run())
            .map_err(|e| Error::host("start a thread for hotplug", e))?;
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(())
    }

    fn run(&self) {
        let mut deadline = None;
        let time_left = |deadline: Option<Duration>| {
            deadline.map(|deadline| deadline.saturating_sub(self.now()))
        };
        while self.bell.wait(time_left(deadline)) {
            for id in self.bell.take_wanted() {
                self.give_back(&id);
            }
            deadline = self.look(self.now());
        }
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Goes on with every removal as the slots are at `now`; when to look again at the latest.
    fn look(&self, now: Duration) -> Option<Duration> {
        let _work = self.work();
        for index in 0..self.count {
            let step = {
                let mut places = self.places();
                let Some((view, leaving)) = places.leaving(index) else {
                    continue;
                };
                leaving.unplug.look(view, now)
            };
            self.carry_out(index, step);
        }
        self.places().deadline()
    }

    fn carry_out(&self, index: usize, step: Step) {
        match step {
            Step::Wait => {}
            Step::Press => {
                let port = self.places().port(index);
                port.press_attention_button();
            }
            Step::TakeOut => {
                let by = self.places().device(index).and_then(Device::leaves_for);
                if let Some(id) = self.take_out(index) {
                    tracing::info!("{id} is gone: the guest let go of it");
                    let by = by.unwrap_or(By::Guest);
                    self.events.tell(Event::DeviceRemoved { id, by });
                }
            }
            Step::Keep(kept) => self.keep(index, kept),
        }
    }

    fn keep(&self, index: usize, kept: Kept) {
        // Nobody shall act on it later.
        let port = self.places().port(index);
        port.withdraw_press();
        let id = {
            let mut places = self.places();
            let Some(device) = places.device_mut(index) else {
                return;
            };
            device.leaving = None;
            device.id.clone()
        };
        let why = kept.why();
        tracing::warn!("{id} stays: {why}");
        self.events.tell(Event::DeviceKept { id, why });
    }

    /// Takes the device of place `index` off the bus, waits until nothing of it is under way, and gives back what it holds; its
    /// name. With `work` held.
    fn take_out(&self, index: usize) -> Option<String> {
        let port = self.places().port(index);
        let functions = self.root.unplug(&port);
        for function in &functions {
            // In a machine that is paused it would never come to an end.
            function.resume();
            function.reset();
        }
        drop(functions);
        let release = self.places().device_mut(index)?.release.take();
        if let Some(release) = release {
            release.release();
        }
        // Only now: until here the name is taken, and so is what the device held of the host.
        self.places().take(index).map(|device| device.id)
    }

    /// Asks for an orderly removal of the device at place `index`. With `work` held.
    fn ask(&self, index: usize, by: By, what: &str, now: Duration) -> Result<Removal, Refusal> {
        let step = {
            let mut places = self.places();
            let view = places.view(index);
            let Some(device) = places.device_mut(index) else {
                return Err(error::bug(what));
            };
            match &mut device.leaving {
                None => {
                    let (unplug, step) = Unplug::begin(view, now);
                    device.leaving = Some(Leaving { unplug, by });
                    step
                }
                Some(leaving) => match leaving.unplug.ask_again(now) {
                    Again::Press => Step::Press,
                    Again::NotHeardYet => return Err(error::not_heard_yet(what)),
                    Again::TooLate => return Err(error::too_late(what)),
                },
            }
        };
        if step == Step::TakeOut {
            self.take_out(index);
            return Ok(Removal::Done);
        }
        self.carry_out(index, step);
        // The thread learns the new deadline.
        self.bell.ring();
        Ok(Removal::Requested)
    }

    fn remove_at(&self, id: &str, force: bool, now: Duration) -> Result<Removal, Refusal> {
        let _work = self.work();
        let what = format!("remove {id}");
        let index = self.places().find(id, &what)?;
        if !force {
            return self.ask(index, By::Control, &what, now);
        }
        self.take_out(index);
        tracing::info!("{id} is gone: it was taken away by force");
        Ok(Removal::Done)
    }

    /// The host wants the device `id` back: the guest is asked to let it go, by the thread, so that nobody waits here. A
    /// device that is not in a slot stays.
    pub fn want_back(&self, id: &str) {
        self.bell.want_back(id);
    }

    /// Asks for the device `id` on behalf of the host. Asking again while the guest is at it does nothing.
    fn give_back(&self, id: &str) {
        let _work = self.work();
        let what = format!("give {id} back to the host");
        let found = self.places().find(id, &what);
        let Ok(index) = found else { return };
        if self
            .places()
            .device(index)
            .is_none_or(|d| d.leaving.is_some())
        {
            return;
        }
        let id = id.to_owned();
        self.events
            .tell(match self.ask(index, By::Host, &what, self.now()) {
                Ok(Removal::Done) => Event::DeviceRemoved { id, by: By::Host },
                Ok(Removal::Requested) => Event::UnplugRequested { id, by: By::Host },
                Err(error) => Event::DeviceRefused { id, error },
            });
    }

    /// Builds the device and plugs it into place `index`, which is reserved for it. With `work` held.
    fn bring(&self, index: usize, device: &DeviceOption, what: &str) -> Result<(), Refusal> {
        let (id, bus, port) = {
            let places = self.places();
            let id = places.device(index).map(|d| d.id.clone());
            (
                id.unwrap_or_default(),
                places.bus(index),
                places.port(index),
            )
        };
        let devfn = port.requester().source().devfn();
        let arrival = Arrival {
            device,
            id: &id,
            bus: &bus,
            devfn,
            source: SourceId::new(port.forwarding().secondary, 0),
        };
        let made = self
            .maker
            .make(&arrival)
            .map_err(|e| Refusal::of(what, &e))?;
        if let Some(present) = self.places().device_mut(index) {
            present.release = made.release;
        }
        self.root
            .plug(&port, made.function)
            .map_err(|e| Refusal::new(what, e.to_string()))
    }

    fn work(&self) -> MutexGuard<'_, ()> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots for Hotplug {
    fn add(&self, device: &DeviceOption) -> Result<Added, Refusal> {
        let _work = self.work();
        let (index, added, what) = self.places().reserve(device)?;
        match self.bring(index, device, &what) {
            Ok(()) => {
                tracing::info!("{} is in the slot of {}", added.id, added.bus);
                Ok(added)
            }
            Err(refusal) => {
                let release = self.places().take(index).and_then(|d| d.release);
                if let Some(release) = release {
                    release.release();
                }
                Err(refusal)
            }
        }
    }

    fn remove(&self, id: &str, force: bool) -> Result<Removal, Refusal> {
        self.remove_at(id, force, self.now())
    }

    fn slots(&self) -> Vec<Slot> {
        self.places().slots()
    }
}

impl board::Reset for Hotplug {
    /// What was about to go is gone: the guest that was asked is no more. First among the hooks, so that nothing of a slot is
    /// reset before its device is out.
    fn reset(&self) -> Result<(), Error> {
        let _work = self.work();
        for index in 0..self.count {
            let by = self.places().device(index).and_then(Device::leaves_for);
            let Some(by) = by else { continue };
            if let Some(id) = self.take_out(index) {
                tracing::info!("{id} is gone: the machine was reset while it was about to go");
                self.events.tell(Event::DeviceRemoved { id, by });
            }
        }
        Ok(())
    }

    fn stop(&self) {
        self.bell.stop();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that looks after removals panicked");
        }
        let _work = self.work();
        for index in 0..self.count {
            let holds = self
                .places()
                .device(index)
                .is_some_and(|d| d.release.is_some());
            if holds {
                self.take_out(index);
            }
        }
    }
}

/// What is seen of a slot; a port of ours that has none would be a bug, and shows a slot that is never released.
fn seen(view: Option<SlotView>) -> SlotView {
    view.unwrap_or(SlotView {
        present: true,
        powered: true,
        power_indicator: devices::pci::root_port::Indicator::On,
        button_pending: false,
    })
}

#[cfg(test)]
mod tests;
