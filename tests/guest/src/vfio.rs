// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A PCI function in the hands of VFIO, whichever way it was opened: by its group ([`group`]) or by its character device
//! ([`cdev`]).

pub mod cdev;
pub mod group;

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};
use vfio_bindings::bindings::vfio::{
    VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX, vfio_region_info,
};
use vm_memory::{FileOffset, MmapRegion};

use crate::ioctl::{call, size};

/// Offset of the command register, and its bits for memory accesses and bus mastering.
const COMMAND: u64 = 4;
const MEMORY_AND_BUS_MASTER: u16 = 0b110;

/// BAR 0 of `device`, mapped. The function answers there and may make requests from now on.
pub fn enable(device: &File) -> Result<MmapRegion> {
    answer(device, true)?;
    bar(device, 0)
}

/// Has the function answer at its BARs, and make requests, or neither.
pub fn answer(device: &File, on: bool) -> Result<()> {
    let config = region(device, VFIO_PCI_CONFIG_REGION_INDEX)?;
    let mut bytes = [0; 2];
    device.read_exact_at(&mut bytes, config.offset + COMMAND)?;
    let command = u16::from_le_bytes(bytes) & !MEMORY_AND_BUS_MASTER;
    let command = if on {
        command | MEMORY_AND_BUS_MASTER
    } else {
        command
    };
    Ok(device.write_all_at(&command.to_le_bytes(), config.offset + COMMAND)?)
}

/// A BAR of `device`, mapped.
pub fn bar(device: &File, number: u32) -> Result<MmapRegion> {
    let bar = region(device, VFIO_PCI_BAR0_REGION_INDEX + number)?;
    let place = FileOffset::new(device.try_clone()?, bar.offset);
    let mapped = MmapRegion::from_file(place, usize::try_from(bar.size)?);
    mapped.with_context(|| format!("mapping BAR {number}"))
}

fn region(device: &File, index: u32) -> Result<vfio_region_info> {
    let mut info = vfio_region_info {
        argsz: size::<vfio_region_info>(),
        index,
        ..Default::default()
    };
    call(device, &mut info).with_context(|| format!("asking for region {index}"))?;
    Ok(info)
}
