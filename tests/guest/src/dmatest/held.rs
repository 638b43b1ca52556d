// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! PASIDs that are bound and at work while something happens to the whole machine: a reset, if whoever is at the other end of
//! the console says so.

use std::fs;

use anyhow::{Context, Result, bail};

use super::driver::Command;
use super::refusals::Mode;
use super::setup::Setup;
use super::space::{FOR_PASIDS, IOVA, Space};
use super::turns::wait_at;
use crate::memory::{Memory, PAGE};

/// PASIDs with a page each, in several tables.
const STEP: u32 = 0x333;
const PASIDS: u32 = 24;

/// One with much memory, which is being written to when the machine is reset.
const BUSY: u32 = 0x7_7777;
const PIECE: usize = 16 << 20;
const COMMANDS: usize = 32;

/// Runs `dmatest held`.
pub fn run() -> Result<String> {
    wait_at("booted")?;
    let mut setup = Setup::new(Mode::Passed)?;
    let memory = Memory::new(PASIDS as usize * PAGE)?;
    let mut spaces = Vec::new();
    for (index, number) in (1..=PASIDS).enumerate() {
        let space = Space::attach(&setup, number * STEP, &memory, index * PAGE)?;
        space.prove(&mut setup, &memory, u64::from(space.pasid))?;
        spaces.push(space);
    }
    let much = Memory::new(PIECE)?;
    let ioas = setup.ioas_with(&much, IOVA)?;
    let hwpt = setup.hwpt(ioas, &FOR_PASIDS)?;
    setup.attach(Some(BUSY), hwpt)?;
    let fill = Command::fill(IOVA, u32::try_from(PIECE)?, 9).pasid(Some(BUSY));
    setup.device.done(&fill)?;
    much.check_page(PIECE - PAGE, 9)?;
    if wait_at("bound")? == "reset" {
        for _ in 0..COMMANDS {
            setup.device.start(&fill)?;
        }
        fs::write("/proc/sysrq-trigger", "b").context("resetting the machine")?;
        bail!("the machine was not reset");
    }
    for space in spaces {
        setup.detach(Some(space.pasid))?;
    }
    setup.detach(Some(BUSY))?;
    wait_at("unbound")?;
    Ok(format!("{} PASIDs", PASIDS + 1))
}
