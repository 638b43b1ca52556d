// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The iommufd backend against the host's own page tables, with a device that does DMA meanwhile.

use anyhow::{Result, bail};
use iommu::follow::DeviceHandle;
use iommu::ids::Pasid;
use vfio::backend::{Backend, Endpoint, HostError, Role, TableId};
use vfio::iommufd::{Iommufd, Options};
use vfio::pci_address::PciAddress;
use vfio::run::{Rights, Run};
use vfio::sysfs::HostDevice;

use crate::check::{self, range, same};
use crate::edu::{BUFFER_BYTES, Edu, Way};
use crate::oracle;
use crate::ram::{HIGH, Memory, REGION};

const EDU: DeviceHandle = DeviceHandle(7);
const PAGE: u64 = 4096;
/// Where the guest would have mapped 2 MiB. edu has 28 address bits.
const BUFFER: u64 = 0x0800_0000;
const BUFFER_LEN: u64 = 2 << 20;
/// And 16 KiB for reading only.
const READ_ONLY: u64 = 0x0a00_0000;
/// Transfers under which single pages are cut out and mapped again.
const TRANSFERS: u32 = 40;

struct Bench {
    backend: Iommufd,
    memory: Memory,
    address: PciAddress,
    edu: Edu,
}

/// Runs `iommufd BDF`.
pub fn run(address: PciAddress) -> Result<()> {
    let memory = Memory::new()?;
    let mut backend = Iommufd::new(&memory.map()?, Options::default())?;
    let file = backend.open(EDU, &HostDevice::read(address)?, None)?;
    let hardware = backend.hardware(EDU);
    println!("hardware {hardware:x?}");
    let Some(registers) = hardware.and_then(|hardware| hardware.vtd) else {
        bail!("the host names no VT-d unit");
    };
    // CAP.NFR counts fault recording registers from 0; a CAP of 0 would be none that was read.
    same("CAP was read", &(registers.cap != 0), &true)?;
    let mut bench = Bench {
        backend,
        memory,
        address,
        edu: Edu::new(file)?,
    };
    bench.identity()?;
    let (table, runs) = bench.shadow()?;
    bench.refusals(table, &runs)?;
    bench.cuts_under_dma(table, &runs)?;
    bench.cut_leaves_exact_rest(table)?;
    bench.end(table)?;
    println!("IOMMUFD ok");
    Ok(())
}

fn endpoint() -> Endpoint {
    Endpoint {
        device: EDU,
        pasid: None,
    }
}

fn buffer() -> Run {
    check::run(BUFFER, BUFFER_LEN, BUFFER_LEN, Rights::ReadWrite)
}

impl Bench {
    fn attach(&mut self, table: TableId) -> Result<(), HostError> {
        self.backend.attach(endpoint(), table)
    }

    fn map(&mut self, table: TableId, run: &Run) -> Result<(), HostError> {
        let host = self.memory.host(run.gpa.0).unwrap_or_default();
        self.backend.map(table, run, host)
    }

    fn holds(&self, what: &str, runs: &[Run]) -> Result<oracle::Mapped> {
        oracle::holds(what, self.address, &self.memory, runs)
    }

    /// All RAM one to one, in large pages.
    fn identity(&mut self) -> Result<()> {
        let Some(identity) = self.backend.identity_table() else {
            bail!("no identity table");
        };
        self.attach(identity)?;
        let ram = [
            check::run(0, REGION, 0, Rights::ReadWrite),
            check::run(HIGH, REGION, HIGH, Rights::ReadWrite),
        ];
        let mapped = self.holds("identity", &ram)?;
        same(
            "identity has large pages",
            &(mapped.leaves < mapped.pages.len()),
            &true,
        )?;
        let limits = self.backend.limits(identity)?;
        println!("identity limits {limits:x?}");
        let interrupts = range(0xfee0_0000, 0x10_0000);
        let holes = limits
            .ranges
            .iter()
            .all(|ok| ok.last() < interrupts.start() || ok.start() > interrupts.last());
        same("the interrupt range cannot be mapped", &holes, &true)
    }

    /// A table of its own, attached in place of the other.
    fn shadow(&mut self) -> Result<(TableId, Vec<Run>)> {
        let table = self.backend.create_table(Role::Plain)?;
        let runs = vec![
            buffer(),
            check::run(READ_ONLY, 4 * PAGE, HIGH + PAGE, Rights::Read),
            check::run(READ_ONLY + (1 << 20), PAGE, HIGH, Rights::Write),
        ];
        for run in &runs {
            self.map(table, run)?;
        }
        self.attach(table)?;
        let mapped = self.holds("shadow", &runs)?;
        same(
            "shadow has small pages only",
            &mapped.leaves,
            &mapped.pages.len(),
        )?;
        same("granule", &self.backend.limits(table)?.granule(), &PAGE)?;
        let left = self.backend.entries_left(table)?;
        same("entries are not limited", &left, &None)?;
        Ok((table, runs))
    }

    /// Each wrong call has the answer that the trait promises, and changes nothing.
    fn refusals(&mut self, table: TableId, runs: &[Run]) -> Result<()> {
        let rw = Rights::ReadWrite;
        let wrong = [
            (
                "overlap",
                check::run(BUFFER + PAGE, PAGE, 0, rw),
                HostError::Overlap,
            ),
            (
                "misaligned",
                check::run(0x800, PAGE, 0, rw),
                HostError::Invalid,
            ),
            (
                "interrupt range",
                check::run(0xfee0_0000, PAGE, 0, rw),
                HostError::Invalid,
            ),
            (
                "beyond the width",
                check::run(1 << 60, PAGE, 0, rw),
                HostError::Invalid,
            ),
            (
                "no RAM",
                check::run(0x1000, PAGE, REGION, rw),
                HostError::NotFound,
            ),
            (
                "across the end of RAM",
                check::run(0x1000, 2 * PAGE, REGION - PAGE, rw),
                HostError::NotFound,
            ),
        ];
        for (what, run, error) in wrong {
            same(what, &self.map(table, &run), &Err(error))?;
        }
        let nothing = self.backend.unmap(table, range(0x4000_0000, PAGE));
        same("unmapping nothing", &nothing, &Ok(0))?;
        let cut = self.backend.unmap(table, range(BUFFER, PAGE));
        same("unmapping a part", &cut, &Ok(0))?;
        self.halfway(table, runs)?;
        let pasid = Endpoint {
            device: EDU,
            pasid: Pasid::new(5),
        };
        let pasid = self.backend.attach(pasid, table);
        same(
            "a PASID of a device without",
            &pasid,
            &Err(HostError::Unsupported),
        )?;
        let busy = self.backend.destroy_table(table);
        same("destroying a table in use", &busy, &Err(HostError::Busy))?;
        self.holds("after refusals", runs).map(drop)
    }

    /// A range that holds one mapping and cuts the next: the first is gone when the kernel refuses, and it says as little as for
    /// an empty range.
    fn halfway(&mut self, table: TableId, runs: &[Run]) -> Result<()> {
        let first = check::run(0x3000_0000, PAGE, 0, Rights::ReadWrite);
        let second = check::run(0x3000_0000 + PAGE, 2 * PAGE, HIGH, Rights::ReadWrite);
        self.map(table, &first)?;
        self.map(table, &second)?;
        let refused = self.backend.unmap(table, range(0x3000_0000, 2 * PAGE));
        same("unmapping one and a half", &refused, &Ok(0))?;
        let left: Vec<Run> = runs.iter().copied().chain([second]).collect();
        self.holds("halfway", &left)?;
        let rest = self.backend.unmap(table, second.iova);
        same("unmapping the rest", &rest, &Ok(2 * PAGE))
    }

    /// Pages of the buffer are cut out and mapped again while the device reads and writes their neighbours.
    fn cuts_under_dma(&mut self, table: TableId, runs: &[Run]) -> Result<()> {
        let pages = BUFFER_LEN / PAGE;
        let mut cuts = 0u64;
        for round in 0..TRANSFERS {
            // Two pages in the middle are the device's; all others come and go.
            let source = pages / 2 + u64::from(round) % 2;
            let target = pages / 2 + 2;
            let pattern = pattern(round);
            self.memory.write(BUFFER_LEN + source * PAGE, &pattern)?;
            for (way, page) in [(Way::Read, source), (Way::Write, target)] {
                self.edu.start(way, BUFFER + page * PAGE)?;
                while self.edu.is_busy()? {
                    let page = (cuts * 37) % pages;
                    if !(pages / 2..pages / 2 + 3).contains(&page) {
                        self.cut_and_map(table, page)?;
                    }
                    cuts += 1;
                }
            }
            let mut found = vec![0; BUFFER_BYTES];
            self.memory.read(BUFFER_LEN + target * PAGE, &mut found)?;
            if found != pattern {
                bail!("transfer {round} did not bring its bytes");
            }
        }
        println!("{TRANSFERS} transfers each way under {cuts} cuts");
        same(
            "there were many cuts",
            &(cuts > u64::from(TRANSFERS)),
            &true,
        )?;
        self.holds("after the cuts", runs).map(drop)
    }

    fn cut_and_map(&mut self, table: TableId, page: u64) -> Result<()> {
        let offset = page * PAGE;
        let removed = self.backend.cut_out(table, range(BUFFER + offset, PAGE))?;
        if removed != PAGE {
            bail!("cutting out page {page} removed {removed} bytes");
        }
        let run = check::run(
            BUFFER + offset,
            PAGE,
            BUFFER_LEN + offset,
            Rights::ReadWrite,
        );
        Ok(self.map(table, &run)?)
    }

    /// What is left around a cut are two mappings of exactly the rest.
    fn cut_leaves_exact_rest(&mut self, table: TableId) -> Result<()> {
        self.backend.unmap_all(table)?;
        self.holds("after unmap_all", &[])?;
        self.map(table, &buffer())?;
        let middle = BUFFER_LEN / 2;
        let cut = self
            .backend
            .cut_out(table, range(BUFFER + middle, 3 * PAGE));
        same("cutting three pages out", &cut, &Ok(3 * PAGE))?;
        let after = middle + 3 * PAGE;
        let rest = [
            check::run(BUFFER, middle, BUFFER_LEN, Rights::ReadWrite),
            check::run(
                BUFFER + after,
                BUFFER_LEN - after,
                BUFFER_LEN + after,
                Rights::ReadWrite,
            ),
        ];
        self.holds("around a cut", &rest)?;
        let empty = self.backend.cut_out(table, range(BUFFER + middle, PAGE));
        same("cutting where nothing is", &empty, &Ok(0))?;
        let before = self.backend.unmap(table, range(BUFFER, middle));
        same("unmapping before the cut", &before, &Ok(middle))?;
        let behind = self
            .backend
            .unmap(table, range(BUFFER + after, BUFFER_LEN - after));
        same("unmapping behind the cut", &behind, &Ok(BUFFER_LEN - after))
    }

    /// Detached, it reaches nothing; attached again, what the other table holds.
    fn end(&mut self, table: TableId) -> Result<()> {
        self.map(table, &buffer())?;
        self.backend.detach(endpoint())?;
        self.holds("detached", &[])?;
        self.backend.detach(endpoint())?;
        self.attach(table)?;
        self.edu.transfer(Way::Read, BUFFER)?;
        if let Some(identity) = self.backend.identity_table() {
            self.attach(identity)?;
            same(
                "destroying a table",
                &self.backend.destroy_table(table),
                &Ok(()),
            )?;
        }
        self.edu.transfer(Way::Read, 0)?;
        Ok(self.backend.close(EDU, None)?)
    }
}

fn pattern(round: u32) -> Vec<u8> {
    let mut state = round.wrapping_mul(0x9e37_79b9) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    (0..BUFFER_BYTES).map(next).collect()
}
