// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Saved units, damaged or not: what is refused changes nothing, and what is accepted is a state that a unit can be in, from
//! which two units go on alike.
#![no_main]

use arbitrary::Arbitrary;
use fuzz::{Machine, Operation, capabilities};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    capabilities: u16,
    before: Vec<Operation>,
    /// Words to change, and how; the first few are those of the other fields.
    damage: Vec<(u8, u32)>,
    after: Vec<Operation>,
}

fuzz_target!(|input: Input| {
    let capabilities = capabilities(input.capabilities);
    let machine = Machine::new(capabilities);
    for operation in &input.before {
        operation.apply(&machine);
    }
    let before = machine.unit.save();
    let mut saved = before.clone();
    for &(place, bits) in &input.damage {
        match place {
            0 => saved.root ^= u64::from(bits),
            1 => saved.interrupt_table ^= u64::from(bits),
            2 => saved.queue ^= u64::from(bits),
            3 => saved.next_record ^= u16::try_from(bits & 0xff).unwrap_or(0),
            4 => saved
                .registers
                .truncate(usize::try_from(bits & 0xff).unwrap_or(0)),
            _ => {
                let index = usize::from(place) % saved.registers.len().max(1);
                if let Some(word) = saved.registers.get_mut(index) {
                    *word ^= bits;
                }
            }
        }
    }
    if machine.unit.restore(&saved).is_err() {
        assert_ne!(saved, before, "what was saved can be restored");
        assert_eq!(machine.unit.save(), before, "nothing has changed");
        return;
    }
    let twin = Machine::new(capabilities);
    twin.memory.restore(&machine.memory.snapshot());
    twin.set_late(machine.is_late());
    twin.unit
        .restore(&machine.unit.save())
        .expect("saved by a unit");
    machine.messages();
    twin.messages();
    for operation in &input.after {
        operation.apply(&machine);
        operation.apply(&twin);
        assert_eq!(twin.unit.save(), machine.unit.save());
        assert_eq!(twin.messages(), machine.messages());
    }
    assert_eq!(twin.memory.snapshot(), machine.memory.snapshot());
});
