// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where loaders put things below 640 KiB, and how they write to guest memory.

use super::elf::Segment;
use super::{Image, Images};
use crate::error::Error;
use crate::layout;
use iommu::address::Gpa;
use iommu::memory::Ram;
use std::io::{Seek, SeekFrom};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

/// Descriptor table.
pub(super) const GDT: Gpa = GuestAddress(0x500);
/// What the loader tells the kernel: Linux's zero page, PVH's or multiboot's information. One page.
pub(super) const INFO: Gpa = GuestAddress(0x7000);
/// Lists that the information points to. One page.
pub(super) const LISTS: Gpa = GuestAddress(0x8000);
/// Page tables: six pages.
pub(super) const PAGE_TABLES: Gpa = GuestAddress(0x9000);
/// Command line.
pub(super) const CMDLINE: Gpa = GuestAddress(0x2_0000);
/// Bytes of the command line at most, the terminator included.
pub(super) const CMDLINE_MAX: usize = 0x1_0000;

pub(super) fn no_room(what: &str) -> Error {
    Error::Option {
        option: "memory",
        problem: format!("too small: {what} does not fit"),
    }
}

/// Writes `bytes` at `at`.
pub(super) fn write(ram: &Ram, at: Gpa, bytes: &[u8]) -> Result<(), Error> {
    ram.write_slice(bytes, at)
        .map_err(|_| no_room("the boot information"))
}

/// Writes the command line with its terminator. `limit` is what the kernel takes without it.
pub(super) fn write_cmdline(
    images: &Images,
    ram: &Ram,
    text: &str,
    limit: usize,
) -> Result<(), Error> {
    let limit = limit.min(CMDLINE_MAX - 1);
    if text.len() > limit {
        return Err(Error::Option {
            option: "cmdline",
            problem: format!(
                "{} bytes are more than the {limit} that {} takes",
                text.len(),
                images.kernel.path.display()
            ),
        });
    }
    if text.contains('\0') {
        return Err(Error::Option {
            option: "cmdline",
            problem: "a zero byte would end it".into(),
        });
    }
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    write(ram, CMDLINE, &bytes)
}

/// End of RAM below the 32-bit hole.
pub(super) fn low_ram_end(ram: &Ram) -> u64 {
    ram.iter()
        .next()
        .map_or(0, |region| region.start_addr().0 + region.len())
}

/// Checks that RAM has room for a segment of `kernel`, above what loaders and firmware tables take below 1 MiB.
pub(super) fn check_segment(kernel: &Image, ram: &Ram, segment: &Segment) -> Result<(), Error> {
    let at = segment.address;
    if segment.memory_size != 0 && at < layout::MEGABYTE.0 {
        return Err(kernel
            .error(format!("a segment would lie at {at:#x}, below 1 MiB"))
            .into());
    }
    if at + segment.memory_size > low_ram_end(ram) {
        return Err(no_room(&format!("a segment of the kernel at {at:#x}")));
    }
    Ok(())
}

/// Loads the initrd as high as it goes below `limit` (exclusive) and at `lowest` at least; its first address and its bytes.
/// `None` without an initrd.
pub(super) fn load_initrd_high(
    images: &mut Images,
    ram: &Ram,
    lowest: u64,
    limit: u64,
) -> Result<Option<(u64, u64)>, Error> {
    let Some(initrd) = &mut images.initrd else {
        return Ok(None);
    };
    let top = limit.min(low_ram_end(ram));
    let at = top
        .checked_sub(initrd.size)
        .map(|at| at & !0xfff)
        .filter(|&at| at >= lowest)
        .ok_or_else(|| no_room(&describe(initrd)))?;
    load_at(initrd, ram, GuestAddress(at))?;
    Ok(Some((at, initrd.size)))
}

/// Loads the initrd as a module at the first page from `lowest` on.
pub(super) fn load_initrd_above(
    images: &mut Images,
    ram: &Ram,
    lowest: u64,
) -> Result<Option<(u64, u64)>, Error> {
    let Some(initrd) = &mut images.initrd else {
        return Ok(None);
    };
    let at = lowest
        .max(layout::MEGABYTE.0)
        .checked_next_multiple_of(4096)
        .filter(|at| {
            at.checked_add(initrd.size)
                .is_some_and(|end| end <= low_ram_end(ram))
        })
        .ok_or_else(|| no_room(&describe(initrd)))?;
    load_at(initrd, ram, GuestAddress(at))?;
    Ok(Some((at, initrd.size)))
}

fn describe(initrd: &Image) -> String {
    format!("{} of {} bytes", initrd.path.display(), initrd.size)
}

fn load_at(image: &mut Image, ram: &Ram, at: Gpa) -> Result<(), Error> {
    let size = usize::try_from(image.size).map_err(|_| no_room(&describe(image)))?;
    let failed = |source| Error::File {
        action: "read",
        what: "initrd",
        path: image.path.clone(),
        source,
    };
    image.file.seek(SeekFrom::Start(0)).map_err(failed)?;
    ram.read_exact_volatile_from(at, &mut image.file, size)
        .map_err(|e| failed(std::io::Error::other(e)))
}
