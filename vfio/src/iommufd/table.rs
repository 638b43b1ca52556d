// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A table: an IOAS, and a page table of it for each unit of the host that translates by it.

use crate::uapi::{Errno, iommufd::errno};
use iommufd_bindings::{
    self as bindings, iommufd_hwpt_alloc_flags_IOMMU_HWPT_ALLOC_NEST_PARENT as NEST_PARENT,
    iommufd_hwpt_alloc_flags_IOMMU_HWPT_ALLOC_PASID as PASID,
};
use iommufd_ioctls::IommuFd;
use std::collections::BTreeMap;

/// A table of the backend.
#[derive(Debug)]
pub(super) struct Table {
    ioas: u32,
    /// What to ask of page tables, the best first.
    flags: &'static [u32],
    /// Page tables by the unit's name.
    hwpts: BTreeMap<String, u32>,
}

impl Table {
    /// The table of all guest RAM. Guests' own page tables could be nested on it.
    pub(super) const fn identity(ioas: u32) -> Self {
        Self::new(ioas, &[NEST_PARENT | PASID, PASID, NEST_PARENT, 0])
    }

    /// A table that shadows a guest domain. One that could be nested on would refuse read-only mappings.
    pub(super) const fn shadow(ioas: u32) -> Self {
        Self::new(ioas, &[PASID, 0])
    }

    const fn new(ioas: u32, flags: &'static [u32]) -> Self {
        Self {
            ioas,
            flags,
            hwpts: BTreeMap::new(),
        }
    }

    pub(super) const fn ioas(&self) -> u32 {
        self.ioas
    }

    /// The page table for `unit`, made for `device` behind it if there is none yet.
    pub(super) fn hwpt(&mut self, fd: &IommuFd, unit: &str, device: u32) -> Result<u32, Errno> {
        if let Some(hwpt) = self.hwpts.get(unit) {
            return Ok(*hwpt);
        }
        let hwpt = self.allocate(fd, device)?;
        self.hwpts.insert(unit.to_owned(), hwpt);
        Ok(hwpt)
    }

    /// The kernel says EOPNOTSUPP for a flag that the unit cannot serve, and EINVAL for one that it does not know.
    fn allocate(&self, fd: &IommuFd, device: u32) -> Result<u32, Errno> {
        let mut refused = Errno::new(libc::EOPNOTSUPP);
        for flags in self.flags {
            let mut argument = bindings::iommu_hwpt_alloc {
                size: 48,
                flags: *flags,
                dev_id: device,
                pt_id: self.ioas,
                ..Default::default()
            };
            match fd.alloc_iommu_hwpt(&mut argument) {
                Ok(()) => return Ok(argument.out_hwpt_id),
                Err(error) => refused = errno(&error),
            }
            if !matches!(refused.errno(), libc::EOPNOTSUPP | libc::EINVAL) {
                break;
            }
        }
        Err(refused)
    }

    /// Gives everything back. After an error it can be called again.
    pub(super) fn destroy(&mut self, fd: &IommuFd) -> Result<(), Errno> {
        while let Some(entry) = self.hwpts.first_entry() {
            fd.destroy_iommu_object(*entry.get())
                .map_err(|error| errno(&error))?;
            entry.remove();
        }
        fd.destroy_iommu_object(self.ioas)
            .map_err(|error| errno(&error))
    }
}
