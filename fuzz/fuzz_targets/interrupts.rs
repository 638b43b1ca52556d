// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Interrupts through arbitrary table entries and posted-interrupt descriptors: no panic, bounded accesses, and nothing but
//! an interrupt address leaves the unit.
#![no_main]

use arbitrary::Arbitrary;
use fuzz::{Machine, capabilities};
use iommu::ids::SourceId;
use iommu::msi::MsiMessage;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    capabilities: u16,
    table: u64,
    compatibility: bool,
    words: Vec<(u16, u64)>,
    interrupts: Vec<(u16, u64, u32, bool)>,
}

fuzz_target!(|input: Input| {
    let machine = Machine::new(capabilities(input.capabilities));
    for &(word, value) in &input.words {
        machine.memory.set(word.into(), value);
    }
    // A table in memory, mostly.
    machine.write(0xb8, &(input.table & 0xffff).to_le_bytes());
    machine.write(0x18, &0x0100_0000u32.to_le_bytes());
    let compatibility = u32::from(input.compatibility) << 23;
    machine.write(0x18, &(0x0200_0000 | compatibility).to_le_bytes());
    for &(source, address, data, anywhere) in &input.interrupts {
        let address = if anywhere {
            address
        } else {
            0xfee0_0000 | address & 0xf_ffff
        };
        machine.memory.accesses();
        let message = MsiMessage { address, data };
        let peeked = machine.unit.peek_remap(SourceId(source), message);
        let remapped = machine.unit.remap(SourceId(source), message);
        if let Some(peeked) = peeked {
            assert_eq!(remapped, Some(peeked));
        }
        if let Some(remapped) = remapped
            && remapped != message
        {
            assert_eq!(remapped.address & 0xfff0_0000, 0xfee0_0000);
        }
        assert!(machine.memory.accesses() <= 64);
    }
    machine.check();
});
