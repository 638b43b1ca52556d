// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A machine's slots between a control socket and a guest, both played here.

use super::super::*;
use crate::config::DiskConfig;
use devices::irq::IrqLine;
use devices::pci::config::Identity;
use devices::pci::firmware::{self, HotplugReserve, Resources};
use devices::pci::function::{Function, FunctionBuilder};
use devices::pci::root_port::{RootPort, RootPortConfig};
use devices::pci::{BarWindow, PciFunction};
use iommu::ids::{Requester, SourceId};
use iommu::msi::{MsiMessage, MsiSender};

pub const A: SourceId = SourceId(0x0008);
pub const B: SourceId = SourceId(0x0010);

/// What a driver of the slot writes: everything enabled, light and power as said.
pub const ON: u16 = 0x1179;
pub const BLINKING: u16 = 0x1279;
pub const GOING_OFF: u16 = 0x1679;
pub const OFF: u16 = 0x1779;

pub type Log = Arc<Mutex<Vec<String>>>;

#[derive(Debug)]
struct Nowhere;

impl MsiSender for Nowhere {
    fn send(&self, _: &Requester, _: MsiMessage) {}
}

/// A function that writes down its resets.
#[derive(Debug)]
struct Logged {
    function: Function,
    id: String,
    log: Log,
}

impl PciFunction for Logged {
    fn config_read(&self, offset: u16, data: &mut [u8]) {
        self.function.config_read(offset, data);
    }

    fn config_write(&self, offset: u16, data: &[u8]) {
        let _ = self.function.config_write(offset, data);
    }

    fn windows(&self) -> Vec<BarWindow> {
        Vec::new()
    }

    fn bar_read(&self, _: u8, _: u64, _: &mut [u8]) {}

    fn bar_write(&self, _: u8, _: u64, _: &[u8]) {}

    fn requester(&self) -> &Arc<Requester> {
        self.function.requester()
    }

    fn connect_intx(&self, _: u8, _: Arc<dyn IrqLine>) {}

    fn reset(&self) {
        self.log.lock().unwrap().push(format!("reset {}", self.id));
        self.function.reset();
    }
}

fn function(id: &str, log: &Log) -> Arc<Logged> {
    let builder = FunctionBuilder::endpoint(&Identity {
        vendor: 0x1234,
        ..Identity::default()
    });
    Arc::new(Logged {
        function: builder.build(Arc::default(), Arc::new(Nowhere)),
        id: id.to_owned(),
        log: Arc::clone(log),
    })
}

#[derive(Debug)]
struct Held {
    id: String,
    log: Log,
}

impl Release for Held {
    fn release(self: Box<Self>) {
        self.log
            .lock()
            .unwrap()
            .push(format!("release {}", self.id));
    }
}

/// Makes whatever is asked for, but for the image `/missing`.
#[derive(Debug)]
pub struct Workshop(pub Log);

impl Maker for Workshop {
    fn make(&self, arrival: &Arrival<'_>) -> Result<Made, Error> {
        if let DeviceOption::Disk(disk) = arrival.device
            && disk.path.ends_with("missing")
        {
            return Err(Error::Config("there is no such image".into()));
        }
        let held = Held {
            id: arrival.id.to_owned(),
            log: Arc::clone(&self.0),
        };
        Ok(Made {
            function: function(arrival.id, &self.0),
            release: Some(Box::new(held)),
        })
    }
}

pub struct Rig {
    pub root: Arc<PciRoot>,
    pub hotplug: Arc<Hotplug>,
    pub events: Arc<Events>,
    log: Log,
}

/// Slot `a` is empty, in slot `b` is `cold` from the beginning.
pub fn rig() -> Rig {
    let (root, log) = (PciRoot::new(), Log::default());
    let mut places = Vec::new();
    for (number, bus) in (1u8..).zip(["a", "b"]) {
        let config = RootPortConfig {
            slot: u16::from(number),
            hotplug: true,
        };
        let port = RootPort::new(config, Arc::default(), Arc::new(Nowhere));
        let device = (bus == "b").then(|| "cold".to_owned());
        if device.is_some() {
            port.insert(0, function("cold", &log));
        }
        root.add_port(number << 3, Arc::clone(&port)).unwrap();
        places.push(Place {
            bus: bus.to_owned(),
            port,
            device,
            release: None,
        });
    }
    let resources = Resources {
        io: 0xc000..0x1_0000,
        memory: 0xc000_0000..0xe000_0000,
        memory64: 0x80_0000_0000..0x100_0000_0000,
        last_bus: 255,
    };
    firmware::configure(&root, &resources, HotplugReserve::default()).unwrap();
    let events = Events::new().unwrap();
    let workshop = Arc::new(Workshop(Arc::clone(&log)));
    let fixed = vec!["serial".to_owned()];
    let hotplug = Hotplug::new(
        Arc::clone(&root),
        workshop,
        Arc::clone(&events),
        places,
        fixed,
    );
    Rig {
        root,
        hotplug,
        events,
        log,
    }
}

pub fn disk(path: &str, id: Option<&str>, bus: Option<&str>) -> DeviceOption {
    DeviceOption::Disk(DiskConfig {
        path: path.into(),
        readonly: false,
        direct: false,
        queues: 1,
        id: id.map(str::to_owned),
        bus: bus.map(str::to_owned),
    })
}

impl Rig {
    pub fn add(&self, id: &str, bus: &str) {
        let added = self.hotplug.add(&disk("/d", Some(id), Some(bus))).unwrap();
        assert_eq!((added.id.as_str(), added.bus.as_str()), (id, bus));
    }

    /// The refusal of a device as people read it.
    pub fn refused(&self, device: &DeviceOption) -> String {
        self.hotplug.add(device).unwrap_err().to_string()
    }

    pub fn status(&self, port: SourceId) -> u16 {
        let mut data = [0; 2];
        self.root.config_read(port, 0x72, &mut data);
        u16::from_le_bytes(data)
    }

    pub fn write(&self, port: SourceId, at: u16, value: u16) {
        self.root.config_write(port, at, &value.to_le_bytes());
    }

    pub fn control(&self, port: SourceId, value: u16) {
        self.write(port, 0x70, value);
    }

    /// The guest takes note of the button and lets the light blink, as `after` the second in which it was pressed.
    pub fn take_note(&self, port: SourceId) {
        self.write(port, 0x72, 0x01ff);
        self.control(port, BLINKING);
        self.look(1);
    }

    pub fn let_go(&self, port: SourceId) {
        self.control(port, GOING_OFF);
        self.look(6);
        self.control(port, OFF);
        self.look(7);
    }

    pub fn ask(&self, id: &str, second: u64) -> Result<Removal, Refusal> {
        self.hotplug
            .remove_at(id, false, Duration::from_secs(second))
    }

    pub fn look(&self, second: u64) {
        self.hotplug.look(Duration::from_secs(second));
    }

    pub fn events(&self) -> Vec<Event> {
        let told = self.events.after(0, 100);
        told.into_iter().map(|told| told.event).collect()
    }

    pub fn log(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }

    pub fn slots(&self) -> Vec<(Option<String>, String)> {
        let slots = self.hotplug.slots().into_iter();
        slots.map(|slot| (slot.device, slot.power)).collect()
    }

    /// The slot's device by name, and what the guest makes of it.
    pub fn slot(&self, index: usize) -> (String, String) {
        let (device, power) = self.slots().swap_remove(index);
        (device.unwrap_or_default(), power)
    }
}

pub fn named(device: &str, power: &str) -> (String, String) {
    (device.to_owned(), power.to_owned())
}

pub fn removed(id: &str, by: By) -> Event {
    let id = id.to_owned();
    Event::DeviceRemoved { id, by }
}

pub fn kept(id: &str, kept: Kept) -> Event {
    Event::DeviceKept {
        id: id.to_owned(),
        why: kept.why(),
    }
}
