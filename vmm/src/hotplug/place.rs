// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The slots and what is in them, by name.

use super::unplug::Unplug;
use super::{error, seen};
use crate::error::Error;
use crate::events::By;
use crate::refusal::Refusal;
use crate::slots::{Added, DeviceOption, Slot};
use devices::pci::PciFunction;
use devices::pci::root_port::{RootPort, SlotView};
use iommu::ids::SourceId;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A slot before the guest runs.
#[derive(Debug)]
pub struct Place {
    /// The name of its root port.
    pub bus: String,
    /// The root port.
    pub port: Arc<RootPort>,
    /// The name of the device that is there from the beginning.
    pub device: Option<String>,
    /// What is to be done when that device is gone.
    pub release: Option<Box<dyn Release>>,
}

/// A device that is to be built.
#[derive(Debug)]
pub struct Arrival<'a> {
    /// What the option says. Its bus may be left open: it is `bus`.
    pub device: &'a DeviceOption,
    /// Its name.
    pub id: &'a str,
    /// The root port that it comes behind.
    pub bus: &'a str,
    /// That port's device << 3 | function.
    pub devfn: u8,
    /// The id by which its requests will go, as the guest has numbered its buses.
    pub source: SourceId,
}

/// A device that is ready to be plugged: behind its port's unit, its pin connected.
#[derive(Debug)]
pub struct Made {
    /// The function.
    pub function: Arc<dyn PciFunction>,
    /// What is to be done when it is gone.
    pub release: Option<Box<dyn Release>>,
}

/// Builds devices.
pub trait Maker: fmt::Debug + Send + Sync {
    /// Builds a device that nobody reaches yet.
    ///
    /// # Errors
    /// It cannot be had. Nothing of it is left.
    fn make(&self, arrival: &Arrival<'_>) -> Result<Made, Error>;
}

/// What a device holds of the host.
pub trait Release: fmt::Debug + Send + Sync {
    /// The function is off the bus and has stopped: gives back what it held.
    fn release(self: Box<Self>);
}

/// A removal that the guest was asked for.
#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) unplug: Unplug,
    pub(super) by: By,
}

/// What is in a slot.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) id: String,
    pub(super) leaving: Option<Leaving>,
    pub(super) release: Option<Box<dyn Release>>,
}

impl Device {
    fn new(id: String, release: Option<Box<dyn Release>>) -> Self {
        Self {
            id,
            leaving: None,
            release,
        }
    }

    /// Who wants it gone, if it was asked for.
    pub(super) fn leaves_for(&self) -> Option<By> {
        self.leaving.as_ref().map(|leaving| leaving.by)
    }
}

#[derive(Debug)]
struct Filled {
    bus: String,
    port: Arc<RootPort>,
    device: Option<Device>,
}

/// All slots in the order of the configuration.
#[derive(Debug)]
pub(super) struct Places {
    filled: Vec<Filled>,
    fixed: Vec<String>,
}

impl Places {
    pub(super) fn new(places: Vec<Place>, fixed: Vec<String>) -> Self {
        let places = places.into_iter();
        let filled = places.map(|place| Filled {
            bus: place.bus,
            port: place.port,
            device: place.device.map(|id| Device::new(id, place.release)),
        });
        Self {
            filled: filled.collect(),
            fixed,
        }
    }

    pub(super) fn bus(&self, index: usize) -> String {
        self.filled[index].bus.clone()
    }

    pub(super) fn port(&self, index: usize) -> Arc<RootPort> {
        Arc::clone(&self.filled[index].port)
    }

    pub(super) fn view(&self, index: usize) -> SlotView {
        seen(self.filled[index].port.slot())
    }

    pub(super) fn device(&self, index: usize) -> Option<&Device> {
        self.filled[index].device.as_ref()
    }

    pub(super) fn device_mut(&mut self, index: usize) -> Option<&mut Device> {
        self.filled[index].device.as_mut()
    }

    /// Empties a place.
    pub(super) fn take(&mut self, index: usize) -> Option<Device> {
        self.filled[index].device.take()
    }

    /// The removal that is under way at place `index`, and what is seen of the slot.
    pub(super) fn leaving(&mut self, index: usize) -> Option<(SlotView, &mut Leaving)> {
        let view = self.view(index);
        let device = self.filled[index].device.as_mut()?;
        Some((view, device.leaving.as_mut()?))
    }

    /// When the first removal is over at the latest.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let devices = self.filled.iter().filter_map(|f| f.device.as_ref());
        let leaving = devices.filter_map(|device| device.leaving.as_ref());
        leaving.map(|leaving| leaving.unplug.deadline()).min()
    }

    /// Reserves a place and a name for `device`; the place, both by name, and what is being tried, for messages.
    pub(super) fn reserve(
        &mut self,
        device: &DeviceOption,
    ) -> Result<(usize, Added, String), Refusal> {
        let id = match (device.id(), device) {
            (Some(id), _) => id.to_owned(),
            (None, DeviceOption::Net(net)) => net.tap.clone(),
            (None, _) => self.free_name(device.kind()),
        };
        let what = format!("add {} {id}", device.kind());
        let index = self.free_place(device.bus(), &what)?;
        if self.names().any(|name| name == id) {
            return Err(error::name_taken(&what, &id));
        }
        let place = &mut self.filled[index];
        place.device = Some(Device::new(id.clone(), None));
        let bus = place.bus.clone();
        Ok((index, Added { id, bus }, what))
    }

    fn free_place(&self, bus: Option<&str>, what: &str) -> Result<usize, Refusal> {
        if self.filled.is_empty() {
            return Err(error::no_slots(what));
        }
        let Some(bus) = bus else {
            let free = self.filled.iter().position(|f| f.device.is_none());
            return free.ok_or_else(|| error::all_taken(what));
        };
        let index = self.filled.iter().position(|f| f.bus == bus);
        let index = index.ok_or_else(|| error::no_such_slot(what, bus, &self.buses()))?;
        match &self.filled[index].device {
            None => Ok(index),
            Some(there) => Err(error::taken(what, bus, &there.id)),
        }
    }

    /// The place of the device `id`.
    pub(super) fn find(&self, id: &str, what: &str) -> Result<usize, Refusal> {
        let mut places = self.filled.iter();
        let found = places.position(|f| f.device.as_ref().is_some_and(|d| d.id == id));
        found.ok_or_else(|| {
            if self.fixed.iter().any(|name| name == id) {
                return error::fixed(what);
            }
            let names: Vec<&str> = self.in_slots().collect();
            error::unknown(what, &listed(&names))
        })
    }

    pub(super) fn slots(&self) -> Vec<Slot> {
        let slots = self.filled.iter().map(|filled| {
            let view = seen(filled.port.slot());
            let leaves = filled.device.as_ref().is_some_and(|d| d.leaving.is_some());
            let power = match (leaves, view.powered) {
                (true, _) => "leaving",
                (false, true) => "on",
                (false, false) => "off",
            };
            Slot {
                bus: filled.bus.clone(),
                device: filled.device.as_ref().map(|device| device.id.clone()),
                power: power.to_owned(),
            }
        });
        slots.collect()
    }

    fn in_slots(&self) -> impl Iterator<Item = &str> {
        let devices = self.filled.iter().filter_map(|f| f.device.as_ref());
        devices.map(|device| device.id.as_str())
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let fixed = self.fixed.iter().map(String::as_str);
        fixed.chain(self.in_slots())
    }

    fn buses(&self) -> String {
        let names: Vec<&str> = self.filled.iter().map(|f| f.bus.as_str()).collect();
        listed(&names)
    }

    /// `kind` with the first number that makes it a new name.
    fn free_name(&self, kind: &str) -> String {
        let taken: Vec<&str> = self.names().collect();
        let mut names = (0..=taken.len()).map(|number| format!("{kind}{number}"));
        names
            .find(|name| !taken.contains(&name.as_str()))
            .unwrap_or_else(|| kind.to_owned())
    }
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
