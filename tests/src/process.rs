// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Child processes that end when the lab ends.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Lines of a failed command's log that go into the error.
const TAIL: usize = 15;

/// A command that the kernel kills when the thread that started it (in effect: the lab) dies.
pub fn bound(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "TERM", "--", program])
        .stdin(Stdio::null());
    command
}

/// Runs `command` to its end with all it prints in `log`; each line also goes to `seen`.
/// On failure the error holds the log's last lines and its path.
pub fn logged(command: &mut Command, log: &Path, mut seen: impl FnMut(&str)) -> Result<()> {
    let mut file = append(log)?;
    writeln!(file, "$ {command:?}")?;
    let errors = file.try_clone()?;
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .with_context(|| format!("starting {command:?}"))?;
    let output = child
        .stdout
        .take()
        .context("the child's output is a pipe")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        file.write_all(&line)?;
        file.write_all(b"\n")?;
        seen(&String::from_utf8_lossy(&line));
    }
    let status = child.wait()?;
    if !status.success() {
        let what = command
            .get_args()
            .nth(3)
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        bail!(
            "{what} failed ({status}); the end of {}:\n{}",
            log.display(),
            tail(log)
        );
    }
    Ok(())
}

/// What `command` prints, if it ends well.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("the output of {command:?}"))
}

/// The last lines of a log, indented.
pub fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL);
    lines[from..]
        .iter()
        .map(|line| format!("    {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn append(log: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(log);
    file.with_context(|| format!("opening the log {}", log.display()))
}
