// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The MC146818 real-time clock and its CMOS memory (ports 0x70 and 0x71).
//!
//! The time is the host's, UTC, plus what the guest set it off by; it is computed when it is read, so there is no timer. The
//! guest chooses binary or BCD and 12 or 24 hours. Not supported: periodic, alarm and update interrupts (no line is wired;
//! the enable bits read back, the flags stay clear), daylight saving.

mod calendar;

use crate::bus::BusDevice;
use bitfield_struct::bitfield;
use calendar::DateTime;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

const SECONDS: u8 = 0x00;
const MINUTES: u8 = 0x02;
const HOURS: u8 = 0x04;
const WEEKDAY: u8 = 0x06;
const DAY: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;
const STATUS_C: u8 = 0x0c;
const STATUS_D: u8 = 0x0d;
const CENTURY: u8 = 0x32;

/// Divider on, 1024 Hz: what a PC's firmware leaves.
const STATUS_A_POWER_ON: u8 = 0x26;
/// The update-in-progress bit of status A, read-only and never set: a read is never torn.
const UPDATE_IN_PROGRESS: u8 = 0x80;
/// Memory and time are valid.
const STATUS_D_VALID: u8 = 0x80;
/// The hour is past noon, in 12-hour mode.
const PAST_NOON: u8 = 0x80;

/// Status register B.
#[bitfield(u8)]
struct StatusB {
    daylight_saving: bool,
    /// Bit 1: 24 hours rather than 12.
    hours_24: bool,
    /// Bit 2: binary rather than BCD.
    binary: bool,
    square_wave: bool,
    /// Bits 6:4: update, alarm and periodic interrupts.
    #[bits(3)]
    interrupts: u8,
    /// Bit 7: the clock stands still to be set.
    set: bool,
}

/// Where the time comes from: seconds since 1970, UTC.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Now.
    fn now(&self) -> u64;
}

/// The host's clock.
#[derive(Clone, Copy, Debug)]
pub struct HostClock;

impl Clock for HostClock {
    fn now(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs())
    }
}

/// Guest RAM as the memory-size bytes tell it, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct MemorySize {
    /// Below 4 GiB, from address 0 on.
    pub low: u64,
    /// From 4 GiB on.
    pub high: u64,
}

#[derive(Debug)]
struct State {
    index: u8,
    cmos: [u8; 128],
    /// Guest time minus host time, seconds.
    offset: i64,
    /// What is being set while the clock stands still.
    held: Option<DateTime>,
}

/// The clock: 2 ports from 0x70 on.
#[derive(Debug)]
pub struct Rtc {
    clock: Box<dyn Clock>,
    state: Mutex<State>,
}

impl Rtc {
    /// A clock that shows the host's time.
    #[must_use]
    pub fn new(memory: MemorySize) -> Self {
        Self::with_clock(memory, Box::new(HostClock))
    }

    /// A clock that shows another time.
    #[must_use]
    pub fn with_clock(memory: MemorySize, clock: Box<dyn Clock>) -> Self {
        let mut cmos = [0; 128];
        cmos[usize::from(STATUS_A)] = STATUS_A_POWER_ON;
        cmos[usize::from(STATUS_B)] = StatusB::new().with_hours_24(true).into_bits();
        set_memory_size(&mut cmos, memory);
        let state = State {
            index: 0,
            cmos,
            offset: 0,
            held: None,
        };
        Self {
            clock,
            state: Mutex::new(state),
        }
    }
}

/// The bytes by which old firmware and kernels learn how much memory there is.
fn set_memory_size(cmos: &mut [u8; 128], memory: MemorySize) {
    let mut set = |at: usize, units: u64, bytes: usize| {
        let most = (1 << (8 * bytes)) - 1;
        cmos[at..at + bytes].copy_from_slice(&units.min(most).to_le_bytes()[..bytes]);
    };
    set(0x15, 640, 2);
    let above_1m = memory.low.saturating_sub(1 << 20);
    set(0x17, above_1m >> 10, 2);
    set(0x30, above_1m >> 10, 2);
    set(0x34, memory.low.saturating_sub(16 << 20) >> 16, 2);
    set(0x5b, memory.high >> 16, 3);
}

impl State {
    fn status_b(&self) -> StatusB {
        StatusB::from_bits(self.cmos[usize::from(STATUS_B)])
    }

    fn time(&self, clock: &dyn Clock) -> DateTime {
        self.held
            .unwrap_or_else(|| DateTime::from_unix(clock.now().saturating_add_signed(self.offset)))
    }

    fn read(&self, clock: &dyn Clock) -> u8 {
        let time = self.time(clock);
        let [century, year] = [time.year / 100, time.year % 100];
        match self.index {
            SECONDS => self.encode(time.second),
            MINUTES => self.encode(time.minute),
            HOURS => self.encode_hour(time.hour),
            WEEKDAY => self.encode(time.weekday() + 1),
            DAY => self.encode(time.day),
            MONTH => self.encode(time.month),
            YEAR => self.encode(u8::try_from(year).unwrap_or(0)),
            CENTURY => self.encode(u8::try_from(century).unwrap_or(0)),
            STATUS_A => self.cmos[usize::from(STATUS_A)] & !UPDATE_IN_PROGRESS,
            STATUS_C => 0,
            STATUS_D => STATUS_D_VALID,
            other => self.cmos[usize::from(other & 0x7f)],
        }
    }

    fn write(&mut self, clock: &dyn Clock, value: u8) {
        let mut time = self.time(clock);
        let number = self.decode(value);
        match self.index {
            SECONDS => time.second = number,
            MINUTES => time.minute = number,
            HOURS => time.hour = self.decode_hour(value),
            DAY => time.day = number,
            MONTH => time.month = number,
            YEAR => time.year = time.year / 100 * 100 + u16::from(number % 100),
            CENTURY => time.year = u16::from(number % 100) * 100 + time.year % 100,
            STATUS_B => return self.write_status_b(clock, value),
            WEEKDAY | STATUS_C | STATUS_D => return,
            other => {
                self.cmos[usize::from(other & 0x7f)] = value;
                return;
            }
        }
        self.set_time(clock, time);
    }

    fn write_status_b(&mut self, clock: &dyn Clock, value: u8) {
        let time = self.time(clock);
        self.cmos[usize::from(STATUS_B)] = value;
        if self.status_b().set() {
            self.held = Some(time);
        } else if self.held.take().is_some() {
            self.set_time(clock, time);
        }
    }

    fn set_time(&mut self, clock: &dyn Clock, time: DateTime) {
        if self.status_b().set() {
            self.held = Some(time);
        } else {
            let wanted = i64::try_from(time.to_unix()).unwrap_or(i64::MAX);
            let now = i64::try_from(clock.now()).unwrap_or(i64::MAX);
            self.offset = wanted.saturating_sub(now);
        }
    }

    fn encode(&self, number: u8) -> u8 {
        if self.status_b().binary() {
            number
        } else {
            ((number / 10 % 10) << 4) | (number % 10)
        }
    }

    fn decode(&self, value: u8) -> u8 {
        if self.status_b().binary() {
            value
        } else {
            (value >> 4).saturating_mul(10).saturating_add(value & 0xf)
        }
    }

    fn encode_hour(&self, hour: u8) -> u8 {
        if self.status_b().hours_24() {
            return self.encode(hour);
        }
        // A guest that sets the clock may have left any byte here.
        let on_the_dial = self.encode((hour % 12 + 11) % 12 + 1);
        on_the_dial | if hour >= 12 { PAST_NOON } else { 0 }
    }

    fn decode_hour(&self, value: u8) -> u8 {
        if self.status_b().hours_24() {
            return self.decode(value);
        }
        let hour = self.decode(value & !PAST_NOON) % 12;
        if value & PAST_NOON != 0 {
            hour + 12
        } else {
            hour
        }
    }
}

impl BusDevice for Rtc {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let (1, [byte]) = (offset, data) {
            *byte = state.read(self.clock.as_ref());
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match (offset, data) {
            // Bit 7 of the index masks the non-maskable interrupt, which this machine does not have.
            (0, [index]) => state.index = index & 0x7f,
            (1, [value]) => state.write(self.clock.as_ref(), *value),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
