// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory that stands for a guest's RAM, and where the host has its pages.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Result, bail};
use vfio::ram::{HostVa, RamMap, RamRegion};
use vm_memory::{Bytes, GuestAddress, MmapRegion, VolatileMemory};

const PAGE: u64 = 4096;

/// Bytes of each of the two regions.
pub const REGION: u64 = 8 << 20;
/// Where the second region begins, which is as far from the first in the process as in the guest, or farther.
pub const HIGH: u64 = 1 << 32;

/// Two regions, at 0 and at [`HIGH`].
pub struct Memory {
    regions: [(u64, MmapRegion); 2],
}

impl Memory {
    /// Fresh memory, in large pages where the host gives them.
    pub fn new() -> Result<Self> {
        let regions = [(0, region()?), (HIGH, region()?)];
        Ok(Self { regions })
    }

    /// What the backends are told.
    pub fn map(&self) -> Result<RamMap> {
        let regions = self.regions.iter().map(|(gpa, region)| RamRegion {
            gpa: GuestAddress(*gpa),
            len: REGION,
            host: HostVa(region.as_ptr() as u64),
        });
        Ok(RamMap::new(regions.collect())?)
    }

    /// Where `gpa` lies in the process.
    pub fn host(&self, gpa: u64) -> Result<HostVa> {
        let (region, offset) = self.find(gpa)?;
        Ok(HostVa(region.as_ptr() as u64 + offset))
    }

    /// The physical address of the page at `gpa`.
    pub fn physical(&self, gpa: u64) -> Result<u64> {
        let page = self.host(gpa)?.0 / PAGE;
        let mut entry = [0; 8];
        File::open("/proc/self/pagemap")?.read_exact_at(&mut entry, page * 8)?;
        let entry = u64::from_ne_bytes(entry);
        if entry >> 63 == 0 {
            bail!("the page at {gpa:#x} is not there");
        }
        Ok((entry & ((1 << 55) - 1)) * PAGE)
    }

    /// Writes `bytes` at `gpa`.
    pub fn write(&self, gpa: u64, bytes: &[u8]) -> Result<()> {
        let (region, offset) = self.find(gpa)?;
        let slice = region.get_slice(usize::try_from(offset)?, bytes.len())?;
        Ok(slice.write_slice(bytes, 0)?)
    }

    /// Reads at `gpa`.
    pub fn read(&self, gpa: u64, bytes: &mut [u8]) -> Result<()> {
        let (region, offset) = self.find(gpa)?;
        let slice = region.get_slice(usize::try_from(offset)?, bytes.len())?;
        Ok(slice.read_slice(bytes, 0)?)
    }

    fn find(&self, gpa: u64) -> Result<(&MmapRegion, u64)> {
        let found = self
            .regions
            .iter()
            .find(|(start, _)| (*start..start + REGION).contains(&gpa));
        match found {
            Some((start, region)) => Ok((region, gpa - start)),
            None => bail!("no RAM at {gpa:#x}"),
        }
    }
}

#[expect(unsafe_code, reason = "madvise takes an address")]
fn region() -> Result<MmapRegion> {
    let size = usize::try_from(REGION)?;
    let region = MmapRegion::new(size)?;
    // SAFETY: the range is exactly the live mapping, and this advice changes no contents.
    let advised = unsafe { libc::madvise(region.as_ptr().cast(), size, libc::MADV_HUGEPAGE) };
    if advised != 0 {
        println!("no large pages on this host");
    }
    let ones = vec![1; size];
    region.get_slice(0, size)?.write_slice(&ones, 0)?;
    Ok(region)
}
