// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guest RAM: anonymous memory with transparent huge pages, or a memfd of reserved huge pages.
//!
//! A guest reset leaves what RAM holds, as hardware does; the boot loaders write what they need anew.
//! Not supported: hot-added RAM, NUMA placement.

use crate::config::{HugePages, MemoryConfig};
use crate::error::Error;
use crate::layout;
use iommu::memory::Ram;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::fs::File;
use vm_memory::{FileOffset, GuestRegionMmap, MmapRegion, mmap::MmapRegionBuilder};

/// Makes the guest's RAM.
///
/// # Errors
/// The size is not a positive multiple of the page size, or the host does not have as much.
pub fn create(config: MemoryConfig) -> Result<Ram, Error> {
    check(config, host_memory())?;
    let ranges = layout::ram_ranges(config.size).ok_or_else(|| too_much(config.size))?;
    let mut regions = Vec::new();
    for range in ranges {
        let size = usize::try_from(range.size).map_err(|_| too_much(config.size))?;
        let mapping = match config.hugepages {
            None => anonymous(size)?,
            Some(pages) => huge(size, range.size, pages)?,
        };
        let region =
            GuestRegionMmap::new(mapping, range.base).ok_or_else(|| too_much(config.size))?;
        regions.push(region);
    }
    Ram::from_regions(regions)
        .map_err(|e| Error::Bug(format!("RAM regions do not fit together: {e}")))
}

/// RAM and swap of the host, in bytes.
fn host_memory() -> u64 {
    let info = rustix::system::sysinfo();
    let units = info.totalram.saturating_add(info.totalswap);
    units.saturating_mul(u64::from(info.mem_unit))
}

fn check(config: MemoryConfig, host: u64) -> Result<(), Error> {
    let page = config.hugepages.map_or(4096, HugePages::bytes);
    if config.size == 0 || !config.size.is_multiple_of(page) {
        return Err(Error::Option {
            option: "memory",
            problem: format!(
                "{} bytes is not a positive multiple of the page size, {page}",
                config.size
            ),
        });
    }
    if config.size > host {
        return Err(Error::HostLacks(format!(
            "--memory: {} MiB of guest RAM cannot be had: the host has {} MiB with swap",
            config.size >> 20,
            host >> 20
        )));
    }
    Ok(())
}

fn too_much(size: u64) -> Error {
    Error::HostLacks(format!("--memory: {size} bytes cannot be addressed"))
}

fn anonymous(size: usize) -> Result<MmapRegion, Error> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let region = map(MmapRegionBuilder::new(size).with_mmap_flags(flags), size)?;
    advise_huge(&region);
    Ok(region)
}

/// Asks for transparent huge pages. A host without them works as well, only slower.
#[expect(unsafe_code, reason = "madvise takes an address")]
fn advise_huge(region: &MmapRegion) {
    // SAFETY: the range is exactly the live mapping, and this advice changes no contents.
    let advised = unsafe {
        rustix::mm::madvise(
            region.as_ptr().cast(),
            region.size(),
            rustix::mm::Advice::LinuxHugepage,
        )
    };
    if let Err(error) = advised {
        tracing::debug!("no transparent huge pages for guest RAM: {error}");
    }
}

fn huge(size: usize, bytes: u64, pages: HugePages) -> Result<MmapRegion, Error> {
    let size_flag = match pages {
        HugePages::Size2M => MemfdFlags::HUGE_2MB,
        HugePages::Size1G => MemfdFlags::HUGE_1GB,
    };
    let advice = "reserve huge pages in /sys/kernel/mm/hugepages";
    let what = || {
        format!(
            "reserve {} huge pages of {} MiB for guest RAM",
            bytes / pages.bytes(),
            pages.bytes() >> 20
        )
    };
    let refused = |source: std::io::Error| Error::Host {
        what: what(),
        source,
        advice,
    };
    let fd = memfd_create(
        "guest-ram",
        MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB | size_flag,
    )
    .map_err(|e| refused(e.into()))?;
    ftruncate(&fd, bytes).map_err(|e| refused(e.into()))?;
    // Mapped with reservation, so that a page that is missing is an error here and not a fault of the guest.
    let builder = MmapRegionBuilder::new(size)
        .with_mmap_flags(libc::MAP_SHARED)
        .with_hugetlbfs(true)
        .with_file_offset(FileOffset::new(File::from(fd), 0));
    map(builder, size).map_err(|error| match error {
        Error::Host { source, .. } => refused(source),
        other => other,
    })
}

fn map(builder: MmapRegionBuilder<()>, size: usize) -> Result<MmapRegion, Error> {
    builder
        .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
        .build()
        .map_err(|error| {
            let source = match error {
                vm_memory::mmap::MmapRegionError::Mmap(source) => source,
                other => std::io::Error::other(other),
            };
            Error::host(format!("map {} MiB of guest RAM", size >> 20), source)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

    fn config(size: u64) -> MemoryConfig {
        MemoryConfig {
            size,
            hugepages: None,
        }
    }

    #[test]
    fn memory_of_zero_or_a_broken_page_is_a_usage_error() {
        for size in [0, 1, 4095, 0x1001] {
            assert_eq!(check(config(size), 1 << 40).unwrap_err().status(), 2);
        }
        let huge = MemoryConfig {
            size: 3 << 20,
            hugepages: Some(HugePages::Size2M),
        };
        assert_eq!(check(huge, 1 << 40).unwrap_err().status(), 2);
    }

    #[test]
    fn memory_beyond_the_host_is_refused_before_the_start() {
        assert!(check(config(1 << 30), 1 << 30).is_ok());
        assert_eq!(
            check(config((1 << 30) + 4096), 1 << 30)
                .unwrap_err()
                .status(),
            3
        );
    }

    #[test]
    fn memory_across_the_hole_has_two_regions() {
        let ram = create(config(layout::LOW_RAM_END + (1 << 20))).unwrap();
        let regions: Vec<_> = ram.iter().map(|r| (r.start_addr(), r.len())).collect();
        assert_eq!(
            regions,
            [
                (GuestAddress(0), 0x8000_0000),
                (GuestAddress(0x1_0000_0000), 1 << 20)
            ]
        );
    }
}
