// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is said on the control socket: one JSON object a line, an answer to each request in its order.
//!
//! These types are used by both ends. docs/control.md describes them for people.

use crate::refusal::Refusal;
use crate::slots::{Removal, Slot};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The version of the protocol. It grows when something that was there before is said in another way.
pub const VERSION: u64 = 1;
/// The longest request in bytes, the end of line apart.
pub const MAX_REQUEST: usize = 64 << 10;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// Numbers of the machine and of its parts: [`Stats`].
    Stats {},
    /// What the parts hold: [`Dump`].
    Dump {
        /// The part to be shown; without, all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        part: Option<String>,
    },
    /// Draws what the host has for the guest's devices: [`Page`].
    Page {},
    /// Asks why an address is or is not mapped: [`Explanation`].
    Explain {
        /// Whose requests and which address, such as `device=1,iova=0x1000`.
        question: String,
    },
    /// Every event from now on, after the answer: [`Listening`], then lines of [`Told`](crate::events::Told).
    Events {},
    /// Plugs a device: [`Added`](crate::slots::Added).
    AddDevice {
        /// The text of an option of `run` without dashes.
        option: String,
    },
    /// Unplugs a device: [`Removed`].
    RemoveDevice {
        /// The device's name.
        device: String,
        /// Without asking the guest.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        force: bool,
    },
    /// Stops the processors and the emulated devices: [`State`].
    Pause {},
    /// Lets them go on: [`State`].
    Resume {},
    /// Resets the machine: [`State`].
    Reset {},
    /// Presses the power button: [`State`].
    Shutdown {},
}

/// The names of all commands, for complaints.
const COMMANDS: &str = "stats, dump, page, explain, events, add-device, remove-device, pause, resume, reset and shutdown";

/// A request: a line of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Chosen by the client and repeated in the answer.
    pub id: Option<u64>,
    /// What is asked for.
    pub command: Command,
}

/// Why a line is no request, and the id that it has nevertheless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRequest {
    /// The id, if there is one.
    pub id: Option<u64>,
    /// What is wrong.
    pub error: Refusal,
    /// It is not even a JSON object: whoever says that speaks another protocol.
    pub is_foreign: bool,
}

impl Request {
    /// The request that a line says.
    ///
    /// # Errors
    /// It says none.
    pub fn parse(line: &[u8]) -> Result<Self, BadRequest> {
        let bad = |id, is_foreign, why: String| BadRequest {
            id,
            is_foreign,
            error: Refusal::new("understand the request", why)
                .mend("say one JSON object a line, such as {\"version\":1,\"command\":\"stats\"}"),
        };
        let mut object: Map<String, Value> =
            serde_json::from_slice(line).map_err(|e| bad(None, true, short(&e.to_string())))?;
        let id = match object.remove("id") {
            None => None,
            Some(id) => match id.as_u64() {
                None => return Err(bad(None, false, "id is no number of 64 bits".into())),
                id => id,
            },
        };
        match object.remove("version") {
            None => {}
            Some(version) if version.as_u64() == Some(VERSION) => {}
            Some(version) => {
                let version = short(&version.to_string());
                let why = format!("version {version} is not spoken here, but {VERSION}");
                return Err(bad(id, false, why));
            }
        }
        if !object.contains_key("command") {
            let why = format!("there is no command; allowed are {COMMANDS}");
            return Err(bad(id, false, why));
        }
        let command = serde_json::from_value(Value::Object(object))
            .map_err(|e| bad(id, false, short(&e.to_string())))?;
        Ok(Self { id, command })
    }

    /// The line that says the request, its end included.
    #[must_use]
    pub fn line(&self) -> String {
        let mut object = value(&self.command);
        if let Value::Object(object) = &mut object {
            object.insert("version".into(), VERSION.into());
            if let Some(id) = self.id {
                object.insert("id".into(), id.into());
            }
        }
        format!("{object}\n")
    }
}

/// At most so many characters of what the client said itself, which may be long.
fn short(text: &str) -> String {
    const MOST: usize = 300;
    match text.char_indices().nth(MOST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// The answer to a request: a line of the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The protocol's version.
    pub version: u64,
    /// The request's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// How it went.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// How a request went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Done; of the type that the command names.
    Result(Value),
    /// Refused.
    Error(Refusal),
}

impl Answer {
    /// The answer to the request `id`.
    #[must_use]
    pub fn new(id: Option<u64>, outcome: Result<Value, Refusal>) -> Self {
        Self {
            version: VERSION,
            id,
            outcome: match outcome {
                Ok(result) => Outcome::Result(result),
                Err(error) => Outcome::Error(error),
            },
        }
    }

    /// The line that says the answer, its end included.
    #[must_use]
    pub fn line(&self) -> String {
        line(self)
    }
}

/// One value as one line. JSON has no line ends outside of texts, and escapes those within. Ours have texts for keys and no
/// numbers that JSON lacks, so that there is nothing that could fail.
pub fn line(what: &impl Serialize) -> String {
    serde_json::to_string(what).unwrap_or_default() + "\n"
}

/// A value as JSON; as [`line()`].
pub fn value(what: &impl Serialize) -> Value {
    serde_json::to_value(what).unwrap_or_default()
}

/// A result as the type that its command names.
///
/// # Errors
/// It is of another type: the other end is of another version.
pub fn result<T: DeserializeOwned>(result: Value) -> Result<T, Refusal> {
    serde_json::from_value(result).map_err(|e| {
        Refusal::new("understand the answer", e.to_string())
            .mend("use the same version of remora for run and for ctl")
    })
}

/// Whether the guest runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// It runs.
    #[default]
    Running,
    /// It was paused.
    Paused,
}

/// The answer to what changes the state of the whole machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The state now.
    pub state: RunState,
    /// Whether the request changed anything.
    pub changed: bool,
    /// What else there is to know; empty where there is nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// The answer to `stats`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// The machine as a whole.
    pub machine: Machine,
    /// Devices that can come and go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<Slot>,
    /// Each part by its name: numbers, texts, and objects and arrays of such.
    pub parts: Map<String, Value>,
}

/// The machine as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The process.
    pub pid: u32,
    /// Whether the guest runs.
    pub state: RunState,
    /// Seconds since the machine was made.
    pub seconds: f64,
    /// Resets since then.
    pub resets: u64,
    /// Processors.
    pub cpus: u32,
    /// Bytes of guest RAM.
    pub memory: u64,
    /// Events told so far.
    pub events: u64,
}

/// The answer to `dump`: each part by its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dump {
    /// What the parts hold.
    pub parts: Map<String, Value>,
}

/// The answer to `page`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// An HTML document that needs no other file.
    pub html: String,
}

/// The answer to `explain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// One for each host table that has a part in it; each has `words`.
    pub answers: Vec<Value>,
}

/// The answer to `events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// The state of the machine before the first event.
    pub state: RunState,
    /// The number of the last event that is not told.
    pub after: u64,
}

/// The answer to `remove-device`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// The device's name.
    pub device: String,
    /// How far it is.
    pub removal: Removal,
}

#[cfg(test)]
mod tests;
