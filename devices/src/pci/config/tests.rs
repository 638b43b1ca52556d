// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Configuration space against raw offsets and masks of section 7.5.1.

use super::*;

fn space() -> ConfigSpace {
    ConfigSpace::endpoint(&Identity {
        vendor: 0x1234,
        device: 0x11e8,
        subsystem_vendor: 0x1af4,
        subsystem: 0x1100,
        class: 0x02_0180,
        revision: 0x10,
    })
}

#[test]
fn header_fields_stand_where_the_specification_says() {
    let mut bytes = [0; 64];
    space().read(0, &mut bytes);
    assert_eq!(bytes[..4], [0x34, 0x12, 0xe8, 0x11]);
    assert_eq!(bytes[8..12], [0x10, 0x80, 0x01, 0x02]);
    assert_eq!(bytes[14], 0);
    assert_eq!(bytes[0x2c..0x30], [0xf4, 0x1a, 0x00, 0x11]);
    let bridge = ConfigSpace::bridge(&Identity::default());
    assert_eq!(bridge.u8(0x0e), 1);
}

#[test]
fn write_of_all_ones_changes_writable_bits_only() {
    let mut space = space();
    for at in (0..4096).step_by(4) {
        space.write(at, &[0xff; 4]);
    }
    assert_eq!(space.u32(0x00), 0x11e8_1234);
    assert_eq!(space.u32(0x04), 0x0000_0547);
    assert_eq!(space.u32(0x08), 0x0201_8010);
    assert_eq!(space.u32(0x0c), 0x0000_00ff);
    assert_eq!(space.u32(0x3c), 0x0000_00ff);
    assert_eq!(space.u32(0x40), 0);
    assert_eq!(space.u32(0xffc), 0);
}

#[test]
fn status_errors_are_cleared_by_writing_ones() {
    let mut space = space();
    space.set_u16(0x06, 0xf910);
    space.write(0x06, &[0x00, 0x80]);
    assert_eq!(space.u16(0x06), 0x7910);
    space.write(0x07, &[0xff]);
    assert_eq!(space.u16(0x06), 0x0010);
}

#[test]
fn byte_write_leaves_the_rest_of_the_dword() {
    let mut space = space();
    space.write(0x05, &[0x04]);
    assert_eq!(space.u32(0x04), 0x0000_0400);
}

#[test]
fn capabilities_form_a_list_in_order() {
    let mut space = space();
    assert_eq!(space.u8(0x34), 0);
    let first = space.add_capability(0x09, &[1, 2, 3], &[0, 0xff]);
    let second = space.add_capability(0x05, &[4], &[]);
    assert_eq!((first, second), (0x40, 0x48));
    assert_eq!(space.u16(0x06) & 0x10, 0x10);
    assert_eq!(space.u8(0x34), 0x40);
    assert_eq!(space.u32(0x40), 0x0201_4809);
    assert_eq!(space.u32(0x48), 0x0004_0005);
    space.write(0x40, &[0xff; 8]);
    assert_eq!(space.u32(0x40), 0xff01_4809);
}

#[test]
fn extended_capabilities_form_a_list_in_order() {
    let mut space = space();
    let first = space.add_extended_capability(0x000f, 1, &[0; 4], &[0xff]);
    let second = space.add_extended_capability(0x001b, 2, &[0; 4], &[]);
    assert_eq!((first, second), (0x100, 0x108));
    assert_eq!(space.u32(0x100), 0x1081_000f);
    assert_eq!(space.u32(0x108), 0x0002_001b);
}

#[test]
fn reset_returns_to_the_sealed_content() {
    let mut space = space();
    space.seal();
    space.write(0x04, &[0x07, 0x04]);
    space.set_u16(0x06, 0x0008);
    space.reset();
    assert_eq!(space.u32(0x04), 0);
    assert_eq!(space.u32(0x00), 0x11e8_1234);
}

#[test]
fn access_beyond_the_end_is_cut() {
    let mut space = space();
    let mut data = [0xff; 4];
    space.read(0xffe, &mut data);
    assert_eq!(data, [0, 0, 0xff, 0xff]);
    space.write(0xfff, &[1; 8]);
}

#[test]
fn touches_is_about_overlap() {
    assert!(touches(4, 4, 6, 2));
    assert!(touches(6, 1, 4, 4));
    assert!(!touches(4, 2, 6, 2));
    assert!(!touches(8, 4, 6, 2));
}
