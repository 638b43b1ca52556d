// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `edu peer`: edu's DMA into and out of the memory of another device, which is QEMU's ivshmem.
//!
//! Says of each way whether data arrived, because a host need not be able to lead one device to another; what the guest took
//! away must never be reached.

use anyhow::{Context, Result, bail};

use super::bench::{BASE, Bench};
use crate::memory::{Memory, PAGE, PAGE_BYTES};
use crate::pci::Function;
use crate::vfio;
use crate::vfio::group::Container;

/// PCI ids of ivshmem, and the BAR that is its memory.
const IDS: (u16, u16) = (0x1af4, 0x1110);
const MEMORY: u32 = 2;

/// Where edu finds its own memory, and the other device's first pages.
const OWN: u64 = BASE;
const PEER: u64 = BASE + 0x10_0000;

/// Runs it.
pub fn run() -> Result<()> {
    let bench = Bench::open(1)?;
    let function = Function::find(IDS.0, IDS.1)?;
    function.bind_to_vfio()?;
    let peer = Container::open(&function)?;
    vfio::answer(&peer.device, true)?;
    let memory = Memory::of_device(vfio::bar(&peer.device, MEMORY)?);
    bench.map(0, OWN)?;
    for page in [0, PAGE_BYTES] {
        bench.map_other(&memory, page, PEER + page)?;
    }
    println!("PEER into it: {}", into(&bench, &memory, 1)?);
    println!("PEER out of it: {}", out_of(&bench, &memory, 2)?);
    memory.set_word(0, 0)?;
    vfio::answer(&peer.device, false)?;
    send(&bench, 3)?;
    vfio::answer(&peer.device, true)?;
    if memory.word(0)? == 3 {
        bail!("a device was reached that does not answer");
    }
    println!(
        "PEER into it when it answers again: {}",
        into(&bench, &memory, 4)?
    );
    bench.unmap(PEER, 2 * PAGE_BYTES)?;
    if into(&bench, &memory, 5)? {
        bail!("a device was reached that is not mapped any more");
    }
    println!("PEER done");
    Ok(())
}

/// Whether edu brings `word` from its own memory into the other device's.
fn into(bench: &Bench, memory: &Memory, word: u64) -> Result<bool> {
    // It holds what earlier guests left there.
    memory.set_word(0, 0)?;
    send(bench, word)?;
    Ok(memory.word(0)? == word)
}

fn send(bench: &Bench, word: u64) -> Result<()> {
    bench.memory().set_word(0, word)?;
    bench.edu().fetch(OWN).context("fetching")?;
    bench.edu().store(PEER).context("storing")
}

/// Whether edu brings `word` from the other device's second page into its own memory.
fn out_of(bench: &Bench, memory: &Memory, word: u64) -> Result<bool> {
    memory.set_word(PAGE, word)?;
    bench.memory().set_word(0, 0)?;
    bench.edu().fetch(PEER + PAGE_BYTES)?;
    bench.edu().store(OWN)?;
    Ok(bench.memory().word(0)? == word)
}
