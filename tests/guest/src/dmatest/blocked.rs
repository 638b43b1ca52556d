// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! PASIDs for which the host of a passed-through device cannot do what the kernel says: they are blocked, the kernel has one
//! fault for them, the others live on, and it is tried again with the next invalidation that names them.
//!
//! Whoever is at the other end of the console has the host refuse, and ends that.

use anyhow::{Context, Result, bail};

use super::refusals::{Mode, Why};
use super::setup::Setup;
use super::space::{IOVA, Space};
use super::turns::wait_at;
use crate::memory::{Memory, PAGE, PAGE_BYTES};

/// Those that are bound before anything is refused.
const WELL: [u32; 2] = [0x10, 0x11];

/// The one that cannot be attached, and the one for whose table there is no memory.
const UNATTACHED: u32 = 0x12;
const WITHOUT_TABLE: u32 = 0x13;

/// Fault reasons of a PASID entry, and of a table.
const ENTRY: u8 = 0x5b;
const TABLE: u8 = 0x78;

struct Blocked {
    setup: Setup,
    memory: Memory,
    well: Vec<Space>,
}

/// Runs `dmatest blocked BITS`, where the host has PASIDs of so many bits.
pub fn run(bits: &str) -> Result<String> {
    let setup = Setup::new(Mode::Passed)?;
    let bits: u8 = bits.parse()?;
    width(&setup, bits)?;
    let memory = Memory::new((WELL.len() + 2) * PAGE)?;
    let mut blocked = Blocked {
        setup,
        memory,
        well: Vec::new(),
    };
    for (index, pasid) in WELL.into_iter().enumerate() {
        let space = Space::attach(&blocked.setup, pasid, &blocked.memory, index * PAGE)?;
        blocked.well.push(space);
    }
    blocked.others_live()?;
    blocked.unattached()?;
    let space = blocked.without_table()?;
    blocked.not_invalidated(&space)?;
    blocked.setup.refusals.expect_none()?;
    Ok(blocked.setup.refusals.to_string())
}

/// The kernel binds no PASID that the host does not have.
fn width(setup: &Setup, bits: u8) -> Result<()> {
    let found = setup.iommufd.pasid_bits(setup.cdev.id)?;
    if found != bits {
        bail!("the kernel enabled PASIDs of {found} bits, not {bits}");
    }
    let memory = Memory::new(PAGE)?;
    let widest = Space::attach(setup, (1 << bits) - 1, &memory, 0)?;
    setup.detach(Some(widest.pasid))?;
    match setup.cdev.attach(Some(1 << bits), widest.hwpt) {
        Err(_) => Ok(()),
        Ok(()) => bail!("a PASID of {} bits was bound", bits + 1),
    }
}

impl Blocked {
    fn others_live(&mut self) -> Result<()> {
        for space in &self.well {
            let proof = space.prove(&mut self.setup, &self.memory, u64::from(space.pasid));
            proof.with_context(|| format!("PASID {:#x}", space.pasid))?;
        }
        Ok(())
    }

    /// The host attaches nothing.
    fn unattached(&mut self) -> Result<()> {
        wait_at("attach")?;
        let offset = WELL.len() * PAGE;
        let space = Space::attach(&self.setup, UNATTACHED, &self.memory, offset)?;
        self.is_blocked(&space)?;
        // Another table in its place is another binding: the kernel takes the entry out first.
        let other = self.well[0].hwpt;
        self.setup.attach(Some(UNATTACHED), other)?;
        self.setup.refusals.unmet(UNATTACHED, 0, ENTRY)?;
        self.setup.refused(&space.fill(1), IOVA, Why::NoTable)?;
        self.setup.refusals.expect_none()?;
        wait_at("attached again")?;
        self.setup.attach(Some(UNATTACHED), space.hwpt)?;
        space.prove(&mut self.setup, &self.memory, 3)?;
        self.others_live()
    }

    /// The host makes no table.
    fn without_table(&mut self) -> Result<Space> {
        wait_at("table")?;
        let offset = (WELL.len() + 1) * PAGE;
        let space = Space::attach(&self.setup, WITHOUT_TABLE, &self.memory, offset)?;
        self.is_blocked(&space)?;
        wait_at("table again")?;
        self.setup.detach(Some(WITHOUT_TABLE))?;
        self.setup.attach(Some(WITHOUT_TABLE), space.hwpt)?;
        space.prove(&mut self.setup, &self.memory, 4)?;
        Ok(space)
    }

    /// The host does not drop what was unmapped, so that the whole table is out of use.
    fn not_invalidated(&mut self, space: &Space) -> Result<()> {
        wait_at("invalidate")?;
        let iommufd = &self.setup.iommufd;
        iommufd.unmap(space.ioas, IOVA, PAGE_BYTES)?;
        self.setup.refusals.unmet(space.pasid, 0, TABLE)?;
        self.setup.refused(&space.fill(5), IOVA, Why::NoTable)?;
        self.memory.check_page(space.offset, 4)?;
        self.others_live()?;
        wait_at("invalidate again")?;
        let part = space.offset as u64..space.offset as u64 + PAGE_BYTES;
        let iommufd = &self.setup.iommufd;
        iommufd.map_part(space.ioas, &self.memory, part, IOVA, true)?;
        iommufd.unmap(space.ioas, IOVA, PAGE_BYTES)?;
        let part = space.offset as u64..space.offset as u64 + PAGE_BYTES;
        iommufd.map_part(space.ioas, &self.memory, part, IOVA, true)?;
        space.prove(&mut self.setup, &self.memory, 6)?;
        self.others_live()
    }

    /// The kernel has one fault for it, nothing that it sends arrives, and the others live.
    fn is_blocked(&mut self, space: &Space) -> Result<()> {
        self.setup.refusals.unmet(space.pasid, 0, ENTRY)?;
        self.setup.refused(&space.fill(2), IOVA, Why::NoTable)?;
        self.memory.check_page(space.offset, 0)?;
        self.others_live()?;
        self.setup.refusals.expect_none()
    }
}
