// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The other end of the control socket: `remora ctl` asks and waits for the answer.

use super::protocol::{Answer, Command, Outcome, Request, VERSION};
use crate::events::{Event, Told};
use crate::refusal::Refusal;
use serde_json::Value;
use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long an answer may take. Adding a device may pin all of the guest's memory first.
const PATIENCE: Duration = Duration::from_secs(120);

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No machine is there to be asked, or it went away.
    #[error("{0}")]
    Unreachable(Refusal),
    /// The machine said no.
    #[error("{0}")]
    Refused(Refusal),
}

impl Failure {
    /// Why.
    #[must_use]
    pub const fn refusal(&self) -> &Refusal {
        match self {
            Self::Unreachable(refusal) | Self::Refused(refusal) => refusal,
        }
    }
}

/// A connection to a machine.
#[derive(Debug)]
pub struct Client {
    reader: BufReader<UnixStream>,
    /// Events that came while an answer was waited for.
    events: VecDeque<Told>,
    asked: u64,
}

impl Client {
    /// Connects to the machine that serves `socket`.
    ///
    /// # Errors
    /// There is none.
    pub fn connect(socket: &Path) -> Result<Self, Failure> {
        let stream = UnixStream::connect(socket).map_err(|e| no_machine(socket, &e))?;
        let timeout = stream.set_read_timeout(Some(PATIENCE));
        timeout.map_err(|e| broken(&e))?;
        Ok(Self {
            reader: BufReader::new(stream),
            events: VecDeque::new(),
            asked: 0,
        })
    }

    /// Asks, and waits for the result.
    ///
    /// # Errors
    /// The machine refuses, or went away.
    pub fn ask(&mut self, command: Command) -> Result<Value, Failure> {
        self.asked += 1;
        let id = Some(self.asked);
        let line = Request { id, command }.line();
        // A machine that turns the client away says why before it closes.
        let sent = self.reader.get_ref().write_all(line.as_bytes());
        loop {
            match self.line() {
                Ok(Line::Event(told)) => self.events.push_back(told),
                Ok(Line::Answer(answer)) if answer.id.is_none() || answer.id == id => {
                    return match answer.outcome {
                        Outcome::Result(result) => Ok(result),
                        Outcome::Error(refusal) => Err(Failure::Refused(refusal)),
                    };
                }
                Ok(Line::Answer(_)) => {}
                Err(failure) => {
                    return Err(sent.err().map_or(failure, |e| broken(&e)));
                }
            }
        }
    }

    /// The next event, until `deadline` or, without one, however long it takes; `None` when the time is up.
    ///
    /// # Errors
    /// The machine went away.
    pub fn event(&mut self, deadline: Option<Instant>) -> Result<Option<Told>, Failure> {
        loop {
            if let Some(told) = self.events.pop_front() {
                return Ok(Some(told));
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
            let timeout = self.reader.get_ref().set_read_timeout(left);
            timeout.map_err(|e| broken(&e))?;
            match self.line() {
                Ok(Line::Event(told)) => self.events.push_back(told),
                Ok(Line::Answer(_)) => {}
                Err(_) if deadline.is_some_and(|at| Instant::now() >= at) => return Ok(None),
                Err(failure) => return Err(failure),
            }
        }
    }

    fn line(&mut self) -> Result<Line, Failure> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => Err(gone()),
            Ok(_) => Line::parse(&line),
            Err(e) => Err(broken(&e)),
        }
    }
}

/// What the machine says.
enum Line {
    Answer(Answer),
    Event(Told),
}

impl Line {
    fn parse(line: &str) -> Result<Self, Failure> {
        let strange = |why: String| {
            let refusal = Refusal::new("understand what the machine says", why)
                .mend("use the same version of remora for run and for ctl");
            Failure::Unreachable(refusal)
        };
        let value: Value = serde_json::from_str(line).map_err(|e| strange(e.to_string()))?;
        if value.get("event").is_some() {
            let told = serde_json::from_value(value).map_err(|e| strange(e.to_string()))?;
            return Ok(Self::Event(told));
        }
        let answer: Answer = serde_json::from_value(value).map_err(|e| strange(e.to_string()))?;
        if answer.version != VERSION {
            let why = format!("it speaks version {}, not {VERSION}", answer.version);
            return Err(strange(why));
        }
        Ok(Self::Answer(answer))
    }
}

impl Told {
    /// Whether this is how the removal of `device` ended, and how.
    #[must_use]
    pub fn removal_of(&self, device: &str) -> Option<Result<(), Refusal>> {
        let kept = |why: &str| {
            Err(Refusal::new(format!("remove {device}"), why)
                .mend("ask again, or take it away with --force"))
        };
        match &self.event {
            Event::DeviceRemoved { id, .. } if id == device => Some(Ok(())),
            Event::DeviceKept { id, why } if id == device => Some(kept(why)),
            Event::Reset { .. } => Some(kept("the machine was reset meanwhile")),
            Event::Stopped { .. } => Some(Ok(())),
            _ => None,
        }
    }
}

fn no_machine(socket: &Path, error: &io::Error) -> Failure {
    let what = format!("reach a machine at {}", socket.display());
    let refusal = match error.kind() {
        ErrorKind::NotFound => Refusal::new(what, "there is no such socket")
            .mend("start the machine with --api-socket, or give the path that it was started with"),
        ErrorKind::ConnectionRefused => Refusal::new(what, "the machine that served it is gone")
            .mend("remove the file, or start a machine with this --api-socket, which replaces it"),
        ErrorKind::PermissionDenied => Refusal::new(what, error.to_string())
            .mend("be the user who started the machine, or root"),
        _ => Refusal::new(what, error.to_string()),
    };
    Failure::Unreachable(refusal)
}

fn gone() -> Failure {
    let refusal = Refusal::new("hear from the machine", "it closed the connection");
    Failure::Unreachable(refusal.mend("see how its run ended"))
}

fn broken(error: &io::Error) -> Failure {
    match error.kind() {
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => gone(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            let why = format!("it has not answered for {} s", PATIENCE.as_secs());
            Failure::Unreachable(Refusal::new("hear from the machine", why))
        }
        _ => Failure::Unreachable(Refusal::new("hear from the machine", error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::By;
    use std::os::unix::net::UnixListener;

    #[test]
    fn machine_that_cannot_be_reached_is_told_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let failure = Client::connect(&path).unwrap_err();
        assert!(failure.to_string().contains("no such socket"), "{failure}");
        assert!(failure.refusal().mend.contains("--api-socket"));
        drop(UnixListener::bind(&path).unwrap());
        let failure = Client::connect(&path).unwrap_err();
        assert!(failure.to_string().contains("is gone"), "{failure}");
    }

    #[test]
    fn answer_is_found_among_events_which_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let mut client = Client::connect(&path).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server
            .write_all(
                b"{\"event\":\"paused\",\"seq\":4,\"time\":0.5}\n{\"version\":1,\"id\":1,\"result\":3}\n",
            )
            .unwrap();
        assert_eq!(client.ask(Command::Stats {}), Ok(Value::from(3)));
        let told = client.event(None).unwrap().unwrap();
        assert_eq!((told.seq, told.event), (4, Event::Paused));
        let soon = Some(Instant::now() + Duration::from_millis(20));
        assert_eq!(client.event(soon), Ok(None));
        drop(server);
        assert!(matches!(client.event(None), Err(Failure::Unreachable(_))));
        assert!(matches!(
            client.ask(Command::Stats {}),
            Err(Failure::Unreachable(_))
        ));
    }

    #[test]
    fn removal_ends_by_an_event_of_its_device() {
        let told = |event| Told {
            seq: 1,
            time: 0.0,
            event,
        };
        let removed = told(Event::DeviceRemoved {
            id: "a".into(),
            by: By::Guest,
        });
        assert_eq!(removed.removal_of("a"), Some(Ok(())));
        assert_eq!(removed.removal_of("b"), None);
        let kept = told(Event::DeviceKept {
            id: "a".into(),
            why: "it is in use".into(),
        });
        assert!(matches!(kept.removal_of("a"), Some(Err(_))));
        assert_eq!(told(Event::Paused).removal_of("a"), None);
    }
}
