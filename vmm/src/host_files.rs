// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The small files by which a Linux host tells about itself (`/proc`, `/sys`), below a root that tests choose.
//!
//! What cannot be read counts as absent: these files come and go with drivers and kernels, and whoever asks knows what absence
//! means.

use std::fs;
use std::path::{Path, PathBuf};

/// The host's files.
#[derive(Clone, Debug)]
pub struct HostFiles {
    root: PathBuf,
}

impl HostFiles {
    /// The files of this machine.
    #[must_use]
    pub fn here() -> Self {
        Self::below(Path::new("/"))
    }

    /// The files below another root.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Where `path`, given without the leading slash, is.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Whether there is anything.
    #[must_use]
    pub fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// What a file holds, without white space at either end.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<String> {
        let bytes = fs::read(self.path(path)).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// What a file with one decimal number holds.
    #[must_use]
    pub fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// What a file with one hexadecimal number holds, with or without `0x`.
    #[must_use]
    pub fn hex(&self, path: &str) -> Option<u64> {
        let text = self.text(path)?;
        u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
    }

    /// The names in a directory, sorted; none where there is no directory.
    #[must_use]
    pub fn names(&self, path: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(path)) else {
            return Vec::new();
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// The last part of where a link points.
    #[must_use]
    pub fn link(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.path(path)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }

    /// The value after `name` at the beginning of a line of a file, up to the line's end.
    #[must_use]
    pub fn field(&self, path: &str, name: &str) -> Option<String> {
        let text = self.text(path)?;
        let value = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(value.trim().to_owned())
    }
}
