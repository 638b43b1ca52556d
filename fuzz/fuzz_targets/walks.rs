// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Requests through arbitrary tables, which may refer to themselves: no panic, and bounded reads.
#![no_main]

use arbitrary::Arbitrary;
use fuzz::{Dma, Entry, Machine, capabilities};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    capabilities: u16,
    /// The table mode.
    mode: u8,
    /// What every page starts with, so that the first requests get somewhere.
    fill: [u64; 4],
    entries: Vec<Entry>,
    requests: Vec<Dma>,
}

fuzz_target!(|input: Input| {
    let machine = Machine::new(capabilities(input.capabilities));
    for (word, value) in (0..16 * 512).zip(input.fill.iter().cycle()) {
        // Pointers into the memory.
        machine.memory.set(word, value & 0xf_ffff);
    }
    for entry in &input.entries {
        entry.store(&machine);
    }
    let root = u64::from(input.mode & 3) << 10;
    machine.write(0x20, &root.to_le_bytes());
    machine.write(0x18, &0x4000_0000u32.to_le_bytes());
    machine.write(0x18, &0x8000_0000u32.to_le_bytes());
    for request in &input.requests {
        request.send(&machine);
    }
    machine.check();
});
