// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Boot loaders: from files to guest memory and the state in which the first vCPU starts.
//!
//! What a file is, is told from its content: a Linux bzImage, an ELF64 with a PVH note, or an ELF32 with a multiboot
//! (version 1) header. Files may be truncated or hostile: every number in them is checked before it is used, and what does
//! not fit is an error. The files stay open, so that a guest reset loads the same images again.

mod bzimage;
mod detect;
mod e820;
mod elf;
mod entry;
mod multiboot;
mod place;
mod pvh;

#[cfg(test)]
mod tests;

pub use detect::Kind;
pub use entry::{Entry, Mode, Segment};

use crate::config::Config;
use crate::error::Error;
use iommu::address::Gpa;
use iommu::memory::Ram;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A kernel or an initrd cannot be booted.
#[derive(Debug, thiserror::Error)]
#[error("cannot boot {}: {problem}", path.display())]
pub struct BootError {
    path: PathBuf,
    problem: String,
}

impl BootError {
    fn new(path: &Path, problem: impl Into<String>) -> Self {
        Self {
            path: path.to_path_buf(),
            problem: problem.into(),
        }
    }
}

/// An open file and its name.
#[derive(Debug)]
struct Image {
    path: PathBuf,
    file: File,
    size: u64,
}

impl Image {
    fn open(path: &Path, what: &'static str) -> Result<Self, Error> {
        let failed = |action| {
            move |source| Error::File {
                action,
                what,
                path: path.to_path_buf(),
                source,
            }
        };
        // Looked at before it is opened, because opening a pipe would wait for its other end.
        let metadata = path.metadata().map_err(failed("open"))?;
        if !metadata.is_file() {
            return Err(BootError::new(path, format!("the {what} is not a regular file")).into());
        }
        let file = File::open(path).map_err(failed("open"))?;
        Ok(Self {
            path: path.to_path_buf(),
            file,
            size: metadata.len(),
        })
    }

    fn error(&self, problem: impl Into<String>) -> BootError {
        BootError::new(&self.path, problem)
    }
}

/// The files that a machine boots from.
#[derive(Debug)]
pub struct Images {
    kind: Kind,
    kernel: Image,
    initrd: Option<Image>,
    cmdline: String,
}

impl Images {
    /// Opens the kernel and the initrd of `config` and finds out what the kernel is.
    ///
    /// # Errors
    /// A file cannot be read, or the kernel is of no kind that can be booted.
    pub fn open(config: &Config) -> Result<Self, Error> {
        let kernel = Image::open(&config.kernel, "kernel")?;
        let kind = detect::detect(&kernel)?;
        let initrd = match &config.initrd {
            None => None,
            Some(path) => Some(Image::open(path, "initrd")?),
        };
        Ok(Self {
            kind,
            kernel,
            initrd,
            cmdline: config.cmdline.clone(),
        })
    }

    /// What the kernel is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Loads everything into `ram` and says how the first vCPU starts. `rsdp` is where the firmware tables begin.
    ///
    /// # Errors
    /// A file cannot be read any more, is not what its headers say, or does not fit.
    pub fn load(&mut self, ram: &Ram, rsdp: Option<Gpa>) -> Result<Entry, Error> {
        let entry = match self.kind {
            Kind::BzImage => bzimage::load(self, ram, rsdp)?,
            Kind::Pvh => pvh::load(self, ram, rsdp)?,
            Kind::Multiboot => multiboot::load(self, ram)?,
        };
        entry.write_gdt(ram)?;
        Ok(entry)
    }

    /// The command line for a Linux: with a serial console unless the user chose one.
    fn linux_cmdline(&self) -> String {
        let chosen = self
            .cmdline
            .split_whitespace()
            .any(|word| word.starts_with("console="));
        match (chosen, self.cmdline.is_empty()) {
            (true, _) => self.cmdline.clone(),
            (false, true) => "console=ttyS0".to_owned(),
            (false, false) => format!("console=ttyS0 {}", self.cmdline),
        }
    }
}
