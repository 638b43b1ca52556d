// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The I/O APIC, version 0x20: 24 pins and an EOI register (Intel 82093AA data sheet, section 3; ICH9 data sheet, section
//! 13.5 for the EOI register).
//!
//! A level-triggered entry sends once and then waits, remote IRR set, for its end of interrupt; if the line is still high then
//! it sends again. Sources that hold their line until then are told first. Edges on a masked pin are lost. Messages leave as memory
//! writes in the compatibility or the remappable format, whichever the entry holds (VT-d specification, section 5.1.2.1); remapping
//! is the output's business, and so is finding the pins when the processor side reports the *remapped* vector's end of interrupt.
//!
//! Lock rule: one lock around the registers, never held while the output is called. Polarity is stored and means nothing: a
//! line's level is whether it is asserted. Not supported: arbitration, boot by INIT messages, delivery status (messages are
//! never held back).

use crate::bus::BusDevice;
use crate::irq::IrqLine;
use bitfield_struct::bitfield;
use iommu::msi::MsiMessage;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Inputs of the I/O APIC.
pub const PINS: u8 = 24;
/// Bytes of the register window.
pub const WINDOW_SIZE: u64 = 0x1000;

const VERSION: u32 = 0x20;

/// Where the messages go, and who has to know about entries.
pub trait IoapicOutput: fmt::Debug + Send + Sync {
    /// Sends a message, not remapped yet.
    fn send(&self, message: MsiMessage);

    /// The entry of `pin` was written: what [`Ioapic::message`] says about it may be different now. Called before any message
    /// that the write causes.
    fn entry_changed(&self, pin: u8);

    /// The interrupt that `pin` sent ends. Called before the line is looked at again, so that sources which hold it until
    /// now can let go; remote IRR is still set, and whatever they do with the line is seen afterwards.
    fn interrupt_ends(&self, pin: u8);
}

/// A redirection table entry.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
struct Entry {
    vector: u8,
    #[bits(3)]
    delivery_mode: u8,
    /// Bit 11: logical destination; in the remappable format, bit 15 of the index.
    logical: bool,
    /// Bit 12, read-only.
    delivery_status: bool,
    /// Bit 13.
    active_low: bool,
    /// Bit 14, read-only.
    remote_irr: bool,
    /// Bit 15: level-triggered.
    level: bool,
    /// Bit 16.
    masked: bool,
    #[bits(31)]
    __: u32,
    /// Bits 63:48: destination in 63:56; in the remappable format, 63:49 index and 48 format.
    destination: u16,
}

impl Entry {
    const RESET: Self = Self::new().with_masked(true);

    /// The bits that software writes; the others keep their value.
    fn written(self, value: u64) -> Self {
        let new = Self::from_bits(value);
        Self::new()
            .with_vector(new.vector())
            .with_delivery_mode(new.delivery_mode())
            .with_logical(new.logical())
            .with_active_low(new.active_low())
            .with_level(new.level())
            .with_masked(new.masked())
            .with_destination(new.destination())
            // Switching to edge is how software without an EOI register ends an interrupt.
            .with_remote_irr(self.remote_irr() && new.level())
    }

    fn message(self) -> MsiMessage {
        let address = MessageAddress::new()
            .with_logical(self.logical())
            .with_destination(self.destination())
            .with_head(0xfee);
        let data = MessageData::new()
            .with_vector(self.vector())
            .with_delivery_mode(self.delivery_mode())
            .with_level(self.level());
        MsiMessage {
            address: u64::from(address.into_bits()),
            data: data.into_bits(),
        }
    }
}

/// The address of a message: bits 63:48 of the entry stand in 19:4.
#[bitfield(u32)]
struct MessageAddress {
    #[bits(2)]
    __: u8,
    logical: bool,
    __: bool,
    destination: u16,
    #[bits(12)]
    head: u16,
}

#[bitfield(u32)]
struct MessageData {
    vector: u8,
    #[bits(3)]
    delivery_mode: u8,
    #[bits(4)]
    __: u8,
    level: bool,
    __: u16,
}

#[derive(Clone, Copy, Debug)]
struct Pin {
    entry: Entry,
    asserted: bool,
}

impl Pin {
    /// Sends if a level-triggered interrupt is due.
    fn service_level(&mut self) -> Option<MsiMessage> {
        let entry = self.entry;
        let due = self.asserted && entry.level() && !entry.masked() && !entry.remote_irr();
        due.then(|| {
            self.entry.set_remote_irr(true);
            entry.message()
        })
    }

    fn set_level(&mut self, asserted: bool) -> Option<MsiMessage> {
        let rising = asserted && !self.asserted;
        self.asserted = asserted;
        if self.entry.level() {
            return self.service_level();
        }
        (rising && !self.entry.masked()).then(|| self.entry.message())
    }

    /// Whether an interrupt was sent that has not ended.
    const fn is_in_service(&self) -> bool {
        self.entry.level() && self.entry.remote_irr()
    }

    fn end_of_interrupt(&mut self) -> Option<MsiMessage> {
        if !self.is_in_service() {
            return None;
        }
        self.entry.set_remote_irr(false);
        self.service_level()
    }
}

#[derive(Debug)]
struct Registers {
    id: u8,
    select: u8,
    pins: [Pin; PINS as usize],
}

impl Registers {
    fn new(id: u8) -> Self {
        let pin = Pin {
            entry: Entry::RESET,
            asserted: false,
        };
        Self {
            id,
            select: 0,
            pins: [pin; PINS as usize],
        }
    }

    /// The pin and half (0 low, 1 high) that the index register selects.
    fn selected(&self) -> Option<(u8, usize)> {
        let index = self.select.checked_sub(0x10)?;
        (index / 2 < PINS).then_some((index / 2, usize::from(index % 2)))
    }

    fn read_data(&self) -> u32 {
        let id = u32::from(self.id) << 24;
        match self.select {
            0 | 2 => id,
            1 => VERSION | u32::from(PINS - 1) << 16,
            _ => self.selected().map_or(u32::MAX, |(pin, half)| {
                halves(self.pins[usize::from(pin)].entry.into_bits())[half]
            }),
        }
    }

    /// Writes the selected register; the pin whose entry has changed, and what follows.
    fn write_data(&mut self, value: u32) -> Option<(u8, Written)> {
        if self.select == 0 {
            let [.., id] = value.to_le_bytes();
            self.id = id & 0x0f;
        }
        let (pin, half) = self.selected()?;
        let state = &mut self.pins[usize::from(pin)];
        let mut parts = halves(state.entry.into_bits());
        parts[half] = value;
        let bits = u64::from(parts[1]) << 32 | u64::from(parts[0]);
        let in_service = state.is_in_service();
        state.entry = state.entry.written(bits);
        let written = Written {
            ended: in_service && !state.is_in_service(),
            due: state.service_level(),
        };
        Some((pin, written))
    }
}

/// What follows from a write to an entry.
#[derive(Clone, Copy, Debug)]
struct Written {
    /// The write ended the pin's interrupt.
    ended: bool,
    due: Option<MsiMessage>,
}

fn halves(bits: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = bits.to_le_bytes();
    [
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    ]
}

/// The I/O APIC.
#[derive(Debug)]
pub struct Ioapic {
    id: u8,
    registers: Mutex<Registers>,
    output: Arc<dyn IoapicOutput>,
}

impl Ioapic {
    /// An I/O APIC with APIC id `id` (0..=15), every pin masked.
    #[must_use]
    pub fn new(id: u8, output: Arc<dyn IoapicOutput>) -> Arc<Self> {
        Arc::new(Self {
            id: id & 0x0f,
            registers: Mutex::new(Registers::new(id & 0x0f)),
            output,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Registers> {
        self.registers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The input `pin` (0..=23); a pin beyond goes nowhere. It has one driver: more share it by a
    /// [`SharedLine`](crate::irq::SharedLine).
    #[must_use]
    pub fn line(self: &Arc<Self>, pin: u8) -> Arc<dyn IrqLine> {
        Arc::new(Input {
            ioapic: Arc::clone(self),
            pin,
        })
    }

    /// What `pin` sends, not remapped: for a route that tells the processor side which level-triggered vectors are this I/O
    /// APIC's. `None` for a masked pin, unless its interrupt is still in service.
    #[must_use]
    pub fn message(&self, pin: u8) -> Option<MsiMessage> {
        let registers = self.lock();
        let entry = registers.pins.get(usize::from(pin))?.entry;
        (!entry.masked() || entry.remote_irr()).then(|| entry.message())
    }

    /// The processor has ended the interrupt that `pin` sent.
    pub fn end_of_interrupt_pin(&self, pin: u8) {
        self.end_if(pin, |_| true);
    }

    /// Power-on state. Lines keep their levels: those are their drivers'.
    pub fn reset(&self) {
        {
            let mut registers = self.lock();
            let levels = registers.pins.map(|pin| pin.asserted);
            *registers = Registers::new(self.id);
            for (pin, asserted) in registers.pins.iter_mut().zip(levels) {
                pin.asserted = asserted;
            }
        }
        for pin in 0..PINS {
            self.output.entry_changed(pin);
        }
    }

    /// The EOI register: ends the interrupts of every entry with this vector.
    fn end_of_interrupt(&self, vector: u8) {
        for pin in 0..PINS {
            self.end_if(pin, |entry| entry.vector() == vector);
        }
    }

    /// Ends the interrupt of `pin`, if there is one and its entry is `named`.
    fn end_if(&self, pin: u8, named: impl Fn(Entry) -> bool) {
        let ends = {
            let registers = self.lock();
            let pin = registers.pins.get(usize::from(pin));
            pin.is_some_and(|pin| pin.is_in_service() && named(pin.entry))
        };
        if !ends {
            return;
        }
        self.output.interrupt_ends(pin);
        let message = self.lock().pins[usize::from(pin)].end_of_interrupt();
        self.send(message);
    }

    fn send(&self, message: Option<MsiMessage>) {
        if let Some(message) = message {
            self.output.send(message);
        }
    }
}

mod register {
    pub(super) const SELECT: u64 = 0x00;
    pub(super) const DATA: u64 = 0x10;
    pub(super) const EOI: u64 = 0x40;
}

impl BusDevice for Ioapic {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let value = match offset {
            register::SELECT => u32::from(self.lock().select),
            register::DATA => self.lock().read_data(),
            _ => return,
        };
        for (byte, value) in data.iter_mut().zip(value.to_le_bytes()) {
            *byte = value;
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        match (offset, data) {
            (register::SELECT, [select, ..]) => self.lock().select = *select,
            (register::EOI, [vector, ..]) => self.end_of_interrupt(*vector),
            (register::DATA, &[a, b, c, d]) => {
                let changed = self.lock().write_data(u32::from_le_bytes([a, b, c, d]));
                if let Some((pin, written)) = changed {
                    self.output.entry_changed(pin);
                    if written.ended {
                        self.output.interrupt_ends(pin);
                    }
                    self.send(written.due);
                }
            }
            _ => {}
        }
    }
}

#[derive(Debug)]
struct Input {
    ioapic: Arc<Ioapic>,
    pin: u8,
}

impl IrqLine for Input {
    fn set_level(&self, asserted: bool) {
        let message = {
            let mut registers = self.ioapic.lock();
            let pin = registers.pins.get_mut(usize::from(self.pin));
            pin.and_then(|pin| pin.set_level(asserted))
        };
        self.ioapic.send(message);
    }
}

#[cfg(test)]
mod tests;
