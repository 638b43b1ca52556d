// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Configuration space, registers, the ring, interrupts and resets.

use super::rig::{Slot, cold, rig};
use crate::dmatest::DmatestOptions;
use crate::pci::PciFunction;
use crate::pci::express::DeviceType;

#[test]
fn integrated_endpoint_shows_every_capability() {
    let rig = cold(&DmatestOptions::default(), DeviceType::IntegratedEndpoint);
    assert_eq!(rig.config(0x00), 0xd7a7_1234);
    assert_eq!(rig.config(0x08), 0xff00_0001);
    assert_eq!((rig.config(0x10), rig.config(0x18)), (0x4, 0x4));
    // PCI Express, version 2, integrated, with function level reset, one end-end prefix and no link.
    assert_eq!(rig.config(0x40), 0x0092_7c10);
    assert_eq!(rig.config(0x44), 0x1000_8000);
    assert_eq!(rig.config(0x4c), 0);
    assert_eq!(rig.config(0x64), 0x0070_0010);
    assert_eq!(rig.config(0x7c), 0x0003_8401);
    // MSI-X: 16 vectors in BAR 2.
    assert_eq!(rig.config(0x84), 0x000f_0011);
    assert_eq!((rig.config(0x88), rig.config(0x8c)), (0x002, 0x802));
    assert_eq!((rig.config(0x100), rig.config(0x104)), (0x1081_000f, 0x60));
    assert_eq!(rig.config(0x108), 0x1181_0013);
    assert_eq!(rig.config(0x10c), 0x8100_0000);
    assert_eq!((rig.config(0x110), rig.config(0x114)), (32, 0));
    assert_eq!(
        (rig.config(0x118), rig.config(0x11c)),
        (0x0001_001b, 0x1406)
    );
}

#[test]
fn endpoint_below_a_port_has_a_link() {
    let rig = cold(&DmatestOptions::default(), DeviceType::Endpoint);
    assert_eq!(rig.config(0x40), 0x0002_7c10);
    assert_eq!(rig.config(0x4c), 0x0000_0011);
    assert_eq!(rig.config(0x50), 0x0011_0000);
    assert_eq!(rig.config(0x64), 0x0070_0010);
}

#[test]
fn capability_that_is_switched_off_is_not_there() {
    let none = DmatestOptions {
        pasid_bits: 0,
        pri: false,
        ats: false,
    };
    let rig = cold(&none, DeviceType::IntegratedEndpoint);
    assert_eq!(rig.config(0x100), 0);
    let pasid = DmatestOptions {
        pasid_bits: 5,
        ..none
    };
    let rig = cold(&pasid, DeviceType::IntegratedEndpoint);
    assert_eq!(
        (rig.config(0x100), rig.config(0x104)),
        (0x0001_001b, 0x0506)
    );
    rig.device.config_write(0x04, &[0x06, 0]);
    rig.device.config_write(0x106, &[0x01, 0]);
    rig.map(Some(31), &[(0x1000, 0x1000)]);
    let touch = |pasid| Slot {
        control: 0x108,
        pasid,
        address: 0x1000,
        length: 1,
        ..Slot::default()
    };
    assert_eq!(rig.run(touch(31)).0, 1);
    assert_eq!(rig.run(touch(32)).0, 4);
    // Translated by a device that cannot.
    let translated = Slot {
        control: 0x908,
        ..touch(31)
    };
    assert_eq!(rig.run(translated).0, 4);
}

#[test]
fn registers_after_power_on() {
    let rig = rig();
    let table = [
        (0x00, 0x5441_4d44),
        (0x04, 1),
        (0x08, 64),
        (0x0c, 0x0100_0000),
        (0x10, 0x1_0000),
        (0x18, 0),
        (0x1c, 0),
        (0x20, 0),
        (0x24, 0),
        (0x28, 0),
        (0x2c, 10_000),
        (0x40, 0),
        (0x54, 0),
        (0x800, 0),
    ];
    for (offset, value) in table {
        assert_eq!(rig.read(offset), value, "{offset:#x}");
    }
    assert_eq!(rig.read64(0x00), 0x0000_0001_5441_4d44);
    for (offset, written, value) in [
        (0x00, 0, 0x5441_4d44),
        (0x18, 0xffff_ffff, 0x3),
        (0x2c, 0, 1),
        (0x2c, 0xffff_ffff, 60_000),
    ] {
        rig.write(offset, written);
        assert_eq!(rig.read(offset), value, "{offset:#x}");
    }
    let mut byte = [0xff];
    rig.device.bar_read(0, 0x00, &mut byte);
    assert_eq!(byte, [0xff]);
}

#[test]
fn slots_and_buffer_take_any_width_but_answers_are_read_only() {
    let rig = rig();
    rig.device.bar_write(0, 0x1041, &[0xaa, 0xbb]);
    assert_eq!(rig.read(0x1040), 0x00bb_aa00);
    rig.write64(0x1024, u64::MAX);
    assert_eq!(rig.read64(0x1024), 0x0000_0000_ffff_ffff);
    rig.device.bar_write(0, 0x1_fffd, &[1, 2, 3]);
    assert_eq!(rig.read(0x1_fffc), 0x0302_0100);
    assert_eq!(rig.read(0x2000), 0xffff_ffff);
    assert_eq!(rig.read(0x1_fffe), 0xffff_ffff);
}

#[test]
fn commands_are_carried_out_in_order_and_around_the_ring() {
    let rig = rig();
    for round in 0..130 {
        let slot = rig.submit(Slot::default());
        assert_eq!(slot, round % 64);
        assert_eq!(rig.answer(slot).0, 1);
    }
    rig.wait_until("idle", |rig| rig.read(0x1c) == 0);
    assert_eq!((rig.read(0x20), rig.read(0x24)), (2, 2));
    assert_eq!(rig.read(0x28), 130);
    // Three commands by one write of the tail; the second is no command.
    rig.write(0x1000 + 3 * 64, 0xff);
    rig.write(0x24, 5);
    rig.wait_until("idle", |rig| rig.read(0x1c) == 0);
    let status = [2, 3, 4].map(|slot| rig.read(0x1030 + slot * 64));
    assert_eq!(status, [1, 2, 1]);
}

#[test]
fn tail_beyond_the_ring_is_ignored() {
    let rig = rig();
    rig.write(0x24, 64);
    rig.write(0x24, 0xffff_ffff);
    assert_eq!((rig.read(0x1c), rig.read(0x24)), (0, 0));
}

#[test]
fn interrupt_leaves_by_the_vector_of_the_command() {
    let rig = rig();
    // Vector 3: address 0xfee00000, data 0x43, not masked; MSI-X on.
    for (offset, value) in [(0x30, 0xfee0_0000), (0x34, 0), (0x38, 0x43), (0x3c, 0)] {
        rig.device.bar_write(2, offset, &u32::to_le_bytes(value));
    }
    rig.device.config_write(0x86, &[0x00, 0x80]);
    rig.run(Slot::default());
    assert_eq!(rig.sender.take(), []);
    let slot = Slot {
        control: 0x0003_2000,
        ..Slot::default()
    };
    let slot = rig.submit(slot);
    assert_eq!(rig.answer(slot).0, 1);
    // A reset waits for the thread, its message included.
    rig.device.reset();
    assert_eq!(rig.sender.take(), [(0x0018, 0xfee0_0000, 0x43)]);
}

#[test]
fn function_level_reset_forgets_everything() {
    let rig = rig();
    rig.map(None, &[(0x1000, 0x1000)]);
    rig.write(0x1_0000, 0x1234);
    rig.write(0x18, 3);
    let touch = Slot {
        control: 0x808,
        address: 0x1000,
        length: 1,
        ..Slot::default()
    };
    rig.run(touch);
    assert_eq!((rig.read(0x24), rig.read(0x40)), (1, 1));
    rig.device.config_write(0x48, &[0x00, 0x80]);
    for offset in [0x18, 0x20, 0x24, 0x28, 0x40, 0x48, 0x1008, 0x1030, 0x1_0000] {
        assert_eq!(rig.read(offset), 0, "{offset:#x}");
    }
    assert_eq!((rig.config(0x04) & 0x7, rig.config(0x104)), (0, 0x60));
    assert_eq!(rig.config(0x10c), 0x8100_0000);
    rig.enable();
    assert_eq!(rig.run(touch).0, 1);
}
