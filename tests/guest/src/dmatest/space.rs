// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! An address space with one page, for a PASID or for several: one address means other memory in each.

use anyhow::Result;

use super::driver::Command;
use super::setup::Setup;
use crate::iommufd::{ObjectId, Purpose};
use crate::memory::{Memory, PAGE_BYTES};

/// Where every space has its page.
pub const IOVA: u64 = 0x4242_0000;

/// What a table is for that PASIDs are attached to.
pub const FOR_PASIDS: Purpose = Purpose {
    parent: false,
    dirty: false,
    pasid: true,
    faults: None,
};

/// A PASID's address space.
pub struct Space {
    pub pasid: u32,
    pub ioas: ObjectId,
    pub hwpt: ObjectId,
    /// Offset of its page in the memory of all.
    pub offset: usize,
}

impl Space {
    /// A space whose page is the one at `offset` of `memory`, bound to `pasid`.
    pub fn attach(setup: &Setup, pasid: u32, memory: &Memory, offset: usize) -> Result<Self> {
        let space = Self::new(setup, pasid, memory, offset)?;
        setup.attach(Some(pasid), space.hwpt)?;
        Ok(space)
    }

    /// The same, not yet bound.
    pub fn new(setup: &Setup, pasid: u32, memory: &Memory, offset: usize) -> Result<Self> {
        let ioas = setup.iommufd.ioas()?;
        let part = offset as u64..offset as u64 + PAGE_BYTES;
        setup.iommufd.map_part(ioas, memory, part, IOVA, true)?;
        let hwpt = setup.hwpt(ioas, &FOR_PASIDS)?;
        Ok(Self {
            pasid,
            ioas,
            hwpt,
            offset,
        })
    }

    /// Writes `pattern` to all of the page.
    pub fn fill(&self, pattern: u64) -> Command {
        Command::fill(IOVA, 4096, pattern).pasid(Some(self.pasid))
    }

    /// Has the device fill the page, and looks at it in `memory`.
    pub fn prove(&self, setup: &mut Setup, memory: &Memory, pattern: u64) -> Result<()> {
        setup.device.done(&self.fill(pattern))?;
        memory.check_page(self.offset, pattern)
    }
}
