// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! VFIO's newer interface: a device's own file, bound to an iommufd and attached to its page tables.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_ATTACH_PASID, VFIO_DEVICE_DETACH_PASID, vfio_device_attach_iommufd_pt,
    vfio_device_bind_iommufd, vfio_device_detach_iommufd_pt,
};

use crate::ioctl::{call, size};
use crate::iommufd::{Iommufd, ObjectId};
use crate::pci::Function;

/// A device bound to an iommufd. Nothing is attached to it at first, so all its DMA is blocked.
pub struct Cdev {
    /// The device.
    pub device: File,
    /// What the iommufd calls it.
    pub id: ObjectId,
}

impl Cdev {
    /// Opens `function`, which vfio-pci must have, and binds it.
    pub fn open(function: &Function, iommufd: &Iommufd) -> Result<Self> {
        let path = function.character_device()?;
        let device = OpenOptions::new().read(true).write(true).open(&path);
        let device = device.with_context(|| format!("opening {}", path.display()))?;
        let mut bind = vfio_device_bind_iommufd {
            argsz: size::<vfio_device_bind_iommufd>(),
            iommufd: iommufd.file().as_raw_fd(),
            ..Default::default()
        };
        call(&device, &mut bind).context("binding the device to the iommufd")?;
        Ok(Self {
            device,
            id: bind.out_devid,
        })
    }

    /// Gives requests without PASID, or those of one PASID, this page table (a HWPT, or an IOAS for which the kernel makes
    /// one), instead of what they had.
    pub fn attach(&self, pasid: Option<u32>, table: ObjectId) -> io::Result<()> {
        let mut attach = vfio_device_attach_iommufd_pt {
            argsz: size::<vfio_device_attach_iommufd_pt>(),
            flags: pasid.map_or(0, |_| VFIO_DEVICE_ATTACH_PASID),
            pt_id: table,
            pasid: pasid.unwrap_or(0),
        };
        call(&self.device, &mut attach).map(drop)
    }

    /// Blocks requests without PASID, or those of one PASID.
    pub fn detach(&self, pasid: Option<u32>) -> io::Result<()> {
        let mut detach = vfio_device_detach_iommufd_pt {
            argsz: size::<vfio_device_detach_iommufd_pt>(),
            flags: pasid.map_or(0, |_| VFIO_DEVICE_DETACH_PASID),
            pasid: pasid.unwrap_or(0),
        };
        call(&self.device, &mut detach).map(drop)
    }
}
