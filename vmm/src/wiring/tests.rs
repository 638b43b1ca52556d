// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where devices go, and that none gets around the unit.

use super::iommu::Units;
use super::pci::{PciBus, Windows};
use super::testing::{Kernel, PHYS_BITS, config, parts};
use super::{dmatest, edu, hotplug, ioapic, virtio};
use crate::cli;
use crate::error::Error;
use crate::hotplug::{Arrival, Made, Maker};
use crate::interrupts::RouteTable;
use devices::pci::PciFunction;
use devices::pci::host_bridge::HostBridge;
use iommu::address::Iova;
use iommu::ids::{Requester, SourceId};
use iommu::msi::{MsiMessage, MsiSender};
use iommu::unit::Unit;
use std::sync::Arc;
use vm_memory::GuestAddress;

const REMAPPABLE: MsiMessage = MsiMessage {
    address: 0xfee0_0010,
    data: 0x21,
};

fn master(source: u16) -> Arc<Requester> {
    let requester = Arc::new(Requester::new(SourceId(source)));
    requester.set_bus_master(true);
    requester
}

/// Writes a 32-bit register.
fn set(unit: &Unit, offset: u64, value: u32) {
    unit.write(offset, &value.to_le_bytes());
}

/// Turns units on with a root table of zeroes at 1 MiB: SRTP, then TE.
fn block_everything(unit: &Unit) {
    unit.write(0x20, &0x10_0000u64.to_le_bytes());
    set(unit, 0x18, 1 << 30);
    set(unit, 0x18, 1 << 31);
}

#[test]
fn dma_without_a_unit_reaches_memory_at_the_same_address() {
    let (_, ram, units) = parts(&config(&["--iommu", "off"]));
    assert!(units.root().unit().is_none());
    let space = units.root().dma_space(&master(8));
    space.section().write(Iova(0x1234), b"remora").unwrap();
    let mut seen = [0; 6];
    iommu::memory::PhysMem::read(&*ram, GuestAddress(0x1234), &mut seen).unwrap();
    assert_eq!(&seen, b"remora");
}

#[test]
fn dma_and_messages_go_through_the_unit() {
    let (kernel, _, units) = parts(&config(&[]));
    let unit = Arc::clone(units.root().unit().unwrap());
    let (requester, space) = (master(8), units.root().dma_space(&master(8)));
    space.section().write(Iova(0x1234), b"remora").unwrap();
    block_everything(&unit);
    assert!(space.section().write(Iova(0x1234), b"remora").is_err());
    assert_eq!(unit.counters().faults_total(), 1);

    let messages: Arc<dyn MsiSender> = units.root().messages();
    messages.send(&requester, REMAPPABLE);
    assert_eq!(kernel.take_signals(), [REMAPPABLE]);
    // An interrupt table of zeroes at 2 MiB: SIRTP, then IRE.
    unit.write(0xb8, &0x20_000fu64.to_le_bytes());
    set(&unit, 0x18, 1 << 31 | 1 << 24);
    set(&unit, 0x18, 1 << 31 | 1 << 25);
    messages.send(&requester, REMAPPABLE);
    assert_eq!(unit.counters().faults_total(), 2);
    assert!(kernel.take_signals().is_empty());
}

/// Lets the first dmatest on the bus touch the page at 1 MiB, as its PASID 1 if `pasid`; the command's status.
fn touch_by_dmatest(options: &[&str], blocked: bool, pasid: bool) -> u32 {
    let config = config(options);
    let (_, _, units) = parts(&config);
    let mut bus = PciBus::new(&config, &units).unwrap();
    dmatest::add(&config, &units, &mut bus).unwrap();
    if blocked {
        block_everything(units.root().unit().unwrap());
    }
    let slots = bus.root().slots();
    let (_, slot) = slots.iter().find(|(devfn, _)| *devfn == 0x08).unwrap();
    touch(&*slot.function(), pasid)
}

/// Lets a dmatest touch the page at 1 MiB; the command's status.
fn touch(device: &dyn PciFunction, pasid: bool) -> u32 {
    device.config_write(0x04, &[0x06, 0]);
    device.config_write(0x11e, &[0x01, 0]);
    let mut command = [0; 40];
    command[0] = 8;
    command[1] = u8::from(pasid);
    command[4] = u8::from(pasid);
    command[10] = 0x10;
    command[32] = 1;
    for (at, bytes) in (0x1000..).step_by(8).zip(command.chunks_exact(8)) {
        device.bar_write(0, at, bytes);
    }
    device.bar_write(0, 0x24, &1u32.to_le_bytes());
    for _ in 0..20_000 {
        let mut status = [0; 4];
        device.bar_read(0, 0x1030, &mut status);
        if status != [0; 4] {
            return u32::from_le_bytes(status);
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("dmatest never answers");
}

#[test]
fn dmatest_goes_through_the_unit_and_has_no_pasids_without() {
    assert_eq!(touch_by_dmatest(&["--dmatest"], false, false), 1);
    assert_eq!(touch_by_dmatest(&["--dmatest"], true, false), 6);
    assert_eq!(touch_by_dmatest(&["--dmatest"], true, true), 6);
    let without = ["--dmatest", "--iommu", "off"];
    assert_eq!(touch_by_dmatest(&without, false, false), 1);
    assert_eq!(touch_by_dmatest(&without, false, true), 6);
}

#[test]
fn devices_stand_in_the_order_of_the_options() {
    let options = ["--root-port", "id=p", "--rng", "--edu", "--dmatest"];
    let config = config(&options);
    let (_, _, units) = parts(&config);
    let mut bus = PciBus::new(&config, &units).unwrap();
    virtio::add(&config, &units, &mut bus).unwrap();
    edu::add(&config, &units, &mut bus).unwrap();
    dmatest::add(&config, &units, &mut bus).unwrap();
    let ids: Vec<(u8, u32)> = bus
        .root()
        .slots()
        .iter()
        .map(|(devfn, slot)| {
            let mut id = [0; 4];
            slot.function().config_read(0, &mut id);
            (devfn >> 3, u32::from_le_bytes(id))
        })
        .collect();
    assert_eq!(
        ids,
        [
            (0, 0x0d57_8086),
            (1, 0x000c_1b36),
            (2, 0x1044_1af4),
            (3, 0x11e8_1234),
            (4, 0xd7a7_1234)
        ]
    );
}

#[test]
fn port_takes_one_device() {
    let config = config(&["--root-port", "id=p"]);
    let (_, _, units) = parts(&config);
    let mut bus = PciBus::new(&config, &units).unwrap();
    let port = "p".to_owned();
    bus.add("a", Some(&port), HostBridge::new()).unwrap();
    let error = bus.add("b", Some(&port), HostBridge::new()).unwrap_err();
    assert!(error.to_string().contains("a port takes one"), "{error}");
}

#[test]
fn port_that_is_not_there_is_named() {
    let config = config(&[]);
    let (_, _, units) = parts(&config);
    let mut bus = PciBus::new(&config, &units).unwrap();
    let port = "q".to_owned();
    let error = bus.add("disk0", Some(&port), HostBridge::new());
    let text = error.unwrap_err().to_string();
    assert!(text.contains("disk0") && text.contains("\"q\""), "{text}");
}

#[test]
fn root_bus_takes_31_devices_besides_the_bridge() {
    let config = config(&[]);
    let (_, _, units) = parts(&config);
    let mut bus = PciBus::new(&config, &units).unwrap();
    for _ in 0..31 {
        bus.add("d", None, HostBridge::new()).unwrap();
    }
    let error = bus.add("d", None, HostBridge::new()).unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error}");
}

#[test]
fn window_above_4_gib_stays_within_the_unit() {
    let end = |options: &[&str]| Windows::new(&config(options), PHYS_BITS).memory64.end;
    assert_eq!(end(&[]), 1 << 40);
    assert_eq!(end(&["--iommu", "aw=39"]), 1 << 39);
    assert_eq!(end(&["--iommu", "off"]), 1 << 40);
}

#[test]
fn disk_image_that_is_not_there_is_a_file_error() {
    let config = config(&["--disk", "/nonexistent/image"]);
    let (_, _, units) = parts(&config);
    let mut bus = PciBus::new(&config, &units).unwrap();
    let error = virtio::add(&config, &units, &mut bus).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("disk image /nonexistent/image: No such file"),
        "{error}"
    );
}

#[test]
fn ports_are_shared_out_among_the_further_units_in_their_order() {
    let share = |units: usize, ports: usize| -> Vec<usize> {
        let mut options = vec![format!("--iommu=units={units}")];
        options.extend((0..ports).map(|port| format!("--root-port=id=p{port}")));
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let (_, _, all) = parts(&config(&options));
        assert_eq!(all.units().count(), units);
        (0..ports).map(|port| all.unit_of_port(port)).collect()
    };
    assert_eq!(share(1, 2), [0, 0]);
    assert_eq!(share(2, 1), [1]);
    assert_eq!(share(2, 3), [1, 1, 1]);
    assert_eq!(share(3, 2), [1, 2]);
    assert_eq!(share(3, 5), [1, 1, 1, 2, 2]);
    assert_eq!(share(4, 5), [1, 1, 2, 2, 3]);
}

#[test]
fn device_below_a_port_goes_through_the_unit_of_the_port_alone() {
    let options = ["--iommu=units=2", "--root-port=id=p", "--root-port=id=q"];
    let (kernel, _, units) = parts(&config(&options));
    let each: Vec<&Arc<Unit>> = units.units().collect();
    let faults = || {
        (
            each[0].counters().faults_total(),
            each[1].counters().faults_total(),
        )
    };
    let below = units.behind(Some(&"q".to_owned()));
    let (root_space, space) = (
        units.root().dma_space(&master(8)),
        below.dma_space(&master(0x200)),
    );
    let touch = |space: &iommu::dma::DmaSpace| space.section().write(Iova(0x1234), b"remora");

    block_everything(each[1]);
    touch(&root_space).unwrap();
    assert!(touch(&space).is_err());
    assert_eq!(faults(), (0, 1));

    // An interrupt table of zeroes at 2 MiB: SIRTP, then IRE, for the second unit only.
    each[1].write(0xb8, &0x20_000fu64.to_le_bytes());
    set(each[1], 0x18, 1 << 31 | 1 << 24);
    set(each[1], 0x18, 1 << 31 | 1 << 25);
    below.messages().send(&master(0x200), REMAPPABLE);
    assert_eq!(faults(), (0, 2));
    assert!(kernel.take_signals().is_empty());
    units.root().messages().send(&master(8), REMAPPABLE);
    assert_eq!(kernel.take_signals(), [REMAPPABLE]);
}

/// What comes behind the root port `p1` (00:01.0) of a machine with two units.
fn make(units: &Arc<Units>, kernel: &Arc<Kernel>, option: &str) -> Result<Made, Error> {
    let lines = ioapic::Wired::new(units, RouteTable::new(Arc::clone(kernel) as _)).lines();
    let builder = hotplug::Builder::new(units, &Arc::new(lines), None);
    builder.make(&Arrival {
        device: &cli::device(option).unwrap(),
        id: "late",
        bus: "p1",
        devfn: 0x08,
        source: SourceId(0x0100),
    })
}

#[test]
fn device_that_comes_is_behind_the_unit_of_its_port() {
    let config = config(&["--root-port", "id=p1,hotplug", "--iommu", "units=2"]);
    for (blocked, status) in [(0, 1), (1, 6)] {
        let (kernel, _, units) = parts(&config);
        let units = Arc::new(units);
        let made = make(&units, &kernel, "dmatest").unwrap();
        block_everything(units.units().nth(blocked).unwrap());
        assert_eq!(touch(&*made.function, false), status, "unit {blocked}");
    }
}

#[test]
fn disk_that_comes_is_one_that_a_driver_finds() {
    let config = config(&["--root-port", "id=p1,hotplug"]);
    let (kernel, _, units) = parts(&config);
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(1 << 20).unwrap();
    let option = format!("disk={}", image.path().display());
    let made = make(&Arc::new(units), &kernel, &option).unwrap();
    let read = |at: u16| {
        let mut data = [0; 4];
        made.function.config_read(at, &mut data);
        u32::from_le_bytes(data)
    };
    assert_eq!((read(0x00), read(0x3c) >> 8 & 0xff), (0x1042_1af4, 1));
    assert!(made.release.is_none());
}

#[test]
fn disk_without_an_image_is_refused_with_its_path() {
    let config = config(&["--root-port", "id=p1,hotplug"]);
    let (kernel, _, units) = parts(&config);
    let error = make(&Arc::new(units), &kernel, "disk=/no/such/image").unwrap_err();
    assert!(error.to_string().contains("/no/such/image"), "{error}");
}

#[test]
fn slots_are_the_hotplug_ports_and_other_names_are_fixed() {
    let options = [
        "--root-port",
        "id=p1,hotplug",
        "--root-port",
        "id=p2",
        "--root-port",
        "id=p3,hotplug",
        "--edu",
        "--dmatest=bus=p2",
        "--dmatest=bus=p3",
    ];
    let config = config(&options);
    let (_, _, units) = parts(&config);
    let mut bus = PciBus::new(&config, &units).unwrap();
    edu::add(&config, &units, &mut bus).unwrap();
    dmatest::add(&config, &units, &mut bus).unwrap();
    let places = bus.places().into_iter();
    let places: Vec<_> = places.map(|place| (place.bus, place.device)).collect();
    let with = |bus: &str, device: Option<&str>| (bus.to_owned(), device.map(str::to_owned));
    assert_eq!(places, [with("p1", None), with("p3", Some("dmatest1"))]);
    assert_eq!(bus.fixed_names(), ["edu", "dmatest0", "p1", "p2", "p3"]);
}
