// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The rate of this machine's time-stamp counter, which under QEMU's emulation is L1's too.
//!
//! L1 is told the rate, because what its kernel finds out by itself on a busy machine can be wrong many times over: then
//! every time-out in L1 and below is.

use std::arch::x86_64::_rdtsc;
use std::thread;
use std::time::{Duration, Instant};

/// Between the two readings that are compared.
const SPAN: Duration = Duration::from_millis(50);

/// Readings of which the one least disturbed counts.
const TRIES: usize = 20;

/// Ticks in a millisecond.
pub fn khz() -> u64 {
    let (began, first) = read();
    thread::sleep(SPAN);
    let (ended, last) = read();
    let nanoseconds = (ended - began).as_nanos();
    let ticks = u128::from(last.wrapping_sub(first)) * 1_000_000;
    u64::try_from(ticks / nanoseconds.max(1)).unwrap_or(0)
}

/// The counter, and the time at which it was read.
fn read() -> (Instant, u64) {
    let readings = (0..TRIES).map(|_| {
        let before = Instant::now();
        let ticks = counter();
        (before.elapsed(), before, ticks)
    });
    let best = readings.min_by_key(|(took, ..)| *took);
    best.map_or_else(
        || (Instant::now(), counter()),
        |(took, before, ticks)| (before + took / 2, ticks),
    )
}

#[expect(unsafe_code, reason = "the counter is read by an instruction")]
fn counter() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and Linux leaves it enabled for programs.
    unsafe { _rdtsc() }
}
