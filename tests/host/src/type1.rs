// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The type1 backend against the host's own page tables.

use anyhow::{Result, bail};
use iommu::address::IovaRange;
use iommu::follow::DeviceHandle;
use vfio::backend::{Backend, Endpoint, HostError, TableId};
use vfio::pci_address::PciAddress;
use vfio::run::{Rights, Run};
use vfio::sysfs::HostDevice;
use vfio::type1::Type1;

use crate::check::{self, range, same};
use crate::edu::{BUFFER_BYTES, Edu, Way};
use crate::oracle;
use crate::ram::{HIGH, Memory};

const EDU: DeviceHandle = DeviceHandle(3);
const PAGE: u64 = 4096;
const BUFFER: u64 = 0x0800_0000;
const BUFFER_LEN: u64 = 2 << 20;

struct Bench {
    backend: Type1,
    memory: Memory,
    address: PciAddress,
    table: TableId,
}

/// Runs `type1 BDF`.
pub fn run(address: PciAddress) -> Result<()> {
    let (mut bench, edu) = Bench::open(address)?;
    bench.limits()?;
    let runs = bench.mappings()?;
    bench.refusals(&runs)?;
    bench.memory.write(BUFFER_LEN, &[0x5a; BUFFER_BYTES])?;
    edu.transfer(Way::Read, BUFFER)?;
    edu.transfer(Way::Write, BUFFER + PAGE)?;
    let mut found = [0; BUFFER_BYTES];
    bench.memory.read(BUFFER_LEN + PAGE, &mut found)?;
    same(
        "DMA brought its bytes",
        &(found == [0x5a; BUFFER_BYTES]),
        &true,
    )?;
    bench.removals(&runs)?;
    bench.backend.close(EDU, None)?;
    println!("TYPE1 ok");
    Ok(())
}

/// Runs `type1-limit BDF N`.
pub fn limit(address: PciAddress, limit: u32) -> Result<()> {
    let (mut bench, _edu) = Bench::open(address)?;
    let left = bench.backend.entries_left(bench.table)?;
    same("entries left at first", &left, &Some(limit))?;
    let run = |index: u32| {
        let offset = u64::from(index) * PAGE;
        check::run(BUFFER + 2 * offset, PAGE, offset, Rights::ReadWrite)
    };
    for index in 0..limit {
        bench.map(&run(index))?;
    }
    let left = bench.backend.entries_left(bench.table)?;
    same("entries left at last", &left, &Some(0))?;
    same(
        "one too many",
        &bench.map(&run(limit)),
        &Err(HostError::EntryLimit),
    )?;
    let freed = bench.backend.unmap(bench.table, run(0).iova);
    same("unmapping one", &freed, &Ok(PAGE))?;
    same("one again", &bench.map(&run(limit)), &Ok(()))?;
    bench.backend.close(EDU, None)?;
    println!("TYPE1-LIMIT ok");
    Ok(())
}

impl Bench {
    fn open(address: PciAddress) -> Result<(Self, Edu)> {
        let mut backend = Type1::new();
        let file = backend.open(EDU, &HostDevice::read(address)?, None)?;
        let Some(table) = backend.fixed_table(EDU) else {
            bail!("the device has no table");
        };
        let bench = Self {
            backend,
            memory: Memory::new()?,
            address,
            table,
        };
        Ok((bench, Edu::new(file)?))
    }

    fn map(&mut self, run: &Run) -> Result<(), HostError> {
        let host = self.memory.host(run.gpa.0).unwrap_or_default();
        self.backend.map(self.table, run, host)
    }

    fn holds(&self, what: &str, runs: &[Run]) -> Result<oracle::Mapped> {
        oracle::holds(what, self.address, &self.memory, runs)
    }

    fn limits(&mut self) -> Result<()> {
        let limits = self.backend.limits(self.table)?;
        println!("limits {limits:x?}");
        same("granule", &limits.granule(), &PAGE)?;
        let split = limits
            .ranges
            .iter()
            .any(|range| range.last().0 == 0xfedf_ffff);
        same("the interrupt range cannot be mapped", &split, &true)?;
        let left = self.backend.entries_left(self.table)?;
        same("entries left", &left, &Some(65535))
    }

    fn mappings(&mut self) -> Result<Vec<Run>> {
        let runs = vec![
            check::run(BUFFER, BUFFER_LEN, BUFFER_LEN, Rights::ReadWrite),
            check::run(BUFFER + (32 << 20), 4 * PAGE, HIGH + PAGE, Rights::Read),
        ];
        for run in &runs {
            self.map(run)?;
        }
        self.holds("mapped", &runs)?;
        let left = self.backend.entries_left(self.table)?;
        same("a run is one entry", &left, &Some(65533))?;
        Ok(runs)
    }

    fn refusals(&mut self, runs: &[Run]) -> Result<()> {
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
        ];
        for (what, run, error) in wrong {
            same(what, &self.map(&run), &Err(error))?;
        }
        let unpinnable = check::run(0x1000, PAGE, !0xfff, rw);
        same(
            "no memory",
            &self.map(&unpinnable),
            &Err(HostError::Unpinnable),
        )?;
        let cut = self.backend.unmap(self.table, range(BUFFER, PAGE));
        same("unmapping a part", &cut, &Err(HostError::Invalid))?;
        let cut = self.backend.cut_out(self.table, range(BUFFER, PAGE));
        same("cutting", &cut, &Err(HostError::Unsupported))?;
        let nothing = self.backend.unmap(self.table, range(0x4000_0000, PAGE));
        same("unmapping nothing", &nothing, &Ok(0))?;
        let endpoint = Endpoint {
            device: EDU,
            pasid: None,
        };
        let own = self.backend.attach(endpoint, self.table);
        same("attaching to its own table", &own, &Ok(()))?;
        self.holds("after refusals", runs).map(drop)
    }

    fn removals(&mut self, runs: &[Run]) -> Result<()> {
        let one = self.backend.unmap(self.table, runs[1].iova);
        same("unmapping one of two", &one, &Ok(4 * PAGE))?;
        self.holds("one left", &runs[..1])?;
        self.map(&runs[1])?;
        let both = self.backend.unmap(self.table, IovaRange::ALL);
        same("unmapping all", &both, &Ok(BUFFER_LEN + 4 * PAGE))?;
        self.holds("nothing left", &[])?;
        let left = self.backend.entries_left(self.table)?;
        same("entries are free again", &left, &Some(65535))
    }
}
