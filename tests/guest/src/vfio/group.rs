// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! VFIO's older interface: groups, and containers with a type 1 IOMMU.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, bail};
use vfio_bindings::bindings::vfio::{
    VFIO_API_VERSION, VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, VFIO_GROUP_FLAGS_VIABLE,
    VFIO_TYPE1v2_IOMMU, vfio_group_status, vfio_iommu_type1_dma_map, vfio_iommu_type1_dma_unmap,
};

use crate::ioctl::{GetDevice, Number, SetContainer, call, call_number, call_on, open, size};
use crate::memory::Memory;
use crate::pci::Function;

/// A container with one group, whose device is open.
pub struct Container {
    container: File,
    /// Keeps the group in the container.
    _group: File,
    /// The device.
    pub device: File,
}

impl Container {
    /// Opens `function`, which vfio-pci must have.
    pub fn open(function: &Function) -> Result<Self> {
        let container = open_file("/dev/vfio/vfio")?;
        let version = call_number(&container, Number::ApiVersion)?;
        if u32::try_from(version) != Ok(VFIO_API_VERSION)
            || call_number(&container, Number::CheckExtension(VFIO_TYPE1v2_IOMMU))? != 1
        {
            bail!("this kernel's VFIO has no type 1 IOMMU, version 2");
        }
        let group = open_file(&format!("/dev/vfio/{}", function.group()?))?;
        let mut status = vfio_group_status {
            argsz: size::<vfio_group_status>(),
            flags: 0,
        };
        call(&group, &mut status).context("asking for the group's state")?;
        if status.flags & VFIO_GROUP_FLAGS_VIABLE == 0 {
            bail!("the group of {} is not viable", function.id);
        }
        call(&group, &mut SetContainer(container.as_raw_fd()))
            .context("putting the group into the container")?;
        call_number(&container, Number::SetIommu(VFIO_TYPE1v2_IOMMU))
            .context("choosing the type 1 IOMMU")?;
        let mut name = GetDevice([0; 32]);
        name.0[..function.id.len()].copy_from_slice(function.id.as_bytes());
        let device = open(&group, &mut name).context("opening the device")?;
        Ok(Self {
            container,
            _group: group,
            device: File::from(device),
        })
    }

    /// Maps all of `memory` at `iova`.
    pub fn map(&self, memory: &Memory, iova: u64, writable: bool) -> io::Result<()> {
        let write = if writable { VFIO_DMA_MAP_FLAG_WRITE } else { 0 };
        self.map_with(
            memory,
            0,
            memory.bytes(),
            iova,
            VFIO_DMA_MAP_FLAG_READ | write,
        )
    }

    /// Maps a part of `memory`, which begins at `offset`, for reading and writing at `iova`.
    pub fn map_part(&self, memory: &Memory, offset: u64, bytes: u64, iova: u64) -> io::Result<()> {
        let flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
        self.map_with(memory, offset, bytes, iova, flags)
    }

    fn map_with(
        &self,
        memory: &Memory,
        offset: u64,
        bytes: u64,
        iova: u64,
        flags: u32,
    ) -> io::Result<()> {
        let mut map = vfio_iommu_type1_dma_map {
            argsz: size::<vfio_iommu_type1_dma_map>(),
            flags,
            iova,
            size: bytes,
            ..Default::default()
        };
        call_on(&self.container, &mut map, memory, offset).map(drop)
    }

    /// Unmaps a range; the bytes that were mapped there.
    pub fn unmap(&self, iova: u64, bytes: u64) -> io::Result<u64> {
        let mut unmap = vfio_iommu_type1_dma_unmap {
            argsz: size::<vfio_iommu_type1_dma_unmap>(),
            iova,
            size: bytes,
            ..Default::default()
        };
        call(&self.container, &mut unmap)?;
        Ok(unmap.size)
    }
}

fn open_file(path: &str) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.with_context(|| format!("opening {path}"))
}
