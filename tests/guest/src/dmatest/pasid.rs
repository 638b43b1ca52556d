// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! An address space for each of many PASIDs: one address means other memory in each; a detached PASID is refused, and so is one
//! that was never attached, and requests without PASID.

use anyhow::{Context, Result, bail};

use super::driver::Command;
use super::refusals::{Mode, Why};
use super::setup::Setup;
use super::space::{IOVA, Space};
use crate::memory::{Memory, PAGE, PAGE_BYTES};

/// Bits of a PASID that dmatest and the unit support together.
const BITS: u8 = 20;

/// A PASID whose neighbours are unused too, so that its table is not there.
const NEVER_ATTACHED: u32 = 0x4000;

/// That entry of the PASID directory is not present.
const NO_DIRECTORY: Why = Why::Reason(0x51);

/// Runs `dmatest pasid MODE`.
pub fn run(mode: Mode) -> Result<String> {
    let mut setup = Setup::new(mode)?;
    let bits = setup.iommufd.pasid_bits(setup.cdev.id)?;
    if bits != BITS {
        bail!("the kernel enabled PASIDs of {bits} bits");
    }
    let most = if mode == Mode::Passed { 256 } else { 64 };
    let pasids: Vec<u32> = (1..=most).chain([0x8001, (1 << BITS) - 1]).collect();
    let memory = Memory::new(pasids.len() * PAGE)?;
    let mut spaces = Vec::new();
    for (index, &pasid) in pasids.iter().enumerate() {
        spaces.push(Space::attach(&setup, pasid, &memory, index * PAGE)?);
    }
    everyone_is_at_home(&mut setup, &memory, &spaces)?;
    not_attached(&mut setup)?;
    detach_and_attach(&mut setup, &memory, &spaces)?;
    unmap_one(&mut setup, &memory, &spaces)?;
    Ok(format!("{} PASIDs, {}", spaces.len(), setup.refusals))
}

fn mark(space: &Space) -> u64 {
    0x5a5a_0000_0000_0000 | u64::from(space.pasid)
}

/// Has every PASID write its own pattern, and after that read it back in another order.
fn everyone_is_at_home(setup: &mut Setup, memory: &Memory, spaces: &[Space]) -> Result<()> {
    for space in spaces {
        setup.device.done(&space.fill(mark(space)))?;
    }
    for space in spaces {
        let check = memory.check_page(space.offset, mark(space));
        check.with_context(|| format!("the page of PASID {:#x}", space.pasid))?;
    }
    for space in spaces.iter().rev() {
        let read = Command::fetch_add(IOVA, 1).pasid(Some(space.pasid));
        let found = setup.device.done(&read)?;
        if found != mark(space) {
            bail!("PASID {:#x} read {found:#x}", space.pasid);
        }
    }
    Ok(())
}

fn not_attached(setup: &mut Setup) -> Result<()> {
    let write = Command::fill(IOVA, 8, 1);
    setup
        .refused(&write, IOVA, Why::NoTable)
        .context("without PASID")?;
    let write = write.pasid(Some(NEVER_ATTACHED));
    setup
        .refused(&write, IOVA, NO_DIRECTORY)
        .context("a PASID that was never attached")
}

/// Takes a PASID's space away, gives it its neighbour's, and gives another one its neighbour's in one go.
fn detach_and_attach(setup: &mut Setup, memory: &Memory, spaces: &[Space]) -> Result<()> {
    let [first, second, third, fourth, ..] = spaces else {
        bail!("too few PASIDs");
    };
    setup.detach(Some(first.pasid))?;
    setup
        .refused(&first.fill(1), IOVA, Why::NoTable)
        .context("a detached PASID")?;
    setup.device.done(&second.fill(2))?;
    memory.check_page(second.offset, 2)?;
    setup.attach(Some(first.pasid), second.hwpt)?;
    setup.device.done(&first.fill(3))?;
    memory.check_page(second.offset, 3)?;
    setup.attach(Some(third.pasid), fourth.hwpt)?;
    setup.device.done(&third.fill(4))?;
    memory.check_page(fourth.offset, 4)?;
    // Nothing of all this went into the pages that are no longer theirs, but for the count of `everyone_is_at_home`.
    for space in [first, third] {
        let found = memory.word(space.offset)?;
        if found != mark(space) + 1 {
            bail!(
                "PASID {:#x} still wrote to its old page: {found:#x}",
                space.pasid
            );
        }
    }
    Ok(())
}

/// Unmaps the page of one PASID: the others keep theirs.
fn unmap_one(setup: &mut Setup, memory: &Memory, spaces: &[Space]) -> Result<()> {
    let [.., neighbour, last] = spaces else {
        bail!("too few PASIDs");
    };
    setup.iommufd.unmap(last.ioas, IOVA, PAGE_BYTES)?;
    setup
        .refused(&last.fill(5), IOVA, Why::Absent)
        .context("an unmapped page")?;
    setup.device.done(&neighbour.fill(6))?;
    memory.check_page(neighbour.offset, 6)
}
