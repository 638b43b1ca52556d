// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How a run's outcome is told: the last line on stderr, the exit status, the result file. Also for panics.

use crate::board::Counters;
use crate::console::terminal;
use crate::control::Ending;
use crate::error::{Error, status};
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::{Write, stderr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Where the result goes; set once, so that the panic hook finds it.
static RESULT: OnceLock<PathBuf> = OnceLock::new();

/// Creates the result file, so that one that cannot be written is an error before the guest starts.
///
/// # Errors
/// It cannot be created.
pub fn open_result(path: &Path) -> Result<(), Error> {
    File::create(path).map_err(|source| Error::File {
        action: "create",
        what: "result file",
        path: path.to_path_buf(),
        source,
    })?;
    // A second run in one process keeps the first one's file; there is none but in tests.
    let _ = RESULT.set(path.to_path_buf());
    Ok(())
}

/// Tells how a run ended; its exit status.
pub fn tell(ending: &Ending, counters: Option<&Arc<dyn Counters>>) -> u8 {
    terminal::restore();
    let message = ending.to_string();
    let unit = counters.map_or_else(Map::new, |counters| counters.counters());
    write_result(ending.reason(), ending.status(), &message, unit);
    say(&line(ending.reason(), &message));
    ending.status()
}

/// Tells of a usage error that clap found; the exit status.
pub fn tell_usage(message: &str) -> u8 {
    say(&line("usage", message));
    status::USAGE
}

/// Tells why a command other than `run` failed; `reason` in one word.
pub fn tell_failure(reason: &str, message: &str) {
    say(&line(reason, message));
}

/// Writes a line to stderr. Whether anybody reads it must not change how the run ends, so not by `eprintln`, which panics.
fn say(line: &str) {
    let _ = writeln!(stderr(), "{line}");
}

/// One line, whatever a path or an error of the host contains.
fn line(reason: &str, message: &str) -> String {
    format!("remora: {reason}: {}", message.replace('\n', " "))
}

fn write_result(reason: &str, status: u8, message: &str, unit: Map<String, Value>) {
    let Some(path) = RESULT.get() else { return };
    let text = json!({ "reason": reason, "status": status, "message": message, "unit": unit });
    let written = File::create(path).and_then(|mut file| writeln!(file, "{text}"));
    if let Err(error) = written {
        let path = path.display();
        say(&format!(
            "remora: cannot write the result to {path}: {error}"
        ));
    }
}

/// From now on a panic of any thread restores the terminal, says one line and ends the process with status 70.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        terminal::restore();
        let place = info
            .location()
            .map_or_else(String::new, |at| format!(" at {}:{}", at.file(), at.line()));
        let payload = info.payload();
        let what = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("panic");
        let message = format!("{what}{place}");
        write_result("bug", status::BUG, &message, Map::new());
        say(&line("bug", &message));
        std::process::exit(i32::from(status::BUG));
    }));
}
