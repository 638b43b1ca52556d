// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A table, and its page table for each unit of the host that translates by it: an IOAS, or a guest's own table.

use crate::backend::{Role, TableId};
use crate::nested::NestedTable;
use crate::uapi::{Errno, iommufd::errno, nesting};
use iommufd_bindings::{
    self as bindings, iommufd_hwpt_alloc_flags_IOMMU_HWPT_ALLOC_DIRTY_TRACKING as DIRTY,
    iommufd_hwpt_alloc_flags_IOMMU_HWPT_ALLOC_NEST_PARENT as NEST_PARENT,
    iommufd_hwpt_alloc_flags_IOMMU_HWPT_ALLOC_PASID as PASID,
};
use iommufd_ioctls::IommuFd;
use std::collections::BTreeMap;

/// A table of the backend.
#[derive(Debug)]
pub(super) struct Table {
    kind: Kind,
    /// Page tables by the unit's name.
    hwpts: BTreeMap<String, Hwpt>,
}

#[derive(Debug)]
enum Kind {
    /// Filled from this IOAS.
    Paging {
        ioas: u32,
        /// What to ask of page tables, the best first.
        flags: &'static [u32],
    },
    /// The guest's, on another table's page tables.
    Nested(TableId, NestedTable),
}

/// A page table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hwpt {
    pub(super) id: u32,
    flags: u32,
}

impl Hwpt {
    /// Guests' tables can be nested on it.
    pub(super) const fn is_parent(&self) -> bool {
        self.flags & NEST_PARENT != 0
    }

    /// PASIDs can be attached to it, and to others of the device beside it.
    pub(super) const fn takes_pasids(&self) -> bool {
        self.flags & PASID != 0
    }
}

impl Table {
    /// The table of all guest RAM. Guests' own page tables can be nested on it.
    pub(super) const fn identity(ioas: u32) -> Self {
        Self::paging(ioas, &[NEST_PARENT | PASID, PASID, NEST_PARENT, 0])
    }

    /// A table that shadows a guest domain. Only one that is nested on is made for that: it would refuse read-only mappings.
    /// To be able to track what is written is of no use, but makes the kernel take a second-stage table: others have only the
    /// lower half of the addresses.
    pub(super) const fn shadow(ioas: u32, role: Role) -> Self {
        match role {
            Role::Plain => Self::paging(ioas, &[DIRTY | PASID, PASID, 0]),
            Role::Parent => Self::paging(ioas, &[NEST_PARENT | PASID, NEST_PARENT]),
        }
    }

    const fn paging(ioas: u32, flags: &'static [u32]) -> Self {
        Self {
            kind: Kind::Paging { ioas, flags },
            hwpts: BTreeMap::new(),
        }
    }

    /// A guest's own table.
    pub(super) const fn nested(parent: TableId, table: NestedTable) -> Self {
        Self {
            kind: Kind::Nested(parent, table),
            hwpts: BTreeMap::new(),
        }
    }

    /// Guests' own tables can stand on it, where the unit nests.
    pub(super) fn can_be_parent(&self) -> bool {
        match self.kind {
            Kind::Paging { flags, .. } => flags.iter().any(|flags| flags & NEST_PARENT != 0),
            Kind::Nested(..) => false,
        }
    }

    /// Where its mappings are; `None` for a guest's own, which has none.
    pub(super) const fn ioas(&self) -> Option<u32> {
        match self.kind {
            Kind::Paging { ioas, .. } => Some(ioas),
            Kind::Nested(..) => None,
        }
    }

    /// The guest's own table, if it is one, and what it stands on.
    pub(super) const fn guest(&self) -> Option<(TableId, NestedTable)> {
        match self.kind {
            Kind::Paging { .. } => None,
            Kind::Nested(parent, table) => Some((parent, table)),
        }
    }

    /// Its page tables.
    pub(super) fn hwpts(&self) -> impl Iterator<Item = u32> {
        self.hwpts.values().map(|hwpt| hwpt.id)
    }

    /// The page table for `unit`, made for `device` behind it if there is none yet.
    pub(super) fn hwpt(&mut self, fd: &IommuFd, unit: &str, device: u32) -> Result<Hwpt, Errno> {
        if let Some(hwpt) = self.hwpts.get(unit) {
            return Ok(*hwpt);
        }
        let Kind::Paging { ioas, flags } = self.kind else {
            return Err(Errno::new(libc::EINVAL));
        };
        let hwpt = allocate(fd, ioas, flags, device)?;
        self.hwpts.insert(unit.to_owned(), hwpt);
        Ok(hwpt)
    }

    /// The same of a guest's own table, on `parent` of the same unit.
    pub(super) fn hwpt_on(
        &mut self,
        fd: &IommuFd,
        (unit, parent): (&str, Hwpt),
        device: u32,
        faults: Option<u32>,
    ) -> Result<u32, Errno> {
        if let Some(hwpt) = self.hwpts.get(unit) {
            return Ok(hwpt.id);
        }
        let Kind::Nested(_, table) = &self.kind else {
            return Err(Errno::new(libc::EINVAL));
        };
        let on = nesting::Parent {
            id: parent.id,
            takes_pasids: parent.takes_pasids(),
        };
        let id = nesting::allocate(fd, device, on, table, faults)?;
        let flags = parent.flags & PASID;
        self.hwpts.insert(unit.to_owned(), Hwpt { id, flags });
        Ok(id)
    }

    /// Gives everything back. After an error it can be called again.
    pub(super) fn destroy(&mut self, fd: &IommuFd) -> Result<(), Errno> {
        while let Some(entry) = self.hwpts.first_entry() {
            fd.destroy_iommu_object(entry.get().id)
                .map_err(|error| errno(&error))?;
            entry.remove();
        }
        let Some(ioas) = self.ioas() else {
            return Ok(());
        };
        fd.destroy_iommu_object(ioas).map_err(|error| errno(&error))
    }
}

/// Makes the best page table of `ioas` that can be had. The kernel says EOPNOTSUPP for a flag that the unit cannot serve, and
/// EINVAL for one that it does not know.
fn allocate(fd: &IommuFd, ioas: u32, flags: &[u32], device: u32) -> Result<Hwpt, Errno> {
    let mut refused = Errno::new(libc::EOPNOTSUPP);
    for flags in flags {
        let mut argument = bindings::iommu_hwpt_alloc {
            size: 48,
            flags: *flags,
            dev_id: device,
            pt_id: ioas,
            ..Default::default()
        };
        match fd.alloc_iommu_hwpt(&mut argument) {
            Ok(()) => {
                return Ok(Hwpt {
                    id: argument.out_hwpt_id,
                    flags: *flags,
                });
            }
            Err(error) => refused = errno(&error),
        }
        if !matches!(refused.errno(), libc::EOPNOTSUPP | libc::EINVAL) {
            break;
        }
    }
    Err(refused)
}
