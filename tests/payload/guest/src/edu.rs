// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The `edu` test device (1234:11e8): a 4 KiB buffer, a DMA engine and one interrupt.

use crate::arch::{self, halves};
use crate::mem::{read32, write32, write64};
use crate::pci::Config;

const STATUS: u64 = 0x24;
const RAISE: u64 = 0x60;
const LOWER: u64 = 0x64;
const DMA_SOURCE: u64 = 0x80;
const DMA_TARGET: u64 = 0x88;
const DMA_COUNT: u64 = 0x90;
const DMA_COMMAND: u64 = 0x98;
const START: u32 = 1;
const TO_MEMORY: u32 = 2;
/// The device's own address of its buffer.
const BUFFER: u64 = 0x4_0000;

const COMMAND: u8 = 0x04;
const BAR0: u8 = 0x10;
const INTERRUPT_LINE: u8 = 0x3C;
const MSI: u8 = 5;
/// Where BAR0 goes when nobody placed it.
const BAR0_HOME: u32 = 0xFE00_0000;

#[derive(Clone, Copy)]
pub struct Edu {
    config: Config,
    registers: u64,
    msi: u8,
}

impl Edu {
    /// Finds the device and lets it decode memory and master the bus.
    pub fn find(ecam: Option<u64>) -> Option<Edu> {
        let config = Config::find(ecam, 0x1234, 0x11E8)?;
        if config.read(BAR0) & !0xF == 0 {
            config.write(BAR0, BAR0_HOME);
        }
        let command = config.read(COMMAND) & 0xFFFF & !(1 << 10);
        config.write(COMMAND, command | 1 << 1 | 1 << 2);
        let registers = u64::from(config.read(BAR0) & !0xF);
        Some(Edu {
            config,
            registers,
            msi: config.capability(MSI)?,
        })
    }

    pub fn source(self) -> u16 {
        self.config.source
    }

    /// Reads the value that every `edu` device has in its first register.
    pub fn identification(self) -> u32 {
        read32(self.registers)
    }

    /// The IOAPIC pin of the device's INTx line.
    pub fn pin(self) -> u8 {
        let [line, ..] = self.config.read(INTERRUPT_LINE).to_le_bytes();
        line
    }

    /// Runs one DMA of `count` bytes to its end; false if the device never finishes.
    fn dma(self, source: u64, target: u64, count: u64, direction: u32) -> bool {
        write64(self.registers + DMA_SOURCE, source);
        write64(self.registers + DMA_TARGET, target);
        write64(self.registers + DMA_COUNT, count);
        write32(self.registers + DMA_COMMAND, START | direction);
        arch::poll(arch::LONG, || {
            read32(self.registers + DMA_COMMAND) & START == 0
        })
    }

    /// The device reads `count` bytes at `iova` into its buffer.
    pub fn read(self, iova: u64, count: u64) -> bool {
        self.dma(iova, BUFFER, count, 0)
    }

    /// The device writes the first `count` bytes of its buffer to `iova`.
    pub fn write(self, iova: u64, count: u64) -> bool {
        self.dma(BUFFER, iova, count, TO_MEMORY)
    }

    /// Turns MSI on with this address and data.
    pub fn set_msi(self, address: u64, data: u16) {
        let (low, high) = halves(address);
        self.config.write(self.msi + 4, low);
        self.config.write(self.msi + 8, high);
        self.config.write(self.msi + 12, data.into());
        let control = self.config.read(self.msi);
        self.config.write(self.msi, control | 1 << 16);
    }

    /// Turns MSI off: interrupts go to the INTx line.
    pub fn set_intx(self) {
        let control = self.config.read(self.msi);
        self.config.write(self.msi, control & !(1 << 16));
    }

    /// Raises the device's interrupt.
    pub fn raise(self) {
        write32(self.registers + RAISE, 1);
    }

    /// Takes the interrupt back; the INTx line falls.
    pub fn lower(self) {
        let status = read32(self.registers + STATUS);
        write32(self.registers + LOWER, status);
    }

    /// Sends one MSI.
    pub fn send_msi(self) {
        self.raise();
        self.lower();
    }
}
