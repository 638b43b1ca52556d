// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Clients of a Unix socket: one that says lines and shows the answers, and one that asks and never reads.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long the other end may take.
const PATIENCE: Timespec = Timespec {
    tv_sec: 90,
    tv_nsec: 0,
};

/// `say PATH LINE…` or `mute PATH LINE`.
pub fn run(words: &[&str]) -> Result<()> {
    match words {
        ["say", path, lines @ ..] => say(connect(path)?, lines),
        ["mute", path, line] => mute(connect(path)?, line),
        _ => bail!("wanted: say PATH LINE... or mute PATH LINE"),
    }
}

fn connect(path: &str) -> Result<UnixStream> {
    UnixStream::connect(path).with_context(|| format!("connecting to {path}"))
}

/// Says the lines and shows the answers, also those of somebody who hung up before all was said.
fn say(mut stream: UnixStream, lines: &[&str]) -> Result<()> {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    if let Err(error) = stream.write_all(text.as_bytes())
        && !hung_up(&error)
    {
        return Err(error).context("saying the lines");
    }
    // Somebody who hung up takes no end either.
    drop(stream.shutdown(Shutdown::Write));
    let mut answers = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answers)
        && !hung_up(&error)
    {
        return Err(error).context("reading the answers");
    }
    print!("{}", String::from_utf8_lossy(&answers));
    Ok(())
}

fn hung_up(error: &std::io::Error) -> bool {
    let kinds = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
    kinds.contains(&error.kind())
}

/// Says the line until nothing more is taken, and waits until the other end hangs up.
fn mute(mut stream: UnixStream, line: &str) -> Result<()> {
    stream.set_nonblocking(true)?;
    let line = format!("{line}\n");
    let mut said = 0;
    loop {
        // What was taken in part would no longer be a line.
        match stream.write(line.as_bytes()) {
            Ok(count) if count == line.len() => said += 1,
            Ok(_) => break,
            Err(e) if e.kind() == ErrorKind::WouldBlock => break,
            Err(e) => return Err(e).context("asking"),
        }
    }
    println!("socket: asked {said} times and reads nothing");
    let mut fds = [PollFd::new(&stream, PollFlags::empty())];
    if poll(&mut fds, Some(&PATIENCE))? == 0 {
        bail!("nobody hung up");
    }
    println!("socket: hung up on");
    Ok(())
}
