// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Slots as bytes, against the tables of docs/dmatest.md.

use super::*;

/// A slot: control, PASID, address, operand, compare, length, buffer offset.
fn slot(fields: (u32, u32, u64, u64, u64, u32, u32)) -> [u8; 64] {
    let (control, pasid, address, operand, compare, length, buffer) = fields;
    let mut slot = [0xee; 64];
    slot[0x00..0x04].copy_from_slice(&control.to_le_bytes());
    slot[0x04..0x08].copy_from_slice(&pasid.to_le_bytes());
    slot[0x08..0x10].copy_from_slice(&address.to_le_bytes());
    slot[0x10..0x18].copy_from_slice(&operand.to_le_bytes());
    slot[0x18..0x20].copy_from_slice(&compare.to_le_bytes());
    slot[0x20..0x24].copy_from_slice(&length.to_le_bytes());
    slot[0x24..0x28].copy_from_slice(&buffer.to_le_bytes());
    slot
}

fn decode(fields: (u32, u32, u64, u64, u64, u32, u32)) -> Result<Command, Status> {
    Command::decode(&slot(fields))
}

#[test]
fn every_operation_is_decoded() {
    let table = [
        (0, Operation::Nothing),
        (1, Operation::Read { buffer: 16 }),
        (2, Operation::Write { buffer: 16 }),
        (3, Operation::Copy { to: Iova(0x77) }),
        (4, Operation::Fill { pattern: 0x77 }),
        (5, Operation::Checksum),
        (6, Operation::FetchAdd { addend: 0x77 }),
        (
            7,
            Operation::CompareSwap {
                new: 0x77,
                expected: 0x88,
            },
        ),
        (8, Operation::Touch { write: false }),
        (0x4008, Operation::Touch { write: true }),
    ];
    for (control, operation) in table {
        let command = decode((control, 0, 0x1230, 0x77, 0x88, 8, 16)).unwrap();
        assert_eq!(command.operation, operation);
        assert_eq!(command.address, Iova(0x1230));
        assert_eq!(command.length, if control == 0 { 0 } else { 8 });
        assert_eq!(command.route.pasid, None);
    }
}

#[test]
fn every_flag_is_decoded() {
    let route = decode((0x1f01, 0xf_ffff, 0, 0, 0, 1, 0)).unwrap().route;
    assert_eq!(route.pasid.map(Pasid::get), Some(0xf_ffff));
    assert!(route.privileged && route.execute && route.translated && route.page_requests);
    let route = decode((0x0801, 0xf_ffff, 0, 0, 0, 1, 0)).unwrap().route;
    assert_eq!(route.pasid, None);
    assert!(!route.privileged && !route.execute && route.translated && !route.page_requests);
    assert_eq!(interrupt(&slot((0x00ff_2000, 0, 0, 0, 0, 0, 0))), Some(255));
    assert_eq!(interrupt(&slot((0x00ff_0000, 0, 0, 0, 0, 0, 0))), None);
}

#[test]
fn command_that_contradicts_itself_is_bad() {
    let table = [
        (0x09, 0),             // no such operation
        (0xff, 0),             //
        (0x0100_0001, 0),      // reserved bits
        (0x8000_0001, 0),      //
        (0x8001, 0),           //
        (0x0201, 0),           // privilege without PASID
        (0x0401, 0),           // execute without PASID
        (0x1001, 0),           // page requests without translation
        (0x0101, 0x0010_0000), // PASID of 21 bits
        (0x0502, 1),           // instruction fetch that writes
        (0x0506, 1),           //
        (0x4508, 1),           //
        (0x4001, 0),           // the flag of touch elsewhere
    ];
    for (control, pasid) in table {
        let outcome = decode((control, pasid, 0, 0, 0, 8, 0));
        assert_eq!(outcome, Err(Status::BadCommand), "{control:#x}");
    }
}

#[test]
fn range_must_fit_memory_and_buffer() {
    const LAST: u64 = u64::MAX;
    let table = [
        (1, 0, 0, 0, 0, false),           // nothing to do
        (5, 0, 0, 0x0100_0000, 0, true),  // the longest
        (5, 0, 0, 0x0100_0001, 0, false), //
        (1, 0, 0, 0x1_0000, 0, true),     // the whole buffer
        (1, 0, 0, 0x1_0000, 1, false),    //
        (2, 0, 0, 2, u32::MAX, false),    //
        (5, LAST, 0, 1, 0, true),         // up to the last byte
        (5, LAST, 0, 2, 0, false),        // beyond
        (3, 0, LAST, 1, 0, true),         //
        (3, 0, LAST, 2, 0, false),        //
        (6, 0x1004, 0, 4, 0, true),       // atomic operations
        (6, 0x1004, 0, 8, 0, false),      //
        (7, 0x1008, 0, 8, 0, true),       //
        (7, 0x1008, 0, 2, 0, false),      //
        (7, 0x1008, 0, 16, 0, false),     //
        (8, 0, 0, 0x0100_0000, 0, true),  // touch
    ];
    for (control, address, operand, length, buffer, good) in table {
        let outcome = decode((control, 0, address, operand, 0, length, buffer));
        let expected = if good { None } else { Some(Status::BadRange) };
        assert_eq!(outcome.err(), expected, "{control} {address:#x} {length}");
    }
}

#[test]
fn answer_stands_in_the_last_24_bytes() {
    let completion = Completion {
        fault_address: 0x1122_3344_5566_7788,
        status: Status::NoTranslation,
        done: 0x1000,
        result: 0x99,
    };
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&[0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]);
    bytes[8] = 8;
    bytes[13] = 0x10;
    bytes[16] = 0x99;
    assert_eq!(completion.bytes(), bytes);
}
