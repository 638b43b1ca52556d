// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What each command does, without translation by the device.

use super::rig::{Slot, rig};
use crate::pci::PciFunction;
use iommu::request::{Access, AddressType};

const READ: u32 = 1;
const WRITE: u32 = 2;
const COPY: u32 = 3;
const FILL: u32 = 4;
const CHECKSUM: u32 = 5;
const FETCH_ADD: u32 = 6;
const COMPARE_SWAP: u32 = 7;
const TOUCH: u32 = 8;

fn slot(control: u32, address: u64, length: u32) -> Slot {
    Slot {
        control,
        address,
        length,
        ..Slot::default()
    }
}

#[test]
fn read_and_write_move_the_buffer() {
    let rig = rig();
    rig.map(None, &[(0x1000, 0x5000), (0x2000, 0x3000)]);
    rig.set_ram(0x5ff8, 0x1111_2222_3333_4444);
    rig.set_ram(0x3000, 0x5555_6666_7777_8888);
    let command = Slot {
        buffer: 0x100,
        ..slot(READ, 0x1ffc, 8)
    };
    assert_eq!(rig.run(command), (1, 8, 0, 0));
    assert_eq!(rig.read64(0x1_0100), 0x7777_8888_1111_2222);
    rig.write64(0x1_fff8, 0x0123_4567_89ab_cdef);
    let command = Slot {
        buffer: 0xfff8,
        ..slot(WRITE, 0x2010, 8)
    };
    assert_eq!(rig.run(command), (1, 8, 0, 0));
    assert_eq!(rig.ram(0x3010), 0x0123_4567_89ab_cdef);
}

#[test]
fn fill_copy_and_checksum_cross_pages() {
    let rig = rig();
    let pages: Vec<_> = (0..8)
        .map(|n| (n << 12, 0x1_0000 + ((7 - n) << 12)))
        .collect();
    rig.map(None, &pages);
    let fill = Slot {
        operand: 0x0807_0605_0403_0201,
        ..slot(FILL, 0x0ffd, 0x1006)
    };
    assert_eq!(rig.run(fill), (1, 0x1006, 0, 0));
    assert_eq!(rig.ram(0x1_7ff8), 0x0302_0100_0000_0000);
    assert_eq!(rig.ram(0x1_6000), 0x0302_0108_0706_0504);
    assert_eq!(rig.ram(0x1_5000), 0x0000_0006_0504);
    let copy = Slot {
        operand: 0x4abc,
        ..slot(COPY, 0x0ffd, 0x1006)
    };
    assert_eq!(rig.run(copy), (1, 0x1006, 0, 0));
    let (status, done, sum, _) = rig.run(slot(CHECKSUM, 0x4abc, 0x1006));
    assert_eq!((status, done), (1, 0x1006));
    assert_eq!(rig.run(slot(CHECKSUM, 0x0ffd, 0x1006)).2, sum);
    // FNV-1a of "foobar", from the algorithm's own test vectors.
    rig.set_ram(0x1_0000, u64::from_le_bytes(*b"foobar\0\0"));
    let (_, _, sum, _) = rig.run(slot(CHECKSUM, 0x7000, 6));
    assert_eq!(sum, 0x8594_4171_f739_67e8);
}

#[test]
fn atomic_operations_return_what_was_there() {
    let rig = rig();
    rig.map(None, &[(0x1000, 0x1000)]);
    rig.set_ram(0x1000, 0xffff_ffff_ffff_ffff);
    let add = Slot {
        operand: 2,
        ..slot(FETCH_ADD, 0x1000, 4)
    };
    assert_eq!(rig.run(add), (1, 4, 0xffff_ffff, 0));
    assert_eq!(rig.ram(0x1000), 0xffff_ffff_0000_0001);
    let add = Slot { length: 8, ..add };
    assert_eq!(rig.run(add), (1, 8, 0xffff_ffff_0000_0001, 0));
    assert_eq!(rig.ram(0x1000), 0xffff_ffff_0000_0003);
    let swap = Slot {
        operand: 0x1234,
        compare: 4,
        ..slot(COMPARE_SWAP, 0x1000, 4)
    };
    assert_eq!(rig.run(swap).2, 3);
    assert_eq!(rig.ram(0x1000), 0xffff_ffff_0000_0003);
    let swap = Slot { compare: 3, ..swap };
    assert_eq!(rig.run(swap).2, 3);
    assert_eq!(rig.ram(0x1000), 0xffff_ffff_0000_1234);
    let access = rig.unit.requests.lock().unwrap()[0].access;
    assert_eq!(access, Access::Atomic);
}

#[test]
fn touch_asks_for_each_page_and_moves_nothing() {
    let rig = rig();
    rig.map(None, &[(0x1000, 0x5000), (0x2000, 0x6000)]);
    assert_eq!(rig.run(slot(TOUCH, 0x1fff, 2)), (1, 2, 0, 0));
    assert_eq!(rig.run(slot(TOUCH | 0x4000, 0x1000, 1)), (1, 1, 0, 0));
    let requests = rig.unit.requests.lock().unwrap();
    let seen: Vec<_> = requests.iter().map(|r| (r.address.0, r.access)).collect();
    let expected = [
        (0x1fff, Access::Read),
        (0x2000, Access::Read),
        (0x1000, Access::Write),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn requests_carry_what_the_command_says() {
    let rig = rig();
    rig.map(Some(0xabcde), &[(0x1000, 0x5000)]);
    let command = |control| Slot {
        pasid: 0xabcde,
        ..slot(control, 0x1000, 8)
    };
    for control in [0x101, 0x301, 0x501, 0x302] {
        assert_eq!(rig.run(command(control)).0, 1, "{control:#x}");
    }
    let requests = rig.unit.requests.lock().unwrap();
    let seen: Vec<_> = requests
        .iter()
        .map(|r| (r.source.0, r.pasid.unwrap().get(), r.privileged, r.execute))
        .collect();
    let expected = [
        (0x18, 0xabcde, false, false),
        (0x18, 0xabcde, true, false),
        (0x18, 0xabcde, false, true),
        (0x18, 0xabcde, true, false),
    ];
    assert_eq!(seen, expected);
    assert!(
        requests
            .iter()
            .all(|r| r.address_type == AddressType::Untranslated)
    );
}

#[test]
fn pasids_are_different_spaces_even_when_there_are_many() {
    let rig = rig();
    for pasid in 0..200 {
        rig.map(
            Some(pasid),
            &[(0x1000, 0x1000 + u64::from(pasid % 100) * 0x1000)],
        );
    }
    for round in 0..2 {
        for pasid in 0..200 {
            let add = Slot {
                pasid,
                operand: 1,
                ..slot(FETCH_ADD | 0x100, 0x1008, 8)
            };
            let expected = u64::from(round * 2 + pasid / 100);
            assert_eq!(rig.run(add).2, expected, "{pasid}");
        }
    }
}

#[test]
fn blocked_request_ends_the_command_where_it_happened() {
    let rig = rig();
    rig.map(
        None,
        &[(0x1000, 0x5000), (0x7000, 0x7000), (0x9000, 1 << 20)],
    );
    let copy = Slot {
        operand: 0x7800,
        ..slot(COPY, 0x1400, 0x1000)
    };
    assert_eq!(rig.run(copy), (6, 0x800, 0, 0x8000));
    assert_eq!(rig.run(slot(CHECKSUM, 0x2fff, 0x10)).3, 0x2fff);
    assert_eq!(rig.run(slot(READ, 0x9010, 4)), (7, 0, 0, 0x9010));
    assert_eq!(rig.run(slot(FETCH_ADD, 0x9010, 4)), (7, 0, 0, 0x9010));
    assert_eq!(rig.run(slot(TOUCH, 0xa000, 1)), (6, 0, 0, 0xa000));
}

#[test]
fn command_that_the_registers_forbid_never_leaves_the_device() {
    let rig = rig();
    rig.map(Some(1), &[(0x1000, 0x1000)]);
    let touch = |control| Slot {
        pasid: 1,
        ..slot(TOUCH | control, 0x1000, 1)
    };
    // PASID without privilege and execute, then nothing; ATS off; page requests off.
    rig.device.config_write(0x11e, &[0x01, 0]);
    assert_eq!(rig.run(touch(0x100)).0, 1);
    assert_eq!(rig.run(touch(0x300)).0, 4);
    assert_eq!(rig.run(touch(0x500)).0, 4);
    rig.device.config_write(0x11e, &[0x06, 0]);
    assert_eq!(rig.run(touch(0x100)).0, 4);
    rig.device.config_write(0x11e, &[0x07, 0]);
    rig.device.config_write(0x106, &[0, 0]);
    assert_eq!(rig.run(touch(0x900)).0, 4);
    rig.device.config_write(0x106, &[0, 0x80]);
    rig.device.config_write(0x10c, &[0, 0]);
    assert_eq!(rig.run(touch(0x1900)).0, 4);
    rig.device.config_write(0x10c, &[1, 0]);
    rig.device.config_write(0x114, &[0; 4]);
    assert_eq!(rig.run(touch(0x1900)).0, 4);
    assert_eq!(rig.unit.take_requests().len(), 1);
    rig.device.config_write(0x04, &[0x02, 0]);
    assert_eq!(rig.run(touch(0x100)).0, 5);
    assert_eq!(rig.run(touch(0x900)).0, 5);
    assert_eq!(rig.unit.take_requests(), []);
}
