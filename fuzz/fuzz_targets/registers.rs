// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Streams of register writes, table edits, descriptors and requests: no panic, bounded work, consistent registers.
#![no_main]

use fuzz::{Machine, Operation, capabilities};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, Vec<Operation>)| {
    let (choice, operations) = input;
    let machine = Machine::new(capabilities(choice));
    for operation in &operations {
        operation.apply(&machine);
        machine.check();
    }
});
