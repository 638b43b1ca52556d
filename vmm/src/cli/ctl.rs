// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `remora ctl`: asks a running machine and shows the answer.

use crate::api::client::{Client, Failure};
use crate::api::protocol::{
    Command, Dump, Explanation, Page, Removed, State, Stats, line, result, value,
};
use crate::api::show;
use crate::hotplug::unplug;
use crate::refusal::Refusal;
use crate::report;
use crate::slots::{Added, Removal};
use clap::{Args, Subcommand};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long `remove-device` waits for the end of a removal. The machine itself gives up before, and says why.
const UNPLUG: Duration = Duration::from_secs(unplug::LIMIT.as_secs() + 10);

/// Exit statuses.
mod status {
    pub const REFUSED: u8 = 1;
    pub const UNREACHABLE: u8 = 3;
}

pub(super) const EXIT_STATUS: &str = "\
Exit status:
    0  done
    1  the machine refused, or the guest did not let the device go
    2  wrong usage
    3  no machine serves the socket, or it went away
The last line on stderr says why.";

/// The options of `ctl`.
#[derive(Debug, Args)]
pub struct CtlArgs {
    /// The control socket of the machine, as it was given to run
    #[arg(long, value_name = "PATH")]
    pub api_socket: PathBuf,

    /// Answer as JSON, one line
    #[arg(long, global = true)]
    pub json: bool,

    /// What to ask for.
    #[command(subcommand)]
    pub command: CtlCommand,
}

/// What to ask a machine for.
#[derive(Clone, Debug, Subcommand)]
pub enum CtlCommand {
    /// Show numbers: the machine, its slots, remapping units and devices
    Stats,
    /// Show what the parts of the machine hold: registers, followed devices, tables and mappings
    Dump {
        /// One part instead of all
        part: Option<String>,
        /// Draw the address space of each guest domain beside what the host has, as an HTML page that needs no other file
        #[arg(long, value_name = "FILE", conflicts_with = "part")]
        html: Option<PathBuf>,
        /// Say why an address is or is not mapped: device=DEVICE[,pasid=N],iova=ADDRESS, domain=N[,unit=N],iova=ADDRESS or
        /// table=N,iova=ADDRESS
        #[arg(long, value_name = "QUESTION", conflicts_with_all = ["part", "html"])]
        why: Option<String>,
    },
    /// Show what happens from now on, one JSON line an event, until the run ends
    Events,
    /// Plug a device into a hotplug port of the running guest
    AddDevice {
        /// The text of an option of run, such as disk=/image,id=d1,bus=p0
        #[arg(value_name = "RUN-OPTION")]
        option: String,
    },
    /// Ask the guest to let a device go, and wait until it has
    RemoveDevice {
        /// The device's name
        #[arg(value_name = "ID")]
        device: String,
        /// Take it away at once, without asking the guest
        #[arg(long)]
        force: bool,
    },
    /// Stop the processors and emulated devices
    Pause,
    /// Let them go on
    Resume,
    /// Reset the machine, as the guest could
    Reset,
    /// Press the power button
    Shutdown,
}

impl CtlArgs {
    /// Asks and shows the answer; the exit status.
    #[must_use]
    pub fn run(&self) -> u8 {
        let outcome =
            Client::connect(&self.api_socket).and_then(|mut client| self.ask(&mut client));
        let Err(failure) = outcome else { return 0 };
        if self.json {
            say(&line(&json!({ "error": failure.refusal() })));
        }
        let (reason, status) = match failure {
            Failure::Refused(_) => ("refused", status::REFUSED),
            Failure::Unreachable(_) => ("unreachable", status::UNREACHABLE),
        };
        report::tell_failure(reason, &failure.to_string());
        status
    }

    fn ask(&self, client: &mut Client) -> Result<(), Failure> {
        match &self.command {
            CtlCommand::Stats => self.show(client, Command::Stats {}, stats),
            CtlCommand::Dump { html, why, part } => match (html, why) {
                (Some(file), _) => self.draw(client, file),
                (None, Some(question)) => {
                    let question = question.clone();
                    self.show(client, Command::Explain { question }, explanation)
                }
                (None, None) => {
                    let part = part.clone();
                    self.show(client, Command::Dump { part }, dump)
                }
            },
            CtlCommand::Events => follow(client),
            CtlCommand::AddDevice { option } => {
                let option = option.clone();
                self.show(client, Command::AddDevice { option }, |added: &Added| {
                    format!("{} is behind {}\n", added.id, added.bus)
                })
            }
            CtlCommand::RemoveDevice { device, force } => self.remove(client, device, *force),
            CtlCommand::Pause => self.show(client, Command::Pause {}, state),
            CtlCommand::Resume => self.show(client, Command::Resume {}, state),
            CtlCommand::Reset => self.show(client, Command::Reset {}, state),
            CtlCommand::Shutdown => self.show(client, Command::Shutdown {}, state),
        }
    }

    /// Asks and shows the answer: as JSON, or for people by `text`.
    fn show<T: DeserializeOwned>(
        &self,
        client: &mut Client,
        command: Command,
        text: impl Fn(&T) -> String,
    ) -> Result<(), Failure> {
        let answer = client.ask(command)?;
        if self.json {
            say(&line(&answer));
        } else {
            say(&text(&result(answer).map_err(Failure::Unreachable)?));
        }
        Ok(())
    }

    fn draw(&self, client: &mut Client, file: &Path) -> Result<(), Failure> {
        let page: Page = result(client.ask(Command::Page {})?).map_err(Failure::Unreachable)?;
        std::fs::write(file, page.html).map_err(|error| {
            let what = format!("write the page to {}", file.display());
            Failure::Refused(Refusal::new(what, error.to_string()))
        })?;
        if self.json {
            say(&line(&json!({ "file": file })));
        } else {
            say(&format!("the page is in {}\n", file.display()));
        }
        Ok(())
    }

    fn remove(&self, client: &mut Client, device: &str, force: bool) -> Result<(), Failure> {
        // First, so that the end of the removal is not missed.
        client.ask(Command::Events {})?;
        let command = Command::RemoveDevice {
            device: device.to_owned(),
            force,
        };
        let removed: Removed = result(client.ask(command)?).map_err(Failure::Unreachable)?;
        if removed.removal == Removal::Requested {
            await_removal(client, device)?;
        }
        if self.json {
            say(&line(&Removed {
                removal: Removal::Done,
                ..removed
            }));
        } else {
            say(&format!("{device} is removed\n"));
        }
        Ok(())
    }
}

fn await_removal(client: &mut Client, device: &str) -> Result<(), Failure> {
    let deadline = Instant::now() + UNPLUG;
    while let Some(told) = client.event(Some(deadline))? {
        if let Some(outcome) = told.removal_of(device) {
            return outcome.map_err(Failure::Refused);
        }
    }
    let why = format!("the guest has not let it go within {} s", UNPLUG.as_secs());
    Err(Failure::Refused(
        Refusal::new(format!("remove {device}"), why)
            .mend("it may still do so; --force takes the device away at once"),
    ))
}

/// Shows events until the run ends.
fn follow(client: &mut Client) -> Result<(), Failure> {
    client.ask(Command::Events {})?;
    loop {
        let Some(told) = client.event(None)? else {
            return Ok(());
        };
        let last = matches!(told.event, crate::events::Event::Stopped { .. });
        if !say(&line(&told)) || last {
            return Ok(());
        }
    }
}

fn stats(stats: &Stats) -> String {
    let mut text = show::section("machine", &value(&stats.machine));
    if !stats.slots.is_empty() {
        text += &format!("\n{}", show::section("slots", &value(&stats.slots)));
    }
    text + &parts(&stats.parts, "\n")
}

fn dump(dump: &Dump) -> String {
    let text = parts(&dump.parts, "\n");
    if text.is_empty() {
        return "there is nothing to show\n".to_owned();
    }
    text.trim_start().to_owned()
}

fn explanation(told: &Explanation) -> String {
    let words = told.answers.iter().map(|answer| match &answer["words"] {
        Value::String(words) => format!("{words}\n"),
        _ => line(answer),
    });
    words.collect()
}

fn parts(parts: &serde_json::Map<String, Value>, before: &str) -> String {
    let sections = parts.iter().map(|(name, part)| show::section(name, part));
    sections
        .map(|section| format!("{before}{section}"))
        .collect()
}

fn state(state: &State) -> String {
    let mut text = value(&state.state).as_str().unwrap_or_default().to_owned();
    if !state.changed {
        text += " already";
    }
    if !state.note.is_empty() {
        text += &format!(": {}", state.note);
    }
    text + "\n"
}

/// Writes to stdout; whether somebody reads it.
fn say(text: &str) -> bool {
    let mut stdout = stdout().lock();
    let written = stdout.write_all(text.as_bytes());
    written.and_then(|()| stdout.flush()).is_ok()
}
