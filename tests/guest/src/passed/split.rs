// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Large pages become small ones at the same addresses, and large ones again, beside DMA to the others.

use std::ops::Range;

use anyhow::{Result, bail};

use super::pump::Pump;
use super::space::{Bench, pages};
use crate::memory::Memory;

/// Bytes of a large page, and how many there are.
const LARGE: u64 = 2 << 20;
const AREAS: u64 = 8;
/// How often each of them is split.
const ROUNDS: u64 = 4;

/// Runs `passed split`.
pub fn run() -> Result<String> {
    let bench = Bench::new()?;
    let disk = bench.nvme()?;
    let space = bench.table(bench.ioas(true)?, &disk)?;
    let nvme = bench.start_nvme(&disk, &space)?;
    let buffer = Memory::new(usize::try_from(AREAS * LARGE)?)?;
    // Touched, so that the kernel has found large pages for it.
    buffer.fill(1)?;
    for area in 0..AREAS {
        bench.map(space.ioas, &buffer, bounds(area))?;
    }
    let (small, large) = disk.leaves()?;
    if large < usize::try_from(AREAS)? {
        bail!("the kernel's tables have {large} large pages only, and {small} small ones");
    }
    let mut pump = Pump::new(nvme, &buffer)?;
    for number in 0..ROUNDS * AREAS {
        let area = number % AREAS;
        let others: Vec<u64> = (0..AREAS)
            .filter(|other| *other != area)
            .flat_map(|other| pages(bounds(other)))
            .collect();
        // Nothing under way leads into the area that goes.
        pump.drain(&buffer)?;
        pump.work(&buffer, &others)?;
        bench.unmap(space.ioas, bounds(area))?;
        bench.map_pages(space.ioas, &buffer, bounds(area))?;
        let (more, fewer) = disk.leaves()?;
        if (more, fewer) != (small + 512, large - 1) {
            bail!("{more} small and {fewer} large pages after a split of one of {large}");
        }
        pump.drain(&buffer)?;
        for page in pages(bounds(area)).step_by(73) {
            pump.read_one(&buffer, page)?;
        }
        if number == AREAS / 2 {
            disk.show()?;
        }
        pump.work(&buffer, &others)?;
        bench.unmap(space.ioas, bounds(area))?;
        bench.map(space.ioas, &buffer, bounds(area))?;
        pump.drain(&buffer)?;
        for page in pages(bounds(area)).step_by(73) {
            pump.read_one(&buffer, page)?;
        }
    }
    if disk.leaves()? != (small, large) {
        bail!("the kernel's tables are not as they were");
    }
    Ok(format!(
        "{} splits, {} pages read",
        ROUNDS * AREAS,
        pump.moved
    ))
}

const fn bounds(area: u64) -> Range<u64> {
    area * LARGE..(area + 1) * LARGE
}
