// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Groups and containers: maps, moves data, unmaps, and what is not mapped is refused.

use anyhow::{Context, Result, bail};

use super::driver::{Command, Dmatest};
use super::refusals::{Mode, Refusals, Why};
use super::setup;
use super::transfer::{FROM, TO, Transfer};
use crate::memory::{Memory, PAGE, PAGE_BYTES};
use crate::vfio;
use crate::vfio::group::Container;

/// A page for reading only, and one that is never mapped.
const READ_ONLY: u64 = 0x5000_0000;
const NOWHERE: u64 = 0x5000_1000;

/// Runs `dmatest type1 MODE`.
pub fn run(mode: Mode) -> Result<String> {
    let function = setup::function()?;
    let container = Container::open(&function)?;
    let mut refusals = Refusals::new(&function, mode)?;
    let mut device = Dmatest::new(vfio::enable(&container.device)?)?;

    let transfer = Transfer::new()?;
    container.map(&transfer.from, FROM, true).context("map")?;
    container.map(&transfer.to, TO, true).context("map")?;
    transfer.run(&mut device)?;

    let page = Memory::new(PAGE)?;
    page.set_word(0, 0x1122)?;
    container.map(&page, READ_ONLY, false).context("map")?;
    let read = device.done(&Command::copy(READ_ONLY, FROM, 8));
    read.context("reading a page for reading only")?;
    transfer.from.check_word(0, 0x1122)?;
    let write = Command::fill(READ_ONLY, 8, 1);
    refusals.expect(&mut device, &write, READ_ONLY, Why::ReadOnly)?;
    page.check_word(0, 0x1122)?;
    let read = Command::checksum(NOWHERE, 8);
    refusals.expect(&mut device, &read, NOWHERE, Why::Absent)?;

    let bytes = transfer.to.bytes();
    let unmapped = container.unmap(TO, bytes).context("unmap")?;
    if unmapped != bytes {
        bail!("{unmapped} bytes were unmapped instead of {bytes}");
    }
    let last = TO + bytes - PAGE_BYTES;
    let write = Command::fill(last, 8, 2);
    refusals.expect(&mut device, &write, last, Why::Absent)?;
    transfer.check_last_page().context("after the unmap")?;
    device.done(&Command::checksum(FROM, 4096))?;
    Ok(format!("64 MiB moved, {refusals}"))
}
