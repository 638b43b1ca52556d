// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A passed-through function on the guest's bus.
//!
//! Lock rule: one lock around what the guest sees, held while the device, the machine's routes and its memory slots are
//! told, so that these follow the guest's writes in their order. It comes before the routes' lock. A line is never driven
//! under it.

use super::complaints::Complaints;
use super::config::{Interrupts, Outcome, Place, Services};
use super::direct::{Direct, MemorySlots};
use super::guest::Guest;
use super::interrupts::{HostInterrupts, InterruptRoutes};
use super::intx::Intx;
use super::port::{DeviceFile, Port};
use super::watch::{Notice, Watch};
use crate::error::Error;
use devices::irq::IrqLine;
use devices::pci::config::{Command, offset};
use devices::pci::{BarWindow, PciFunction};
use iommu::address::Gpa;
use iommu::ids::Requester;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Bus mastering in the command register.
const BUS_MASTER: u8 = 1 << 2;

/// What the machine does for the function.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Interrupts.
    pub routes: Arc<dyn InterruptRoutes>,
    /// Memory.
    pub slots: Arc<dyn MemorySlots>,
}

/// The function.
#[derive(Debug)]
pub struct Passthrough {
    port: Arc<dyn Port>,
    requester: Arc<Requester>,
    slots: Arc<dyn MemorySlots>,
    state: Mutex<State>,
    pin: OnceLock<Intx>,
    watch: OnceLock<Watch>,
}

/// What is decided for a function before the guest sees it.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name by which people know it.
    pub name: String,
    /// What the guest's drivers may use together with the IOMMU.
    pub services: Services,
    /// Parts of BARs become memory of the guest; otherwise every access is served here, which is slow and can be traced.
    pub map: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "passed-through device".to_owned(),
            services: Services::default(),
            map: true,
        }
    }
}

#[derive(Debug)]
struct State {
    guest: Guest,
    interrupts: HostInterrupts,
    /// Parts of BARs, and where the guest's memory has each, which a machine that refuses may leave behind the BAR.
    direct: Vec<(Direct, Option<Gpa>)>,
    /// The host's kernel reported that the device has failed: it answers no more until it is reset.
    failed: bool,
    /// The device may not send, whatever the guest says.
    held: bool,
    complaints: Complaints,
}

impl Passthrough {
    /// The function of an open device, where the guest has it at `place`.
    ///
    /// # Errors
    /// The device does not answer, or cannot be shown to a guest.
    pub fn of(device: DeviceFile, place: Place, machine: Machine) -> Result<Self, Error> {
        Self::with_options(device, place, machine, Options::default())
    }

    /// The same with `options`.
    ///
    /// # Errors
    /// The device does not answer, or cannot be shown to a guest.
    pub fn with_options(
        device: DeviceFile,
        place: Place,
        machine: Machine,
        options: Options,
    ) -> Result<Self, Error> {
        let image = device.image().map_err(Error::Image)?;
        let guest = Guest::with_services(&device.describe(&image), place, &options.services)?;
        let direct = if options.map {
            Direct::all(&device, |bar| guest.trapped(bar))
        } else {
            Vec::new()
        };
        let can_add = device.can_add_vectors();
        let mut this = Self::new(Arc::new(device), guest, direct, can_add, machine);
        let state = this.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.complaints = Complaints::new(options.name);
        Ok(this)
    }

    /// A function whose accesses go through `port` and whose parts `direct` the guest touches by itself.
    #[must_use]
    pub fn new(
        port: Arc<dyn Port>,
        guest: Guest,
        direct: Vec<Direct>,
        can_add_vectors: bool,
        machine: Machine,
    ) -> Self {
        let requester = Arc::new(Requester::default());
        let interrupts = HostInterrupts::new(requester.clone(), machine.routes, can_add_vectors);
        Self {
            port,
            requester,
            slots: machine.slots,
            state: Mutex::new(State {
                guest,
                interrupts,
                direct: direct.into_iter().map(|direct| (direct, None)).collect(),
                failed: false,
                held: false,
                complaints: Complaints::new(Options::default().name),
            }),
            pin: OnceLock::new(),
            watch: OnceLock::new(),
        }
    }

    /// Hears from now on what the host's kernel says of the device by itself, and calls `tell`, on a thread of its own. A
    /// device that has failed is stopped before: the guest finds it gone from the bus, and its machine lives on. One
    /// that the host wants back is as before; whoever hears of it takes it out of the guest.
    ///
    /// # Errors
    /// The host takes no events, or is watched already.
    pub fn watch(
        self: &Arc<Self>,
        tell: impl Fn(Notice) + Send + Sync + 'static,
    ) -> std::io::Result<()> {
        let function = Arc::downgrade(self);
        let watch = Watch::new(&*self.port, move |notice| {
            if notice == Notice::Failed
                && let Some(function) = function.upgrade()
            {
                function.fail();
            }
            tell(notice);
        })?;
        self.watch
            .set(watch)
            .map_err(|_| std::io::ErrorKind::AlreadyExists.into())
    }

    /// The device sends nothing any more, and reads as one that does not answer, until it is reset.
    fn fail(&self) {
        let mut state = self.lock();
        state.complain(
            "the device has failed and is stopped",
            &"an error on its bus",
        );
        self.silence(&mut state);
        state.failed = true;
        drop(state);
        if let Some(pin) = self.pin.get() {
            pin.lower();
        }
    }

    /// Takes it out of the guest's memory, and its interrupts and its requests away.
    fn silence(&self, state: &mut State) {
        self.requester.set_bus_master(false);
        state.withdraw(&*self.slots, &[]);
        if let Err(error) = state.interrupts.disable(&*self.port) {
            state.complain("interrupts cannot be disabled", &error);
        }
        // No decoding, no requests: also for a device that cannot be reset.
        if let Err(error) = self.port.config_write(offset::COMMAND, &[0, 0]) {
            state.complain("the device cannot be stopped", &error);
        }
    }

    /// Keeps the device from sending whatever the guest says, or lets it send again what the guest allows.
    pub fn hold(&self, held: bool) {
        let mut state = self.lock();
        state.held = held;
        self.switch_bus_master(&mut state);
    }

    /// Lets the device send what the guest allows, in its own registers and in the bridges above it, unless it is held.
    fn switch_bus_master(&self, state: &mut State) {
        let allowed = !state.held && !state.failed && self.requester.is_forwarded();
        let may_send = allowed && state.guest.config.may_send();
        let mut command = [0; 2];
        let written = self
            .port
            .config_read(offset::COMMAND, &mut command)
            .and_then(|()| {
                let command = Command::from_bits(u16::from_le_bytes(command));
                let command = command.with_bus_master(may_send).into_bits();
                self.port
                    .config_write(offset::COMMAND, &command.to_le_bytes())
            });
        if let Err(error) = written {
            state.complain("bus mastering cannot be switched", &error);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out what follows from a write: parts of BARs leave the guest before the device stops answering there, and
    /// come after it has begun.
    fn follow(&self, state: &mut State, outcome: Outcome) {
        let windows = state.guest.config.windows();
        let may_send = state.guest.config.may_send();
        if !may_send {
            self.requester.set_bus_master(false);
        }
        state.withdraw(&*self.slots, &windows);
        let held = state.held || !self.requester.is_forwarded();
        let write = outcome.host.map(|write| match held {
            true => write.without(offset::COMMAND, BUS_MASTER),
            false => write,
        });
        if let Some(write) = write
            && let Err(error) = self.port.config_write(write.at, write.bytes())
        {
            state.complain("configuration space cannot be written", &error);
        }
        state.show(&*self.slots, &windows);
        if may_send {
            self.requester.set_bus_master(true);
        }
        if outcome.interrupts {
            state.update_interrupts(&*self.port);
        }
    }

    /// Everything off, and the device as after power-on.
    fn reset_device(&self, state: &mut State) {
        self.silence(state);
        // One that cannot be reset must not be left without power: its driver expects it to answer.
        if let Some(control) = state.guest.config.power_down()
            && let Err(error) = self.port.config_write(control, &[0])
        {
            state.complain("the device cannot be powered up", &error);
        }
        match self.port.reset() {
            Ok(()) => state.failed = false,
            Err(error) => {
                state.complain("the device cannot be reset, and keeps its state", &error);
            }
        }
        state.guest.config.reset();
        if let Some(table) = &mut state.guest.table {
            table.reset();
        }
        state.update_interrupts(&*self.port);
    }
}

impl State {
    /// Takes out of the guest what it no longer sees where it did. What the machine refuses to take out stays where it is
    /// until the next change, which tries again.
    fn withdraw(&mut self, slots: &dyn MemorySlots, windows: &[BarWindow]) {
        let mut failed = None;
        for (direct, seen) in &mut self.direct {
            if let Some(gpa) = *seen
                && direct.place(windows) != Some(gpa)
            {
                match slots.unmap(gpa, direct) {
                    Ok(()) => *seen = None,
                    Err(error) => failed = Some(error),
                }
            }
        }
        if let Some(error) = failed {
            self.complain("a part of a BAR stays in the guest", &error);
        }
    }

    /// Puts into the guest what it sees now and did not.
    fn show(&mut self, slots: &dyn MemorySlots, windows: &[BarWindow]) {
        let mut failed = None;
        for (direct, seen) in &mut self.direct {
            if seen.is_none()
                && let Some(gpa) = direct.place(windows)
            {
                match slots.map(gpa, direct) {
                    Ok(()) => *seen = Some(gpa),
                    Err(error) => failed = Some(error),
                }
            }
        }
        if let Some(error) = failed {
            self.complain("a part of a BAR is not mapped and slow", &error);
        }
    }

    fn update_interrupts(&mut self, port: &dyn Port) {
        let wanted = self.guest.config.interrupts();
        let table = self.guest.table.as_ref();
        if let Err(error) = self.interrupts.apply(port, &wanted, table) {
            self.complain("the guest gets no interrupts", &error);
        }
    }

    fn complain(&mut self, what: &'static str, error: &dyn std::fmt::Display) {
        self.complaints.tell(what, error);
    }
}

impl PciFunction for Passthrough {
    fn config_read(&self, offset: u16, data: &mut [u8]) {
        let state = self.lock();
        if state.failed {
            data.fill(0xff);
            return;
        }
        data.fill(0);
        if state.guest.config.needs_host(offset, data.len())
            && self.port.config_read(offset, data).is_err()
        {
            data.fill(0xff);
        }
        state.guest.config.read(offset, data);
    }

    fn config_write(&self, offset: u16, data: &[u8]) {
        let mut state = self.lock();
        if state.failed {
            return;
        }
        let outcome = state.guest.config.write(offset, data);
        self.follow(&mut state, outcome);
        if outcome.reset {
            self.reset_device(&mut state);
        }
        // A pin that is not used any more, or of a device that was reset, is asserted no longer.
        let silent = state.guest.config.interrupts() != Interrupts::Intx(true);
        drop(state);
        if (outcome.reset || outcome.interrupts && silent)
            && let Some(pin) = self.pin.get()
        {
            pin.lower();
        }
    }

    fn windows(&self) -> Vec<BarWindow> {
        self.lock().guest.config.windows()
    }

    fn bar_read(&self, bar: u8, offset: u64, data: &mut [u8]) {
        let state = self.lock();
        if state.failed {
            data.fill(0xff);
            return;
        }
        let pending = |vector| state.interrupts.is_pending(vector);
        let table = state.guest.table.as_ref();
        if table.is_some_and(|table| table.read(bar, offset, data, pending)) {
            return;
        }
        drop(state);
        if self.port.bar_read(bar, offset, data).is_err() {
            data.fill(0xff);
        }
    }

    fn bar_write(&self, bar: u8, offset: u64, data: &[u8]) {
        let mut state = self.lock();
        if state.failed {
            return;
        }
        let table = state.guest.table.as_mut();
        if let Some(changed) = table.and_then(|table| table.write(bar, offset, data)) {
            if !changed.is_empty() {
                state.update_interrupts(&*self.port);
            }
            return;
        }
        drop(state);
        // A device that does not answer loses the write, as on a bus.
        drop(self.port.bar_write(bar, offset, data));
    }

    fn requester(&self) -> &Arc<Requester> {
        &self.requester
    }

    fn forwarding_changed(&self) {
        self.switch_bus_master(&mut self.lock());
    }

    fn connect_intx(&self, _gsi: u8, line: Arc<dyn IrqLine>) {
        let mut state = self.lock();
        if state.guest.config.pin() == 0 {
            return;
        }
        match Intx::new(line, Arc::clone(&self.port)) {
            Ok(pin) => {
                state.interrupts.connect_pin(pin.event());
                // A second line would be a mistake of the machine's; the first one stays.
                drop(self.pin.set(pin));
                state.update_interrupts(&*self.port);
            }
            Err(error) => state.complain("the pin has no thread", &error),
        }
    }

    fn reset(&self) {
        self.reset_device(&mut self.lock());
        if let Some(pin) = self.pin.get() {
            pin.lower();
        }
    }
}

impl Drop for Passthrough {
    /// The guest loses the device before the device loses its memory.
    fn drop(&mut self) {
        let mut state = self.lock();
        state.withdraw(&*self.slots, &[]);
        for (direct, seen) in state.direct.drain(..) {
            if seen.is_some() {
                // The guest still reaches these addresses, which nothing else of this process may get.
                direct.leak();
            }
        }
        if let Err(error) = state.interrupts.disable(&*self.port) {
            state.complain("interrupts cannot be disabled", &error);
        }
    }
}

#[cfg(test)]
mod tests;
