// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! ELF64 kernels by the PVH protocol (Xen's docs/misc/pvh.pandoc, "x86/HVM direct boot ABI").

use super::e820;
use super::elf;
use super::entry::{Entry, Mode};
use super::{Images, place};
use crate::error::Error;
use iommu::address::Gpa;
use iommu::memory::Ram;
use linux_loader::configurator::pvh::PvhBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::elf::start_info::{
    hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use linux_loader::loader::{Elf, KernelLoader, PvhBootCapability};
use vm_memory::{Bytes, GuestAddress};

const START_MAGIC: u32 = 0x336e_c578;
const EM_X86_64: u16 = 62;
/// Bytes that Linux takes (COMMAND_LINE_SIZE, with the terminator).
const LINUX_CMDLINE_MAX: usize = 2048;
/// The module list behind the memory map, on the same page.
const MODULES: Gpa = GuestAddress(place::LISTS.0 + 0xc00);

pub(super) fn load(images: &mut Images, ram: &Ram, rsdp: Option<Gpa>) -> Result<Entry, Error> {
    let headers = elf::headers(&images.kernel)?;
    if headers.machine != EM_X86_64 {
        return Err(images
            .kernel
            .error(format!(
                "it is an ELF64 file for machine {}",
                headers.machine
            ))
            .into());
    }
    let (entry, kernel_end) = load_kernel(images, ram, &headers.segments)?;
    let initrd = place::load_initrd_high(images, ram, kernel_end, u64::MAX)?;
    let cmdline = images.linux_cmdline();
    place::write_cmdline(images, ram, &cmdline, LINUX_CMDLINE_MAX - 1)?;
    write_start_info(ram, initrd, rsdp)?;
    Ok(Entry {
        mode: Mode::Protected32,
        rip: entry,
        rax: 0,
        rbx: place::INFO.0,
        rsi: 0,
    })
}

/// Loads the segments; the PVH entry point and the first address behind the kernel.
fn load_kernel(
    images: &mut Images,
    ram: &Ram,
    segments: &[elf::Segment],
) -> Result<(u64, u64), Error> {
    let kernel = &mut images.kernel;
    for segment in segments {
        place::check_segment(kernel, ram, segment)?;
    }
    let loaded =
        Elf::load(ram, None, &mut kernel.file, None).map_err(|e| kernel.error(e.to_string()))?;
    let PvhBootCapability::PvhEntryPresent(entry) = loaded.pvh_boot_cap else {
        return Err(kernel
            .error("it is an ELF64 file without a PVH note (Linux: CONFIG_PVH)")
            .into());
    };
    for segment in segments {
        zero_tail(ram, segment)?;
    }
    let end = segments
        .iter()
        .map(|segment| segment.address + segment.memory_size)
        .max()
        .unwrap_or(0);
    Ok((entry.0, end))
}

/// Clears what a segment has in memory beyond its part of the file.
pub(super) fn zero_tail(ram: &Ram, segment: &elf::Segment) -> Result<(), Error> {
    let mut at = segment.address + segment.file_size;
    let end = segment.address + segment.memory_size;
    let zeros = [0; 4096];
    while at < end {
        let len = usize::try_from(end - at).map_or(zeros.len(), |left| left.min(zeros.len()));
        ram.write_slice(&zeros[..len], GuestAddress(at))
            .map_err(|_| place::no_room("the kernel"))?;
        at += len as u64;
    }
    Ok(())
}

fn write_start_info(ram: &Ram, initrd: Option<(u64, u64)>, rsdp: Option<Gpa>) -> Result<(), Error> {
    let map: Vec<hvm_memmap_table_entry> = e820::map(ram)
        .into_iter()
        .map(|entry| hvm_memmap_table_entry {
            addr: entry.base,
            size: entry.size,
            type_: entry.kind as u32,
            reserved: 0,
        })
        .collect();
    let info = hvm_start_info {
        magic: START_MAGIC,
        version: 1,
        flags: 0,
        nr_modules: u32::from(initrd.is_some()),
        modlist_paddr: initrd.map_or(0, |_| MODULES.0),
        cmdline_paddr: place::CMDLINE.0,
        rsdp_paddr: rsdp.map_or(0, |at| at.0),
        memmap_paddr: place::LISTS.0,
        memmap_entries: u32::try_from(map.len())
            .map_err(|_| Error::Bug("the memory map is too long".into()))?,
        reserved: 0,
    };
    let mut params = BootParams::new(&info, place::INFO);
    params.set_sections(&map, place::LISTS);
    if let Some((paddr, size)) = initrd {
        let module = hvm_modlist_entry {
            paddr,
            size,
            ..Default::default()
        };
        params.set_modules(&[module], MODULES);
    }
    PvhBootConfigurator::write_bootparams(&params, ram)
        .map_err(|_| place::no_room("the boot parameters"))
}
