// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One device moves between two address spaces, which have other memory at the same addresses, while another one works in
//! the first.

use anyhow::{Context, Result};

use super::pump::Pump;
use super::space::{Bench, iova, pages};
use crate::memory::{Memory, PAGE_BYTES};

/// Bytes of either space.
const BYTES: u64 = 8 << 20;
/// Moves.
const MOVES: u64 = 16;

/// Runs `passed switch`.
pub fn run() -> Result<String> {
    let bench = Bench::new()?;
    let (disk, second) = (bench.nvme()?, bench.edu()?);
    let spaces = [true, false].map(|large| bench.table(bench.ioas(large)?, &disk));
    let [first, other] = spaces;
    let (first, other) = (first?, other?);
    let nvme = bench.start_nvme(&disk, &first)?;
    let buffer = Memory::new(usize::try_from(BYTES)?)?;
    let elsewhere = Memory::new(usize::try_from(BYTES)?)?;
    bench.map(first.ioas, &buffer, 0..BYTES)?;
    bench.map(other.ioas, &elsewhere, 0..BYTES)?;
    let mut pump = Pump::new(nvme, &buffer)?;
    let (source, target) = (BYTES - 2 * PAGE_BYTES, BYTES - PAGE_BYTES);
    let set: Vec<u64> = pages(0..source).collect();
    let mut edu = None;
    for number in 0..MOVES {
        let (space, here, there) = match number % 2 {
            0 => (&other, &elsewhere, &buffer),
            _ => (&first, &buffer, &elsewhere),
        };
        pump.work(&buffer, &set)?;
        second.attach(space)?;
        let edu = match &edu {
            Some(edu) => edu,
            None => edu.insert(second.start_edu()?),
        };
        let (from, to) = (usize::try_from(source)?, usize::try_from(target)?);
        here.fill_page(from, 2 * number)?;
        there.fill_page(from, 2 * number + 1)?;
        for memory in [here, there] {
            memory.fill_page(to, u64::MAX)?;
        }
        edu.copy(iova(source), iova(target), || pump.work(&buffer, &set))?;
        here.check_word(to, 2 * number)
            .with_context(|| format!("after move {number}"))?;
        there
            .check_page(to, u64::MAX)
            .with_context(|| format!("in the other space after move {number}"))?;
    }
    pump.drain(&buffer)?;
    Ok(format!(
        "{MOVES} moves, {} pages read meanwhile",
        pump.moved
    ))
}
