// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! 64 MiB of checked data from one place of the program's memory to another, by the device.

use anyhow::{Context, Result};

use super::driver::{Command, Dmatest};
use crate::memory::{Memory, PAGE};

/// Bytes of a transfer.
pub const BYTES: usize = 64 << 20;

/// Where the source lies in the device's address space.
pub const FROM: u64 = 0x1000_0000;

/// Where the destination lies.
pub const TO: u64 = 0x3000_0000;

/// Bytes that one command can move.
const PIECE: u32 = 16 << 20;

const SEED: u64 = 64;

/// Source and destination.
pub struct Transfer {
    pub from: Memory,
    pub to: Memory,
}

impl Transfer {
    /// Random data, and room for it.
    pub fn new() -> Result<Self> {
        let from = Memory::new(BYTES)?;
        from.fill(SEED)?;
        let to = Memory::new(BYTES)?;
        Ok(Self { from, to })
    }

    /// Has the device copy all of it, and compares.
    pub fn run(&self, device: &mut Dmatest) -> Result<()> {
        for offset in (0..self.from.bytes()).step_by(PIECE as usize) {
            device.done(&Command::copy(FROM + offset, TO + offset, PIECE))?;
        }
        self.to.check(SEED).context("at the destination")
    }

    /// Fails unless the last page of the destination still is that of the source.
    pub fn check_last_page(&self) -> Result<()> {
        for offset in (BYTES - PAGE..BYTES).step_by(8) {
            self.to.check_word(offset, self.from.word(offset)?)?;
        }
        Ok(())
    }
}
