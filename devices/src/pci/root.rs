// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The root complex: bus 0, the root ports on it, and the ways into configuration space and BARs.
//!
//! Everything is looked up in one table of routes, which is built anew when a configuration write has changed what
//! functions decode or bridges forward. Invariants: a function below a port is reached only through its bridge's numbers
//! and windows, and sends only while its bridge is a bus master; its source id follows the bridge's secondary bus number.
//!
//! Lock rule: the table is locked for the look-up only, never while a function runs. Building it holds the build lock and
//! takes the locks of functions; functions never call back.

mod access;
mod hotplug;

pub use access::ConfigPorts;

use super::bridge::{Forwarding, Span};
use super::root_port::RootPort;
use super::{BarWindow, PciFunction};
use crate::bus::BusDevice;
use crate::power::ResetControl;
use iommu::ids::SourceId;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// A function cannot be put where it should go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PciError {
    /// Another function is there.
    #[error("PCI slot {0} is taken")]
    SlotTaken(SourceId),
    /// There is a device below the port of this physical slot number.
    #[error("there is a device in slot {0}")]
    PortTaken(u16),
    /// The port of this physical slot number takes no devices while the guest runs.
    #[error("port {0} has no hotplug slot")]
    NoSlot(u16),
}

/// What is on bus 0.
#[derive(Clone, Debug)]
pub enum RootSlot {
    /// An integrated endpoint, or the host bridge.
    Function(Arc<dyn PciFunction>),
    /// A root port.
    Port(Arc<RootPort>),
}

impl RootSlot {
    /// The function as such.
    #[must_use]
    pub fn function(&self) -> Arc<dyn PciFunction> {
        match self {
            Self::Function(function) => Arc::clone(function),
            Self::Port(port) => Arc::clone(port) as Arc<dyn PciFunction>,
        }
    }
}

#[derive(Debug)]
struct Target {
    function: Arc<dyn PciFunction>,
    windows: Vec<BarWindow>,
    bridge: bool,
    multifunction: bool,
}

#[derive(Clone, Debug)]
struct Window {
    span: Span,
    io: bool,
    bar: u8,
    base: u64,
    function: Arc<dyn PciFunction>,
}

#[derive(Debug, Default)]
struct Routes {
    functions: HashMap<SourceId, Arc<Target>>,
    windows: Vec<Window>,
}

/// The root complex.
#[derive(Debug, Default)]
pub struct PciRoot {
    slots: RwLock<BTreeMap<u8, RootSlot>>,
    routes: RwLock<Routes>,
    build: Mutex<()>,
}

impl PciRoot {
    /// A root complex with nothing on bus 0.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Puts a function on bus 0 at `devfn` (device << 3 | function).
    ///
    /// # Errors
    /// The place is taken.
    pub fn add(&self, devfn: u8, function: Arc<dyn PciFunction>) -> Result<(), PciError> {
        self.add_slot(devfn, RootSlot::Function(function))
    }

    /// Puts a root port on bus 0 at `devfn`.
    ///
    /// # Errors
    /// The place is taken.
    pub fn add_port(&self, devfn: u8, port: Arc<RootPort>) -> Result<(), PciError> {
        self.add_slot(devfn, RootSlot::Port(port))
    }

    fn add_slot(&self, devfn: u8, slot: RootSlot) -> Result<(), PciError> {
        let source = SourceId::new(0, devfn);
        {
            let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
            if slots.contains_key(&devfn) {
                return Err(PciError::SlotTaken(source));
            }
            let function = slot.function();
            function.requester().set_source(source);
            function.requester().set_upstream_bus_master(true);
            slots.insert(devfn, slot);
        }
        self.refresh();
        Ok(())
    }

    /// What is on bus 0, by devfn.
    #[must_use]
    pub fn slots(&self) -> Vec<(u8, RootSlot)> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.iter().map(|(d, slot)| (*d, slot.clone())).collect()
    }

    /// Looks again at what functions decode and ports forward. To be called after a device was put below a port or taken
    /// away; configuration writes of the guest do it by themselves.
    pub fn refresh(&self) {
        let building = self.build.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.rebuild();
        drop(building);
        // With the routes a function may go that was removed, and it may have something to wait for.
        drop(old);
    }

    /// [`Self::refresh`] if the function decodes other windows than the table says. They are compared under the build lock: a
    /// table that is being built may have been told of windows that are already gone.
    fn refresh_windows(&self, source: SourceId, function: &Arc<dyn PciFunction>) {
        let building = self.build.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.target(source);
        if known.is_some_and(|known| known.windows == function.windows()) {
            return;
        }
        let old = self.rebuild();
        drop(building);
        drop(old);
    }

    /// Puts new routes into place; the old ones. Under the build lock only.
    fn rebuild(&self) -> Routes {
        let mut routes = Routes::default();
        let slots = self.slots();
        let root_bus: Vec<_> = slots.iter().map(|(d, s)| (*d, s.function())).collect();
        routes.add_bus(0, &root_bus, |devfn| {
            slots
                .iter()
                .any(|(d, s)| *d == devfn && matches!(s, RootSlot::Port(_)))
        });
        for (_, function) in &root_bus {
            routes.add_windows(function, &function.windows());
        }
        for (_, slot) in &slots {
            if let RootSlot::Port(port) = slot {
                routes.add_port(port);
            }
        }
        let mut current = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *current, routes)
    }

    /// Power-on reset of everything, ports and the devices below them included.
    pub fn reset(&self) {
        for (_, slot) in self.slots() {
            slot.function().reset();
        }
        self.refresh();
    }

    /// Has every device stop where it is: when this returns, no DMA is under way. The guest does not run until
    /// [`Self::resume`].
    pub fn pause(&self) {
        for function in self.every_function() {
            function.pause();
        }
    }

    /// Has every device go on.
    pub fn resume(&self) {
        for function in self.every_function() {
            function.resume();
        }
    }

    /// Functions on bus 0 and below the ports, whether the guest reaches them or not.
    fn every_function(&self) -> Vec<Arc<dyn PciFunction>> {
        let mut functions = Vec::new();
        for (_, slot) in self.slots() {
            functions.push(slot.function());
            if let RootSlot::Port(port) = slot {
                functions.extend(port.devices().into_iter().map(|(_, device)| device));
            }
        }
        functions
    }

    /// Reads configuration space. `data` holds all-ones at entry, and keeps them where no function is.
    pub fn config_read(&self, source: SourceId, at: u16, data: &mut [u8]) {
        let Some(target) = self.target(source) else {
            return;
        };
        for (from, len) in dwords(at, data.len()) {
            let piece = &mut data[from..from + len];
            let at = at + u16::try_from(from).unwrap_or(0);
            target.function.config_read(at, piece);
            if target.multifunction {
                set_multifunction(at, piece);
            }
        }
    }

    /// Writes configuration space; lost where no function is.
    pub fn config_write(&self, source: SourceId, at: u16, data: &[u8]) {
        let Some(target) = self.target(source) else {
            return;
        };
        for (from, len) in dwords(at, data.len()) {
            let at = at + u16::try_from(from).unwrap_or(0);
            target.function.config_write(at, &data[from..from + len]);
        }
        if target.bridge {
            self.refresh();
        } else {
            self.refresh_windows(source, &target.function);
        }
    }

    /// Configuration space in memory: 1 MiB for each bus, from bus 0 on.
    #[must_use]
    pub fn ecam(self: &Arc<Self>) -> Arc<dyn BusDevice> {
        access::ecam(self)
    }

    /// Configuration space by ports: 8 ports from 0xCF8 on. The reset control register at 0xCF9 lies among them.
    #[must_use]
    pub fn config_ports(self: &Arc<Self>, reset: Arc<ResetControl>) -> Arc<ConfigPorts> {
        ConfigPorts::new(self, reset)
    }

    /// The way to memory BARs, for a range of the memory bus that begins at `base`.
    #[must_use]
    pub fn memory_window(self: &Arc<Self>, base: u64) -> Arc<dyn BusDevice> {
        access::window(self, false, base)
    }

    /// The way to I/O BARs, for a range of the port bus that begins at `base`.
    #[must_use]
    pub fn port_window(self: &Arc<Self>, base: u64) -> Arc<dyn BusDevice> {
        access::window(self, true, base)
    }

    fn target(&self, source: SourceId) -> Option<Arc<Target>> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        routes.functions.get(&source).map(Arc::clone)
    }

    /// The first window that holds the whole access. Functions that the guest put on top of each other are its own mistake.
    fn window(&self, io: bool, address: u64, len: usize) -> Option<Window> {
        let last = address.checked_add((len as u64).checked_sub(1)?)?;
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let mut windows = routes.windows.iter();
        windows
            .find(|w| w.io == io && w.span.first <= address && last <= w.span.last)
            .cloned()
    }
}

impl Routes {
    fn add_bus(
        &mut self,
        bus: u8,
        functions: &[(u8, Arc<dyn PciFunction>)],
        is_bridge: impl Fn(u8) -> bool,
    ) {
        for (devfn, function) in functions {
            let siblings = functions
                .iter()
                .filter(|(other, _)| other >> 3 == devfn >> 3);
            let target = Target {
                function: Arc::clone(function),
                windows: function.windows(),
                bridge: is_bridge(*devfn),
                multifunction: siblings.count() > 1,
            };
            let source = SourceId::new(bus, *devfn);
            self.functions.entry(source).or_insert(Arc::new(target));
        }
    }

    fn add_windows(&mut self, function: &Arc<dyn PciFunction>, windows: &[BarWindow]) {
        for window in windows {
            self.windows.push(Window {
                span: span_of(window),
                io: window.io,
                bar: window.bar,
                base: window.base,
                function: Arc::clone(function),
            });
        }
    }

    fn add_port(&mut self, port: &Arc<RootPort>) {
        let forwarding = port.forwarding();
        let devices = port.devices();
        // Bus 0 is above the port: a secondary number of zero means that nobody has numbered it yet.
        let reached = forwarding.secondary != 0 && port.is_link_up();
        port.govern_devices(&forwarding, reached);
        if !reached {
            return;
        }
        if forwarding.secondary <= forwarding.subordinate {
            self.add_bus(forwarding.secondary, &devices, |_| false);
        }
        for (_, device) in &devices {
            self.add_windows_below(device, &forwarding);
        }
    }

    fn add_windows_below(&mut self, function: &Arc<dyn PciFunction>, forwarding: &Forwarding) {
        for window in function.windows() {
            let through = if window.io {
                [forwarding.io, None]
            } else {
                [forwarding.memory, forwarding.prefetchable]
            };
            for open in through.into_iter().flatten() {
                if let Some(span) = span_of(&window).intersect(open) {
                    self.windows.push(Window {
                        span,
                        io: window.io,
                        bar: window.bar,
                        base: window.base,
                        function: Arc::clone(function),
                    });
                }
            }
        }
    }
}

fn span_of(window: &BarWindow) -> Span {
    Span {
        first: window.base,
        last: window.base.saturating_add(window.len.saturating_sub(1)),
    }
}

/// Cuts an access into pieces of 1, 2 or 4 bytes that lie within one dword of the 4 KiB space: (index, bytes).
fn dwords(at: u16, len: usize) -> impl Iterator<Item = (usize, usize)> {
    let start = usize::from(at);
    let end = len.min(4096usize.saturating_sub(start));
    let mut from = 0;
    std::iter::from_fn(move || {
        let left = end.checked_sub(from).filter(|left| *left > 0)?;
        let room = (4 - (start + from) % 4).min(left);
        let piece = if room == 3 { 1 } else { room };
        let item = (from, piece);
        from += piece;
        Some(item)
    })
}

/// Bit 7 of the header type belongs to the slot, not to the function: it says that there are siblings.
fn set_multifunction(at: u16, data: &mut [u8]) {
    let index = usize::from(super::config::offset::HEADER_TYPE).checked_sub(usize::from(at));
    if let Some(byte) = index.and_then(|index| data.get_mut(index)) {
        *byte |= 0x80;
    }
}

#[cfg(test)]
mod tests;
