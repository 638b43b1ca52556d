// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The far end of the serial port: terminal, file or nothing, and the texts to watch for.

use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

/// The serial port, as the console sees it.
pub trait ConsoleInput: fmt::Debug + Send + Sync {
    /// Takes bytes typed by the user; how many fitted. The rest is offered again a little later.
    fn input(&self, bytes: &[u8]) -> usize;

    /// Takes a break condition.
    fn send_break(&self);
}

/// The far end of the serial port.
#[derive(Debug, Default)]
pub struct Console {
    input: Mutex<Option<Arc<dyn ConsoleInput>>>,
}

impl Console {
    /// Where the serial port writes what the guest says. Never fails: a reader that went away loses text, not the guest.
    #[must_use]
    pub fn output(self: &Arc<Self>) -> Box<dyn Write + Send> {
        Box::new(std::io::sink())
    }

    /// Sets where typed bytes go.
    pub fn connect(&self, input: Arc<dyn ConsoleInput>) {
        *self.input.lock().unwrap_or_else(PoisonError::into_inner) = Some(input);
    }
}
