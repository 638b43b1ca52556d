// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the control socket asks of the whole machine: pause, resume, reset, shutdown.
//!
//! A machine that is asked for what it is already says so. A pause outlasts a reset: the machine is then paused before its
//! first instruction. What the guest itself asked for comes first: a power-off that it began before a pause ends the run.

use super::Run;
use crate::api::call::Call;
use crate::api::protocol::{Command, RunState, State, value};
use crate::error::Error;
use crate::events::{By, Event};
use crate::refusal::Refusal;
use serde_json::Value;

impl Run {
    /// Carries out a call and answers it.
    ///
    /// # Errors
    /// The machine cannot go on; the client is told as much.
    pub(super) fn obey(&mut self, call: Call) -> Result<(), Error> {
        let outcome = match call.command {
            Command::Pause {} => self.pause()?,
            Command::Resume {} => self.resume()?,
            Command::Reset {} => {
                self.reset(By::Control)?;
                Ok(self.state(true, ""))
            }
            Command::Shutdown {} => self.shut_down(),
            other => Err(Refusal::new(
                format!("carry out {other:?}"),
                "this is a bug: it came to the wrong thread",
            )),
        };
        call.ticket.answer(outcome);
        Ok(())
    }

    fn state(&self, changed: bool, note: &str) -> Value {
        value(&State {
            state: self.service.status.state(),
            changed,
            note: note.to_owned(),
        })
    }

    fn pause(&self) -> Result<Result<Value, Refusal>, Error> {
        if self.service.status.state() == RunState::Paused {
            return Ok(Ok(self.state(false, "")));
        }
        let _gate = self.service.gate.close();
        self.machine.pause()?;
        self.service.status.set_state(RunState::Paused);
        self.told.tell(Event::Paused);
        Ok(Ok(self.state(true, "")))
    }

    fn resume(&self) -> Result<Result<Value, Refusal>, Error> {
        if self.service.status.state() == RunState::Running {
            return Ok(Ok(self.state(false, "")));
        }
        let _gate = self.service.gate.close();
        self.service.status.set_state(RunState::Running);
        self.machine.resume()?;
        self.told.tell(Event::Resumed);
        Ok(Ok(self.state(true, "")))
    }

    /// Resets the machine; one that is paused stays so.
    ///
    /// # Errors
    /// The machine cannot go on.
    pub(super) fn reset(&mut self, by: By) -> Result<(), Error> {
        let _gate = self.service.gate.close();
        self.machine.reset()?;
        self.service.status.count_reset();
        self.told.tell(Event::Reset { by });
        match self.service.status.state() {
            RunState::Running => self.machine.run(),
            RunState::Paused => self.machine.pause(),
        }
    }

    fn shut_down(&self) -> Result<Value, Refusal> {
        let refused = |why: &str| Refusal::new("press the power button", why);
        if self.service.status.state() == RunState::Paused {
            return Err(refused("the machine is paused").mend("resume it first"));
        }
        let Some(button) = self.machine.power_button() else {
            return Err(refused("the machine has none").mend("end it by SIGTERM"));
        };
        if !button.press() {
            let mend = "a Linux guest needs the drivers for ACPI's generic event device and button; end the run by SIGTERM otherwise";
            return Err(refused("nothing in the guest listens to it").mend(mend));
        }
        self.told.tell(Event::ShutdownRequested);
        Ok(self.state(true, "the guest was asked to power off"))
    }
}
