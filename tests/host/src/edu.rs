// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! QEMU's `edu`, driven through its VFIO file: 4 KiB of memory of its own, and DMA between that and the bus.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use anyhow::{Result, bail};
use vfio::uapi;

const IDENTIFICATION: u64 = 0x00;
const SOURCE: u64 = 0x80;
const DESTINATION: u64 = 0x88;
const COUNT: u64 = 0x90;
const COMMAND: u64 = 0x98;
/// Where its memory is in its own address space.
const BUFFER: u32 = 0x4_0000;
/// Bytes of a transfer. All 4096 of its memory at once make QEMU take offence at its own bounds.
pub const BUFFER_BYTES: usize = 2048;

/// Configuration space's region.
const CONFIG_REGION: u32 = 7;

/// The device.
pub struct Edu {
    file: Arc<File>,
    registers: u64,
}

/// Which way a transfer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From memory into the device.
    Read,
    /// From the device into memory.
    Write,
}

impl Edu {
    /// Lets the device decode its registers and send requests.
    pub fn new(file: Arc<File>) -> Result<Self> {
        let config = uapi::device::region(&file, CONFIG_REGION)?.offset;
        file.write_all_at(&[0x06, 0x00], config + 4)?;
        let registers = uapi::device::region(&file, 0)?.offset;
        let edu = Self { file, registers };
        match edu.register(IDENTIFICATION)? {
            0x0100_00ed => Ok(edu),
            other => bail!("edu says {other:#x}"),
        }
    }

    /// Starts a transfer.
    pub fn start(&self, way: Way, iova: u64) -> Result<()> {
        let iova = u32::try_from(iova)?;
        let (source, destination, command) = match way {
            Way::Read => (iova, BUFFER, 1),
            Way::Write => (BUFFER, iova, 3),
        };
        self.set(SOURCE, source)?;
        self.set(DESTINATION, destination)?;
        self.set(COUNT, u32::try_from(BUFFER_BYTES)?)?;
        self.set(COMMAND, command)
    }

    /// Whether a transfer runs.
    pub fn is_busy(&self) -> Result<bool> {
        Ok(self.register(COMMAND)? & 1 != 0)
    }

    /// Makes one transfer.
    pub fn transfer(&self, way: Way, iova: u64) -> Result<()> {
        self.start(way, iova)?;
        while self.is_busy()? {
            std::thread::yield_now();
        }
        Ok(())
    }

    fn register(&self, at: u64) -> Result<u32> {
        let mut bytes = [0; 4];
        self.file.read_exact_at(&mut bytes, self.registers + at)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn set(&self, at: u64, value: u32) -> Result<()> {
        Ok(self
            .file
            .write_all_at(&value.to_le_bytes(), self.registers + at)?)
    }
}
