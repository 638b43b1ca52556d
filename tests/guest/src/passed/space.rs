// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What every use begins with: an iommufd, address spaces, and devices in them.

use std::fs;
use std::ops::Range;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use vm_memory::MmapRegion;

use super::{edu, nvme};
use crate::iommufd::{Iommufd, ObjectId, Purpose};
use crate::memory::{Memory, PAGE_BYTES};
use crate::pci::Function;
use crate::vfio;
use crate::vfio::cdev::Cdev;

/// How important a message has to be for the console, and more such numbers.
const PRINTK: &str = "/proc/sys/kernel/printk";
/// How long tables that were shown stay as they are.
const SHOWN: Duration = Duration::from_secs(10);

/// Where buffers begin for devices: below 28 bits, and at a large page.
pub const BUFFER: u64 = 0x0800_0000;

/// A device that is bound to the iommufd. All its DMA is blocked at first.
pub struct Bound {
    cdev: Cdev,
    function: Function,
}

/// An address space with its page table.
pub struct Space {
    pub ioas: ObjectId,
    pub table: ObjectId,
}

/// An open iommufd.
pub struct Bench(pub Iommufd);

impl Bench {
    pub fn new() -> Result<Self> {
        Iommufd::open().map(Self)
    }

    /// Takes the NVMe controller.
    pub fn nvme(&self) -> Result<Bound> {
        self.bind(nvme::VENDOR, nvme::DEVICE)
    }

    /// Takes edu.
    pub fn edu(&self) -> Result<Bound> {
        self.bind(edu::VENDOR, edu::DEVICE)
    }

    /// Takes the first function with these ids.
    pub fn bind(&self, vendor: u16, device: u16) -> Result<Bound> {
        let function = Function::find(vendor, device)?;
        function.bind_to_vfio()?;
        let cdev = Cdev::open(&function, &self.0)?;
        Ok(Bound { cdev, function })
    }

    /// An address space without mappings or page table, in large pages or without.
    pub fn ioas(&self, large: bool) -> Result<ObjectId> {
        let ioas = self.0.ioas()?;
        if !large {
            self.0.small_pages_only(ioas)?;
        }
        Ok(ioas)
    }

    /// A page table of `ioas`, for `device` and others like it.
    pub fn table(&self, ioas: ObjectId, device: &Bound) -> Result<Space> {
        let table = self.0.hwpt(device.cdev.id, ioas, &Purpose::default());
        Ok(Space {
            ioas,
            table: table.context("making a page table")?,
        })
    }

    /// Maps a part of `memory` at [`BUFFER`] and its offset.
    pub fn map(&self, ioas: ObjectId, memory: &Memory, part: Range<u64>) -> Result<()> {
        let iova = BUFFER + part.start;
        let mapped = self.0.map_part(ioas, memory, part, iova, true);
        mapped.with_context(|| format!("mapping at {iova:#x}"))
    }

    /// Maps a part of `memory` as [`Self::map`], each page by itself.
    pub fn map_pages(&self, ioas: ObjectId, memory: &Memory, part: Range<u64>) -> Result<()> {
        for page in pages(part) {
            self.map(ioas, memory, page..page + PAGE_BYTES)?;
        }
        Ok(())
    }

    /// Unmaps what [`Self::map`] or [`Self::map_pages`] mapped.
    pub fn unmap(&self, ioas: ObjectId, part: Range<u64>) -> Result<()> {
        let bytes = part.end - part.start;
        let unmapped = self.0.unmap(ioas, BUFFER + part.start, bytes);
        match unmapped.with_context(|| format!("unmapping offset {:#x}", part.start))? {
            unmapped if unmapped == bytes => Ok(()),
            unmapped => bail!("{unmapped} bytes were unmapped instead of {bytes}"),
        }
    }

    /// Maps the NVMe driver's memory, attaches the device to `space` and starts it.
    pub fn start_nvme(&self, device: &Bound, space: &Space) -> Result<nvme::Nvme> {
        let memory = nvme::Nvme::memory()?;
        let mapped = self.0.map(space.ioas, &memory, nvme::QUEUES, true);
        mapped.context("mapping the queues")?;
        device.attach(space)?;
        nvme::Nvme::start(device.enable()?, memory)
    }
}

impl Bound {
    /// Has all its requests go through `space`, instead of what they went through.
    pub fn attach(&self, space: &Space) -> Result<()> {
        let attached = self.cdev.attach(None, space.table);
        attached.with_context(|| format!("attaching {}", self.function.id))
    }

    /// BAR 0, where the device answers from now on; it may make requests, too.
    pub fn enable(&self) -> Result<MmapRegion> {
        vfio::enable(&self.cdev.device)
    }

    /// edu, which must be attached.
    pub fn start_edu(&self) -> Result<edu::Edu> {
        edu::Edu::new(self.enable()?)
    }

    /// Entries that map something in the tables that this guest's kernel has for the device, by the kernel's own account: small
    /// ones and large ones.
    pub fn leaves(&self) -> Result<(usize, usize)> {
        let text = self.tables()?;
        let columns = text.lines().filter_map(columns).collect::<Vec<_>>();
        let deepest = columns.iter().max().copied().unwrap_or_default();
        let small = columns.iter().filter(|count| **count == deepest).count();
        Ok((small, columns.len() - small))
    }
}

impl Bound {
    /// Prints the tables, and leaves somebody outside a while to stop this machine and compare them. The kernel is silent
    /// meanwhile: what it says would come in between.
    pub fn show(&self) -> Result<()> {
        let levels = fs::read_to_string(PRINTK).context("reading how much the kernel says")?;
        fs::write(PRINTK, "1").context("silencing the kernel")?;
        println!("TABLES begin\n{}TABLES end", self.tables()?);
        thread::sleep(SHOWN);
        fs::write(PRINTK, levels.trim()).context("letting the kernel speak")
    }

    fn tables(&self) -> Result<String> {
        let id = &self.function.id;
        let path = format!("/sys/kernel/debug/iommu/intel/{id}/domain_translation_struct");
        fs::read_to_string(&path).with_context(|| format!("reading {path}"))
    }
}

/// How many entries a line about one leaf names; the heading has none.
fn columns(line: &str) -> Option<usize> {
    let words = line.split(|c: char| c.is_whitespace() || c == '|');
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let number =
        |word: &&str| word.starts_with("0x") && u64::from_str_radix(&word[2..], 16).is_ok();
    (line.contains('|') && words.iter().all(number)).then_some(words.len())
}

/// The offsets of the pages of a part.
pub fn pages(part: Range<u64>) -> impl Iterator<Item = u64> {
    (part.start..part.end).step_by(4096)
}

/// Where the device finds the page at `offset` of a buffer.
pub const fn iova(offset: u64) -> u64 {
    BUFFER + offset
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_a_leaf_are_its_numbers_and_a_heading_has_none() {
        let small = "0x00008000\t|\t0x0\t\t0x1003\t0x2003\t0x3003\t";
        assert_eq!(columns(small), Some(5));
        assert_eq!(columns("IOVA_PFN\t\t|\tPML5E\t|\tPML4E"), None);
        assert_eq!(columns("Device 0000:00:01.0 @0x1000"), None);
    }
}
