// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! dmatest (docs/dmatest.md), driven through its VFIO file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use vfio::uapi;

/// Configuration space's region.
const CONFIG_REGION: u32 = 7;

const MAGIC: u32 = 0x5441_4d44;
const TAIL: u64 = 0x24;
const PAGE_REQUESTS: u64 = 0x50;
const RING: u64 = 0x1000;
const SLOTS: u64 = 64;
const BUFFER: u64 = 0x1_0000;

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub const DONE: u32 = 1;
pub const BLOCKED: u32 = 6;

/// A command: control, PASID, address, operand, length.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    control: u32,
    pasid: u32,
    address: u64,
    operand: u64,
    length: u32,
}

impl Command {
    /// Writes the 8 bytes of `pattern` over and over.
    pub fn fill(pasid: Option<u32>, address: u64, length: u32, pattern: u64) -> Self {
        Self::new(4, pasid, address, length).with_operand(pattern)
    }

    /// Copies memory.
    pub fn copy(pasid: Option<u32>, from: u64, to: u64, length: u32) -> Self {
        Self::new(3, pasid, from, length).with_operand(to)
    }

    /// Writes 8 bytes; pages that are not there are asked for.
    pub fn ask(pasid: u32, address: u64, pattern: u64) -> Self {
        let mut command = Self::fill(Some(pasid), address, 8, pattern);
        command.control |= 1 << 11 | 1 << 12;
        command
    }

    fn new(operation: u32, pasid: Option<u32>, address: u64, length: u32) -> Self {
        Self {
            control: operation | pasid.map_or(0, |_| 1 << 8),
            pasid: pasid.unwrap_or_default(),
            address,
            operand: 0,
            length,
        }
    }

    fn with_operand(self, operand: u64) -> Self {
        Self { operand, ..self }
    }
}

/// The device.
pub struct Dmatest {
    file: Arc<File>,
    registers: u64,
    tail: u64,
}

impl Dmatest {
    /// Lets the device decode its registers and send requests.
    pub fn new(file: Arc<File>) -> Result<Self> {
        let config = uapi::device::region(&file, CONFIG_REGION)?.offset;
        file.write_all_at(&[0x06, 0x00], config + 4)?;
        let registers = uapi::device::region(&file, 0)?.offset;
        let mut device = Self {
            file,
            registers,
            tail: 0,
        };
        match device.register(0)? {
            MAGIC => {}
            other => bail!("dmatest says {other:#x}"),
        }
        device.tail = device.register(TAIL)?.into();
        Ok(device)
    }

    /// Starts a command; its slot.
    pub fn start(&mut self, command: &Command) -> Result<u64> {
        let slot = self.tail;
        let at = RING + slot * 64;
        self.set(at, command.control)?;
        self.set(at + 4, command.pasid)?;
        self.set_word(at + 8, command.address)?;
        self.set_word(at + 16, command.operand)?;
        self.set(at + 32, command.length)?;
        self.set(at + 36, 0)?;
        self.tail = (slot + 1) % SLOTS;
        self.set(TAIL, u32::try_from(self.tail)?)?;
        Ok(slot)
    }

    /// The status of the command in `slot`, 0 while it is under way.
    pub fn status(&self, slot: u64) -> Result<u32> {
        self.register(RING + slot * 64 + 48)
    }

    /// Waits for the end of the command in `slot`; its status.
    pub fn wait(&self, slot: u64) -> Result<u32> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            match self.status(slot)? {
                0 => std::thread::yield_now(),
                status => return Ok(status),
            }
        }
        bail!("the command in slot {slot} does not end")
    }

    /// Carries a command out; its status.
    pub fn run(&mut self, command: &Command) -> Result<u32> {
        let slot = self.start(command)?;
        self.wait(slot)
    }

    /// Page requests that it sent.
    pub fn page_requests(&self) -> Result<u32> {
        self.register(PAGE_REQUESTS)
    }

    /// Whether its own buffer can be read: it answers at all.
    pub fn answers(&self) -> Result<bool> {
        Ok(self.register(BUFFER)? != u32::MAX)
    }

    fn register(&self, at: u64) -> Result<u32> {
        let mut bytes = [0; 4];
        self.file.read_exact_at(&mut bytes, self.registers + at)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn set(&self, at: u64, value: u32) -> Result<()> {
        let bytes = value.to_le_bytes();
        Ok(self.file.write_all_at(&bytes, self.registers + at)?)
    }

    fn set_word(&self, at: u64, value: u64) -> Result<()> {
        let bytes = value.to_le_bytes();
        Ok(self.file.write_all_at(&bytes, self.registers + at)?)
    }
}
