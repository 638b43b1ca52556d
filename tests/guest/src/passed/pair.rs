// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Two devices in one address space: what one of them writes the other one reads.

use anyhow::Result;

use super::pump::Pump;
use super::space::{Bench, iova, pages};
use crate::memory::{Memory, PAGE, PAGE_BYTES};

/// Bytes of the buffer.
const BYTES: u64 = 16 << 20;

/// Runs `passed pair`.
pub fn run() -> Result<String> {
    let bench = Bench::new()?;
    let (disk, second) = (bench.nvme()?, bench.edu()?);
    let space = bench.table(bench.ioas(false)?, &disk)?;
    let nvme = bench.start_nvme(&disk, &space)?;
    second.attach(&space)?;
    let edu = second.start_edu()?;
    let buffer = Memory::new(usize::try_from(BYTES)?)?;
    // Each page by itself: as many changes of the table as pages.
    bench.map_pages(space.ioas, &buffer, 0..BYTES)?;
    let mut pump = Pump::new(nvme, &buffer)?;
    // The last page is edu's to write, and nobody else's.
    let last = BYTES - PAGE_BYTES;
    let set: Vec<u64> = pages(0..last).skip(1).collect();
    for number in 0..4u64 {
        buffer.fill_page(0, number)?;
        edu.copy(iova(0), iova(last), || pump.work(&buffer, &set))?;
        buffer.check_word(usize::try_from(last)?, number)?;
        buffer.check_word(usize::try_from(last)? + PAGE / 2 - 8, number)?;
    }
    pump.drain(&buffer)?;
    Ok(format!(
        "{} pages mapped, {} pages read by the one, 4 copied by the other",
        BYTES / PAGE_BYTES,
        pump.moved
    ))
}
