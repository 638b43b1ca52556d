// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! PASIDs whose address spaces are taken away, one after the other, on a device that is passed through: what they send is
//! refused from then on, even what is under way, and the others notice nothing.

use anyhow::{Context, Result, bail};

use super::driver::{BLOCKED, Command, DONE};
use super::refusals::{Mode, Why};
use super::setup::Setup;
use super::space::{FOR_PASIDS, IOVA, Space};
use super::turns::wait_at;
use crate::memory::{Memory, PAGE};

/// In PASID tables of their own, but for the second.
const PASIDS: [u32; 4] = [0x3, 0x4, 0x1001, 0xf_fffe];

/// The one that is unbound while it writes.
const BUSY: u32 = 0x77;

/// What it writes, by one command and by how many.
const PIECE: usize = 16 << 20;
const COMMANDS: u64 = 8;

/// Tries to unbind it before it has done them all.
const TRIES: u64 = 10;

/// Runs `dmatest unbind`.
pub fn run() -> Result<String> {
    let mut setup = Setup::new(Mode::Passed)?;
    let memory = Memory::new(PASIDS.len() * PAGE)?;
    let mut spaces = Vec::new();
    for (index, pasid) in PASIDS.into_iter().enumerate() {
        let space = Space::attach(&setup, pasid, &memory, index * PAGE)?;
        space.prove(&mut setup, &memory, u64::from(pasid))?;
        spaces.push(space);
    }
    wait_at("bound")?;
    while let Some(space) = spaces.pop() {
        setup.detach(Some(space.pasid))?;
        setup.refused(&space.fill(0xdead), IOVA, Why::NoTable)?;
        memory.check_page(space.offset, u64::from(space.pasid))?;
        for other in &spaces {
            let proof = other.prove(&mut setup, &memory, u64::from(other.pasid));
            proof.with_context(|| format!("{:#x} beside {:#x}", other.pasid, space.pasid))?;
        }
    }
    wait_at("unbound")?;
    let bytes = unbind_under_dma(&mut setup)?;
    Ok(format!("{bytes} bytes under way, {}", setup.refusals))
}

/// Once the kernel has unbound it, nothing more arrives of what a PASID was writing; how much had arrived.
fn unbind_under_dma(setup: &mut Setup) -> Result<u64> {
    let memory = Memory::new(PIECE)?;
    let ioas = setup.ioas_with(&memory, IOVA)?;
    let hwpt = setup.hwpt(ioas, &FOR_PASIDS)?;
    for pattern in 1..=TRIES {
        setup.attach(Some(BUSY), hwpt)?;
        let fill = Command::fill(IOVA, u32::try_from(PIECE)?, pattern).pasid(Some(BUSY));
        let slots = (0..COMMANDS).map(|_| setup.device.start(&fill));
        let slots = slots.collect::<Result<Vec<_>>>()?;
        // Not before the first one is under way.
        while memory.word(0)? != pattern && setup.device.answer(slots[0])?.is_none() {}
        setup.detach(Some(BUSY))?;
        // Whatever the device still writes cannot be told from what it wrote before, but from this.
        for page in (0..PIECE).step_by(PAGE) {
            memory.set_word(page, !pattern)?;
        }
        let (mut arrived, mut blocked) = (0, 0);
        for slot in slots {
            let answer = setup.device.wait(slot)?;
            arrived += u64::from(answer.done);
            match answer.status {
                DONE => {}
                BLOCKED => blocked += 1,
                _ => bail!("neither done nor refused: {answer:x?}"),
            }
        }
        for page in (0..PIECE).step_by(PAGE) {
            let check = memory.check_word(page, !pattern);
            check.context("written after the PASID was unbound")?;
        }
        if blocked != 0 {
            return Ok(arrived);
        }
    }
    bail!("the device was always done before its PASID was unbound")
}
