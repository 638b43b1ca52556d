// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One call of the lab: its programs, its kernel, its run directory, and an L1 that is booted when first needed and
//! again when a scenario has brought it down.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::binaries::{self, Binaries};
use crate::kernel::{self, Kernel};
use crate::l1::L1;
use crate::{packages, paths};

/// Everything that scenarios share.
#[derive(Debug)]
pub struct Session {
    /// The programs under test.
    pub binaries: Binaries,
    /// The lab kernel.
    pub kernel: Kernel,
    /// This run's directory, which L1 sees as `/scratch`.
    pub dir: PathBuf,
    l1: Option<L1>,
}

impl Session {
    /// Provides packages, kernel and programs.
    pub fn open() -> Result<Self> {
        packages::for_running()?;
        let kernel = kernel::provide()?;
        let binaries = binaries::build()?;
        let dir = paths::new_run()?;
        // Runs with the shell's own PATH in L1.
        let program = in_l1(binaries.remora.parent().unwrap_or(Path::new("/")));
        fs::write(dir.join("env"), format!("export PATH=$PATH:'{program}'\n"))?;
        Ok(Self {
            binaries,
            kernel,
            dir,
            l1: None,
        })
    }

    /// The running L1, booted if there is none.
    pub fn l1(&mut self) -> Result<&mut L1> {
        if self.l1.is_none() {
            self.l1 = Some(L1::boot(&self.kernel, &self.binaries, &self.dir)?);
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

/// The path at which L1 sees a file of this machine.
pub fn in_l1(path: &Path) -> String {
    format!("/host{}", path.display())
}
