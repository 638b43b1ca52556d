// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The board: a machine without its processors, open to the wiring.
//!
//! [`wiring::wire`](crate::wiring::wire) is given the board once, before any vCPU exists, and adds what the configuration asks
//! for. Lock rule: nothing here is locked; whatever is shared is behind an `Arc` and has its own rule.

use crate::config::Config;
use crate::console::Console;
use crate::control::Control;
use crate::error::Error;
use crate::events::Events;
use crate::kvm::vm::Vm;
use crate::slots::Slots;
use devices::bus::Bus;
use event_manager::MutEventSubscriber;
use iommu::address::Gpa;
use iommu::memory::Ram;
use std::fmt;
use std::sync::Arc;

/// Takes part in pauses, in resets and in the end of the run.
pub trait Reset: fmt::Debug + Send + Sync {
    /// Every vCPU is parked: when this returns, the part does not reach memory nor send interrupts until it is resumed. Called in
    /// the order of registration.
    fn pause(&self) {}

    /// Goes on where it was, while every vCPU is still parked; the other way round. Called without a pause, too.
    fn resume(&self) {}

    /// Back to the state after power-on. Every vCPU is parked meanwhile; called in the order of registration.
    ///
    /// # Errors
    /// The machine cannot go on; ends the run.
    fn reset(&self) -> Result<(), Error>;

    /// The run is over and every vCPU gone: flush what a guest was told is safe, end threads, give files back.
    fn stop(&self) {}
}

/// Hears that a processor finished a level-triggered interrupt of the IOAPIC (KVM_EXIT_IOAPIC_EOI).
pub trait EoiSink: fmt::Debug + Send + Sync {
    /// `vector` was acknowledged by some vCPU; runs on its thread.
    fn eoi(&self, vector: u8);
}

/// The machine's power button.
pub trait PowerButton: fmt::Debug + Send + Sync {
    /// Presses and releases it; whether anything in the guest listens to it.
    fn press(&self) -> bool;
}

/// Numbers for the result file.
pub trait Counters: fmt::Debug + Send + Sync {
    /// The numbers by name, as they are now.
    fn counters(&self) -> serde_json::Map<String, serde_json::Value>;
}

/// A part of the machine that says what it did and what it holds, for the control socket.
pub trait Inspect: fmt::Debug + Send + Sync {
    /// Numbers, as they are now: an object of numbers, texts and further objects or arrays of such. May wait as long as the part
    /// is busy; never for the guest.
    fn stats(&self) -> serde_json::Value;

    /// What the part holds, to be looked at: tables, mappings, registers. As [`Self::stats`]; null where there is nothing more.
    fn dump(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// What the part holds as an HTML page of its own, which needs no other file; `None` where there is nothing to draw.
    fn page(&self) -> Option<String> {
        None
    }

    /// Why something is as it is: the answer to a question in the part's own words, an array. `None` where the part knows of no
    /// questions.
    ///
    /// # Errors
    /// The question is not understood.
    fn explain(&self, question: &str) -> Option<Result<serde_json::Value, Error>> {
        let _ = question;
        None
    }
}

/// A machine without its processors.
pub struct Board {
    /// What was asked for.
    pub config: Arc<Config>,
    /// Guest RAM.
    pub ram: Arc<Ram>,
    /// The virtual machine: interrupts are delivered through it.
    pub vm: Arc<Vm>,
    /// Guest-physical addresses that are not RAM.
    pub mmio: Arc<Bus>,
    /// Ports.
    pub ports: Arc<Bus>,
    /// Ends or resets the run.
    pub control: Arc<Control>,
    /// Tells what happens.
    pub events: Arc<Events>,
    /// The other end of the serial port.
    pub console: Arc<Console>,
    /// Physical address bits of the processors.
    pub phys_bits: u8,
    /// The power button, if there is one.
    pub power_button: Option<Arc<dyn PowerButton>>,
    /// Reset hooks, in their order.
    pub resets: Vec<Arc<dyn Reset>>,
    /// The IOAPIC's ear, if there is one.
    pub eoi: Option<Arc<dyn EoiSink>>,
    /// Firmware tables: written at each boot, inside the area of [`crate::layout::FIRMWARE_TABLES`].
    pub tables: Vec<(Gpa, Vec<u8>)>,
    /// Address of the RSDP within them.
    pub rsdp: Option<Gpa>,
    /// Counters of the unit, for the result file.
    pub counters: Option<Arc<dyn Counters>>,
    /// Devices that come and go, in a machine that has slots for them.
    pub slots: Option<Arc<dyn Slots>>,
    /// Parts that can be looked into by name, in the order in which they are shown.
    pub inspected: Vec<(String, Arc<dyn Inspect>)>,
    /// What the event loop serves besides control, console and timers.
    pub subscribers: Vec<Box<dyn MutEventSubscriber + Send>>,
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board")
            .field("config", &self.config)
            .field("phys_bits", &self.phys_bits)
            .field("resets", &self.resets)
            .finish_non_exhaustive()
    }
}
