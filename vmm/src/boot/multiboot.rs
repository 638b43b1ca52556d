// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! ELF32 images by the multiboot protocol, version 0.6.96.
//!
//! The initrd is the only module; the command line begins with the image's name, as GRUB's does.
//! Not supported: images without ELF headers (header flag 16), video modes.

use super::e820;
use super::elf;
use super::entry::{Entry, Mode};
use super::pvh::zero_tail;
use super::{Images, place};
use crate::error::Error;
use crate::layout;
use iommu::memory::Ram;
use std::io::{Seek, SeekFrom};
use vm_memory::{Bytes, GuestAddress};

/// EAX at the entry (section 3.2).
const LOADER_MAGIC: u64 = 0x2bad_b002;
const EM_386: u16 = 3;

/// Bits of the information's flags (section 3.3).
const MEMORY: u32 = 1 << 0;
const CMDLINE: u32 = 1 << 2;
const MODULES: u32 = 1 << 3;
const MEMORY_MAP: u32 = 1 << 6;

/// Offset of the module list on the page of lists; the memory map begins the page.
const MODULE_LIST: u64 = 0xf00;

pub(super) fn load(images: &mut Images, ram: &Ram) -> Result<Entry, Error> {
    let headers = elf::headers(&images.kernel)?;
    if headers.machine != EM_386 {
        return Err(images
            .kernel
            .error(format!(
                "it is an ELF32 file for machine {}",
                headers.machine
            ))
            .into());
    }
    let end = load_segments(images, ram, &headers.segments)?;
    let module = place::load_initrd_above(images, ram, end)?;
    let name = images.kernel.path.to_string_lossy().into_owned();
    let cmdline = format!("{name} {}", images.cmdline);
    place::write_cmdline(images, ram, cmdline.trim_end(), place::CMDLINE_MAX - 1)?;
    write_info(ram, module)?;
    Ok(Entry {
        mode: Mode::Protected32,
        rip: headers.entry,
        rax: LOADER_MAGIC,
        rbx: place::INFO.0,
        rsi: 0,
    })
}

/// Loads the segments; the first address behind them.
fn load_segments(images: &mut Images, ram: &Ram, segments: &[elf::Segment]) -> Result<u64, Error> {
    let mut end = 0;
    for segment in segments {
        let kernel = &mut images.kernel;
        place::check_segment(kernel, ram, segment)?;
        let size = usize::try_from(segment.file_size).map_err(|_| place::no_room("the kernel"))?;
        kernel
            .file
            .seek(SeekFrom::Start(segment.offset))
            .map_err(|e| kernel.error(format!("cannot read it: {e}")))?;
        if size != 0 {
            ram.read_exact_volatile_from(GuestAddress(segment.address), &mut kernel.file, size)
                .map_err(|e| kernel.error(format!("cannot read it: {e}")))?;
        }
        zero_tail(ram, segment)?;
        end = end.max(segment.address + segment.memory_size);
    }
    Ok(end)
}

fn write_info(ram: &Ram, module: Option<(u64, u64)>) -> Result<(), Error> {
    let map: Vec<u8> = e820::map(ram).iter().flat_map(map_entry).collect();
    place::write(ram, place::LISTS, &map)?;
    let list = place::LISTS.0 + MODULE_LIST;
    if let Some((at, size)) = module {
        let entry = [low(at), low(at + size), 0, 0];
        let bytes: Vec<u8> = entry.iter().flat_map(|word| word.to_le_bytes()).collect();
        place::write(ram, GuestAddress(list), &bytes)?;
    }
    let mem_upper = place::low_ram_end(ram).saturating_sub(layout::MEGABYTE.0) >> 10;
    let modules = if module.is_some() { MODULES } else { 0 };
    let mut info = [0u32; 13];
    info[0] = MEMORY | CMDLINE | MEMORY_MAP | modules;
    info[1] = low(layout::EBDA.0 >> 10);
    info[2] = low(mem_upper);
    info[4] = low(place::CMDLINE.0);
    info[5] = u32::from(module.is_some());
    info[6] = module.map_or(0, |_| low(list));
    info[11] = low(map.len() as u64);
    info[12] = low(place::LISTS.0);
    let bytes: Vec<u8> = info.iter().flat_map(|word| word.to_le_bytes()).collect();
    place::write(ram, place::INFO, &bytes)
}

/// One entry of the memory map: a size that does not count itself, then as E820 has it.
fn map_entry(entry: &e820::Entry) -> Vec<u8> {
    let mut bytes = 20u32.to_le_bytes().to_vec();
    bytes.extend(entry.base.to_le_bytes());
    bytes.extend(entry.size.to_le_bytes());
    bytes.extend((entry.kind as u32).to_le_bytes());
    bytes
}

/// Everything named here lies in RAM below 4 GiB.
fn low(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
