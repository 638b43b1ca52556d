// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Text on the first serial port and keys from there, and the way out of the machine.

use crate::arch::{self, in8, out8, out32};

const COM1: u16 = 0x3F8;
const LINE_STATUS: u16 = COM1 + 5;
const TRANSMIT_EMPTY: u8 = 1 << 5;
const DATA_READY: u8 = 1 << 0;
const DEBUG_EXIT: u16 = 0xF4;

/// 115200 baud, 8 data bits, no parity, FIFO on, no interrupts.
pub fn init() {
    for (register, value) in [(1, 0), (3, 0x80), (0, 1), (1, 0), (3, 3), (2, 7), (4, 3)] {
        out8(COM1 + register, value);
    }
}

fn byte(byte: u8) {
    for _ in 0..100_000 {
        if in8(LINE_STATUS) & TRANSMIT_EMPTY != 0 {
            break;
        }
    }
    out8(COM1, byte);
}

pub fn text(text: &str) {
    text.bytes().for_each(byte);
}

pub fn hex(value: u64) {
    text("0x");
    let digits = (16 - value.leading_zeros() / 4).max(1);
    for digit in (0..digits).rev() {
        byte(b"0123456789abcdef"[(value >> (digit * 4) & 0xF) as usize]);
    }
}

pub fn decimal(value: u64) {
    if value >= 10 {
        decimal(value / 10);
    }
    byte(b"0123456789"[(value % 10) as usize]);
}

/// Waits for a key, and takes it; false if none came.
pub fn key() -> bool {
    // Whoever presses it looks into the machine first, or brings a device.
    let ready = || in8(LINE_STATUS) & DATA_READY != 0;
    let pressed = (0..4).any(|_| arch::poll(arch::LONG, ready));
    if pressed {
        in8(COM1);
    }
    pressed
}

/// Ends the run: status 1 when `passed`, else 3 (the exit device turns v into v * 2 + 1).
pub fn exit(passed: bool) -> ! {
    out32(DEBUG_EXIT, u32::from(!passed));
    // No exit device: an empty interrupt table turns the next exception into a triple fault, and hlt is the last resort.
    crate::arch::load_idt(0, 0);
    crate::arch::triple_fault();
    crate::arch::halt()
}
