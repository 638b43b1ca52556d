// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The NVMe arrives when an address space has thousands of mappings already, and is attached to it: all of them are there for it.
//! Until then only dmatest, which is emulated, goes through that space.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::nvme::{self, Nvme};
use super::pump::Pump;
use super::space::{Bench, pages};
use crate::dmatest::driver;
use crate::memory::{Memory, PAGE_BYTES};
use crate::pci::Function;

/// Bytes of the buffer: one half page by page with gaps, the other without.
const BYTES: u64 = 16 << 20;
/// How long the device may take to come.
const PATIENCE: Duration = Duration::from_secs(180);

/// Runs `passed arrive`.
pub fn run() -> Result<String> {
    let bench = Bench::new()?;
    let first = bench.bind(driver::VENDOR, driver::DEVICE)?;
    let space = bench.table(bench.ioas(false)?, &first)?;
    first.attach(&space)?;
    let buffer = Memory::new(usize::try_from(BYTES)?)?;
    buffer.fill(1)?;
    let half = BYTES / 2;
    let set: Vec<u64> = pages(0..half)
        .chain(pages(half..BYTES).step_by(2))
        .collect();
    for page in &set {
        bench.map(space.ioas, &buffer, *page..page + PAGE_BYTES)?;
    }
    let queues = Nvme::memory()?;
    let mapped = bench.0.map(space.ioas, &queues, nvme::QUEUES, true);
    mapped.context("mapping the queues")?;
    println!("MAPPED {} pages", set.len());
    let deadline = Instant::now() + PATIENCE;
    let disk = loop {
        match Function::find(nvme::VENDOR, nvme::DEVICE) {
            Ok(_) => break bench.nvme()?,
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    };
    disk.attach(&space)?;
    disk.show()?;
    let nvme = Nvme::start(disk.enable()?, queues)?;
    let mut pump = Pump::new(nvme, &buffer)?;
    while pump.moved < 3 * set.len() as u64 {
        pump.work(&buffer, &set)?;
    }
    pump.drain(&buffer)?;
    Ok(format!(
        "{} pages mapped before, {} pages read",
        set.len(),
        pump.moved
    ))
}
