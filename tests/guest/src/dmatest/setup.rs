// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What every use of dmatest through iommufd begins with.

use anyhow::{Context, Result};

use super::driver::{Command, DEVICE, Dmatest, VENDOR};
use super::refusals::{Mode, Refusals, Why};
use crate::iommufd::{Iommufd, ObjectId, Purpose};
use crate::memory::Memory;
use crate::pci::Function;
use crate::vfio;
use crate::vfio::cdev::Cdev;

/// dmatest, in vfio-pci's hands.
pub fn function() -> Result<Function> {
    let function = Function::find(VENDOR, DEVICE)?;
    function.bind_to_vfio()?;
    Ok(function)
}

/// dmatest, bound to an iommufd and enabled, with all its DMA blocked.
pub struct Setup {
    pub iommufd: Iommufd,
    pub cdev: Cdev,
    pub device: Dmatest,
    pub refusals: Refusals,
}

impl Setup {
    /// Opens everything. Blocked accesses have the reasons of `mode`.
    pub fn new(mode: Mode) -> Result<Self> {
        let function = function()?;
        let iommufd = Iommufd::open()?;
        let cdev = Cdev::open(&function, &iommufd)?;
        let device = Dmatest::new(vfio::enable(&cdev.device)?)?;
        Ok(Self {
            iommufd,
            cdev,
            device,
            refusals: Refusals::new(&function, mode)?,
        })
    }

    /// A HWPT for the device.
    pub fn hwpt(&self, ioas: ObjectId, purpose: &Purpose) -> Result<ObjectId> {
        let hwpt = self.iommufd.hwpt(self.cdev.id, ioas, purpose);
        hwpt.with_context(|| format!("making a HWPT: {purpose:?}"))
    }

    /// An IOAS with this memory at `iova`, for reading and writing.
    pub fn ioas_with(&self, memory: &Memory, iova: u64) -> Result<ObjectId> {
        let ioas = self.iommufd.ioas()?;
        let map = self.iommufd.map(ioas, memory, iova, true);
        map.with_context(|| format!("mapping memory at {iova:#x}"))?;
        Ok(ioas)
    }

    /// Attaches a table.
    pub fn attach(&self, pasid: Option<u32>, table: ObjectId) -> Result<()> {
        let attach = self.cdev.attach(pasid, table);
        attach.with_context(|| format!("attaching a table for PASID {pasid:x?}"))
    }

    /// Fails unless `command` is refused at `address` for this reason.
    pub fn refused(&mut self, command: &Command, address: u64, why: Why) -> Result<()> {
        self.refusals
            .expect(&mut self.device, command, address, why)
    }

    /// Detaches what is attached.
    pub fn detach(&self, pasid: Option<u32>) -> Result<()> {
        let detach = self.cdev.detach(pasid);
        detach.with_context(|| format!("detaching the table of PASID {pasid:x?}"))
    }
}
