// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The terminal in raw mode, and back again on every way out.
//!
//! The settings to go back to are kept where the panic hook finds them too. A process that is killed outright cannot restore
//! anything; `reset` then helps.

use crate::error::Error;
use rustix::termios::{
    OptionalActions, OutputModes, Termios, isatty, tcgetattr, tcgetpgrp, tcsetattr,
};
use std::io::stdin;
use std::sync::{Mutex, PoisonError};

static ORIGINAL: Mutex<Option<Termios>> = Mutex::new(None);

/// Raw mode until dropped.
#[derive(Debug)]
pub struct Raw(());

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Whether stdin may be read: it is no terminal, or one that this process is in the foreground of.
#[must_use]
pub fn stdin_is_ours() -> bool {
    let stdin = stdin();
    if !isatty(&stdin) {
        return true;
    }
    tcgetpgrp(&stdin).is_ok_and(|group| group == rustix::process::getpgrp())
}

/// Puts the terminal into raw mode, so that every key reaches the guest. `None` when stdin is none.
///
/// # Errors
/// The terminal does not let itself be set.
pub fn raw() -> Result<Option<Raw>, Error> {
    let stdin = stdin();
    if !isatty(&stdin) || !stdin_is_ours() {
        return Ok(None);
    }
    let refused = |e: rustix::io::Errno| Error::host("set the terminal to raw mode", e);
    let original = tcgetattr(&stdin).map_err(refused)?;
    let mut settings = original.clone();
    settings.make_raw();
    // Our own messages end lines as everybody does.
    settings.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
    *ORIGINAL.lock().unwrap_or_else(PoisonError::into_inner) = Some(original);
    tcsetattr(&stdin, OptionalActions::Now, &settings).map_err(refused)?;
    Ok(Some(Raw(())))
}

/// Restores the terminal if it was changed. May be called at any time, from any thread, more than once.
pub fn restore() {
    let original = ORIGINAL
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    if let Some(original) = original {
        // Nothing is left to be done about a terminal that is gone.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &original);
    }
}
