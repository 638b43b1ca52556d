// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Writer of the "newc" cpio archives that Linux unpacks as its initramfs (kernel: initramfs buffer format).

use std::collections::BTreeSet;

use anyhow::{Context, Result};

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// An archive under construction. Directories above an entry are added by themselves.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    directories: BTreeSet<String>,
    entries: u32,
}

impl Archive {
    /// Adds a regular file with these permission bits.
    pub fn file(&mut self, path: &str, permissions: u32, data: &[u8]) -> Result<()> {
        self.parents(path)?;
        self.entry(path, FILE | permissions, (0, 0), data)
    }

    /// Adds a character device node.
    pub fn character_device(&mut self, path: &str, major: u32, minor: u32) -> Result<()> {
        self.parents(path)?;
        self.entry(path, CHARACTER_DEVICE, (major, minor), &[])
    }

    /// The finished archive.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        Ok(self.bytes)
    }

    fn parents(&mut self, path: &str) -> Result<()> {
        let ends: Vec<usize> = path.match_indices('/').map(|(at, _)| at).collect();
        for end in ends {
            let directory = &path[..end];
            if self.directories.insert(directory.to_owned()) {
                self.entry(directory, DIRECTORY, (0, 0), &[])?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), data: &[u8]) -> Result<()> {
        self.entries += 1;
        let size = u32::try_from(data.len())
            .with_context(|| format!("{name} is too large for an initramfs"))?;
        let name_size = u32::try_from(name.len() + 1)?;
        // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            device.0,
            device.1,
            name_size,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_in_a_directory_is_written_byte_for_byte_as_newc() {
        let mut archive = Archive::default();
        archive.file("d/f", 0o644, b"hello").unwrap();
        let bytes = archive.finish().unwrap();
        let expected = concat!(
            "07070100000001000041ED000000000000000000000001000000000000000000000000000000000000000000000000",
            "0000000200000000d\0\0\0",
        );
        // Header 110 bytes, then the name with its NUL, padded to four.
        assert_eq!(&bytes[..112], expected.as_bytes().get(..112).unwrap());
        let second = &bytes[112..];
        assert_eq!(&second[..14], b"07070100000002");
        assert_eq!(&second[14..22], b"000081A4");
        assert_eq!(&second[54..62], b"00000005");
        assert_eq!(&second[110..124], b"d/f\0\0\0hello\0\0\0");
    }

    #[test]
    fn finish_ends_with_the_trailer_entry() {
        let bytes = Archive::default().finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        assert!(bytes.windows(11).any(|window| window == b"TRAILER!!!\0"));
    }

    #[test]
    fn parents_are_added_once() {
        let mut archive = Archive::default();
        archive.file("a/x", 0o600, b"y").unwrap();
        archive.character_device("a/c", 5, 1).unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(
            bytes.windows(2).filter(|window| *window == b"a\0").count(),
            1
        );
    }
}
