// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A large buffer in pages of 4 KiB, and data moved between random ones of them.

use std::time::Instant;

use anyhow::Result;

use super::nvme::{MOST_PAGES, Way};
use super::pump::content;
use super::space::{Bench, iova};
use crate::memory::{Memory, PAGE_BYTES};
use crate::pattern::Random;

/// Requests each way.
const REQUESTS: u64 = 128;

/// Runs `passed pages MEBIBYTES`.
pub fn run(mebibytes: u64) -> Result<String> {
    let bytes = mebibytes << 20;
    let bench = Bench::new()?;
    let disk = bench.nvme()?;
    let space = bench.table(bench.ioas(false)?, &disk)?;
    let mut nvme = bench.start_nvme(&disk, &space)?;
    let buffer = Memory::new(usize::try_from(bytes)?)?;
    let began = Instant::now();
    bench.map(space.ioas, &buffer, 0..bytes)?;
    let mapped = began.elapsed();
    let (small, large) = disk.leaves()?;
    let began = Instant::now();
    let mut random = Random::new(mebibytes);
    let mut some = || -> Vec<u64> {
        // All different: every request has a residue class of its own for each of its pages.
        let count = MOST_PAGES as u64;
        let span = bytes / PAGE_BYTES / count;
        let page = |number| (number + count * (random.next() % span)) * PAGE_BYTES;
        (0..count).map(page).collect()
    };
    for request in 0..REQUESTS {
        let first = request * MOST_PAGES as u64;
        let (from, to) = (some(), some());
        for (number, page) in (first..).zip(&from) {
            buffer.fill_page(usize::try_from(*page)?, content(number))?;
        }
        let places = |pages: &[u64]| pages.iter().map(|page| iova(*page)).collect::<Vec<_>>();
        nvme.transfer(Way::Write, first, &places(&from))?;
        nvme.transfer(Way::Read, first, &places(&to))?;
        for (number, page) in (first..).zip(&to) {
            buffer.check_page(usize::try_from(*page)?, content(number))?;
        }
    }
    let moved = (REQUESTS * MOST_PAGES as u64 * PAGE_BYTES) >> 20;
    let (mapping, moving) = (mapped.as_millis(), began.elapsed().as_millis());
    let began = Instant::now();
    bench.unmap(space.ioas, 0..bytes)?;
    let unmapping = began.elapsed().as_millis();
    Ok(format!(
        "{mebibytes} MiB in {small} small and {large} large pages: mapped in {mapping} ms, {moved} MiB written and read in {moving} ms, unmapped in {unmapping} ms"
    ))
}
