// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The first serial port (16550, 8 ports from 0x3F8 on), around vm-superio's UART.
//!
//! Added here: input that waits for room in the 64-byte FIFO, a received break, output that never makes a processor wait, and
//! a watcher that sees every byte in order. The interrupt is an edge: a pulse on the line each time the UART raises one.
//!
//! Lock rule: registers and outgoing effects have a lock each (registers first); neither is held while the line is driven,
//! the watcher told or the output written.

pub mod output;

use crate::bus::BusDevice;
use crate::irq::IrqLine;
use output::Output;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::io::Write;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use vm_superio::Trigger;
use vm_superio::serial::NoEvents;

/// Ports of a UART.
pub const PORTS: u64 = 8;
/// Bytes of input that wait for the guest at most.
const INPUT_LIMIT: usize = 4096;
/// Offset of the receive buffer.
const DATA: u64 = 0;
/// Offset of the line status register.
const LINE_STATUS: u64 = 5;
/// Line status bit 4: the byte at hand is a break.
const BREAK_INTERRUPT: u8 = 0x10;
/// Line control bit 7: offsets 0 and 1 are the divisor.
const LINE_CONTROL: u64 = 3;
const DIVISOR_LATCH: u8 = 0x80;

/// Sees what the guest writes to its console.
pub trait OutputWatch: fmt::Debug + Send + Sync {
    /// The next bytes, in order. Called on a vCPU: must not wait.
    fn output(&self, bytes: &[u8]);
}

#[derive(Clone, Copy, Debug)]
enum Input {
    Byte(u8),
    Break,
}

/// Remembers that the UART raised an interrupt, until its lock is released.
#[derive(Clone, Debug, Default)]
struct Raised(Arc<AtomicBool>);

impl Trigger for Raised {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        self.0.store(true, Ordering::Relaxed);
        Ok(())
    }
}

#[derive(Debug)]
struct Uart {
    uart: vm_superio::Serial<Raised, NoEvents, Vec<u8>>,
    raised: Raised,
    waiting: VecDeque<Input>,
    /// For each byte in the FIFO, whether it stands for a break.
    breaks: VecDeque<bool>,
}

impl Uart {
    fn new() -> Self {
        let raised = Raised::default();
        Self {
            uart: vm_superio::Serial::new(raised.clone(), Vec::new()),
            raised,
            waiting: VecDeque::new(),
            breaks: VecDeque::new(),
        }
    }

    fn divisor_latch(&mut self) -> bool {
        self.uart.read(line_offset(LINE_CONTROL)) & DIVISOR_LATCH != 0
    }

    fn read(&mut self, offset: u64) -> u8 {
        let received = offset == DATA && !self.divisor_latch();
        let mut value = self.uart.read(line_offset(offset));
        if received {
            self.breaks.pop_front();
            self.refill();
        }
        if offset == LINE_STATUS
            && let Some(is_break) = self.breaks.front_mut()
            && mem::take(is_break)
        {
            value |= BREAK_INTERRUPT;
        }
        value
    }

    fn write(&mut self, offset: u64, value: u8) {
        let before = self.uart.fifo_capacity();
        // The only error is of the output, and that is a vector.
        let _ = self.uart.write(line_offset(offset), value);
        // In loop-back mode a byte written is a byte received.
        for _ in self.uart.fifo_capacity()..before {
            self.breaks.push_back(false);
        }
    }

    /// Moves waiting input into the FIFO while there is room.
    fn refill(&mut self) {
        while self.uart.fifo_capacity() > 0
            && let Some(input) = self.waiting.front().copied()
        {
            let (byte, is_break) = match input {
                Input::Byte(byte) => (byte, false),
                Input::Break => (0, true),
            };
            // Nothing is accepted in loop-back mode.
            if !matches!(self.uart.enqueue_raw_bytes(&[byte]), Ok(1)) {
                return;
            }
            self.breaks.push_back(is_break);
            self.waiting.pop_front();
        }
    }
}

fn line_offset(offset: u64) -> u8 {
    u8::try_from(offset % PORTS).unwrap_or(0)
}

/// What has to happen once the registers are unlocked.
#[derive(Debug, Default)]
struct Outgoing {
    bytes: Vec<u8>,
    pulse: bool,
    busy: bool,
}

/// The serial port.
#[derive(Debug)]
pub struct Serial {
    uart: Mutex<Uart>,
    outgoing: Mutex<Outgoing>,
    line: Arc<dyn IrqLine>,
    watch: Arc<dyn OutputWatch>,
    output: Output,
}

impl Serial {
    /// A port whose output goes to `out`, on a thread of its own, and past `watch`.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn new(
        line: Arc<dyn IrqLine>,
        out: Box<dyn Write + Send>,
        watch: Arc<dyn OutputWatch>,
    ) -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            uart: Mutex::new(Uart::new()),
            outgoing: Mutex::default(),
            line,
            watch,
            output: Output::start(out)?,
        }))
    }

    /// Gives the guest input; how many bytes were taken. The rest did not fit and should be offered again later.
    pub fn enqueue_input(&self, bytes: &[u8]) -> usize {
        let mut uart = self.lock();
        let room = INPUT_LIMIT.saturating_sub(uart.waiting.len());
        let taken = bytes.len().min(room);
        let input = bytes[..taken].iter().copied().map(Input::Byte);
        uart.waiting.extend(input);
        uart.refill();
        self.finish(uart);
        taken
    }

    /// Gives the guest a break.
    pub fn send_break(&self) {
        let mut uart = self.lock();
        if uart.waiting.len() < INPUT_LIMIT {
            uart.waiting.push_back(Input::Break);
        }
        uart.refill();
        self.finish(uart);
    }

    /// Waits until the output has been written, or `limit` has passed; whether it has been written.
    #[must_use]
    pub fn flush(&self, limit: Duration) -> bool {
        self.output.flush(limit)
    }

    /// Power-on state; input that waits is forgotten, output is not.
    pub fn reset(&self) {
        *self.lock() = Uart::new();
    }

    fn lock(&self) -> MutexGuard<'_, Uart> {
        self.uart.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_outgoing(&self) -> MutexGuard<'_, Outgoing> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Unlocks the registers and does what the access caused. One thread at a time does, for the others too, so that bytes
    /// stay in order and no pulse falls into another.
    fn finish(&self, mut uart: MutexGuard<'_, Uart>) {
        let raised = uart.raised.0.swap(false, Ordering::Relaxed);
        let mut outgoing = self.lock_outgoing();
        outgoing.bytes.append(uart.uart.writer_mut());
        outgoing.pulse |= raised;
        drop(uart);
        if mem::replace(&mut outgoing.busy, true) {
            return;
        }
        while outgoing.pulse || !outgoing.bytes.is_empty() {
            let bytes = mem::take(&mut outgoing.bytes);
            let pulse = mem::take(&mut outgoing.pulse);
            drop(outgoing);
            if !bytes.is_empty() {
                self.watch.output(&bytes);
                self.output.push(&bytes);
            }
            if pulse {
                self.line.set_level(true);
                self.line.set_level(false);
            }
            outgoing = self.lock_outgoing();
        }
        outgoing.busy = false;
    }
}

impl BusDevice for Serial {
    fn read(&self, offset: u64, data: &mut [u8]) {
        if let [byte] = data {
            let mut uart = self.lock();
            *byte = uart.read(offset);
            self.finish(uart);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let [byte] = data {
            let mut uart = self.lock();
            uart.write(offset, *byte);
            if !uart.waiting.is_empty() {
                // Leaving loop-back mode makes room.
                uart.refill();
            }
            self.finish(uart);
        }
    }
}

#[cfg(test)]
mod tests;
