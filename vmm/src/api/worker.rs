// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The thread that carries out what may take a while: looking into parts, and adding and removing devices, one call after the
//! other.
//!
//! Lock rule: the gate is held while a device is added or removed, and by the event loop while the machine is paused, resumed,
//! reset or ended. It is taken before every other lock.

use super::Status;
use super::call::Call;
use super::protocol::{self, Command, Dump, Explanation, Machine, Page, Removed, Stats, value};
use crate::board::Inspect;
use crate::cli;
use crate::config::Config;
use crate::error::Error;
use crate::events::{By, Event, Events};
use crate::refusal::Refusal;
use crate::slots::{DeviceOption, Removal, Slots};
use serde_json::{Map, Value};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Calls that wait at most; a client has one under way.
const QUEUE: usize = super::server::MOST_CLIENTS;

/// What the worker works with.
#[derive(Debug)]
pub struct Parts {
    /// The machine as it was asked for.
    pub config: Arc<Config>,
    /// Tells what happens.
    pub events: Arc<Events>,
    /// State of the machine.
    pub status: Arc<Status>,
    /// What can be looked into, by name.
    pub inspected: Vec<(String, Arc<dyn Inspect>)>,
    /// Devices that come and go.
    pub slots: Option<Arc<dyn Slots>>,
    /// Keeps changes of devices and of the whole machine apart.
    pub gate: Gate,
}

/// Keeps changes of devices and of the whole machine apart.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<Mutex<()>>);

impl Gate {
    /// Waits for the change that is under way, and holds off the next one.
    pub fn close(&self) -> MutexGuard<'_, ()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread. Dropping it waits until it has carried out what it was given.
#[derive(Debug)]
pub struct Worker {
    calls: Option<SyncSender<Call>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// The host gives no thread.
    pub fn start(parts: Parts) -> Result<Self, Error> {
        let (sender, receiver) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || work(&parts, &receiver))
            .map_err(|e| Error::host("start the thread of the control socket", e))?;
        Ok(Self {
            calls: Some(sender),
            thread: Some(thread),
        })
    }

    /// Leaves `call` to the thread, or answers it if there are too many.
    pub fn take(&self, call: Call) {
        let Some(calls) = &self.calls else { return };
        if let Err(TrySendError::Full(call)) = calls.try_send(call) {
            let why = "too many requests are waiting already";
            let refusal = Refusal::new("take the request", why).mend("ask again later");
            call.ticket.answer(Err(refusal));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.calls.take());
        if let Some(thread) = self.thread.take() {
            // The thread's panic has been reported; there is nothing to add.
            let _ = thread.join();
        }
    }
}

fn work(parts: &Parts, calls: &Receiver<Call>) {
    while let Ok(Call { command, ticket }) = calls.recv() {
        let outcome = match command {
            Command::Stats {} => Ok(value(&parts.stats())),
            Command::Dump { part } => parts.dump(part.as_deref()).map(|dump| value(&dump)),
            Command::Page {} => parts.page().map(|page| value(&page)),
            Command::Explain { question } => parts.explain(&question).map(|told| value(&told)),
            Command::AddDevice { option } => parts.add(&option),
            Command::RemoveDevice { device, force } => parts.remove(&device, force),
            other => Err(Refusal::new(
                format!("carry out {other:?}"),
                "this is a bug: it came to the wrong thread",
            )),
        };
        ticket.answer(outcome);
    }
}

impl Parts {
    fn stats(&self) -> Stats {
        let slots = self.slots.as_ref().map(|slots| slots.slots());
        Stats {
            machine: Machine {
                pid: std::process::id(),
                state: self.status.state(),
                seconds: self.events.seconds(),
                resets: self.status.resets(),
                cpus: self.config.cpus,
                memory: self.config.memory.size,
                events: self.events.last(),
            },
            slots: slots.unwrap_or_default(),
            parts: self.each(|part| part.stats()),
        }
    }

    fn dump(&self, only: Option<&str>) -> Result<Dump, Refusal> {
        let Some(only) = only else {
            let parts = self.each(|part| part.dump());
            return Ok(Dump { parts });
        };
        let found = self.inspected.iter().find(|(name, _)| name == only);
        let (name, part) = found.ok_or_else(|| {
            let names: Vec<&str> = self.inspected.iter().map(|(n, _)| n.as_str()).collect();
            Refusal::new(format!("dump {only:?}"), "the machine has no such part")
                .mend(format!("its parts are {}", names.join(", ")))
        })?;
        let parts = Map::from_iter([(name.clone(), part.dump())]);
        Ok(Dump { parts })
    }

    fn page(&self) -> Result<Page, Refusal> {
        let page = self.inspected.iter().find_map(|(_, part)| part.page());
        page.map(|html| Page { html })
            .ok_or_else(|| nothing_passed_through("draw the address spaces"))
    }

    fn explain(&self, question: &str) -> Result<Explanation, Refusal> {
        let what = format!("explain {question:?}");
        let parts = self.inspected.iter();
        let told = parts.filter_map(|(_, part)| part.explain(question)).next();
        match told {
            None => Err(nothing_passed_through(what)),
            Some(Err(error)) => Err(Refusal::of(what, &error)),
            Some(Ok(Value::Array(answers))) if !answers.is_empty() => Ok(Explanation { answers }),
            Some(Ok(_)) => Err(
                Refusal::new(what, "there is no such device, domain or table")
                    .mend("remora ctl stats names them"),
            ),
        }
    }

    /// What `look` finds in each part, where it finds anything.
    fn each(&self, look: impl Fn(&dyn Inspect) -> Value) -> Map<String, Value> {
        self.inspected
            .iter()
            .map(|(name, part)| (name.clone(), look(&**part)))
            .filter(|(_, found)| !found.is_null())
            .collect()
    }

    fn add(&self, option: &str) -> Result<Value, Refusal> {
        let refused = |error: Refusal| {
            self.events.tell(Event::DeviceRefused {
                id: option.to_owned(),
                error: error.clone(),
            });
            error
        };
        let device = cli::device(option).map_err(|error| {
            let what = format!("add {option:?}");
            refused(Refusal::of(what, &error).mend("give the text of an option of remora run"))
        })?;
        let slots = self.slots(&format!("add {option:?}")).map_err(refused)?;
        let _gate = self.gate.close();
        let added = slots.add(&device).map_err(refused)?;
        self.tell_added(&device, &added.id, &added.bus);
        Ok(protocol::value(&added))
    }

    fn tell_added(&self, device: &DeviceOption, id: &str, bus: &str) {
        self.events.tell(Event::DeviceAdded {
            id: id.to_owned(),
            kind: device.kind().to_owned(),
            bus: bus.to_owned(),
        });
    }

    fn remove(&self, device: &str, force: bool) -> Result<Value, Refusal> {
        let refused = |error: Refusal| {
            self.events.tell(Event::DeviceRefused {
                id: device.to_owned(),
                error: error.clone(),
            });
            error
        };
        let slots = self.slots(&format!("remove {device:?}")).map_err(refused)?;
        let _gate = self.gate.close();
        let removal = slots.remove(device, force).map_err(refused)?;
        let id = device.to_owned();
        let by = By::Control;
        self.events.tell(match removal {
            Removal::Done => Event::DeviceRemoved { id, by },
            Removal::Requested => Event::UnplugRequested { id, by },
        });
        Ok(value(&Removed {
            device: device.to_owned(),
            removal,
        }))
    }

    fn slots(&self, what: &str) -> Result<&Arc<dyn Slots>, Refusal> {
        self.slots.as_ref().ok_or_else(|| {
            Refusal::new(what, "the machine has no slot for devices that come and go")
                .mend("start it with --root-port id=ID,hotplug")
        })
    }
}

fn nothing_passed_through(what: impl Into<String>) -> Refusal {
    Refusal::new(what, "no device of the host is passed through")
        .mend("start the machine with --vfio")
}

#[cfg(test)]
mod tests;
