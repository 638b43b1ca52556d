// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A PCI Express root port: a bridge with one device below it, in a slot or soldered on (PCI Express Base Specification 6.0,
//! sections 7.5.1.3 and 6.7).
//!
//! The port does not route: it tells [`super::root::PciRoot`] what its registers forward. Its own interrupts are those of
//! the slot. Lock rule: the function's state and the list of devices are locked for the look-up only, in this order; devices are
//! reset with no lock held. Not supported: power management (the port is always in D0), ARI, I/O beyond 64 KiB, error reporting.

use super::bridge::{self, BridgeControl, Forwarding};
use super::config::{ConfigSpace, Identity, capability, offset, touches};
use super::express::{DeviceType, Express, SlotCapabilities, SlotControl, SlotStatus};
use super::function::{Function, FunctionBuilder, IntxPin, State};
use super::{BarWindow, PciFunction};
use crate::irq::IrqLine;
use bitfield_struct::bitfield;
use iommu::ids::{Requester, SourceId};
use iommu::msi::MsiSender;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

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

const INDICATOR_ON: u8 = 1;
const INDICATOR_OFF: u8 = 3;

/// The port.
#[derive(Debug)]
pub struct RootPort {
    function: Function,
    express: Express,
    config: RootPortConfig,
    devices: RwLock<BTreeMap<u8, Arc<dyn PciFunction>>>,
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
            express.install_slot(space, slot_capabilities(config.slot));
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
        };
        port.power_on();
        Arc::new(port)
    }

    /// Whether devices come and go.
    #[must_use]
    pub const fn is_hotplug(&self) -> bool {
        self.config.hotplug
    }

    /// Puts function `number` (0..=7) of the device below into place, silently: for a device that is there at power-on. The
    /// root complex must be refreshed. Returns the function that was there.
    pub fn insert(&self, number: u8, device: Arc<dyn PciFunction>) -> Option<Arc<dyn PciFunction>> {
        let replaced = self.write_devices().insert(number & 7, device);
        self.power_on();
        replaced
    }

    /// Takes all functions out, off the bus from now on, and tells the guest, as when a device is pulled. The root complex must
    /// be refreshed.
    pub fn remove(&self) -> Vec<Arc<dyn PciFunction>> {
        let devices = {
            let mut devices = self.write_devices();
            for device in devices.values() {
                device.requester().set_upstream_bus_master(false);
            }
            std::mem::take(&mut *devices)
        };
        self.update_slot(SlotEvents::default().with_presence(true));
        devices.into_values().collect()
    }

    /// Puts a device in and tells the guest. The root complex must be refreshed.
    pub fn plug(&self, number: u8, device: Arc<dyn PciFunction>) {
        self.write_devices().insert(number & 7, device);
        self.update_slot(SlotEvents::default().with_presence(true));
    }

    /// Presses the attention button: the guest is asked to release the device, or to take a new one in.
    pub fn press_attention_button(&self) {
        self.update_slot(SlotEvents::default().with_button(true));
    }

    /// The functions below by function number, whether the guest reaches them or not.
    #[must_use]
    pub fn devices(&self) -> Vec<(u8, Arc<dyn PciFunction>)> {
        let devices = self.devices.read().unwrap_or_else(PoisonError::into_inner);
        devices.iter().map(|(n, d)| (*n, Arc::clone(d))).collect()
    }

    /// Whether the guest reaches what is below: something is there, has power, and the link is not disabled or in reset.
    #[must_use]
    pub fn is_link_up(&self) -> bool {
        let state = self.function.lock();
        !self.is_empty() && self.is_link_enabled(&state)
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
            requester.set_upstream_bus_master(reached && forwarding.bus_master);
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

    fn write_devices(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<u8, Arc<dyn PciFunction>>> {
        self.devices.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_link_enabled(&self, state: &State) -> bool {
        let config = &state.config;
        let bridge = BridgeControl::from_bits(config.u16(bridge::BRIDGE_CONTROL));
        let powered = !self.config.hotplug || !self.express.slot_control(config).power_off();
        let disabled = self.express.link_control(config).link_disable();
        powered && !disabled && !bridge.secondary_bus_reset()
    }

    /// Slot and link as they are after power-on: indicators and power follow presence, and nothing has changed.
    fn power_on(&self) {
        let mut state = self.function.lock();
        let present = !self.is_empty();
        if self.config.hotplug {
            let indicator = if present { INDICATOR_ON } else { INDICATOR_OFF };
            let control = SlotControl::new()
                .with_attention_indicator(INDICATOR_OFF)
                .with_power_indicator(indicator)
                .with_power_off(!present);
            let status = SlotStatus::new().with_present(present);
            self.express.set_slot_control(&mut state.config, control);
            self.express.set_slot_status(&mut state.config, status);
        }
        let status = self.express.link_status(&state.config);
        let up = present && self.is_link_enabled(&state);
        self.express
            .set_link_status(&mut state.config, status.with_link_active(up));
    }

    /// Brings slot and link status up to date with what is there, and interrupts if that is news.
    fn update_slot(&self, events: SlotEvents) {
        {
            let mut state = self.function.lock();
            // Under the lock, so that a device that is plugged meanwhile does not vanish from the registers again.
            let present = !self.is_empty();
            let link = self.express.link_status(&state.config);
            let up = present && self.is_link_enabled(&state);
            let link_changed = link.link_active() != up;
            let config = &mut state.config;
            self.express
                .set_link_status(config, link.with_link_active(up));
            if self.config.hotplug {
                let old = self.express.slot_status(config);
                let status = old
                    .with_present(present)
                    .with_attention_button(old.attention_button() || events.button())
                    .with_presence_changed(old.presence_changed() || events.presence())
                    .with_link_state_changed(old.link_state_changed() || link_changed);
                self.express.set_slot_status(config, status);
            }
        }
        self.interrupt();
    }

    /// Interrupts when an enabled event appears; the pin follows for as long as one is there.
    fn interrupt(&self) {
        let has_event =
            |config: &ConfigSpace| self.config.hotplug && self.has_enabled_event(config);
        if self.function.update_intx(has_event) {
            self.function.signal(0);
        }
    }

    fn has_enabled_event(&self, config: &ConfigSpace) -> bool {
        let control = self.express.slot_control(config);
        let status = self.express.slot_status(config);
        let any = status.attention_button() && control.attention_button_enable()
            || status.power_fault() && control.power_fault_enable()
            || status.mrl_changed() && control.mrl_enable()
            || status.presence_changed() && control.presence_enable()
            || status.command_completed() && control.command_completed_enable()
            || status.link_state_changed() && control.link_state_enable();
        any && control.hotplug_interrupt_enable()
    }

    fn reset_devices(&self) {
        for (_, device) in self.devices() {
            device.reset();
        }
    }
}

#[bitfield(u8)]
struct SlotEvents {
    presence: bool,
    button: bool,
    #[bits(6)]
    __: u8,
}

fn slot_capabilities(number: u16) -> SlotCapabilities {
    SlotCapabilities::new()
        .with_attention_button(true)
        .with_power_controller(true)
        .with_attention_indicator(true)
        .with_power_indicator(true)
        .with_hotplug(true)
        .with_no_command_completed(true)
        .with_physical_slot(number & 0x1fff)
}

impl PciFunction for RootPort {
    fn config_read(&self, at: u16, data: &mut [u8]) {
        self.function.config_read(at, data);
    }

    fn config_write(&self, at: u16, data: &[u8]) {
        let was_up = self.is_link_up();
        let _ = self.function.config_write(at, data);
        if was_up && !self.is_link_up() {
            // Without power or link, or with the bus in reset, the devices below lose their state.
            self.reset_devices();
        }
        if at >= offset::FIRST_CAPABILITY || touches(at, data.len(), bridge::BRIDGE_CONTROL, 2) {
            self.update_slot(SlotEvents::default());
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
