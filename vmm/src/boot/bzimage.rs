// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Linux bzImages by the 64-bit boot protocol (Documentation/arch/x86/boot.rst, "64-bit Boot Protocol").
//!
//! Not supported: kernels without a 64-bit entry (before protocol 2.12, or 32-bit kernels), zImages.

use super::e820;
use super::entry::{Entry, Mode, write_identity_map};
use super::{Images, place};
use crate::error::Error;
use crate::layout;
use iommu::address::Gpa;
use iommu::memory::Ram;
use linux_loader::configurator::linux::LinuxBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use linux_loader::loader::{BzImage, KernelLoader};
use std::os::unix::fs::FileExt;
use vm_memory::GuestAddress;

/// Where the setup header's fields lie in the file.
const SETUP_SECTS: usize = 0x1f1;
const SYSSIZE: usize = 0x1f4;
const VERSION: usize = 0x206;
/// The 64-bit entry is there (xloadflags bit 0).
const XLF_KERNEL_64: u16 = 1;
/// The entry point of 64-bit kernels from where the kernel is loaded.
const ENTRY_64: u64 = 0x200;
/// A loader without an assigned number.
const LOADER_UNDEFINED: u8 = 0xff;

pub(super) fn load(images: &mut Images, ram: &Ram, rsdp: Option<Gpa>) -> Result<Entry, Error> {
    check_file(images)?;
    let header = load_kernel(images, ram)?;
    let start = u64::from(header.code32_start);
    let kernel_end = start
        .checked_add(u64::from(header.init_size))
        .filter(|&end| end <= place::low_ram_end(ram))
        .ok_or_else(|| place::no_room("the kernel with its decompression buffer"))?;
    let limit = u64::from(header.initrd_addr_max) + 1;
    let initrd = place::load_initrd_high(images, ram, kernel_end, limit)?;
    let cmdline = images.linux_cmdline();
    place::write_cmdline(images, ram, &cmdline, header.cmdline_size as usize)?;
    write_zero_page(ram, header, initrd, rsdp)?;
    Ok(Entry {
        mode: Mode::Long64 {
            pml4: write_identity_map(ram)?,
        },
        rip: start + ENTRY_64,
        rax: 0,
        rbx: 0,
        rsi: place::INFO.0,
    })
}

/// Checks what the loader crate takes on trust: that the file is as long as its header says, and that the protocol is new
/// enough.
fn check_file(images: &Images) -> Result<(), Error> {
    let kernel = &images.kernel;
    let mut head = [0; 0x270];
    kernel
        .file
        .read_exact_at(&mut head, 0)
        .map_err(|e| kernel.error(format!("its setup header cannot be read: {e}")))?;
    let version = u16::from_le_bytes([head[VERSION], head[VERSION + 1]]);
    if version < 0x20c {
        return Err(kernel
            .error(format!(
                "it speaks boot protocol {}.{}; a 64-bit entry needs 2.12",
                version >> 8,
                version & 0xff
            ))
            .into());
    }
    let sectors = if head[SETUP_SECTS] == 0 {
        4
    } else {
        u64::from(head[SETUP_SECTS])
    };
    let mut paragraphs = [0; 4];
    paragraphs.copy_from_slice(&head[SYSSIZE..SYSSIZE + 4]);
    let needed = (sectors + 1) * 512 + u64::from(u32::from_le_bytes(paragraphs)) * 16;
    // The last paragraph may be cut short: the header counts 16-byte units.
    if kernel.size + 15 < needed {
        return Err(kernel
            .error(format!(
                "the bzImage is truncated: {} bytes of {needed}",
                kernel.size
            ))
            .into());
    }
    Ok(())
}

/// Loads the protected-mode part where it prefers to run; the setup header, with `code32_start` where that is.
fn load_kernel(images: &mut Images, ram: &Ram) -> Result<setup_header, Error> {
    let kernel = &mut images.kernel;
    let mut at = [0; 8];
    kernel
        .file
        .read_exact_at(&mut at, 0x258)
        .map_err(|e| kernel.error(format!("its setup header cannot be read: {e}")))?;
    let preferred = u64::from_le_bytes(at);
    if !(layout::MEGABYTE.0..layout::LOW_RAM_END).contains(&preferred) {
        return Err(kernel
            .error(format!("it prefers to run at {preferred:#x}"))
            .into());
    }
    let loaded = BzImage::load(
        ram,
        Some(GuestAddress(preferred)),
        &mut kernel.file,
        Some(layout::MEGABYTE),
    )
    .map_err(|e| {
        if preferred + kernel.size > place::low_ram_end(ram) {
            return place::no_room(&format!("the kernel at {preferred:#x}"));
        }
        kernel.error(e.to_string()).into()
    })?;
    let header = loaded
        .setup_header
        .ok_or_else(|| Error::Bug("a bzImage without a setup header was loaded".into()))?;
    let flags = header.xloadflags;
    if flags & XLF_KERNEL_64 == 0 {
        return Err(kernel.error("it is a 32-bit kernel").into());
    }
    Ok(header)
}

fn write_zero_page(
    ram: &Ram,
    mut header: setup_header,
    initrd: Option<(u64, u64)>,
    rsdp: Option<Gpa>,
) -> Result<(), Error> {
    header.type_of_loader = LOADER_UNDEFINED;
    header.cmd_line_ptr = low_half(place::CMDLINE.0);
    if let Some((at, size)) = initrd {
        header.ramdisk_image = low_half(at);
        header.ramdisk_size = low_half(size);
    }
    let mut params = boot_params {
        hdr: header,
        acpi_rsdp_addr: rsdp.map_or(0, |at| at.0),
        ..Default::default()
    };
    let map = e820::map(ram);
    for (slot, entry) in params.e820_table.iter_mut().zip(&map) {
        *slot = boot_e820_entry {
            addr: entry.base,
            size: entry.size,
            r#type: entry.kind as u32,
        };
    }
    params.e820_entries =
        u8::try_from(map.len()).map_err(|_| Error::Bug("the memory map is too long".into()))?;
    let params = BootParams::new(&params, place::INFO);
    LinuxBootConfigurator::write_bootparams(&params, ram)
        .map_err(|_| place::no_room("the boot parameters"))
}

/// Everything that a setup header names lies below 4 GiB, because RAM below the 32-bit hole does.
fn low_half(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
