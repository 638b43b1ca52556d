// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! QEMU's `edu`, driven from user space through the guest kernel's own VFIO: 4 KiB of memory of its own, and DMA between that and
//! the bus, at addresses below 256 MiB.

mod bench;
mod entries;
mod pages;
mod peer;

use std::sync::atomic::Ordering;

use anyhow::{Result, bail};
use vm_memory::{Bytes, MmapRegion, VolatileMemory};

/// PCI ids.
const VENDOR: u16 = 0x1234;
/// See [`VENDOR`].
const DEVICE: u16 = 0x11e8;

const IDENTIFICATION: usize = 0x00;
const SOURCE: usize = 0x80;
const DESTINATION: usize = 0x88;
const COUNT: usize = 0x90;
const COMMAND: usize = 0x98;

/// Where its memory is in its own address space.
const BUFFER: u32 = 0x4_0000;

/// Bytes of a transfer. All 4096 of its memory at once make QEMU take offence at its own bounds.
const BYTES: u32 = 2048;

/// Runs `edu entries LIMIT`, `edu pages COUNT` or `edu peer`.
pub fn run(args: &[&str]) -> Result<()> {
    match *args {
        ["peer"] => peer::run(),
        ["entries", limit] => entries::run(limit.parse()?),
        ["pages", count] => pages::run(count.parse()?),
        _ => bail!("edu takes what to do, and perhaps a number"),
    }
}

/// The device.
pub struct Edu(MmapRegion);

impl Edu {
    /// The device behind these registers.
    pub fn new(registers: MmapRegion) -> Result<Self> {
        let edu = Self(registers);
        match edu.register(IDENTIFICATION)? {
            0x0100_00ed => Ok(edu),
            other => bail!("edu says {other:#x}"),
        }
    }

    /// Fetches from memory into the device. Whether memory could be reached is not told.
    pub fn fetch(&self, iova: u64) -> Result<()> {
        self.transfer(u32::try_from(iova)?, BUFFER, 1)
    }

    /// Stores what was fetched into memory. Whether memory could be reached is not told.
    pub fn store(&self, iova: u64) -> Result<()> {
        self.transfer(BUFFER, u32::try_from(iova)?, 3)
    }

    fn transfer(&self, source: u32, destination: u32, command: u32) -> Result<()> {
        self.set(SOURCE, source)?;
        self.set(DESTINATION, destination)?;
        self.set(COUNT, BYTES)?;
        self.set(COMMAND, command)?;
        while self.register(COMMAND)? & 1 != 0 {
            std::thread::yield_now();
        }
        Ok(())
    }

    fn register(&self, at: usize) -> Result<u32> {
        Ok(self.0.as_volatile_slice().load(at, Ordering::Acquire)?)
    }

    fn set(&self, at: usize, value: u32) -> Result<()> {
        let slice = self.0.as_volatile_slice();
        Ok(slice.store(value, at, Ordering::Release)?)
    }
}
