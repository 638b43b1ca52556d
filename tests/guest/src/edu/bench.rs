// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! edu in a container of the guest kernel's own VFIO, with memory that it can be given.

use std::fs;

use anyhow::{Context, Result};

use super::{DEVICE, Edu, VENDOR};
use crate::memory::{Memory, PAGE, PAGE_BYTES};
use crate::pci::Function;
use crate::vfio;
use crate::vfio::group::Container;

/// Within edu's reach, above what a guest's kernel would choose for itself.
pub const BASE: u64 = 0x0400_0000;

/// A pattern that nothing else writes.
const PATTERN: u64 = 0x1122_3344_5566_7788;

/// The device and memory for it, contiguous, of which nothing is mapped.
pub struct Bench {
    container: Container,
    memory: Memory,
    edu: Edu,
}

impl Bench {
    /// With at least so many pages of memory.
    pub fn open(pages: u64) -> Result<Self> {
        let function = Function::find(VENDOR, DEVICE)?;
        function.bind_to_vfio()?;
        let container = Container::open(&function)?;
        let huge = (pages * PAGE_BYTES).div_ceil(2 << 20);
        fs::write("/proc/sys/vm/nr_hugepages", huge.to_string())?;
        Ok(Self {
            edu: Edu::new(vfio::enable(&container.device)?)?,
            memory: Memory::huge(usize::try_from(huge << 21)?)?,
            container,
        })
    }

    /// Maps a page of memory at `iova`.
    pub fn map(&self, page: u64, iova: u64) -> Result<()> {
        let offset = page * PAGE_BYTES;
        let map = self
            .container
            .map_part(&self.memory, offset, PAGE_BYTES, iova);
        map.with_context(|| format!("mapping page {page} at {iova:#x}"))
    }

    /// Maps a page of other memory, which begins at `offset` of that.
    pub fn map_other(&self, memory: &Memory, offset: u64, iova: u64) -> Result<()> {
        let map = self.container.map_part(memory, offset, PAGE_BYTES, iova);
        map.with_context(|| format!("mapping other memory at {iova:#x}"))
    }

    /// Memory that can be mapped.
    pub const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The device.
    pub const fn edu(&self) -> &Edu {
        &self.edu
    }

    /// Unmaps whatever is mapped in a range.
    pub fn unmap(&self, iova: u64, bytes: u64) -> Result<()> {
        let unmapped = self.container.unmap(iova, bytes);
        unmapped.with_context(|| format!("unmapping {iova:#x}"))?;
        Ok(())
    }

    /// Has the device bring one page, given with its address, to another one; whether its data arrived.
    pub fn moves(&self, from: (u64, u64), to: (u64, u64)) -> Result<bool> {
        let offset = |page: u64| usize::try_from(page).map(|page| page * PAGE);
        let (source, target) = (offset(from.0)?, offset(to.0)?);
        self.memory.set_word(source, PATTERN)?;
        self.memory.set_word(target, 0)?;
        self.edu.fetch(from.1)?;
        self.edu.store(to.1)?;
        Ok(self.memory.word(target)? == PATTERN)
    }
}
