// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The registers of `edu`, without thread, memory or interrupts.

use bitfield_struct::bitfield;
use std::ops::Range;

/// Bytes of the buffer.
pub(super) const BUFFER_SIZE: usize = 4096;
/// Where the buffer is in the device's own address space.
const BUFFER_BASE: u64 = 0x4_0000;

/// Raises the interrupt status bits written.
pub(super) const RAISE: u64 = 0x60;
/// Clears the interrupt status bits written.
pub(super) const ACKNOWLEDGE: u64 = 0x64;

const IDENTIFICATION: u64 = 0x00;
const LIVENESS: u64 = 0x04;
const FACTORIAL: u64 = 0x08;
const STATUS: u64 = 0x20;
const INTERRUPT_STATUS: u64 = 0x24;
const DMA_SOURCE: u64 = 0x80;
const DMA_DESTINATION: u64 = 0x88;
const DMA_COUNT: u64 = 0x90;
const DMA_COMMAND: u64 = 0x98;

/// First offset that also takes 8 bytes.
const WIDE_REGISTERS: u64 = 0x80;
/// Version 1.0 of the device.
const IDENTIFICATION_VALUE: u64 = 0x0100_00ed;

/// Interrupt status bit of a factorial that is done.
const FACTORIAL_DONE: u32 = 0x1;
/// Interrupt status bit of a transfer that is done.
const TRANSFER_DONE: u32 = 0x100;

/// The status register (0x20).
#[bitfield(u32)]
pub(super) struct Status {
    /// Bit 0, read-only: a factorial is being computed.
    busy: bool,
    #[bits(6)]
    __: u8,
    /// Bit 7: interrupt when it is done.
    interrupt: bool,
    #[bits(24)]
    __: u32,
}

/// The DMA command register (0x98).
#[bitfield(u64)]
pub(super) struct Command {
    /// Bit 0: start; reads one while the transfer runs.
    run: bool,
    /// Bit 1: from the device to memory.
    to_memory: bool,
    /// Bit 2: interrupt at the end.
    interrupt: bool,
    #[bits(61)]
    __: u64,
}

/// Source, destination, count and direction of a transfer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Transfer {
    source: u64,
    destination: u64,
    count: u64,
    command: Command,
}

impl Transfer {
    pub(super) fn to_memory(self) -> bool {
        self.command.to_memory()
    }

    /// The address in memory.
    pub(super) fn memory(self) -> u64 {
        if self.to_memory() {
            self.destination
        } else {
            self.source
        }
    }

    /// The bytes of the buffer; `None` when they are not all in it.
    pub(super) fn range(self) -> Option<Range<usize>> {
        let address = if self.to_memory() {
            self.source
        } else {
            self.destination
        };
        let start = usize::try_from(address.checked_sub(BUFFER_BASE)?).ok()?;
        let end = start.checked_add(usize::try_from(self.count).ok()?)?;
        (end <= BUFFER_SIZE).then_some(start..end)
    }
}

/// What the thread has to do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Job {
    Transfer(Transfer),
    Factorial(u32),
}

/// The registers, and what the thread and the device tell each other.
#[derive(Debug, Default)]
pub(super) struct Registers {
    liveness: u32,
    factorial: u32,
    status: Status,
    pub(super) interrupt: u32,
    transfer: Transfer,
    /// The thread is at a job, its interrupt included.
    pub(super) working: bool,
    /// No job begins any more.
    pub(super) resetting: bool,
    pub(super) quit: bool,
}

/// Whether the registers take an access of `len` bytes at `offset`.
pub(super) fn takes(offset: u64, len: usize) -> bool {
    len == 4 || (len == 8 && offset >= WIDE_REGISTERS)
}

/// `number`! modulo 2^32.
pub(super) fn factorial(number: u32) -> u32 {
    let mut result = 1u32;
    // From 34 on there are 32 factors of two in it: nothing more to compute.
    for factor in 2..=number.min(34) {
        result = result.wrapping_mul(factor);
    }
    result
}

impl Registers {
    pub(super) fn read(&self, offset: u64) -> Option<u64> {
        Some(match offset {
            IDENTIFICATION => IDENTIFICATION_VALUE,
            LIVENESS => u64::from(self.liveness),
            FACTORIAL => u64::from(self.factorial),
            STATUS => u64::from(self.status.into_bits()),
            INTERRUPT_STATUS => u64::from(self.interrupt),
            DMA_SOURCE => self.transfer.source,
            DMA_DESTINATION => self.transfer.destination,
            DMA_COUNT => self.transfer.count,
            DMA_COMMAND => self.transfer.command.into_bits(),
            _ => return None,
        })
    }

    /// Power-on values.
    pub(super) fn reset(&mut self) {
        *self = Self {
            quit: self.quit,
            ..Self::default()
        };
    }

    /// Writes a register; whether the thread has something to do now.
    pub(super) fn write(&mut self, offset: u64, value: u64) -> bool {
        let [a, b, c, d, ..] = value.to_le_bytes();
        let low = u32::from_le_bytes([a, b, c, d]);
        let running = self.transfer.command.run();
        match offset {
            LIVENESS => self.liveness = !low,
            STATUS => {
                let interrupt = Status::from_bits(low).interrupt();
                self.status.set_interrupt(interrupt);
            }
            FACTORIAL if !self.status.busy() && !self.resetting => {
                self.factorial = low;
                self.status.set_busy(true);
                return true;
            }
            DMA_SOURCE if !running => self.transfer.source = value,
            DMA_DESTINATION if !running => self.transfer.destination = value,
            DMA_COUNT if !running => self.transfer.count = value,
            DMA_COMMAND if !running && Command::from_bits(value).run() && !self.resetting => {
                self.transfer.command = Command::from_bits(value);
                return true;
            }
            _ => {}
        }
        false
    }

    pub(super) fn job(&self) -> Option<Job> {
        if self.transfer.command.run() {
            Some(Job::Transfer(self.transfer))
        } else if self.status.busy() {
            Some(Job::Factorial(self.factorial))
        } else {
            None
        }
    }

    /// The transfer is over; the interrupt that is due.
    pub(super) fn end_transfer(&mut self) -> Option<u32> {
        self.transfer.command.set_run(false);
        let wanted = self.transfer.command.interrupt();
        wanted.then_some(TRANSFER_DONE)
    }

    /// The factorial is known; the interrupt that is due.
    pub(super) fn end_factorial(&mut self, result: u32) -> Option<u32> {
        self.factorial = result;
        self.status.set_busy(false);
        self.status.interrupt().then_some(FACTORIAL_DONE)
    }
}
