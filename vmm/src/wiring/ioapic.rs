// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The IOAPIC on the board: registers on the bus, messages through remapping, lines for devices, ends of interrupts from KVM.

use super::iommu::Units;
use crate::board::{Board, EoiSink, PowerButton, Reset};
use crate::error::Error;
use crate::interrupts::{IoapicRoutes, Pins, RouteTable};
use crate::layout;
use devices::bus::BusDevice;
use devices::ioapic::{Ioapic, IoapicOutput, PINS, WINDOW_SIZE};
use devices::irq::{IrqLine, SharedLine};
use iommu::ids::{Requester, SourceId};
use iommu::msi::{MsiMessage, MsiSender};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

/// The APIC id, in the MADT as well as in the DMAR table's scope.
pub const ID: u8 = 0;

/// Who the IOAPIC is to the unit: 00:1e.7, which no device is, as devices have function 0 only. Linux takes 00:00.0 for "not
/// found".
pub const SOURCE: SourceId = SourceId::new(0, 0x1e << 3 | 7);

/// Data bit 15 of a message: level-triggered.
const LEVEL: u32 = 1 << 15;

/// Lines that have sources, by global system interrupt.
type Shared = Mutex<HashMap<u8, Arc<SharedLine>>>;

/// The lines of the IOAPIC, for any number of sources each.
#[derive(Clone, Debug)]
pub struct Lines {
    ioapic: Arc<Ioapic>,
    shared: Arc<Shared>,
}

impl Lines {
    /// One more source of the line of global system interrupt `gsi`.
    #[must_use]
    pub fn source(&self, gsi: u8) -> Arc<dyn IrqLine> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let line = shared
            .entry(gsi)
            .or_insert_with(|| SharedLine::new(self.ioapic.line(gsi)));
        line.source()
    }
}

impl PowerButton for Button {
    fn press(&self) -> bool {
        // A pin that nobody set up is masked.
        let heard = self.ioapic.message(layout::POWER_BUTTON_GSI).is_some();
        if heard {
            self.line.set_level(true);
            self.line.set_level(false);
        }
        heard
    }
}

/// The power button: an edge on a pin of its own.
#[derive(Debug)]
struct Button {
    ioapic: Arc<Ioapic>,
    line: Arc<dyn IrqLine>,
}

/// The IOAPIC before it is on the board.
#[derive(Debug)]
pub struct Wired {
    ioapic: Arc<Ioapic>,
    routes: Arc<IoapicRoutes>,
    shared: Arc<Shared>,
}

impl Wired {
    /// An IOAPIC whose messages the first unit remaps; its level-triggered vectors stand in `table`.
    #[must_use]
    pub fn new(units: &Units, table: Arc<RouteTable>) -> Self {
        let output = Arc::new(Output::new(units));
        let ioapic = Ioapic::new(ID, Arc::clone(&output) as _);
        let pins = Arc::new(IoapicPins(Arc::clone(&ioapic)));
        let routes = IoapicRoutes::new(pins, SOURCE, units.root().remap(), table);
        let _ = output.routes.set(Arc::downgrade(&routes));
        units.refresh_pins_on_change(&routes);
        let shared = Arc::clone(&output.shared);
        Self {
            ioapic,
            routes,
            shared,
        }
    }

    /// The inputs.
    #[must_use]
    pub fn lines(&self) -> Lines {
        Lines {
            ioapic: Arc::clone(&self.ioapic),
            shared: Arc::clone(&self.shared),
        }
    }

    fn button(&self) -> Button {
        Button {
            ioapic: Arc::clone(&self.ioapic),
            line: self.ioapic.line(layout::POWER_BUTTON_GSI),
        }
    }

    /// Puts it on the board.
    ///
    /// # Errors
    /// Its addresses are taken.
    pub fn install(self, board: &mut Board) -> Result<(), Error> {
        let registers = Arc::clone(&self.ioapic) as Arc<dyn BusDevice>;
        board
            .mmio
            .insert(layout::IOAPIC.0, WINDOW_SIZE, registers)
            .map_err(super::taken)?;
        board.eoi = Some(Arc::clone(&self.routes) as Arc<dyn EoiSink>);
        board.power_button = Some(Arc::new(self.button()));
        board.resets.push(Arc::new(self));
        Ok(())
    }
}

impl Reset for Wired {
    fn reset(&self) -> Result<(), Error> {
        self.ioapic.reset();
        self.routes.refresh();
        Ok(())
    }
}

/// Where the IOAPIC's messages go.
#[derive(Debug)]
struct Output {
    requester: Requester,
    messages: Arc<dyn MsiSender>,
    routes: OnceLock<Weak<IoapicRoutes>>,
    shared: Arc<Shared>,
}

impl Output {
    fn new(units: &Units) -> Self {
        let requester = Requester::new(SOURCE);
        requester.set_bus_master(true);
        Self {
            requester,
            messages: units.root().messages(),
            routes: OnceLock::new(),
            shared: Arc::default(),
        }
    }

    fn refresh(&self) {
        if let Some(routes) = self.routes.get().and_then(Weak::upgrade) {
            routes.refresh();
        }
    }
}

impl IoapicOutput for Output {
    fn send(&self, message: MsiMessage) {
        // A table entry that was not present may become so without an invalidation (VT-d specification 6.1), and is then
        // first looked at now.
        if message.data & LEVEL != 0 {
            self.refresh();
        }
        self.messages.send(&self.requester, message);
    }

    fn entry_changed(&self, _pin: u8) {
        self.refresh();
    }

    fn interrupt_ends(&self, pin: u8) {
        let line = {
            let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.get(&pin).cloned()
        };
        if let Some(line) = line {
            line.interrupt_ended();
        }
    }
}

/// The pins for the kernel's routes.
#[derive(Debug)]
struct IoapicPins(Arc<Ioapic>);

impl Pins for IoapicPins {
    fn level_messages(&self) -> Vec<(u32, MsiMessage)> {
        let messages = (0..PINS).filter_map(|pin| Some((u32::from(pin), self.0.message(pin)?)));
        messages
            .filter(|(_, message)| message.data & LEVEL != 0)
            .collect()
    }

    fn end_of_interrupt(&self, pin: u32) {
        if let Ok(pin) = u8::try_from(pin) {
            self.0.end_of_interrupt_pin(pin);
        }
    }
}

#[cfg(test)]
mod tests;
