// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Runs one job of the lab in L1: `supervise DIRECTORY` runs the shell script `DIRECTORY/job` in a session of its own,
//! its number in `DIRECTORY/pid`, what it prints in `DIRECTORY/stdout` and `DIRECTORY/stderr`, and ends with its status.
//!
//! The files are on a share that costs a round trip for each write, and a guest's console arrives byte by byte: output
//! is gathered for a moment before it is passed on.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How long output is gathered.
const GATHER: Duration = Duration::from_millis(30);

/// How long the output is waited for after the job itself has ended; only a process that it left behind can hold it.
const DRAIN: Duration = Duration::from_secs(2);

/// Runs `supervise ARGUMENTS…`; the job's status, 128 + N after signal N.
pub fn run(args: &[&str]) -> Result<u8> {
    let &[dir] = args else {
        bail!("supervise takes a directory")
    };
    let dir = Path::new(dir);
    let mut command = Command::new("setsid");
    command
        .arg("sh")
        .arg(dir.join("job"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut job = command.spawn().context("starting the job")?;
    fs::write(dir.join("pid"), job.id().to_string())?;
    let (ended, streams) = mpsc::channel();
    let stdout = job.stdout.take().context("the job's output is a pipe")?;
    let stderr = job.stderr.take().context("the job's output is a pipe")?;
    relay(stdout, File::create(dir.join("stdout"))?, ended.clone());
    relay(stderr, File::create(dir.join("stderr"))?, ended);
    let status = job.wait()?;
    drain(&streams);
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Waits for the end of both streams.
fn drain(streams: &Receiver<()>) {
    for _ in 0..2 {
        if streams.recv_timeout(DRAIN).is_err() {
            return;
        }
    }
}

fn relay(mut from: impl Read + Send + 'static, mut to: File, ended: Sender<()>) {
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(size @ 1..) = from.read(&mut buffer) {
            if to.write_all(&buffer[..size]).is_err() {
                break;
            }
            thread::sleep(GATHER);
        }
        // Nobody listens any more once the time to drain is over.
        let _ = ended.send(());
    });
}
