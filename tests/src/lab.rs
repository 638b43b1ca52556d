// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a scenario works with: programs run in L1 under the scenario's time limit, images for guests, and what must or
//! must not be seen.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::binaries::Binaries;
use crate::complaints::complaints;
use crate::images::Guest;
use crate::kernel::Kernel;
use crate::l1::POLL;
use crate::remora::Remora;
use crate::session::{Session, in_l1};
use crate::stock::{self, Stock};
use crate::{logs, process};

/// A scenario's hold on the lab.
#[derive(Debug)]
pub struct Lab<'a> {
    session: &'a mut Session,
    name: &'static str,
    dir: PathBuf,
    deadline: Instant,
    host_allowed: Vec<String>,
}

/// A program that was started in L1.
#[derive(Debug, Clone)]
pub struct Job {
    id: String,
    dir: PathBuf,
    /// Of Remora's runs: what the guest's kernel may complain about; none for other programs, which are not judged.
    guest_allowed: Option<Vec<String>>,
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status; 128 + N after signal N.
    pub status: i32,
    /// What it wrote to standard output. For Remora: the guest's serial console.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    job: Job,
}

impl<'a> Lab<'a> {
    /// A lab for the scenario `name`, whose files go into `dir`.
    pub fn new(
        session: &'a mut Session,
        name: &'static str,
        dir: PathBuf,
        deadline: Instant,
    ) -> Self {
        Self {
            session,
            name,
            dir,
            deadline,
            host_allowed: Vec::new(),
        }
    }

    /// The lab kernel.
    pub fn kernel(&self) -> &Kernel {
        &self.session.kernel
    }

    /// Debian 12's own cloud kernel.
    pub fn stock(&self) -> Result<Stock> {
        stock::provide()
    }

    /// The programs under test.
    pub fn binaries(&self) -> &Binaries {
        &self.session.binaries
    }

    /// This scenario's directory on this machine; L1 sees it, writable, as [`Lab::scratch`].
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// This scenario's directory in L1, in which every program starts.
    pub fn scratch(&self) -> String {
        format!("/scratch/{}", self.name)
    }

    /// Builds a guest's initramfs; its path on this machine.
    pub fn initrd(&self, name: &str, guest: &Guest) -> Result<PathBuf> {
        let path = self.dir.join(format!("{name}.cpio"));
        fs::write(&path, guest.build()?).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// Lines of L1's kernel log that hold `text` are no failure of this scenario.
    pub fn allow_in_host_log(&mut self, text: &str) {
        self.host_allowed.push(text.to_owned());
    }

    /// What [`Lab::allow_in_host_log`] collected.
    pub fn host_allowed(&self) -> Vec<String> {
        self.host_allowed.clone()
    }

    /// Runs a shell script in L1 to its end.
    pub fn sh(&mut self, name: &str, script: &str) -> Result<Ended> {
        let job = self.start_sh(name, script)?;
        self.wait(&job)
    }

    /// Starts a shell script in L1.
    pub fn start_sh(&mut self, name: &str, script: &str) -> Result<Job> {
        self.start(name, script, None)
    }

    /// Runs Remora in L1 to its end and judges it as [`Lab::wait`] does.
    pub fn remora(&mut self, name: &str, remora: &Remora) -> Result<Ended> {
        let job = self.start_remora(name, remora)?;
        self.wait(&job)
    }

    /// Starts Remora in L1. The job's standard output is the guest's console.
    pub fn start_remora(&mut self, name: &str, remora: &Remora) -> Result<Job> {
        let command = remora.command(&in_l1(&self.session.binaries.remora));
        self.start(name, &format!("exec {command}"), Some(remora.allowed()))
    }

    /// Waits for a program's end. A run of Remora has then failed if its guest's kernel complained about anything that was not
    /// allowed, or if Remora itself panicked.
    pub fn wait(&mut self, job: &Job) -> Result<Ended> {
        let deadline = self.deadline;
        let status = self.session.l1()?.wait(&job.id, deadline)?;
        let Some(status) = status else {
            bail!(
                "time limit reached while {} ran; its output ends:\n{}",
                job.id,
                job.ends()
            );
        };
        let ended = Ended {
            status,
            stdout: logs::read(&job.stdout()),
            stderr: logs::read(&job.stderr()),
            job: job.clone(),
        };
        ended.clean()?;
        Ok(ended)
    }

    /// Waits until a running program has written `text` to its standard output (for Remora: the guest's console).
    pub fn wait_for(&mut self, job: &Job, text: &str) -> Result<()> {
        while Instant::now() < self.deadline {
            let status = self.session.l1()?.status(&job.id)?;
            if logs::read(&job.stdout()).contains(text) {
                return Ok(());
            }
            if let Some(status) = status {
                bail!(
                    "{} ended with status {status} before '{text}' was seen; its output ends:\n{}",
                    job.id,
                    job.ends()
                );
            }
            thread::sleep(POLL);
        }
        bail!(
            "time limit reached before '{text}' was seen from {}; its output ends:\n{}",
            job.id,
            job.ends()
        )
    }

    /// Sends a signal, by its name without SIG, to a program and all it started.
    pub fn signal(&mut self, job: &Job, name: &str) -> Result<()> {
        self.session.l1()?.signal(&job.id, name)
    }

    fn start(
        &mut self,
        name: &str,
        script: &str,
        guest_allowed: Option<Vec<String>>,
    ) -> Result<Job> {
        let job = Job {
            id: format!("{}/{name}", self.name),
            dir: self.dir.join(name),
            guest_allowed,
        };
        fs::create_dir(&job.dir)
            .with_context(|| format!("a second job '{name}' in one scenario"))?;
        let setting = format!("cd {}\nexport RUST_BACKTRACE=1\n", self.scratch());
        fs::write(job.dir.join("job"), setting + script)?;
        self.session.l1()?.start(&job.id)?;
        Ok(job)
    }
}

impl Job {
    /// The file on this machine that receives standard output.
    pub fn stdout(&self) -> PathBuf {
        self.dir.join("stdout")
    }

    /// The file on this machine that receives standard error.
    pub fn stderr(&self) -> PathBuf {
        self.dir.join("stderr")
    }

    fn ends(&self) -> String {
        format!(
            "{}\n{}",
            process::tail(&self.stdout()),
            process::tail(&self.stderr())
        )
    }
}

impl Ended {
    /// Fails unless the program ended with `status`.
    pub fn expect_status(&self, status: i32) -> Result<&Self> {
        if self.status != status {
            bail!(
                "{} ended with status {}, not {status}; its output ends:\n{}",
                self.job.id,
                self.status,
                self.job.ends()
            );
        }
        Ok(self)
    }

    /// Fails unless `text` stands in standard output.
    pub fn expect(&self, text: &str) -> Result<&Self> {
        if !self.stdout.contains(text) {
            bail!(
                "'{text}' is missing from the output of {}, which ends:\n{}",
                self.job.id,
                self.job.ends()
            );
        }
        Ok(self)
    }

    /// Fails unless `text` stands in standard error.
    pub fn expect_error(&self, text: &str) -> Result<&Self> {
        if !self.stderr.contains(text) {
            bail!(
                "'{text}' is missing from the messages of {}, which end:\n{}",
                self.job.id,
                self.job.ends()
            );
        }
        Ok(self)
    }

    /// Fails if `text` stands in standard output.
    pub fn forbid(&self, text: &str) -> Result<&Self> {
        match self.stdout.lines().find(|line| line.contains(text)) {
            Some(line) => bail!(
                "'{text}' must not be in the output of {}: {line}",
                self.job.id
            ),
            None => Ok(self),
        }
    }

    /// Of a run of Remora: fails if the guest's kernel complained about anything that was not allowed, or if Remora
    /// itself panicked.
    fn clean(&self) -> Result<()> {
        let Some(allowed) = &self.job.guest_allowed else {
            return Ok(());
        };
        let allowed: Vec<&str> = allowed.iter().map(String::as_str).collect();
        let found = complaints(&self.stdout, &allowed);
        if let Some(first) = found.first() {
            bail!(
                "the guest's kernel complains in {}: {first}\n{}",
                self.job.id,
                found.join("\n")
            );
        }
        match self
            .stderr
            .lines()
            .find(|line| line.contains("panicked at") || line.starts_with("remora: bug: "))
        {
            Some(line) => bail!("remora panicked in {}: {line}", self.job.id),
            None => Ok(()),
        }
    }
}
