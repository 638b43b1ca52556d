// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Numbering, placement and interrupt wiring, read back from the registers.

use super::*;
use crate::pci::bar::BarKind;
use crate::pci::config::Identity;
use crate::pci::function::{FunctionBuilder, IntxPin};
use crate::pci::host_bridge::HostBridge;
use crate::pci::root_port::RootPortConfig;
use crate::testing::{RecordingLine, RecordingSender, TestFunction};

fn resources() -> Resources {
    Resources {
        io: 0xc000..0x1_0000,
        memory: 0xc000_0000..0xe000_0000,
        memory64: 0x80_0000_0000..0x100_0000_0000,
        last_bus: 255,
    }
}

/// Memory of 1 MiB and 4 KiB, ports, and 64-bit prefetchable memory of 16 MiB, with INTA.
fn device() -> Arc<TestFunction> {
    let mut builder = FunctionBuilder::endpoint(&Identity {
        vendor: 0x1234,
        ..Identity::default()
    });
    builder
        .bar(
            0,
            BarKind::Memory32 {
                prefetchable: false,
            },
            0x1000,
        )
        .bar(1, BarKind::Memory32 { prefetchable: true }, 0x10_0000)
        .bar(2, BarKind::Io, 64)
        .bar(4, BarKind::Memory64 { prefetchable: true }, 0x100_0000)
        .intx(IntxPin::A);
    TestFunction::new(builder)
}

fn port(slot: u16, hotplug: bool) -> Arc<RootPort> {
    let sender = Arc::new(RecordingSender::default());
    RootPort::new(RootPortConfig { slot, hotplug }, Arc::default(), sender)
}

fn read(function: &dyn PciFunction, at: u16) -> u32 {
    let mut data = [0; 4];
    function.config_read(at, &mut data);
    u32::from_le_bytes(data)
}

#[test]
fn root_function_is_placed_decoded_and_named_its_interrupt() {
    let (root, device) = (PciRoot::new(), device());
    root.add(0x00, HostBridge::new()).unwrap();
    root.add(0x18, device.clone()).unwrap();
    configure(&root, &resources(), HotplugReserve::default()).unwrap();
    assert_eq!(device.config(0x14), 0xc000_0008);
    assert_eq!(device.config(0x10), 0xc010_0000);
    assert_eq!(device.config(0x18), 0x0000_c001);
    assert_eq!((device.config(0x20), device.config(0x24)), (0xc, 0x80));
    assert_eq!(device.config(0x04) & 0xffff, 0x0003);
    assert_eq!(device.config(0x3c), 0x0113);
    assert_eq!(device.windows().len(), 4);
}

#[test]
fn what_is_below_a_port_lies_in_its_windows() {
    let (root, below, port) = (PciRoot::new(), device(), port(1, false));
    port.insert(0, below.clone());
    root.add_port(0x10, port.clone()).unwrap();
    root.add(0x18, device()).unwrap();
    configure(&root, &resources(), HotplugReserve::default()).unwrap();
    assert_eq!(read(&*port, 0x18), 0x0001_0100);
    assert_eq!(read(&*port, 0x1c) & 0xffff, 0xc0c0);
    assert_eq!(read(&*port, 0x20), 0xc010_c000);
    assert_eq!(below.config(0x14), 0xc000_0008);
    assert_eq!(below.config(0x10), 0xc010_0000);
    assert_eq!(below.config(0x18), 0x0000_c001);
    assert_eq!((below.config(0x20), below.config(0x24)), (0xc, 0x80));
    assert_eq!(read(&*port, 0x24), 0x00f1_0001);
    assert_eq!((read(&*port, 0x28), read(&*port, 0x2c)), (0x80, 0x80));
    let mut data = [0];
    root.memory_window(0).read(0xc000_0000, &mut data);
    assert_eq!(data, [0x5a]);
    assert_eq!(below.requester().source(), SourceId(0x0100));
}

#[test]
fn empty_port_without_hotplug_forwards_nothing() {
    let (root, port) = (PciRoot::new(), port(1, false));
    root.add_port(0x10, port.clone()).unwrap();
    configure(&root, &resources(), HotplugReserve::default()).unwrap();
    let seen = port.forwarding();
    assert_eq!(
        (seen.io, seen.memory, seen.prefetchable),
        (None, None, None)
    );
}

#[test]
fn hotplug_ports_get_the_reserve_aligned_to_its_size() {
    let root = PciRoot::new();
    let ports = [port(1, true), port(2, true)];
    root.add(0x08, device()).unwrap();
    root.add_port(0x10, ports[0].clone()).unwrap();
    root.add_port(0x18, ports[1].clone()).unwrap();
    configure(&root, &resources(), HotplugReserve::default()).unwrap();
    let seen = ports[1].forwarding();
    assert_eq!(seen.secondary, 2);
    let memory = seen.memory.unwrap();
    assert_eq!((memory.first, memory.last), (0xc200_0000, 0xc3ff_ffff));
    let wide = seen.prefetchable.unwrap();
    assert_eq!((wide.first, wide.last), (0x88_0000_0000, 0x8f_ffff_ffff));
    assert_eq!(seen.io, None);
}

#[test]
fn full_range_is_an_error_that_names_the_owner() {
    let root = PciRoot::new();
    for number in 0..17u8 {
        let slot = u16::from(number);
        root.add_port((number + 1) << 3, port(slot, true)).unwrap();
    }
    let error = configure(&root, &resources(), HotplugReserve::default()).unwrap_err();
    assert_eq!(
        error,
        FirmwareError::NoRoom {
            space: "32-bit memory",
            size: 0x200_0000,
            owner: SourceId(0x0088),
            range: 0xc000_0000..0xe000_0000,
            left: 0,
        }
    );
    assert!(error.to_string().starts_with("no room for 0x2000000 bytes"));
}

#[test]
fn more_ports_than_buses_is_an_error() {
    let root = PciRoot::new();
    root.add_port(0x08, port(1, false)).unwrap();
    root.add_port(0x10, port(2, false)).unwrap();
    let few = Resources {
        last_bus: 1,
        ..resources()
    };
    let error = configure(&root, &few, HotplugReserve::default()).unwrap_err();
    let port = SourceId(0x0010);
    assert_eq!(error, FirmwareError::NoBus { port, last: 1 });
}

#[test]
fn second_run_after_a_reset_gives_the_same_addresses() {
    let (root, below, port) = (PciRoot::new(), device(), port(1, true));
    port.insert(0, below.clone());
    root.add_port(0x10, port).unwrap();
    configure(&root, &resources(), HotplugReserve::default()).unwrap();
    let before: Vec<u32> = (0..16).map(|dword| below.config(dword * 4)).collect();
    root.reset();
    assert_eq!(below.config(0x14), 8);
    configure(&root, &resources(), HotplugReserve::default()).unwrap();
    let after: Vec<u32> = (0..16).map(|dword| below.config(dword * 4)).collect();
    assert_eq!(before, after);
}

#[test]
fn pins_are_wired_with_the_swizzle() {
    let (root, direct, below, port) = (PciRoot::new(), device(), device(), port(1, false));
    port.insert(0, below.clone());
    root.add(0x28, direct.clone()).unwrap();
    root.add_port(0x10, port).unwrap();
    let mut sources = Vec::new();
    connect_interrupts(&root, |gsi| {
        sources.push(gsi);
        Arc::new(RecordingLine::default())
    });
    sources.sort_unstable();
    assert_eq!(sources, [18, 18, 21]);
    assert_eq!((direct.gsi(), below.gsi()), (Some(21), Some(18)));
}

#[test]
fn routing_table_covers_every_device_and_pin_of_bus_0() {
    let routes = interrupt_routes();
    assert_eq!(routes.len(), 128);
    let of = |device, pin| {
        let mut found = routes.iter().filter(|r| r.device == device && r.pin == pin);
        found.next().map(|r| r.gsi)
    };
    assert_eq!(of(0, 0), Some(16));
    assert_eq!(of(3, 3), Some(22));
    assert_eq!(of(31, 1), Some(16));
    assert!(routes.iter().all(|r| (16..24).contains(&r.gsi)));
}
