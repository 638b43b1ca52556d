// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The device without a driver and without an address space: the kernel's IOMMU is in pass-through (`iommu=pt`), so that it
//! reaches all memory at its own address, and nothing else.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail};
use vm_memory::{FileOffset, MmapRegion};

use super::driver::{Command, DEVICE, Dmatest, VENDOR};
use super::refusals::{Mode, Refusals, Why};
use super::turns::wait_at;
use crate::memory::{Memory, PAGE, PAGE_BYTES};
use crate::pci::Function;

/// Bytes of BAR 0.
const BAR: usize = 128 << 10;

/// Pages that are copied to as many others.
const PAGES: usize = 1024;

/// Bytes that one command reads.
const PIECE: u64 = 16 << 20;

/// Runs `dmatest direct`.
pub fn run() -> Result<String> {
    let function = Function::find(VENDOR, DEVICE)?;
    let mut device = take(&function)?;
    let (from, to) = (Memory::new(PAGES * PAGE)?, Memory::new(PAGES * PAGE)?);
    from.fill(7)?;
    to.fill(8)?;
    let places = (frames(&from)?, frames(&to)?);
    for (from, to) in places.0.iter().zip(&places.1) {
        device.done(&Command::copy(*from, *to, 4096))?;
    }
    if (frames(&from)?, frames(&to)?) != places {
        bail!("the kernel moved the memory meanwhile");
    }
    to.check(7).context("at the destination")?;

    let ram = system_ram()?;
    let mut read = 0;
    for &(start, end) in &ram {
        for at in (start..end).step_by(usize::try_from(PIECE)?) {
            let bytes = PIECE.min(end - at);
            device.done(&Command::checksum(at, u32::try_from(bytes)?))?;
            read += bytes;
        }
    }
    let (_, beyond) = ram.iter().copied().max().context("no memory")?;
    let beyond = beyond.next_multiple_of(PIECE) + PIECE;
    let mut refusals = Refusals::new(&function, Mode::Passed)?;
    let write = Command::fill(beyond, 8, 1);
    refusals.expect(&mut device, &write, beyond, Why::Absent)?;
    wait_at("direct")?;
    fs::write(function.path("enable"), "0").context("disabling the device")?;
    Ok(format!("{read} bytes of RAM reached, {refusals}"))
}

/// The device without a driver, enabled and allowed to make requests.
fn take(function: &Function) -> Result<Dmatest> {
    let driver = function.path("driver");
    if driver.exists() {
        fs::write(driver.join("unbind"), &function.id).context("taking it from its driver")?;
    }
    fs::write(function.path("enable"), "1").context("enabling the device")?;
    let config = open(function, "config")?;
    let mut command = [0; 2];
    config.read_exact_at(&mut command, 4)?;
    config.write_all_at(&[command[0] | 0b110, command[1]], 4)?;
    let bar = FileOffset::new(open(function, "resource0")?, 0);
    Dmatest::new(MmapRegion::from_file(bar, BAR).context("mapping BAR 0")?)
}

fn open(function: &Function, file: &str) -> Result<File> {
    let path = function.path(file);
    let file = OpenOptions::new().read(true).write(true).open(&path);
    file.with_context(|| format!("opening {}", path.display()))
}

/// The physical address of each page.
fn frames(memory: &Memory) -> Result<Vec<u64>> {
    let map = File::open("/proc/self/pagemap").context("opening the page map")?;
    let first = memory.address() / PAGE_BYTES;
    let frame = |page: u64| {
        let mut entry = [0; 8];
        map.read_exact_at(&mut entry, (first + page) * 8)?;
        // Bit 63 is set for a page that is there, whose number the lower 55 bits are.
        match u64::from_le_bytes(entry) {
            entry if entry >> 63 == 1 && entry << 9 != 0 => {
                Ok((entry & ((1 << 55) - 1)) * PAGE_BYTES)
            }
            entry => bail!("page {page} has no address: {entry:#x}"),
        }
    };
    (0..memory.bytes() / PAGE_BYTES).map(frame).collect()
}

/// The ranges of RAM, in whole pages: start and end.
fn system_ram() -> Result<Vec<(u64, u64)>> {
    let map = fs::read_to_string("/proc/iomem").context("reading the map of memory")?;
    let range = |line: &str| {
        let (range, _) = line.split_once(" : System RAM")?;
        let (start, last) = range.split_once('-')?;
        let number = |digits: &str| u64::from_str_radix(digits.trim(), 16).ok();
        let start = number(start)?.next_multiple_of(PAGE_BYTES);
        let end = (number(last)? + 1) / PAGE_BYTES * PAGE_BYTES;
        (start < end).then_some((start, end))
    };
    Ok(map.lines().filter_map(range).collect())
}
