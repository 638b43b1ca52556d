// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Runs a command on a terminal of its own and plays its user: `terminal [at TEXT key TEXT | at TEXT signal NAME]… --
//! COMMAND…`. Steps are taken in their order, each once its text has been shown since the step before; `\xNN` and `\r` in
//! keys stand for those bytes.
//!
//! What the command shows goes to stdout, with lines `TERMINAL raw` or `TERMINAL cooked` at each step, and `TERMINAL restored`
//! or `TERMINAL changed` at the end. Ends with the command's status, 128 + N after signal N.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::{Arc, Weak};
use std::thread;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, tcgetattr};

/// What the user does.
enum Act {
    Keys(Vec<u8>),
    Signal(Signal),
}

struct Step {
    text: Vec<u8>,
    act: Act,
}

/// Runs `terminal ARGUMENTS…`; the command's status.
pub fn run(args: &[&str]) -> Result<u8> {
    let (steps, command) = parse(args)?;
    let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).context("opening a terminal")?;
    grantpt(&user)?;
    unlockpt(&user)?;
    let name = ptsname(&user, Vec::new())?.into_string()?;
    let mut options = OpenOptions::new();
    let terminal = Arc::new(options.read(true).write(true).open(&name)?);
    let before = tcgetattr(&terminal)?;
    // Makes the terminal the controlling one of a session in which the command is alone.
    let mut child = Command::new("setsid")
        .arg("-c")
        .args(command)
        .stdin(terminal.try_clone()?)
        .stdout(terminal.try_clone()?)
        .spawn()
        .context("starting the command")?;
    let id = Pid::from_raw(i32::try_from(child.id())?).context("the command has no id")?;
    let settings = Arc::downgrade(&terminal);
    let watcher = thread::spawn(move || watch(File::from(user), steps, &settings, id));
    let status = child.wait()?;
    let after = tcgetattr(&terminal)?;
    // The user's side sees the end once nobody holds the terminal any more.
    drop(terminal);
    let Ok(taken) = watcher.join() else {
        bail!("the user's side panicked")
    };
    println!(
        "\nTERMINAL {}",
        if same(&before, &after) {
            "restored"
        } else {
            "changed"
        }
    );
    taken?;
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Passes on what is shown and takes the steps; an error if the end comes before the last of them.
fn watch(mut user: File, steps: Vec<Step>, terminal: &Weak<File>, child: Pid) -> Result<()> {
    let longest = steps.iter().map(|step| step.text.len()).max().unwrap_or(0);
    let mut steps = steps.into_iter().peekable();
    let mut shown = Vec::new();
    let mut buffer = [0; 4096];
    let mut out = std::io::stdout();
    // The end is told by an error (EIO) when the last holder of the terminal has gone.
    while let Ok(size @ 1..) = user.read(&mut buffer) {
        out.write_all(&buffer[..size])?;
        out.flush()?;
        forget(&mut shown, longest);
        shown.extend_from_slice(&buffer[..size]);
        while let Some(step) = steps.next_if(|step| holds(&shown, &step.text)) {
            shown.clear();
            if let Some(terminal) = terminal.upgrade() {
                let raw = !tcgetattr(&terminal)?
                    .local_modes
                    .contains(LocalModes::ICANON);
                println!("\nTERMINAL {}", if raw { "raw" } else { "cooked" });
            }
            match step.act {
                Act::Keys(keys) => user.write_all(&keys)?,
                Act::Signal(signal) => kill_process(child, signal)?,
            }
        }
    }
    match steps.next() {
        None => Ok(()),
        Some(step) => bail!("never shown: {}", String::from_utf8_lossy(&step.text)),
    }
}

/// Forgets what was looked at, but for the beginning of a text that may go on. A guest shows a byte at a time, and looking at
/// all of its boot for each would take as long as the boot.
fn forget(shown: &mut Vec<u8>, longest: usize) {
    let old = shown.len().saturating_sub(longest);
    shown.drain(..old);
}

fn holds(shown: &[u8], text: &[u8]) -> bool {
    shown.windows(text.len()).any(|window| window == text)
}

fn same(one: &Termios, other: &Termios) -> bool {
    // The type has no comparison; its text shows every field, special codes included.
    format!("{one:?}") == format!("{other:?}")
}

fn parse<'a>(args: &'a [&'a str]) -> Result<(Vec<Step>, &'a [&'a str])> {
    let mut steps = Vec::new();
    let mut rest = args;
    loop {
        match rest {
            ["--", command @ ..] if !command.is_empty() => return Ok((steps, command)),
            ["at", text, kind, what, more @ ..] if !text.is_empty() => {
                let act = match *kind {
                    "key" => Act::Keys(keys(what)?),
                    "signal" => Act::Signal(signal(what)?),
                    _ => bail!("a step is key or signal, not {kind}"),
                };
                let text = text.as_bytes().to_vec();
                steps.push(Step { text, act });
                rest = more;
            }
            _ => bail!("terminal takes steps, --, and a command"),
        }
    }
}

fn signal(name: &str) -> Result<Signal> {
    match name {
        "TERM" => Ok(Signal::TERM),
        "INT" => Ok(Signal::INT),
        "HUP" => Ok(Signal::HUP),
        _ => bail!("no signal {name}"),
    }
}

/// Bytes of a text in which `\xNN`, `\r` and `\\` stand for bytes.
fn keys(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let (byte, length) = match escape.as_bytes() {
            [b'r', ..] => (b'\r', 1),
            [b'\\', ..] => (b'\\', 1),
            [b'x', _, _, ..] => {
                let digits = escape.get(1..3).context("two digits after \\x")?;
                (u8::from_str_radix(digits, 16)?, 3)
            }
            _ => bail!("an escape that is not known: \\{escape}"),
        };
        bytes.push(byte);
        rest = &escape[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_with_escapes_are_those_bytes() {
        assert_eq!(keys(r"a\x01x\r\\").unwrap(), b"a\x01x\r\\");
        assert!(keys(r"\q").is_err());
        assert!(keys(r"\x1").is_err());
    }

    #[test]
    fn text_that_arrives_in_pieces_is_found_after_what_is_forgotten() {
        let mut shown = b"a long boot, and then: the gu".to_vec();
        forget(&mut shown, b"the guest listens".len());
        assert_eq!(shown, b" and then: the gu");
        shown.extend_from_slice(b"est listens");
        assert!(holds(&shown, b"the guest listens"));
    }

    #[test]
    fn parse_of_steps_without_a_command_is_an_error() {
        assert!(parse(&["at", "x", "key", "y"]).is_err());
        assert!(parse(&["at", "x", "key", "y", "--"]).is_err());
        let args = ["at", "x", "signal", "TERM", "--", "cat"];
        let (steps, command) = parse(&args).unwrap();
        assert_eq!((steps.len(), command), (1, &["cat"][..]));
    }

    #[test]
    fn terminal_plays_keys_and_finds_the_settings_again() {
        assert_eq!(
            run(&[
                "at",
                "go",
                "key",
                r"\x04",
                "--",
                "sh",
                "-c",
                "echo go; cat; exit 7"
            ])
            .unwrap(),
            7
        );
    }
}
