// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! DSDT: the devices that cannot be discovered, and the PCI root (ACPI 5.2.11.1, PCI Firmware Specification 3.3).

use super::{AcpiConfig, EcamInfo, IntxRoute, PciWindows};
use acpi_tables::Aml;
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, And, Arg, CreateDWordField, Device, EISAName, Else, Equal,
    IO, If, Interrupt, Local, Memory32Fixed, Method, Name, NotEqual, Notify, ONE, Or, Package,
    PackageBuilder, Path, ResourceTemplate, Return, Scope, Store, Uuid, ZERO,
};

/// `_OSC` on a PCI root (PCI Firmware Specification 3.3, 4.5).
const OSC_UUID: &str = "33DB4D5B-1FF7-401C-9657-7441C03DD766";
/// What the guest may take over: native hotplug (bit 0) and the PCI Express capability structures (bit 4). No port sends
/// PME or AER messages.
const OSC_CONTROL_GRANTED: u32 = 1 << 0 | 1 << 4;
/// What a power button's notification says (ACPI 5.6.6).
const BUTTON_PRESSED: u8 = 0x80;
const OSC_UNKNOWN_UUID: u32 = 1 << 2;
const OSC_UNKNOWN_REVISION: u32 = 1 << 3;
const OSC_CAPABILITIES_MASKED: u32 = 1 << 4;

/// The table.
pub(super) fn table(config: &AcpiConfig) -> Vec<u8> {
    let mut devices = Vec::new();
    pci_root(config, &mut devices);
    motherboard(config.ecam, &mut devices);
    serial(&mut devices);
    rtc(&mut devices);
    pvpanic(config.power.pvpanic_port, &mut devices);
    power_button(config.power.button_gsi, &mut devices);

    let mut body = Vec::new();
    let sleep_type = config.power.s5_sleep_type;
    Name::new(
        Path::new("_S5_"),
        &Package::new(vec![&sleep_type, &sleep_type, &ZERO, &ZERO]),
    )
    .to_aml_bytes(&mut body);
    body.extend(Scope::raw(Path::new("_SB_"), devices));
    super::table(*b"DSDT", 2, &body)
}

fn pci_root(config: &AcpiConfig, out: &mut Vec<u8>) {
    let (resources, osc) = (root_resources(config), osc());
    let mut routes = PackageBuilder::new();
    for route in &config.intx {
        add_route(&mut routes, *route);
    }
    Device::new(
        Path::new("PCI0"),
        vec![
            &Name::new(Path::new("_HID"), &EISAName::new("PNP0A08")),
            &Name::new(Path::new("_CID"), &EISAName::new("PNP0A03")),
            &Name::new(Path::new("_UID"), &ZERO),
            &Name::new(Path::new("_SEG"), &ZERO),
            &Name::new(Path::new("_BBN"), &ZERO),
            // DMA is cache-coherent.
            &Name::new(Path::new("_CCA"), &ONE),
            &Name::new(Path::new("_CRS"), &RawAml(&resources)),
            &Name::new(Path::new("_PRT"), &routes),
            &RawAml(&osc),
        ],
    )
    .to_aml_bytes(out);
}

/// Bus numbers, ports and memory of the root, and the ports of the configuration mechanism that it uses itself.
fn root_resources(config: &AcpiConfig) -> Vec<u8> {
    let PciWindows { io, mmio32, mmio64 } = &config.windows;
    let buses = AddressSpace::new_bus_number(0u16, u16::from(config.ecam.last_bus));
    let config_ports = IO::new(0xcf8, 0xcf8, 1, 8);
    let ports = AddressSpace::new_io(*io.start(), *io.end(), None);
    let low = memory(*mmio32.start(), *mmio32.end());
    let high = mmio64
        .as_ref()
        .map(|range| memory(*range.start(), *range.end()));
    let mut resources: Vec<&dyn Aml> = vec![&buses, &config_ports, &ports, &low];
    if let Some(high) = &high {
        resources.push(high);
    }
    let mut bytes = Vec::new();
    ResourceTemplate::new(resources).to_aml_bytes(&mut bytes);
    bytes
}

fn memory<T: Default>(first: T, last: T) -> AddressSpace<T> {
    AddressSpace::new_memory(AddressSpaceCacheable::NotCacheable, true, first, last, None)
}

/// Adds a row of `_PRT`: any function of the device, the pin, no link device, the GSI (ACPI 6.2.13).
fn add_route(routes: &mut PackageBuilder, route: IntxRoute) {
    let address = u32::from(route.device) << 16 | 0xffff;
    routes.add_element(&Package::new(vec![&address, &route.pin, &ZERO, &route.gsi]));
}

/// `_OSC(uuid, revision, count, buffer)`: masks the control word down to what is granted and reports that it did.
fn osc() -> Vec<u8> {
    let (status, control) = (Path::new("CDW1"), Path::new("CDW3"));
    let set_status = |bit: u32| {
        let mut bytes = Vec::new();
        Or::new(&status, &status, &bit).to_aml_bytes(&mut bytes);
        bytes
    };
    let (masked, revision, unknown) = (
        set_status(OSC_CAPABILITIES_MASKED),
        set_status(OSC_UNKNOWN_REVISION),
        set_status(OSC_UNKNOWN_UUID),
    );
    let mut bytes = Vec::new();
    Method::new(
        Path::new("_OSC"),
        4,
        true,
        vec![
            &CreateDWordField::new(&status, &Arg(3), &ZERO),
            &If::new(
                &Equal::new(&Arg(0), &Uuid::new(OSC_UUID)),
                vec![
                    &CreateDWordField::new(&control, &Arg(3), &8u8),
                    &Store::new(&Local(0), &control),
                    &And::new(&control, &control, &OSC_CONTROL_GRANTED),
                    &If::new(&NotEqual::new(&Local(0), &control), vec![&RawAml(&masked)]),
                    &If::new(&NotEqual::new(&Arg(1), &ONE), vec![&RawAml(&revision)]),
                ],
            ),
            &Else::new(vec![&RawAml(&unknown)]),
            &Return::new(&Arg(3)),
        ],
    )
    .to_aml_bytes(&mut bytes);
    bytes
}

/// Reserves the memory-mapped configuration space; Linux does not use one that no device reserves.
fn motherboard(ecam: EcamInfo, out: &mut Vec<u8>) {
    let len = (u32::from(ecam.last_bus) + 1) << 20;
    Device::new(
        Path::new("MBRD"),
        vec![
            &Name::new(Path::new("_HID"), &EISAName::new("PNP0C02")),
            &Name::new(Path::new("_UID"), &ZERO),
            &Name::new(
                Path::new("_CRS"),
                &ResourceTemplate::new(vec![&Memory32Fixed::new(true, ecam.base, len)]),
            ),
        ],
    )
    .to_aml_bytes(out);
}

fn serial(out: &mut Vec<u8>) {
    Device::new(
        Path::new("COM1"),
        vec![
            &Name::new(Path::new("_HID"), &EISAName::new("PNP0501")),
            &Name::new(Path::new("_UID"), &ONE),
            &Name::new(
                Path::new("_CRS"),
                &ResourceTemplate::new(vec![
                    &IO::new(0x3f8, 0x3f8, 1, 8),
                    // Consumer, edge-triggered, active high, not shared.
                    &Interrupt::new(true, true, false, false, 4),
                ]),
            ),
        ],
    )
    .to_aml_bytes(out);
}

/// The RTC without an interrupt: it keeps time and has no alarm.
fn rtc(out: &mut Vec<u8>) {
    Device::new(
        Path::new("RTC0"),
        vec![
            &Name::new(Path::new("_HID"), &EISAName::new("PNP0B00")),
            &Name::new(
                Path::new("_CRS"),
                &ResourceTemplate::new(vec![&IO::new(0x70, 0x70, 1, 2)]),
            ),
        ],
    )
    .to_aml_bytes(out);
}

fn pvpanic(port: u16, out: &mut Vec<u8>) {
    Device::new(
        Path::new("PEVT"),
        vec![
            &Name::new(Path::new("_HID"), &"QEMU0001"),
            // Present, enabled, working, not shown to the user (ACPI 6.3.7).
            &Name::new(Path::new("_STA"), &0x0bu8),
            &Name::new(
                Path::new("_CRS"),
                &ResourceTemplate::new(vec![&IO::new(port, port, 1, 1)]),
            ),
        ],
    )
    .to_aml_bytes(out);
}

/// The power button, and the generic event device that tells of it (ACPI 4.8.3.2, 5.6.9): hardware-reduced machines have no
/// fixed button.
fn power_button(gsi: u8, out: &mut Vec<u8>) {
    Device::new(
        Path::new("PWRB"),
        vec![&Name::new(Path::new("_HID"), &EISAName::new("PNP0C0C"))],
    )
    .to_aml_bytes(out);
    let button = Path::new("PWRB");
    let pressed = Notify::new(&button, &BUTTON_PRESSED);
    Device::new(
        Path::new("GED_"),
        vec![
            &Name::new(Path::new("_HID"), &"ACPI0013"),
            &Name::new(Path::new("_UID"), &ZERO),
            &Name::new(
                Path::new("_CRS"),
                &ResourceTemplate::new(vec![
                    // Consumer, edge-triggered, active high, not shared.
                    &Interrupt::new(true, true, false, false, u32::from(gsi)),
                ]),
            ),
            &Method::new(
                Path::new("_EVT"),
                1,
                true,
                vec![&If::new(&Equal::new(&Arg(0), &gsi), vec![&pressed])],
            ),
        ],
    )
    .to_aml_bytes(out);
}

/// AML that is encoded already.
struct RawAml<'a>(&'a [u8]);

impl Aml for RawAml<'_> {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        sink.vec(self.0);
    }
}
