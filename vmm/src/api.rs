// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The control socket (`--api-socket`) and its client (`remora ctl`).
//!
//! ```text
//! client ──line──► server (event loop) ──call──► the event loop itself: pause, resume, reset, shutdown
//!        ◄─line───        ▲            ──call──► the worker: stats, dump, add-device, remove-device
//!                         └────────── mail ◄──── their answers
//! ```
//!
//! What may have to wait for a lock of the mirror, or for a device to be opened, is the worker's, so the event loop waits for
//! nobody. docs/control.md describes the protocol.

pub mod call;
pub mod client;
pub mod connection;
pub mod protocol;
pub mod server;
pub mod show;
pub mod socket;
pub mod worker;

use crate::error::Error;
use crate::events::Events;
use crate::machine::Machine;
use call::Call;
use protocol::{Command, RunState};
use server::{Desk, Server};
use socket::Socket;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use worker::{Gate, Worker};

/// What everybody may know of the machine at any time.
#[derive(Debug, Default)]
pub struct Status {
    paused: AtomicBool,
    resets: AtomicU64,
}

impl Status {
    /// Whether the guest runs.
    #[must_use]
    pub fn state(&self) -> RunState {
        if self.paused.load(Ordering::Acquire) {
            RunState::Paused
        } else {
            RunState::Running
        }
    }

    /// Notes that the guest runs or not.
    pub fn set_state(&self, state: RunState) {
        self.paused
            .store(state == RunState::Paused, Ordering::Release);
    }

    /// Resets so far.
    #[must_use]
    pub fn resets(&self) -> u64 {
        self.resets.load(Ordering::Relaxed)
    }

    /// Counts a reset.
    pub fn count_reset(&self) {
        self.resets.fetch_add(1, Ordering::Relaxed);
    }
}

/// Calls that the event loop carries out itself, between two looks at its descriptors.
#[derive(Clone, Debug, Default)]
pub struct Calls(Arc<Mutex<VecDeque<Call>>>);

impl Calls {
    /// The next one.
    #[must_use]
    pub fn next(&self) -> Option<Call> {
        self.queue().pop_front()
    }

    fn put(&self, call: Call) {
        self.queue().push_back(call);
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, VecDeque<Call>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives each call to who carries it out.
#[derive(Debug)]
pub struct Dispatch {
    calls: Calls,
    worker: Worker,
    status: Arc<Status>,
}

impl Dispatch {
    /// What concerns the whole machine goes to `calls`, the rest to `worker`.
    #[must_use]
    pub const fn new(calls: Calls, worker: Worker, status: Arc<Status>) -> Self {
        Self {
            calls,
            worker,
            status,
        }
    }
}

/// The control socket of a run, if there is one, and what the run has to know of it.
#[derive(Debug)]
pub struct Service {
    /// The state of the machine.
    pub status: Arc<Status>,
    /// Keeps changes of devices and of the whole machine apart.
    pub gate: Gate,
    /// What clients ask of the whole machine.
    pub calls: Calls,
    server: Option<Arc<Mutex<Server>>>,
}

impl Service {
    /// Serves `socket` for `machine`.
    ///
    /// # Errors
    /// The host gives no descriptor or no thread.
    pub fn new(
        socket: Option<Socket>,
        machine: &Machine,
        events: &Arc<Events>,
    ) -> Result<Self, Error> {
        let mut this = Self {
            status: Arc::default(),
            gate: Gate::default(),
            calls: Calls::default(),
            server: None,
        };
        if let Some(socket) = socket {
            let worker = Worker::start(machine.parts(&this.status, &this.gate))?;
            let desk = Dispatch::new(this.calls.clone(), worker, Arc::clone(&this.status));
            let server = Server::new(socket, Arc::clone(events), Box::new(desk))?;
            this.server = Some(Arc::new(Mutex::new(server)));
        }
        Ok(this)
    }

    /// The server, for the event loop.
    #[must_use]
    pub const fn server(&self) -> Option<&Arc<Mutex<Server>>> {
        self.server.as_ref()
    }

    /// Has what is under way carried out; nothing more is after that.
    pub fn end_work(&self) {
        self.with_server(Server::end_work);
    }

    /// Tells every client the rest and lets it go.
    pub fn close(&self) {
        self.with_server(Server::close);
    }

    fn with_server(&self, act: fn(&mut Server)) {
        if let Some(server) = &self.server {
            act(&mut server.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

impl Desk for Dispatch {
    fn take(&mut self, call: Call) {
        match call.command {
            Command::Pause {} | Command::Resume {} | Command::Reset {} | Command::Shutdown {} => {
                self.calls.put(call);
            }
            Command::Stats {}
            | Command::Dump { .. }
            | Command::Page {}
            | Command::Explain { .. }
            | Command::Events {}
            | Command::AddDevice { .. }
            | Command::RemoveDevice { .. } => self.worker.take(call),
        }
    }

    fn state(&self) -> RunState {
        self.status.state()
    }
}
