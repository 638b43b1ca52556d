// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A driver of QEMU's edu device (its `docs/specs/edu`): DMA between memory and a buffer of its own, a tenth of a second each.
//! It has 28 address bits.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail};
use vm_memory::{MmapRegion, VolatileMemory};

/// The numbers that edu answers to.
pub const VENDOR: u16 = 0x1234;
pub const DEVICE: u16 = 0x11e8;

const IDENTIFICATION: usize = 0x00;
const SOURCE: usize = 0x80;
const DESTINATION: usize = 0x88;
const COUNT: usize = 0x90;
const COMMAND: usize = 0x98;
/// Where its buffer is in its own address space.
const BUFFER: u64 = 0x4_0000;
/// Bytes of a transfer. All 4096 of its buffer at once make QEMU take offence at its own bounds.
const BYTES: u64 = 2048;

/// The device.
pub struct Edu(MmapRegion);

impl Edu {
    /// The device behind this BAR 0.
    pub fn new(bar: MmapRegion) -> Result<Self> {
        let edu = Self(bar);
        match edu.register(IDENTIFICATION)? {
            0x0100_00ed => Ok(edu),
            other => bail!("edu says {other:#x}"),
        }
    }

    /// Copies the first half of the page at `from` to that of the page at `to`, doing `meanwhile` over and over.
    pub fn copy(
        &self,
        from: u64,
        to: u64,
        mut meanwhile: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        for (source, destination, command) in [(from, BUFFER, 1), (BUFFER, to, 3)] {
            self.set(SOURCE, source)?;
            self.set(DESTINATION, destination)?;
            self.set(COUNT, BYTES)?;
            self.set(COMMAND, command)?;
            while self.register(COMMAND)? & 1 != 0 {
                meanwhile()?;
            }
        }
        Ok(())
    }

    fn register(&self, at: usize) -> Result<u32> {
        let register = self.0.get_atomic_ref::<AtomicU32>(at)?;
        Ok(register.load(Ordering::Acquire))
    }

    fn set(&self, at: usize, value: u64) -> Result<()> {
        let register = self.0.get_atomic_ref::<AtomicU32>(at)?;
        register.store(u32::try_from(value)?, Ordering::Release);
        Ok(())
    }
}
