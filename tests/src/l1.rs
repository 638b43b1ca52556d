// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A running L1 and its command channel (the protocol stands in `resources/l1/init`).
//!
//! The kernel's console is a file of its own, so nothing that a job prints can disturb the log that is judged. Output of
//! jobs goes straight into files of the run's directory, which L1 sees as `/scratch`.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::binaries::Binaries;
use crate::kernel::Kernel;
use crate::qemu::{self, Mode};
use crate::{images, logs, process};

/// From QEMU's start to L1's first word. Seconds are usual; a busy machine may take many times that.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// For what L1 answers at once.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// How often L1 is nudged. QEMU's emulation of SVM loses an interrupt now and then; if that was the one of L1's timer, all of L1
/// stands still until another one comes, and if it was that of a share, whoever reads a file there.
const NUDGE: Duration = Duration::from_secs(2);

/// How often a file that L1 writes is looked at.
pub const POLL: Duration = Duration::from_millis(25);

/// A booted L1. Dropping it ends the QEMU process.
#[derive(Debug)]
pub struct L1 {
    qemu: Child,
    input: ChildStdin,
    answers: Receiver<String>,
    ended: HashMap<String, i32>,
    dir: PathBuf,
    marks: u32,
    nudged: Instant,
}

impl L1 {
    /// Boots L1 with its files in `dir`, on the processor of the `lane`th L1 of this process.
    pub fn boot(kernel: &Kernel, binaries: &Binaries, dir: &Path, lane: usize) -> Result<Self> {
        let mut qemu = prepare(kernel, binaries, dir, Mode::Served, lane)?;
        qemu.stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(dir.join("qemu.log"))?);
        let mut qemu = qemu.spawn().context("starting QEMU")?;
        let input = qemu.stdin.take().context("QEMU's input is a pipe")?;
        let output = qemu.stdout.take().context("QEMU's output is a pipe")?;
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut l1 = Self {
            qemu,
            input,
            answers,
            ended: HashMap::new(),
            dir: dir.to_owned(),
            marks: 0,
            nudged: Instant::now(),
        };
        l1.answer("ready", Instant::now() + BOOT_LIMIT)
            .context("booting L1")?;
        Ok(l1)
    }

    /// The log of L1's kernel.
    pub fn kernel_log(&self) -> PathBuf {
        self.dir.join("l1-kernel.log")
    }

    /// Starts the shell script `/scratch/ID/job`.
    pub fn start(&mut self, id: &str) -> Result<()> {
        self.ended.remove(id);
        self.say(&format!("run {id}"))
    }

    /// The exit status of a job, if it has ended. A signal N counts as 128 + N.
    pub fn status(&mut self, id: &str) -> Result<Option<i32>> {
        while let Some(line) = self.receive(Duration::ZERO)? {
            self.note(&line);
        }
        self.nudge()?;
        Ok(self.ended.get(id).copied())
    }

    /// Waits until the job has ended; none when `deadline` comes first.
    pub fn wait(&mut self, id: &str, deadline: Instant) -> Result<Option<i32>> {
        loop {
            if let Some(status) = self.ended.get(id) {
                return Ok(Some(*status));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.receive(left.min(NUDGE))? {
                Some(line) => self.note(&line),
                None if left.is_zero() => return Ok(None),
                None => self.nudge()?,
            }
        }
    }

    /// Says something that makes L1 hear of whatever it missed, if nothing was said for a while.
    fn nudge(&mut self) -> Result<()> {
        if self.nudged.elapsed() >= NUDGE {
            self.say("nudge")?;
        }
        Ok(())
    }

    /// Sends a signal (by name) to every process of the job's group.
    pub fn signal(&mut self, id: &str, name: &str) -> Result<()> {
        self.say(&format!("signal {id} {name}"))
    }

    /// Has L1 write to its kernel log what each process of a job is waiting for.
    pub fn blame(&mut self) -> Result<()> {
        self.say("blame")
    }

    /// Kills everything that runs in L1; the names of what there was.
    pub fn sweep(&mut self) -> Result<String> {
        self.say("sweep")?;
        self.answer("swept", Instant::now() + ANSWER_LIMIT)
    }

    /// Puts a line into the kernel log and returns the log's length once it is there: what follows that offset
    /// happened later.
    pub fn mark(&mut self, text: &str) -> Result<usize> {
        self.marks += 1;
        let text = format!("{text} ({})", self.marks);
        self.say(&format!("mark {text}"))?;
        let wanted = format!("lab: {text}");
        let deadline = Instant::now() + ANSWER_LIMIT;
        while Instant::now() < deadline {
            let log = logs::read(&self.kernel_log());
            if let Some(at) = log.find(&wanted) {
                return Ok(at + wanted.len());
            }
            self.status("")?;
            thread::sleep(POLL);
        }
        bail!("L1 no longer answers; see {}", self.kernel_log().display())
    }

    fn say(&mut self, command: &str) -> Result<()> {
        self.nudged = Instant::now();
        if writeln!(self.input, "{command}").is_err() {
            bail!(self.obituary()?);
        }
        Ok(())
    }

    fn answer(&mut self, verb: &str, deadline: Instant) -> Result<String> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(line) = self.receive(left.min(NUDGE))? else {
                if left.is_zero() {
                    bail!(
                        "L1 did not answer in time; see {}",
                        self.kernel_log().display()
                    );
                }
                self.nudge()?;
                continue;
            };
            match line.strip_prefix(verb) {
                Some(rest) => return Ok(rest.trim().to_owned()),
                None => self.note(&line),
            }
        }
    }

    fn note(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        if let (Some("done"), Some(id), Some(Ok(status))) =
            (words.next(), words.next(), words.next().map(str::parse))
        {
            self.ended.insert(id.to_owned(), status);
        }
    }

    /// How L1 ended by itself.
    fn obituary(&mut self) -> Result<String> {
        let status = self.qemu.wait()?;
        let qemu = process::tail(&self.dir.join("qemu.log"));
        let kernel = process::tail(&self.kernel_log());
        Ok(format!(
            "L1 ended by itself (QEMU: {status})\n{qemu}\n{kernel}"
        ))
    }

    fn receive(&mut self, limit: Duration) -> Result<Option<String>> {
        match self.answers.recv_timeout(limit) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                bail!(self.obituary()?)
            }
        }
    }
}

impl Drop for L1 {
    fn drop(&mut self) {
        // A failure means that QEMU has ended already.
        drop(self.qemu.kill());
        drop(self.qemu.wait());
    }
}

/// Runs an L1 whose shell is on this terminal, to its end.
pub fn interactive(
    kernel: &Kernel,
    binaries: &Binaries,
    dir: &Path,
    size: (u16, u16),
) -> Result<()> {
    let mut qemu = prepare(kernel, binaries, dir, Mode::Shell(size.0, size.1), 0)?;
    let status = qemu
        .stdin(Stdio::inherit())
        .status()
        .context("starting QEMU")?;
    if !status.success() {
        bail!("QEMU failed: {status}");
    }
    Ok(())
}

fn prepare(
    kernel: &Kernel,
    binaries: &Binaries,
    dir: &Path,
    mode: Mode,
    lane: usize,
) -> Result<Command> {
    fs::write(dir.join("l1.cpio"), images::l1(binaries)?)?;
    File::create(dir.join("nvme.img"))?.set_len(qemu::NVME_BYTES)?;
    Ok(qemu::command(&kernel.bzimage, dir, mode, lane))
}
