// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One call of the lab: its programs, its kernel, its run directory, and an L1 that is booted when first needed and
//! again when a scenario has brought it down.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result};

use crate::binaries::{self, Binaries};
use crate::kernel::{self, Kernel};
use crate::l1::L1;
use crate::{packages, paths};

/// Bytes of memory that an L1 may come to need.
const L1_MEMORY: u64 = 5 << 30;

/// Everything that scenarios share.
#[derive(Debug)]
pub struct Session {
    /// The programs under test.
    pub binaries: Binaries,
    /// The lab kernel.
    pub kernel: Kernel,
    /// This run's directory, which L1 sees as `/scratch`.
    pub dir: PathBuf,
    /// Which of the sessions of this process it is, counted from 0.
    lane: usize,
    l1: Option<L1>,
}

impl Session {
    /// Provides packages, kernel and programs.
    pub fn open() -> Result<Self> {
        packages::for_running()?;
        Self::new(0, binaries::build()?, kernel::provide()?)
    }

    /// As many sessions as this machine has processors and memory for, up to `wanted`: at least one.
    pub fn open_side_by_side(wanted: usize) -> Result<Vec<Self>> {
        let first = Self::open()?;
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let most = usize::try_from(memory_available() / L1_MEMORY).unwrap_or(1);
        let mut sessions = vec![first];
        for lane in 1..processors.min(most).min(wanted) {
            let (binaries, kernel) = (sessions[0].binaries.clone(), sessions[0].kernel.clone());
            sessions.push(Self::new(lane, binaries, kernel)?);
        }
        Ok(sessions)
    }

    fn new(lane: usize, binaries: Binaries, kernel: Kernel) -> Result<Self> {
        let dir = paths::new_run(lane)?;
        // Runs with the shell's own PATH in L1.
        let program = in_l1(binaries.remora.parent().unwrap_or(Path::new("/")));
        fs::write(dir.join("env"), format!("export PATH=$PATH:'{program}'\n"))?;
        Ok(Self {
            binaries,
            kernel,
            dir,
            lane,
            l1: None,
        })
    }

    /// The running L1, booted if there is none.
    pub fn l1(&mut self) -> Result<&mut L1> {
        if self.l1.is_none() {
            self.l1 = Some(L1::boot(
                &self.kernel,
                &self.binaries,
                &self.dir,
                self.lane,
            )?);
        }
        self.l1.as_mut().context("L1 was just booted")
    }

    /// Ends L1; the next user gets a new one. Its kernel log is kept under a name of its own.
    pub fn drop_l1(&mut self, name: &str) {
        if self.l1.take().is_some() {
            let log = self.dir.join("l1-kernel.log");
            // Only a convenience for the reader: without it the next boot overwrites the log.
            drop(fs::copy(
                &log,
                self.dir.join(format!("l1-kernel-{name}.log")),
            ));
        }
    }
}

/// Bytes of memory that can be had without swapping; without end where the kernel does not say.
fn memory_available() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map_or(u64::MAX, |kib| kib << 10)
}

/// The path at which L1 sees a file of this machine.
pub fn in_l1(path: &Path) -> String {
    format!("/host{}", path.display())
}
