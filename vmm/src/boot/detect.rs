// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a kernel file is, told from its first bytes.

use super::{BootError, Image};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;

/// Bytes that a multiboot header must lie in (multiboot 0.6.96, section 3.1).
const HEAD: usize = 8192;
const MULTIBOOT_MAGIC: u32 = 0x1bad_b002;

/// A kind of kernel that can be booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A Linux bzImage.
    BzImage,
    /// An ELF64 file with a PVH entry.
    Pvh,
    /// An ELF32 file with a multiboot (version 1) header.
    Multiboot,
}

/// Tells the kind of `image`.
pub(super) fn detect(image: &Image) -> Result<Kind, BootError> {
    let head = read_head(image).map_err(|e| image.error(format!("cannot read it: {e}")))?;
    kind_of(&head).ok_or_else(|| {
        image.error(format!(
            "it is {} of {} bytes; a kernel is a Linux bzImage, an ELF64 vmlinux with a PVH note, or a multiboot ELF32",
            describe(&head),
            image.size
        ))
    })
}

fn read_head(image: &Image) -> io::Result<Vec<u8>> {
    let mut head = vec![0; HEAD];
    let mut done = 0;
    while done < HEAD {
        match image.file.read_at(&mut head[done..], done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    head.truncate(done);
    Ok(head)
}

fn kind_of(head: &[u8]) -> Option<Kind> {
    const CLASS_32: u8 = 1;
    const CLASS_64: u8 = 2;
    if head.starts_with(b"\x7fELF") {
        return match *head.get(4)? {
            CLASS_64 => Some(Kind::Pvh),
            CLASS_32 if has_multiboot_header(head) => Some(Kind::Multiboot),
            _ => None,
        };
    }
    let is_boot_sector = head.get(0x1fe..0x200) == Some(&[0x55, 0xaa]);
    (is_boot_sector && head.get(0x202..0x206) == Some(b"HdrS")).then_some(Kind::BzImage)
}

/// Whether a header with a right checksum lies in `head`.
fn has_multiboot_header(head: &[u8]) -> bool {
    let word = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    head.windows(12).step_by(4).any(|header| {
        word(header) == MULTIBOOT_MAGIC
            && word(header)
                .wrapping_add(word(&header[4..]))
                .wrapping_add(word(&header[8..]))
                == 0
    })
}

/// What a person would call a file that begins with `head`.
fn describe(head: &[u8]) -> String {
    const KNOWN: &[(&[u8], &str)] = &[
        (
            b"\x7fELF\x01",
            "an ELF32 file without a multiboot header in its first 8 KiB",
        ),
        (b"\x7fELF", "a broken ELF file"),
        (b"\x1f\x8b", "a gzip file"),
        (b"\xfd7zXZ\0", "an xz file"),
        (b"\x28\xb5\x2f\xfd", "a zstd file"),
        (b"070701", "a cpio archive"),
        (b"MZ", "a PE file without a Linux header"),
        (b"#!", "a script"),
        (b"!<arch>\n", "an ar archive"),
    ];
    if head.is_empty() {
        return "an empty file".into();
    }
    if let Some((_, name)) = KNOWN.iter().find(|(magic, _)| head.starts_with(magic)) {
        return (*name).into();
    }
    let first = &head[..head.len().min(64)];
    if first
        .iter()
        .all(|&b| b.is_ascii_graphic() || b.is_ascii_whitespace())
    {
        return "a text file".into();
    }
    let bytes: Vec<String> = head.iter().take(8).map(|b| format!("{b:02x}")).collect();
    format!("an unknown file (it begins with {})", bytes.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(offset: usize, bytes: &[u8]) -> Vec<u8> {
        let mut head = vec![0; HEAD];
        head[offset..offset + bytes.len()].copy_from_slice(bytes);
        head
    }

    #[test]
    fn bzimage_is_told_by_boot_flag_and_magic() {
        let mut head = with(0x202, b"HdrS");
        assert_eq!(kind_of(&head), None);
        head[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(kind_of(&head), Some(Kind::BzImage));
        assert_eq!(kind_of(&head[..0x204]), None);
    }

    #[test]
    fn multiboot_needs_elf32_magic_and_checksum() {
        let mut head = with(0, b"\x7fELF\x01");
        head[0x1000..0x100c]
            .copy_from_slice(&[0x02, 0xb0, 0xad, 0x1b, 0, 0, 0, 0, 0xfe, 0x4f, 0x52, 0xe4]);
        assert_eq!(kind_of(&head), Some(Kind::Multiboot));
        head[0x1008] = 0xff;
        assert_eq!(kind_of(&head), None);
    }

    #[test]
    fn elf64_is_taken_for_pvh() {
        assert_eq!(kind_of(&with(0, b"\x7fELF\x02")), Some(Kind::Pvh));
    }

    #[test]
    fn anything_else_is_named() {
        let table: &[(&[u8], &str)] = &[
            (b"", "an empty file"),
            (b"\x1f\x8b\x08", "a gzip file"),
            (b"\x7fELF", "a broken ELF file"),
            (
                b"\x7fELF\x01\x01",
                "an ELF32 file without a multiboot header in its first 8 KiB",
            ),
            (b"hello\n", "a text file"),
            (b"\0\x01\x02", "an unknown file (it begins with 00 01 02)"),
        ];
        for (head, name) in table {
            assert_eq!(kind_of(head), None);
            assert_eq!(describe(head), *name);
        }
    }
}
