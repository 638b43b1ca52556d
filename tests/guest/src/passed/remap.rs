// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Single pages inside a large contiguous mapping are unmapped and mapped again, while a device does DMA to their neighbours.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::pump::Pump;
use super::space::{Bench, pages};
use crate::memory::{Memory, PAGE_BYTES};

/// Bytes of the buffer.
const BYTES: u64 = 8 << 20;

/// Runs `passed remap SECONDS`.
pub fn run(seconds: u64) -> Result<String> {
    let bench = Bench::new()?;
    let disk = bench.nvme()?;
    let buffer = Memory::new(usize::try_from(BYTES)?)?;
    // Touched, so that the kernel has found contiguous memory for it.
    buffer.fill(1)?;
    let ioas = bench.ioas(false)?;
    bench.map_pages(ioas, &buffer, 0..BYTES)?;
    let mut space = bench.table(ioas, &disk)?;
    let nvme = bench.start_nvme(&disk, &space)?;
    let mut pump = Pump::new(nvme, &buffer)?;
    let neighbours: Vec<u64> = pages(0..BYTES).step_by(2).collect();
    let (mut rounds, mut remapped) = (0, 0);
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        // A table that is attached anew is one mapping a contiguous piece again.
        let next = bench.table(ioas, &disk)?;
        disk.attach(&next)?;
        bench.0.destroy(space.table).context("the table before")?;
        space = next;
        for page in pages(0..BYTES).skip(1).step_by(2) {
            let part = page..page + PAGE_BYTES;
            pump.work(&buffer, &neighbours)?;
            bench.unmap(ioas, part.clone())?;
            pump.work(&buffer, &neighbours)?;
            bench.map(ioas, &buffer, part)?;
            remapped += 1;
            if Instant::now() >= end {
                break;
            }
        }
        pump.drain(&buffer)?;
        // What was mapped again is there.
        for page in pages(0..BYTES).skip(1).step_by(62) {
            pump.read_one(&buffer, page)?;
        }
        rounds += 1;
    }
    Ok(format!(
        "{remapped} pages unmapped and mapped again in {rounds} rounds, {} pages read by their side",
        pump.moved
    ))
}
