// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The vCPU threads: each runs its processor, and all obey one command at a time.
//!
//! A command is given by raising the generation; every thread acknowledges it, so that when [`Vcpus::park`] returns no guest
//! code runs and no exit is being served. Threads in guest code are brought out by a signal, repeated until they answer: one
//! that came just before the processor entered the guest is not lost.
//!
//! Lock rule: the state's lock is held to look and to count only, never while guest code or a device runs.

use crate::boot::Entry;
use crate::control::{Ending, Request};
use crate::error::Error;
use crate::kvm::exit::Outside;
use crate::kvm::vcpu::Vcpu;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

/// How long all threads may stay in devices, none of them answering, before the machine is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait before a signal is sent again.
const KICK_AGAIN: Duration = Duration::from_millis(5);

#[derive(Clone, Copy, Debug)]
enum Command {
    Park,
    Reset(Entry),
    Run,
    /// Run, after telling the guest that it was stopped.
    Resume,
    Exit,
}

#[derive(Debug)]
struct State {
    command: Command,
    generation: u64,
    acknowledged: usize,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The state's generation, to be looked at between exits.
    generation: AtomicU64,
    commanded: Condvar,
    acknowledged: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a command newer than `seen`.
    fn next(&self, seen: &mut u64) -> Command {
        let state = self
            .commanded
            .wait_while(self.lock(), |state| state.generation == *seen)
            .unwrap_or_else(PoisonError::into_inner);
        *seen = state.generation;
        state.command
    }

    fn acknowledge(&self) {
        self.lock().acknowledged += 1;
        self.acknowledged.notify_one();
    }
}

/// The vCPU threads of a machine.
#[derive(Debug)]
pub struct Vcpus {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Vcpus {
    /// Starts a thread for each of `vcpus`; all are parked.
    ///
    /// # Errors
    /// The host has no more threads.
    pub fn spawn(vcpus: Vec<Vcpu>, outside: &Outside) -> Result<Self, Error> {
        register_kick()?;
        let mut this = Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    command: Command::Park,
                    generation: 0,
                    acknowledged: 0,
                }),
                generation: AtomicU64::new(0),
                commanded: Condvar::new(),
                acknowledged: Condvar::new(),
            }),
            threads: Vec::with_capacity(vcpus.len()),
        };
        for vcpu in vcpus {
            let (shared, outside) = (Arc::clone(&this.shared), outside.clone());
            let index = vcpu.index();
            let thread = std::thread::Builder::new()
                .name(format!("vcpu{index}"))
                .spawn(move || serve(vcpu, &shared, &outside))
                .map_err(|e| Error::host(format!("start the thread of vCPU {index}"), e))?;
            this.threads.push(thread);
        }
        Ok(this)
    }

    /// Brings every processor out of the guest and keeps it out.
    ///
    /// # Errors
    /// A thread does not come back from a device.
    pub fn park(&self) -> Result<(), Error> {
        self.command(Command::Park)
    }

    /// Puts every parked processor into the state after power-on, the first one at `entry`.
    ///
    /// # Errors
    /// A thread does not answer; a refusal of KVM ends the run by the machine's control.
    pub fn reset(&self, entry: Entry) -> Result<(), Error> {
        self.command(Command::Reset(entry))
    }

    /// Lets every processor run.
    ///
    /// # Errors
    /// A thread does not answer.
    pub fn run(&self) -> Result<(), Error> {
        self.command(Command::Run)
    }

    /// Lets every processor run that was parked for so long that the guest should know: its watchdogs take what comes after
    /// for an interruption of the host's and not for a bug of its own.
    ///
    /// # Errors
    /// A thread does not answer.
    pub fn resume(&self) -> Result<(), Error> {
        self.command(Command::Resume)
    }

    /// Ends and joins the threads.
    ///
    /// # Errors
    /// A thread does not come back from a device; it is left behind.
    pub fn join(&mut self) -> Result<(), Error> {
        self.command(Command::Exit)?;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                return Err(Error::Bug("a vCPU thread panicked".into()));
            }
        }
        Ok(())
    }

    fn command(&self, command: Command) -> Result<(), Error> {
        let mut state = self.shared.lock();
        state.command = command;
        state.generation += 1;
        state.acknowledged = 0;
        self.shared
            .generation
            .store(state.generation, Ordering::Release);
        self.shared.commanded.notify_all();
        let mut deadline = Instant::now() + PATIENCE;
        while state.acknowledged < self.threads.len() {
            let before = state.acknowledged;
            drop(state);
            self.kick();
            state = self
                .shared
                .acknowledged
                .wait_timeout_while(self.shared.lock(), KICK_AGAIN, |state| {
                    state.acknowledged < self.threads.len()
                })
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            if state.acknowledged > before {
                // Hundreds of threads on a few busy processors need their time.
                deadline = Instant::now() + PATIENCE;
            } else if state.acknowledged < self.threads.len() && Instant::now() > deadline {
                return Err(Error::Bug(format!(
                    "{} of {} vCPU threads do not answer",
                    self.threads.len() - state.acknowledged,
                    self.threads.len()
                )));
            }
        }
        Ok(())
    }

    fn kick(&self) {
        for thread in &self.threads {
            // A thread that is gone has panicked, and that has ended the process.
            let _ = thread.kill(SIGRTMIN());
        }
    }
}

/// The life of a vCPU thread.
fn serve(mut vcpu: Vcpu, shared: &Shared, outside: &Outside) {
    let mut seen = 0;
    loop {
        match shared.next(&mut seen) {
            Command::Park => shared.acknowledge(),
            Command::Reset(entry) => {
                if let Err(error) = vcpu.reset(&entry) {
                    outside.control.request(Request::End(Ending::Error(error)));
                }
                shared.acknowledge();
            }
            command @ (Command::Run | Command::Resume) => {
                if matches!(command, Command::Resume) {
                    vcpu.tell_stopped();
                }
                shared.acknowledge();
                run(&mut vcpu, shared, seen, outside);
            }
            Command::Exit => {
                drop(vcpu);
                shared.acknowledge();
                return;
            }
        }
    }
}

fn run(vcpu: &mut Vcpu, shared: &Shared, seen: u64, outside: &Outside) {
    while shared.generation.load(Ordering::Acquire) == seen && !outside.control.is_halted() {
        vcpu.step(outside);
    }
    vcpu.finish_instruction(outside);
}

/// The signal only has to interrupt KVM_RUN.
extern "C" fn kicked(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

fn register_kick() -> Result<(), Error> {
    static REGISTER: Once = Once::new();
    let mut outcome = Ok(());
    REGISTER.call_once(|| outcome = register_signal_handler(SIGRTMIN(), kicked));
    outcome.map_err(|e| {
        Error::host(
            "handle the signal that stops vCPUs",
            io::Error::from_raw_os_error(e.errno()),
        )
    })
}
