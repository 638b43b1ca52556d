// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The type 1 header against raw offsets and values of section 7.5.1.3.

use super::super::config::Identity;
use super::*;

fn bridge() -> ConfigSpace {
    let mut config = ConfigSpace::bridge(&Identity::default());
    install(&mut config);
    config
}

#[test]
fn header_takes_ones_in_its_writable_bits_only() {
    let mut config = bridge();
    for at in (0x10..0x40).step_by(4) {
        config.write(at, &[0xff; 4]);
    }
    let dwords: Vec<u32> = (0x10..0x40).step_by(4).map(|at| config.u32(at)).collect();
    assert_eq!(dwords[..2], [0, 0]);
    assert_eq!(dwords[2], 0x00ff_ffff);
    assert_eq!(dwords[3], 0x0000_f0f0);
    assert_eq!(dwords[4], 0xfff0_fff0);
    assert_eq!(dwords[5], 0xfff1_fff1);
    assert_eq!(dwords[6..8], [u32::MAX, u32::MAX]);
    assert_eq!(dwords[8..11], [0, 0, 0]);
    assert_eq!(dwords[11], 0x0043_00ff);
}

#[test]
fn windows_are_what_the_registers_say() {
    let mut config = bridge();
    config.write(0x18, &[0, 3, 5, 0]);
    config.write(0x1c, &[0xc0, 0xd0]);
    config.write(0x20, &0xe01f_e000u32.to_le_bytes());
    config.write(0x24, &0x000f_0000u32.to_le_bytes());
    config.write(0x28, &0x0000_0012u32.to_le_bytes());
    config.write(0x2c, &0x0000_0013u32.to_le_bytes());
    config.write(0x04, &[0x07]);
    let seen = forwarding(&config);
    assert_eq!((seen.secondary, seen.subordinate), (3, 5));
    assert!(seen.bus_master);
    let span = |first, last| Some(Span { first, last });
    assert_eq!(seen.io, span(0xc000, 0xdfff));
    assert_eq!(seen.memory, span(0xe000_0000, 0xe01f_ffff));
    assert_eq!(seen.prefetchable, span(0x12_0000_0000, 0x13_000f_ffff));
}

#[test]
fn windows_need_the_command_bits() {
    let mut config = bridge();
    let seen = forwarding(&config);
    assert_eq!(
        (seen.io, seen.memory, seen.prefetchable),
        (None, None, None)
    );
    config.write(0x04, &[0x01]);
    let seen = forwarding(&config);
    assert!(seen.io.is_some() && seen.memory.is_none());
    config.write(0x04, &[0x02]);
    let seen = forwarding(&config);
    assert!(seen.io.is_none() && seen.memory.is_some() && seen.prefetchable.is_some());
}

#[test]
fn base_above_limit_closes_a_window() {
    let mut config = bridge();
    config.write(0x04, &[0x03]);
    for kind in [WindowKind::Io, WindowKind::Memory, WindowKind::Prefetchable] {
        for (at, bytes) in window_writes(kind, 0x1000_0000, 0) {
            config.write(at, &bytes);
        }
    }
    let seen = forwarding(&config);
    assert_eq!(
        (seen.io, seen.memory, seen.prefetchable),
        (None, None, None)
    );
}

#[test]
fn programmed_window_reads_back() {
    let mut config = bridge();
    config.write(0x04, &[0x03]);
    for (at, bytes) in window_writes(WindowKind::Prefetchable, 0x80_0000_0000, 0x8_0000_0000) {
        config.write(at, &bytes);
    }
    assert_eq!(config.u32(0x24), 0xfff1_0001);
    assert_eq!((config.u32(0x28), config.u32(0x2c)), (0x80, 0x87));
}
