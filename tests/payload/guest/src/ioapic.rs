// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The IOAPIC at 0xFEC00000.

use crate::arch::halves;
use crate::mem::{read32, write32};

const BASE: u64 = 0xFEC0_0000;
const SELECT: u64 = BASE;
const WINDOW: u64 = BASE + 0x10;
const EOI: u64 = BASE + 0x40;
const VERSION: u32 = 1;
const REDIRECTION: u32 = 0x10;

/// Redirection entry bits.
pub const MASKED: u64 = 1 << 16;
pub const LEVEL: u64 = 1 << 15;
pub const REMOTE_IRR: u64 = 1 << 14;

fn read(register: u32) -> u32 {
    write32(SELECT, register);
    read32(WINDOW)
}

fn write(register: u32, value: u32) {
    write32(SELECT, register);
    write32(WINDOW, value);
}

/// The version byte: from 0x20 on there is an EOI register.
pub fn version() -> u32 {
    read(VERSION) & 0xFF
}

pub fn entry(pin: u8) -> u64 {
    let register = REDIRECTION + 2 * u32::from(pin);
    u64::from(read(register + 1)) << 32 | u64::from(read(register))
}

/// Writes an entry: masked first, so that no half of it is ever live.
pub fn set_entry(pin: u8, entry: u64) {
    let register = REDIRECTION + 2 * u32::from(pin);
    let (low, high) = halves(entry);
    let (masked, _) = halves(MASKED);
    write(register, masked);
    write(register + 1, high);
    write(register, low);
}

/// An entry in remappable format that names interrupt index `index`.
pub fn remappable(index: u16, vector: u8, flags: u64) -> u64 {
    let index = u64::from(index);
    (index & 0x7FFF) << 49 | 1 << 48 | (index >> 15) << 11 | u64::from(vector) | flags
}

/// Ends every level interrupt whose entry holds `vector`.
pub fn end_of_interrupt(vector: u8) {
    write32(EOI, vector.into());
}
