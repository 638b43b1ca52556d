// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Reading logs that somebody else may still be writing.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;

/// The whole log so far, without carriage returns; empty when there is none yet.
pub fn read(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\r', "")
}

/// Passes on what is appended to a file.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    offset: u64,
}

impl Follower {
    /// Follows `path` from its start; the file need not be there yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, offset: 0 }
    }

    /// Copies what is new to `to`.
    pub fn pass_on(&mut self, to: &mut impl Write) -> Result<()> {
        let Ok(mut file) = File::open(&self.path) else {
            return Ok(());
        };
        file.seek(SeekFrom::Start(self.offset))?;
        let mut new = Vec::new();
        file.read_to_end(&mut new)?;
        self.offset += u64::try_from(new.len())?;
        to.write_all(&new)?;
        Ok(to.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follower_passes_on_each_byte_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut follower = Follower::new(path.clone());
        let mut seen = Vec::new();
        follower.pass_on(&mut seen).unwrap();
        fs::write(&path, "one").unwrap();
        follower.pass_on(&mut seen).unwrap();
        fs::write(&path, "onetwo").unwrap();
        follower.pass_on(&mut seen).unwrap();
        follower.pass_on(&mut seen).unwrap();
        assert_eq!(seen, b"onetwo");
    }
}
