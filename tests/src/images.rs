// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Initramfs images, made on the spot: L1's own, and those of Linux guests.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::binaries::Binaries;
use crate::cpio::Archive;
use crate::{packages, paths};

/// L1's image: busybox, its init and what that runs jobs with.
pub fn l1(binaries: &Binaries) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    console(&mut archive)?;
    archive.file("lab/busybox", 0o755, &busybox()?)?;
    archive.file("lab/guest-tools", 0o755, &read(&binaries.guest_tools)?)?;
    archive.file("init", 0o755, &read(&paths::resource("l1/init"))?)?;
    archive.finish()
}

/// What goes into a Linux guest's image besides busybox and the init of `resources/guest`.
#[derive(Debug, Clone, Default)]
pub struct Guest {
    script: String,
    modules: Vec<PathBuf>,
    files: Vec<(String, PathBuf)>,
}

impl Guest {
    /// A guest that runs this shell script on its console as root and then powers off.
    pub fn script(script: &str) -> Self {
        Self {
            script: script.to_owned(),
            ..Self::default()
        }
    }

    /// Loads these modules, in this order, before the script.
    pub fn modules(mut self, files: Vec<PathBuf>) -> Self {
        self.modules = files;
        self
    }

    /// Adds an executable file: `place` in the guest (without the leading slash), `file` on this machine.
    pub fn file(mut self, place: &str, file: &Path) -> Self {
        self.files.push((place.to_owned(), file.to_owned()));
        self
    }

    /// The image's bytes.
    pub fn build(&self) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        console(&mut archive)?;
        archive.file("bin/busybox", 0o755, &busybox()?)?;
        archive.file("init", 0o755, &read(&paths::resource("guest/init"))?)?;
        archive.file("script", 0o755, self.script.as_bytes())?;
        for (number, module) in self.modules.iter().enumerate() {
            let name = module.file_name().unwrap_or_default().to_string_lossy();
            archive.file(
                &format!("modules/{number:03}-{name}"),
                0o644,
                &read(module)?,
            )?;
        }
        for (place, file) in &self.files {
            archive.file(place, 0o755, &read(file)?)?;
        }
        archive.finish()
    }
}

/// Linux opens /dev/console for init before anything is mounted.
fn console(archive: &mut Archive) -> Result<()> {
    archive.character_device("dev/console", 5, 1)?;
    archive.character_device("dev/null", 1, 3)
}

fn busybox() -> Result<Vec<u8>> {
    read(
        packages::busybox()
            .context("no statically linked busybox on this machine (package busybox-static)")?,
    )
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}
