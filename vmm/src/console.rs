// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The far end of the serial port: terminal, file or nothing, and the texts to watch for.
//!
//! What the guest says is matched on the vCPU that says it ([`OutputWatch`]), so that the machine knows of every byte that
//! came before a power-off or an exit, and is written by the serial port's own thread ([`Console::writer`]). What the user
//! types comes through the event loop ([`stdin::Typist`]). Lock rule: the sink's lock is held over one write, which may wait
//! for a reader, and only a writer takes it; the other locks are held for a moment, one at a time.

pub mod escape;
pub mod matcher;
pub mod stdin;
pub mod terminal;

use crate::config::SerialConfig;
use crate::control::{Control, Ending, Request};
use crate::error::Error;
use devices::serial::OutputWatch;
use matcher::Watch;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use vmm_sys_util::timerfd::TimerFd;

/// How long a line that holds a text of `--fail-on` may take to end, so that the log shows the whole of it.
const REST_OF_LINE: Duration = Duration::from_millis(250);

/// The serial port, as the console sees it.
pub trait ConsoleInput: fmt::Debug + Send + Sync {
    /// Takes bytes typed by the user; how many fitted. The rest is offered again a little later.
    fn input(&self, bytes: &[u8]) -> usize;

    /// Takes a break condition.
    fn send_break(&self);
}

/// Where what the guest says goes.
#[derive(Debug)]
enum Sink {
    Stdout,
    File(File),
    Null,
}

impl Sink {
    /// Writes as much as the sink takes; a reader that went away loses text.
    fn write(&mut self, bytes: &[u8]) {
        let written = match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes).and_then(|()| stdout.flush())
            }
            Self::File(file) => file.write_all(bytes),
            Self::Null => Ok(()),
        };
        if let Err(error) = written {
            tracing::debug!("console output lost: {error}");
        }
    }
}

/// What was said so far, as far as the run's end depends on it.
#[derive(Debug)]
struct Said {
    watch: Watch,
    failing: Option<String>,
}

impl Said {
    /// Takes the next byte; how it ends the run, if it does.
    fn feed(&mut self, byte: u8) -> Option<Ending> {
        if self.failing.is_some() {
            let text = self.failing.take_if(|_| byte == b'\n');
            return text.map(Ending::FailOn);
        }
        let seen = self.watch.feed(&[byte]);
        self.failing = seen.failed;
        seen.complete.then_some(Ending::Expected)
    }
}

/// The far end of the serial port.
#[derive(Debug)]
pub struct Console {
    sink: Mutex<Sink>,
    said: Mutex<Said>,
    input: Mutex<Option<Arc<dyn ConsoleInput>>>,
    rest_of_line: Mutex<TimerFd>,
    control: Arc<Control>,
    stdio: bool,
}

impl Console {
    /// Opens the far end that `config` names and watches for `expect` and `fail_on`.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn new(
        config: &SerialConfig,
        expect: &[String],
        fail_on: &[String],
        control: Arc<Control>,
    ) -> Result<Arc<Self>, Error> {
        let sink = match config {
            SerialConfig::Stdio => Sink::Stdout,
            SerialConfig::Null => Sink::Null,
            SerialConfig::File(path) => {
                Sink::File(File::create(path).map_err(|source| Error::File {
                    action: "create",
                    what: "serial log",
                    path: path.clone(),
                    source,
                })?)
            }
        };
        let timer = TimerFd::new().map_err(|e| Error::host("create a timer", e))?;
        Ok(Arc::new(Self {
            sink: Mutex::new(sink),
            said: Mutex::new(Said {
                watch: Watch::new(expect, fail_on),
                failing: None,
            }),
            input: Mutex::new(None),
            rest_of_line: Mutex::new(timer),
            control,
            stdio: *config == SerialConfig::Stdio,
        }))
    }

    /// Where the serial port writes what the guest says. Never fails: a reader that went away loses text, not the guest.
    #[must_use]
    pub fn writer(self: &Arc<Self>) -> Box<dyn Write + Send> {
        Box::new(Writer(Arc::clone(self)))
    }

    /// Sets where typed bytes go.
    pub fn connect(&self, input: Arc<dyn ConsoleInput>) {
        *self.input.lock().unwrap_or_else(PoisonError::into_inner) = Some(input);
    }

    /// Where typed bytes go; `None` before [`Self::connect`].
    #[must_use]
    pub fn input(&self) -> Option<Arc<dyn ConsoleInput>> {
        self.input
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether stdin belongs to the guest.
    #[must_use]
    pub fn takes_stdin(&self) -> bool {
        self.stdio
    }

    /// The expected texts that were not seen yet.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        self.lock().watch.missing()
    }

    /// The timer that gives up on the rest of a line; readable when [`Self::fail`] is due.
    pub fn rest_of_line(&self) -> MutexGuard<'_, TimerFd> {
        self.rest_of_line
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the run for the text of `--fail-on` that was seen.
    pub fn fail(&self) {
        if let Some(ending) = self.failed() {
            self.control.request(Request::End(ending));
        }
    }

    /// The end that a text of `--fail-on` calls for whose line has not ended yet. The guest may end before the line does.
    #[must_use]
    pub fn failed(&self) -> Option<Ending> {
        self.lock().failing.take().map(Ending::FailOn)
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OutputWatch for Console {
    fn output(&self, bytes: &[u8]) {
        let mut said = self.lock();
        let failed_before = said.failing.is_some();
        let ending = bytes.iter().find_map(|&byte| said.feed(byte));
        let fails_now = said.failing.is_some() && !failed_before;
        drop(said);
        if let Some(ending) = ending {
            self.control.request(Request::End(ending));
        } else if fails_now && self.rest_of_line().reset(REST_OF_LINE, None).is_err() {
            self.fail();
        }
    }
}

/// The console as a writer.
struct Writer(Arc<Console>);

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut sink = self.0.sink.lock().unwrap_or_else(PoisonError::into_inner);
        sink.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(expect: &[&str], fail_on: &[&str]) -> (Arc<Console>, Arc<Control>) {
        let own = |texts: &[&str]| texts.iter().map(|&t| t.to_owned()).collect::<Vec<_>>();
        let control = Arc::new(Control::new().unwrap());
        let console = Console::new(
            &SerialConfig::Null,
            &own(expect),
            &own(fail_on),
            Arc::clone(&control),
        )
        .unwrap();
        (console, control)
    }

    #[test]
    fn expected_texts_end_the_run_when_all_were_seen() {
        let (console, control) = console(&["one", "two"], &[]);
        console.output(b"tw");
        console.output(b"o\r\n");
        assert_eq!(console.missing(), ["one"]);
        assert!(!control.is_halted());
        console.output(b"oone");
        assert!(matches!(
            control.take(),
            Some(Request::End(Ending::Expected))
        ));
    }

    #[test]
    fn failing_text_ends_the_run_with_its_line() {
        let (console, control) = console(&[], &["panic"]);
        console.output(b"Kernel panic");
        assert!(!control.is_halted(), "the line goes on");
        console.output(b" - why\n");
        match control.take() {
            Some(Request::End(Ending::FailOn(text))) => assert_eq!(text, "panic"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn failing_text_without_an_end_of_line_ends_the_run_by_the_timer() {
        let (console, control) = console(&["never"], &["panic"]);
        console.output(b"panic");
        assert!(console.rest_of_line().is_armed().unwrap());
        console.fail();
        assert!(matches!(
            control.take(),
            Some(Request::End(Ending::FailOn(_)))
        ));
    }

    #[test]
    fn failing_text_and_the_end_of_its_line_may_come_at_once() {
        let (console, control) = console(&[], &["panic"]);
        console.output(b"a\nKernel panic\nb");
        assert!(matches!(
            control.take(),
            Some(Request::End(Ending::FailOn(_)))
        ));
    }

    #[test]
    fn failing_text_whose_line_goes_on_is_known_when_the_guest_ends() {
        let (console, _) = console(&[], &["panic"]);
        assert!(console.failed().is_none());
        console.output(b"panic");
        assert_eq!(console.failed().map(|ending| ending.status()), Some(1));
    }

    #[test]
    fn serial_log_that_cannot_be_created_is_a_usage_error() {
        let control = Arc::new(Control::new().unwrap());
        let config = SerialConfig::File("/nonexistent/log".into());
        let error = Console::new(&config, &[], &[], control).unwrap_err();
        assert_eq!(error.status(), 2);
    }
}
