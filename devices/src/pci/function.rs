// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What every PCI function has: configuration space, BARs, INTx, MSI, MSI-X, power management, identity.
//!
//! A device owns a [`Function`] and delegates to it. Lock rule: one lock around the state, never held while a message is
//! sent or a line is driven.

use super::BarWindow;
use super::bar::{Bar, BarKind};
use super::config::{ConfigSpace, Identity, Status, offset};
use super::express::{DeviceType, Express};
use super::msi::Msi;
use super::msix::{Msix, MsixLayout};
use super::pm::PowerManagement;
use crate::irq::{IrqLine, LineDriver};
use iommu::ids::Requester;
use iommu::msi::{MsiMessage, MsiSender};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// The legacy interrupt pin of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntxPin {
    /// INTA#.
    A = 1,
    /// INTB#.
    B = 2,
    /// INTC#.
    C = 3,
    /// INTD#.
    D = 4,
}

/// How the function's driver wants its interrupts at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterruptMode {
    /// The pin.
    Intx,
    /// MSI.
    Msi,
    /// MSI-X.
    Msix,
}

/// What a configuration write asks the device to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct ConfigOutcome {
    /// The guest started a function level reset: the device must reset itself (and call [`Function::reset`]).
    pub function_level_reset: bool,
    /// The function has just lost the right to send: before the guest goes on, the device must wait until no DMA is under way
    /// that began with it ([`DmaSpace::quiesce`](iommu::dma::DmaSpace::quiesce)).
    pub bus_master_lost: bool,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) config: ConfigSpace,
    bars: Vec<Bar>,
    msi: Option<Msi>,
    msix: Option<Msix>,
    pub(super) express: Option<Express>,
    pm: Option<PowerManagement>,
    intx: bool,
}

/// Puts a [`Function`] together. The order of calls is the order of capabilities in the guest's list.
#[derive(Debug)]
pub struct FunctionBuilder {
    state: State,
}

impl FunctionBuilder {
    /// An endpoint (header type 0).
    #[must_use]
    pub fn endpoint(identity: &Identity) -> Self {
        Self::with(ConfigSpace::endpoint(identity))
    }

    /// A bridge (header type 1); the fields of that header are the caller's.
    #[must_use]
    pub fn bridge(identity: &Identity) -> Self {
        Self::with(ConfigSpace::bridge(identity))
    }

    fn with(config: ConfigSpace) -> Self {
        Self {
            state: State {
                config,
                bars: Vec::new(),
                msi: None,
                msix: None,
                express: None,
                pm: None,
                intx: false,
            },
        }
    }

    /// Adds a BAR.
    ///
    /// # Panics
    /// See [`Bar::new`].
    pub fn bar(&mut self, index: u8, kind: BarKind, size: u64) -> &mut Self {
        let bar = Bar::new(index, kind, size);
        bar.install(&mut self.state.config);
        self.state.bars.push(bar);
        self
    }

    /// Gives the function an interrupt pin.
    pub fn intx(&mut self, pin: IntxPin) -> &mut Self {
        self.state.config.set_u8(offset::INTERRUPT_PIN, pin as u8);
        self
    }

    /// Adds MSI with `vectors` (a power of two up to 32).
    ///
    /// # Panics
    /// See [`Msi::install`].
    pub fn msi(&mut self, vectors: u8, masking: bool) -> &mut Self {
        self.state.msi = Some(Msi::install(&mut self.state.config, vectors, masking));
        self
    }

    /// Adds MSI-X; the BAR must have been added.
    ///
    /// # Panics
    /// The layout is impossible or passes the end of its BAR.
    pub fn msix(&mut self, layout: MsixLayout) -> &mut Self {
        let bar = self.state.bars.iter().find(|b| b.index() == layout.bar);
        assert!(
            bar.is_some_and(|bar| layout.end() <= bar.size()),
            "no room for {layout:?}"
        );
        self.state.msix = Some(Msix::install(&mut self.state.config, layout));
        self
    }

    /// Adds the PCI Express capability.
    pub fn express(&mut self, device_type: DeviceType, function_level_reset: bool) -> &mut Self {
        let config = &mut self.state.config;
        self.state.express = Some(Express::install(config, device_type, function_level_reset));
        self
    }

    /// Adds the PCI Express capability with function level reset and end-end prefixes, which requests with PASID need.
    pub fn express_with_prefixes(&mut self, device_type: DeviceType) -> &mut Self {
        let config = &mut self.state.config;
        let express = Express::install(config, device_type, true);
        express.offer_prefixes(config);
        self.state.express = Some(express);
        self
    }

    /// Adds power management.
    pub fn power_management(&mut self) -> &mut Self {
        self.state.pm = Some(PowerManagement::install(&mut self.state.config));
        self
    }

    /// Adds any other capability ([`ConfigSpace::add_capability`]); its offset.
    ///
    /// # Panics
    /// It does not fit.
    pub fn capability(&mut self, id: u8, body: &[u8], writable: &[u8]) -> u16 {
        self.state.config.add_capability(id, body, writable)
    }

    /// Adds an extended capability ([`ConfigSpace::add_extended_capability`]); its offset. Configuration space beyond 256
    /// bytes counts only in functions with the PCI Express capability.
    ///
    /// # Panics
    /// It does not fit.
    pub fn extended_capability(
        &mut self,
        id: u16,
        version: u8,
        body: &[u8],
        writable: &[u8],
    ) -> u16 {
        let config = &mut self.state.config;
        config.add_extended_capability(id, version, body, writable)
    }

    /// The configuration space, for what has no method here.
    pub fn config(&mut self) -> &mut ConfigSpace {
        &mut self.state.config
    }

    /// The function: what it holds now is its state after power-on. Its messages leave through `msi` as `requester`.
    #[must_use]
    pub fn build(mut self, requester: Arc<Requester>, msi: Arc<dyn MsiSender>) -> Function {
        self.state.config.seal();
        requester.set_bus_master(false);
        Function {
            state: Mutex::new(self.state),
            requester,
            msi,
            line: OnceLock::new(),
        }
    }
}

/// The common part of a PCI function.
#[derive(Debug)]
pub struct Function {
    state: Mutex<State>,
    requester: Arc<Requester>,
    msi: Arc<dyn MsiSender>,
    line: OnceLock<LineDriver>,
}

impl Function {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The identity.
    #[must_use]
    pub const fn requester(&self) -> &Arc<Requester> {
        &self.requester
    }

    /// [`super::PciFunction::config_read`].
    pub fn config_read(&self, at: u16, data: &mut [u8]) {
        self.lock().config.read(at, data);
    }

    /// [`super::PciFunction::config_write`], with everything that follows from it but what the outcome names.
    pub fn config_write(&self, at: u16, data: &[u8]) -> ConfigOutcome {
        let (messages, outcome) = {
            let mut state = self.lock();
            let state = &mut *state;
            let could_send = state.may_send();
            let config = &mut state.config;
            config.write(at, data);
            let mut messages = Vec::new();
            if let Some(msi) = state.msi {
                messages = msi.after_write(config, at, data.len());
            }
            if let Some(msix) = &mut state.msix {
                messages.extend(msix.take_ready(config));
            }
            let reset = state
                .express
                .is_some_and(|express| express.asks_for_reset(config, at, data));
            self.requester.set_bus_master(state.may_send());
            (
                messages,
                ConfigOutcome {
                    function_level_reset: reset,
                    bus_master_lost: could_send && !state.may_send(),
                },
            )
        };
        self.send(&messages);
        self.drive();
        outcome
    }

    /// Looks at the configuration space, or changes a register that only the device knows. Nothing follows from the change.
    pub fn with_config<T>(&self, look: impl FnOnce(&mut ConfigSpace) -> T) -> T {
        look(&mut self.lock().config)
    }

    /// [`super::PciFunction::windows`].
    #[must_use]
    pub fn windows(&self) -> Vec<BarWindow> {
        let state = self.lock();
        if !state.is_on() {
            return Vec::new();
        }
        let windows = state.bars.iter().map(|bar| bar.window(&state.config));
        windows.flatten().collect()
    }

    /// Serves a read from the MSI-X table or pending bits; `false` when the access is the device's.
    #[must_use]
    pub fn bar_read(&self, bar: u8, at: u64, data: &mut [u8]) -> bool {
        let state = self.lock();
        let msix = state.msix.as_ref();
        msix.is_some_and(|msix| msix.bar_read(bar, at, data))
    }

    /// Serves a write to the MSI-X table; `false` when the access is the device's.
    #[must_use]
    pub fn bar_write(&self, bar: u8, at: u64, data: &[u8]) -> bool {
        let messages = {
            let mut state = self.lock();
            let State { config, msix, .. } = &mut *state;
            let Some(msix) = msix else { return false };
            if !msix.bar_write(bar, at, data) {
                return false;
            }
            msix.take_ready(config)
        };
        self.send(&messages);
        true
    }

    /// How the driver wants interrupts now.
    #[must_use]
    pub fn interrupt_mode(&self) -> InterruptMode {
        self.lock().mode()
    }

    /// Sends vector `vector` by MSI-X or MSI, whichever is enabled; nothing when neither is.
    pub fn signal(&self, vector: u16) {
        let message = {
            let mut state = self.lock();
            let State {
                config, msi, msix, ..
            } = &mut *state;
            match (msix, msi) {
                (Some(msix), _) if msix.is_enabled(config) => msix.trigger(config, vector),
                (_, Some(msi)) => msi.trigger(config, u8::try_from(vector).unwrap_or(u8::MAX)),
                _ => None,
            }
        };
        self.send(message.as_slice());
    }

    /// Sets whether the device asserts its pin. The line follows unless INTx is disabled or MSI or MSI-X is enabled.
    pub fn set_intx(&self, asserted: bool) {
        self.update_intx(|_| asserted);
    }

    /// [`Self::set_intx`] for a pin that several threads change: `decide` runs under the function's lock, so the pin ends as the
    /// last of them finds it. Whether the device asserts its pin now and did not before.
    pub fn update_intx(&self, decide: impl FnOnce(&ConfigSpace) -> bool) -> bool {
        let rises = {
            let mut state = self.lock();
            let asserted = decide(&state.config);
            let bits = state.config.u16(offset::STATUS);
            let status = Status::from_bits(bits).with_interrupt(asserted);
            state.config.set_u16(offset::STATUS, status.into_bits());
            !std::mem::replace(&mut state.intx, asserted) && asserted
        };
        self.drive();
        rises
    }

    /// [`super::PciFunction::connect_intx`].
    pub fn connect_intx(&self, line: Arc<dyn IrqLine>) {
        if self.lock().config.u8(offset::INTERRUPT_PIN) == 0 {
            return;
        }
        // A second line would be a mistake of the machine's; the first one stays.
        let _ = self.line.set(LineDriver::new(line));
        self.drive();
    }

    /// Back to the state after power-on. The device has stopped its DMA before.
    pub fn reset(&self) {
        {
            let mut state = self.lock();
            state.config.reset();
            state.intx = false;
            if let Some(msix) = &mut state.msix {
                msix.reset();
            }
            self.requester.set_bus_master(false);
        }
        self.drive();
    }

    pub(super) fn send(&self, messages: &[MsiMessage]) {
        for message in messages {
            self.msi.send(&self.requester, *message);
        }
    }

    fn drive(&self) {
        if let Some(line) = self.line.get() {
            line.update(|_| self.lock().line_level());
        }
    }
}

impl State {
    fn is_on(&self) -> bool {
        self.pm.is_none_or(|pm| pm.is_on(&self.config))
    }

    fn may_send(&self) -> bool {
        self.config.command().bus_master() && self.is_on()
    }

    fn mode(&self) -> InterruptMode {
        let config = &self.config;
        if self.msix.as_ref().is_some_and(|m| m.is_enabled(config)) {
            InterruptMode::Msix
        } else if self.msi.is_some_and(|m| m.is_enabled(config)) {
            InterruptMode::Msi
        } else {
            InterruptMode::Intx
        }
    }

    fn line_level(&self) -> bool {
        let disabled = self.config.command().intx_disable();
        self.intx && !disabled && self.mode() == InterruptMode::Intx
    }
}

#[cfg(test)]
mod tests;
