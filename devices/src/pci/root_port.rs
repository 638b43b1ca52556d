// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A PCI Express root port: a bridge with one device below it, in a slot or soldered on (PCI Express Base Specification 6.0,
//! sections 7.5.1.3 and 6.7).
//!
//! The port does not route: it tells [`super::root::PciRoot`] what its registers forward. Its own interrupts are those of
//! the slot, whose rules are functions in `slot`. Lock rule: the function's state and the list of devices are locked for the
//! look-up only, in this order; devices are reset, and the listener called, with no lock held. Not supported: power management (the
//! port is always in D0), ARI, I/O beyond 64 KiB, error reporting.

mod slot;

pub use slot::{Indicator, SlotView};

use super::bridge::{self, BridgeControl, Forwarding};
use super::config::{ConfigSpace, Identity, capability, offset, touches};
use super::express::{DeviceType, Express};
use super::function::{Function, FunctionBuilder, IntxPin, State};
use super::removable::Removable;
use super::root::PciError;
use super::{BarWindow, PciFunction};
use crate::irq::IrqLine;
use iommu::ids::{Requester, SourceId};
use iommu::msi::MsiSender;
use slot::{LinkAllowed, Slot};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockWriteGuard};

/// What kind of port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootPortConfig {
    /// A number that no other port has: the physical slot number the guest shows. 13 bits.
    pub slot: u16,
    /// Devices come and go.
    pub hotplug: bool,
}

/// Access control services (section 7.7.11).
const ACCESS_CONTROL: u16 = 0x000d;

/// Hears that the guest did something to the slot.
pub trait SlotListener: fmt::Debug + Send + Sync {
    /// [`RootPort::slot`] is another one now. Runs on the processor that wrote the register, with no lock held; must not wait.
    fn slot_changed(&self);
}

/// The port.
#[derive(Debug)]
pub struct RootPort {
    function: Function,
    express: Express,
    config: RootPortConfig,
    devices: RwLock<BTreeMap<u8, Arc<Removable>>>,
    listener: OnceLock<Arc<dyn SlotListener>>,
}

impl RootPort {
    /// An empty port. Its slot interrupts leave through `msi` as `requester`.
    #[must_use]
    pub fn new(
        config: RootPortConfig,
        requester: Arc<Requester>,
        msi: Arc<dyn MsiSender>,
    ) -> Arc<Self> {
        // Red Hat's generic root port: any operating system binds its generic driver to it by class.
        let mut builder = FunctionBuilder::bridge(&Identity {
            vendor: 0x1b36,
            device: 0x000c,
            class: 0x06_0400,
            ..Identity::default()
        });
        bridge::install(builder.config());
        builder.intx(IntxPin::A).msi(1, true);
        let slot = config.hotplug.then_some(config.slot);
        let device_type = DeviceType::RootPort { slot };
        let space = builder.config();
        let express = Express::install(space, device_type, false);
        if config.hotplug {
            express.install_slot(space, slot::capabilities(config.slot));
        }
        builder.capability(capability::BRIDGE_SUBSYSTEM, &[0, 0, 0x36, 0x1b, 0, 0], &[]);
        // Peers do not reach each other: every request goes up to the remapping unit.
        let services = [0x5f, 0];
        let registers = [services, [0, 0]].concat();
        let writable = [[0, 0], services].concat();
        builder.extended_capability(ACCESS_CONTROL, 1, &registers, &writable);
        let port = Self {
            function: builder.build(requester, msi),
            express,
            config,
            devices: RwLock::default(),
            listener: OnceLock::new(),
        };
        port.power_on();
        Arc::new(port)
    }

    /// Whether devices come and go.
    #[must_use]
    pub const fn is_hotplug(&self) -> bool {
        self.config.hotplug
    }

    /// Has `listener` hear what the guest does to the slot. Once.
    pub fn set_listener(&self, listener: Arc<dyn SlotListener>) {
        // A second one would be a mistake of the machine's; the first one stays.
        let _ = self.listener.set(listener);
    }

    /// The slot as it is now; `None` for a port without.
    #[must_use]
    pub fn slot(&self) -> Option<SlotView> {
        let state = self.function.lock();
        self.config.hotplug.then(|| self.load(&state).view())
    }

    /// Puts function `number` (0..=7) of the device below into place, silently: for a device that is there at power-on. The
    /// root complex must be refreshed.
    pub fn insert(&self, number: u8, device: Arc<dyn PciFunction>) {
        let gate = Removable::new(device);
        self.write_devices().insert(number & 7, gate);
        self.power_on();
    }

    /// Puts a device in while the guest runs. Nobody is told yet, and it may not send before the guest reaches it.
    pub(super) fn attach(&self, device: Arc<dyn PciFunction>) -> Result<(), PciError> {
        let mut devices = self.write_devices();
        if !self.config.hotplug {
            return Err(PciError::NoSlot(self.config.slot));
        }
        if !devices.is_empty() {
            return Err(PciError::PortTaken(self.config.slot));
        }
        device.requester().set_upstream_bus_master(false);
        devices.insert(0, Removable::new(device));
        Ok(())
    }

    /// Takes everything out. It may not send from now on. Nobody is told yet.
    pub(super) fn detach(&self) -> Vec<Arc<Removable>> {
        let mut devices = self.write_devices();
        for device in devices.values() {
            device.requester().set_upstream_bus_master(false);
            device.forwarding_changed();
        }
        std::mem::take(&mut *devices).into_values().collect()
    }

    /// Presence detect and the link follow what is there, and the guest is told.
    pub(super) fn detect_presence(&self) {
        self.change(|slot, present, allowed| slot.after_presence(present, allowed));
    }

    /// Presses the attention button: the guest is asked to release the device, or to take a new one in.
    pub fn press_attention_button(&self) {
        self.change(|slot, _, _| slot.after_press());
    }

    /// Takes back a press of which the guest has taken no note.
    pub fn withdraw_press(&self) {
        self.change(|slot, _, _| slot.without_press());
    }

    /// The functions below by function number, whether the guest reaches them or not.
    #[must_use]
    pub fn devices(&self) -> Vec<(u8, Arc<dyn PciFunction>)> {
        let devices = self.devices.read().unwrap_or_else(PoisonError::into_inner);
        let functions = devices.iter();
        functions
            .map(|(n, d)| (*n, Arc::clone(d) as Arc<dyn PciFunction>))
            .collect()
    }

    /// Whether the guest reaches what is below: something is there, has power, and the link is not disabled or in reset.
    #[must_use]
    pub fn is_link_up(&self) -> bool {
        let state = self.function.lock();
        let powered = !self.load(&state).control.power_off();
        !self.is_empty() && powered && self.link_allowed(&state).0
    }

    /// Gives the devices below their source ids and the right to send, or takes that right while they are not `reached`. Under
    /// the lock of the devices, so that one that has just been removed does not get it back.
    pub(super) fn govern_devices(&self, forwarding: &Forwarding, reached: bool) {
        let devices = self.devices.read().unwrap_or_else(PoisonError::into_inner);
        for (number, device) in devices.iter() {
            let requester = device.requester();
            if reached {
                requester.set_source(SourceId::new(forwarding.secondary, *number));
            }
            let forwarded = reached && forwarding.bus_master;
            if forwarded != requester.is_forwarded() {
                requester.set_upstream_bus_master(forwarded);
                device.forwarding_changed();
            }
        }
    }

    /// What the registers let through now.
    #[must_use]
    pub fn forwarding(&self) -> Forwarding {
        bridge::forwarding(&self.function.lock().config)
    }

    fn is_empty(&self) -> bool {
        let devices = self.devices.read().unwrap_or_else(PoisonError::into_inner);
        devices.is_empty()
    }

    fn write_devices(&self) -> RwLockWriteGuard<'_, BTreeMap<u8, Arc<Removable>>> {
        self.devices.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn link_allowed(&self, state: &State) -> LinkAllowed {
        let config = &state.config;
        let bridge = BridgeControl::from_bits(config.u16(bridge::BRIDGE_CONTROL));
        let disabled = self.express.link_control(config).link_disable();
        LinkAllowed(!disabled && !bridge.secondary_bus_reset())
    }

    /// Slot and link. A port without a slot always has power, and its registers do not tell presence.
    fn load(&self, state: &State) -> Slot {
        let config = &state.config;
        let mut status = self.express.slot_status(config);
        if !self.config.hotplug {
            status.set_present(!self.is_empty());
        }
        Slot {
            control: self.express.slot_control(config),
            status,
            link_active: self.express.link_status(config).link_active(),
        }
    }

    /// Whatever a slot has is left out where there is none: its registers are zero, and the link alone is told.
    fn store(&self, state: &mut State, slot: Slot) {
        let config = &mut state.config;
        let link = self.express.link_status(config);
        self.express
            .set_link_status(config, link.with_link_active(slot.link_active));
        if self.config.hotplug {
            self.express.set_slot_control(config, slot.control);
            self.express.set_slot_status(config, slot.status);
        }
    }

    /// Slot and link as they are after power-on.
    fn power_on(&self) {
        let mut state = self.function.lock();
        let slot = Slot::power_on(!self.is_empty(), self.link_allowed(&state));
        self.store(&mut state, slot);
    }

    /// Changes slot and link, and interrupts if there is news.
    fn change(&self, change: impl FnOnce(Slot, bool, LinkAllowed) -> Slot) {
        {
            let mut state = self.function.lock();
            // Under the lock, so that a device that is plugged meanwhile does not vanish from the registers again.
            let present = !self.is_empty();
            let slot = change(self.load(&state), present, self.link_allowed(&state));
            self.store(&mut state, slot);
        }
        self.interrupt();
    }

    /// Interrupts when an enabled event appears; the pin follows for as long as one is there.
    fn interrupt(&self) {
        let express = self.express;
        let has_event = |config: &ConfigSpace| {
            let slot = Slot {
                control: express.slot_control(config),
                status: express.slot_status(config),
                link_active: false,
            };
            slot.has_enabled_event()
        };
        if self.function.update_intx(has_event) {
            self.function.signal(0);
        }
    }

    fn reset_devices(&self) {
        for (_, device) in self.devices() {
            device.reset();
        }
    }
}

impl PciFunction for RootPort {
    fn config_read(&self, at: u16, data: &mut [u8]) {
        self.function.config_read(at, data);
    }

    fn config_write(&self, at: u16, data: &[u8]) {
        let was_up = self.is_link_up();
        let (control, view) = {
            let state = self.function.lock();
            let slot = self.load(&state);
            (slot.control, slot.view())
        };
        let _ = self.function.config_write(at, data);
        if was_up && !self.is_link_up() {
            // Without power or link, or with the bus in reset, the devices below lose their state.
            self.reset_devices();
        }
        if at >= offset::FIRST_CAPABILITY || touches(at, data.len(), bridge::BRIDGE_CONTROL, 2) {
            self.change(|slot, _, allowed| slot.after_write(control, allowed));
        }
        if let (Some(listener), Some(now)) = (self.listener.get(), self.slot())
            && now != view
        {
            listener.slot_changed();
        }
    }

    fn windows(&self) -> Vec<BarWindow> {
        Vec::new()
    }

    fn bar_read(&self, _bar: u8, _offset: u64, _data: &mut [u8]) {}

    fn bar_write(&self, _bar: u8, _offset: u64, _data: &[u8]) {}

    fn requester(&self) -> &Arc<Requester> {
        self.function.requester()
    }

    fn connect_intx(&self, _gsi: u8, line: Arc<dyn IrqLine>) {
        self.function.connect_intx(line);
    }

    /// Resets the devices below too.
    fn reset(&self) {
        self.reset_devices();
        self.function.reset();
        self.power_on();
    }
}

#[cfg(test)]
mod tests;
