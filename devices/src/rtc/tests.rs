// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The clock through its two ports, at 2024-02-29 23:59:58 UTC, a Thursday.

use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug)]
struct FixedClock(Arc<AtomicU64>);

impl Clock for FixedClock {
    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct Rig {
    rtc: Rtc,
    now: Arc<AtomicU64>,
}

fn rig() -> Rig {
    let now = Arc::new(AtomicU64::new(1_709_251_198));
    let memory = MemorySize {
        low: 0xc000_0000,
        high: 0x4000_0000,
    };
    let rtc = Rtc::with_clock(memory, Box::new(FixedClock(now.clone())));
    Rig { rtc, now }
}

impl Rig {
    fn read(&self, index: u8) -> u8 {
        self.rtc.write(0, &[index]);
        let mut data = [0xff];
        self.rtc.read(1, &mut data);
        data[0]
    }

    fn write(&self, index: u8, value: u8) {
        self.rtc.write(0, &[index]);
        self.rtc.write(1, &[value]);
    }

    fn time(&self) -> [u8; 8] {
        [0x32, 0x09, 0x08, 0x07, 0x06, 0x04, 0x02, 0x00].map(|index| self.read(index))
    }
}

#[test]
fn time_is_bcd_and_24_hours_after_power_on() {
    let rig = rig();
    assert_eq!(rig.time(), [0x20, 0x24, 0x02, 0x29, 0x05, 0x23, 0x59, 0x58]);
    rig.now.fetch_add(2, Ordering::Relaxed);
    assert_eq!(rig.time(), [0x20, 0x24, 0x03, 0x01, 0x06, 0x00, 0x00, 0x00]);
}

#[test]
fn time_is_binary_when_asked() {
    let rig = rig();
    rig.write(0x0b, 0x06);
    assert_eq!(rig.time(), [20, 24, 2, 29, 5, 23, 59, 58]);
}

#[test]
fn twelve_hour_mode_counts_from_one_to_twelve() {
    let rig = rig();
    rig.write(0x0b, 0x00);
    assert_eq!(rig.read(0x04), 0x91);
    rig.now.fetch_add(2, Ordering::Relaxed);
    assert_eq!(rig.read(0x04), 0x12);
    rig.now.fetch_add(12 * 3600, Ordering::Relaxed);
    assert_eq!(rig.read(0x04), 0x92);
}

#[test]
fn status_registers_after_power_on() {
    let rig = rig();
    let status = [0x0a, 0x0b, 0x0c, 0x0d].map(|index| rig.read(index));
    assert_eq!(status, [0x26, 0x02, 0x00, 0x80]);
    rig.write(0x0a, 0xff);
    assert_eq!(rig.read(0x0a), 0x7f);
    rig.write(0x0d, 0x00);
    assert_eq!(rig.read(0x0d), 0x80);
}

#[test]
fn time_set_while_the_clock_is_halted_runs_on_afterwards() {
    let rig = rig();
    rig.write(0x0b, 0x86);
    for (index, value) in [(0x32, 19), (0x09, 99), (0x08, 12), (0x07, 31)] {
        rig.write(index, value);
    }
    for (index, value) in [(0x04, 1), (0x02, 2), (0x00, 3)] {
        rig.write(index, value);
    }
    rig.now.fetch_add(100, Ordering::Relaxed);
    assert_eq!(rig.time(), [19, 99, 12, 31, 6, 1, 2, 3]);
    rig.write(0x0b, 0x06);
    rig.now.fetch_add(5, Ordering::Relaxed);
    assert_eq!(rig.time(), [19, 99, 12, 31, 6, 1, 2, 8]);
}

#[test]
fn wild_values_do_not_panic() {
    let rig = rig();
    for mode in [0x00, 0x02, 0x04, 0x06, 0x80, 0x86] {
        rig.write(0x0b, mode);
        for index in 0..=255u8 {
            for value in [0x00, 0x7f, 0x9a, 0xff] {
                if index & 0x7f != 0x0b {
                    rig.write(index, value);
                    rig.read(index);
                }
            }
        }
    }
}

#[test]
fn memory_size_bytes_tell_kibibytes_and_64_kibibytes() {
    let rig = rig();
    let word = |low| u16::from_le_bytes([rig.read(low), rig.read(low + 1)]);
    assert_eq!(word(0x15), 640);
    assert_eq!(word(0x17), 0xffff);
    assert_eq!(word(0x34), 0xbf00);
    assert_eq!(
        [rig.read(0x5b), rig.read(0x5c), rig.read(0x5d)],
        [0, 0x40, 0]
    );
}

#[test]
fn memory_without_meaning_keeps_what_was_written_and_bit_7_is_ignored() {
    let rig = rig();
    rig.write(0x8f, 0x5a);
    assert_eq!(rig.read(0x0f), 0x5a);
}

#[test]
fn ports_are_one_byte_wide() {
    let rig = rig();
    let mut data = [0xff; 2];
    rig.rtc.read(1, &mut data);
    rig.rtc.read(0, &mut data[..1]);
    assert_eq!(data, [0xff; 2]);
}

#[test]
fn impossible_hour_reads_back_on_the_dial() {
    let rig = rig();
    // The clock stands, binary, 24 hours; then 12 hours.
    rig.write(0x0b, 0x86);
    rig.write(0x04, 0xff);
    rig.write(0x0b, 0x84);
    assert_eq!(rig.read(0x04), 0x83);
}
