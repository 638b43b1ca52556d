// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory as the unit sees it, read and changed by a device that nothing is translated for, and the way to a device's entries.

use anyhow::{Result, bail};

use super::device::Device;
use crate::dmatest::driver::{Command, DONE};

/// An address and what stands there instead, 8 bytes.
pub type Change = (u64, u64);

/// All memory.
pub struct Memory(Device);

impl Memory {
    /// Through this device.
    pub fn new(device: Device) -> Result<Self> {
        device.translate_nothing()?;
        Ok(Self(device))
    }

    /// The 8 bytes at `address`, which must be memory.
    pub fn read(&mut self, address: u64) -> Result<u64> {
        let answer = self.0.run(&Command::fetch_add(address, 0))?;
        if answer.status != DONE {
            bail!("memory at {address:#x} cannot be read: {answer:x?}");
        }
        Ok(answer.result)
    }

    /// Changes memory in this order; what must be changed to undo it.
    pub fn change(&mut self, changes: &[Change]) -> Result<Vec<Change>> {
        let mut before = Vec::new();
        for &(address, value) in changes {
            before.push((address, self.read(address)?));
            self.write(address, value)?;
        }
        Ok(before)
    }

    /// Undoes changes, the last one first.
    pub fn undo(&mut self, before: &[Change]) -> Result<()> {
        let mut changes = before.iter().rev();
        changes.try_for_each(|&(address, value)| self.write(address, value))
    }

    fn write(&mut self, address: u64, value: u64) -> Result<()> {
        let answer = self.0.run(&Command::fill(address, 8, value))?;
        if answer.status != DONE {
            bail!("memory at {address:#x} cannot be written: {answer:x?}");
        }
        Ok(())
    }
}

/// Paging structures of the program's own: tables of 4 KiB in its scratch memory, by their number.
pub fn table(number: u64) -> u64 {
    super::SCRATCH + number * 0x1000
}

/// Entry `index` of table `number`.
pub fn entry(number: u64, index: u64, value: u64) -> Change {
    (table(number) + 8 * index, value)
}
