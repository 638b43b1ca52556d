// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the DMAR table says of the machine (BIOS Considerations).
//!
//! Structures stand in the order of their types, as the specification wants them, and the unit that includes all other devices
//! last of the units.

use super::ioapic;
use super::iommu::Units;
use super::pci::Topology;
use crate::config::{Config, DevicePath, NamespaceDevice, ReservedMemory};
use crate::error::Error;
use crate::layout;
use iommu::address::PAGE_SIZE;
use iommu::dmar::{
    Andd, Atsr, Dmar, Drhd, PathElement, Rhsa, Rmrr, Satc, Scope, ScopeKind, Structure,
};
use vm_memory::GuestAddress;

/// The only segment.
const SEGMENT: u16 = 0;

/// The table; `None` for a machine without units.
///
/// # Errors
/// The configuration describes a unit that is not there, or memory or a path that cannot be.
pub fn table(config: &Config, units: &Units, topology: &Topology) -> Result<Option<Dmar>, Error> {
    let Some(capabilities) = units.units().next().map(|unit| unit.capabilities()) else {
        return Ok(None);
    };
    let mut structures = drhds(config, units, topology)?;
    for memory in &config.dmar.reserved {
        structures.push(rmrr(memory)?);
    }
    if capabilities.device_tlb() {
        structures.extend(atsr(topology));
    }
    for affinity in &config.dmar.affinities {
        structures.push(Structure::Rhsa(Rhsa {
            registers: layout::vtd(number(units, affinity.unit)?),
            proximity: affinity.proximity,
        }));
    }
    for (device, described) in numbered(&config.dmar.namespace) {
        structures.push(Structure::Andd(Andd {
            device,
            path: described.path.clone(),
        }));
    }
    if capabilities.device_tlb() {
        structures.extend(satc(topology));
    }
    Ok(Some(Dmar {
        host_address_width: capabilities.host_address_width(),
        interrupt_remapping: capabilities.interrupt_remapping(),
        structures,
    }))
}

/// The units: those for root ports, then the first one, for the IOAPIC and for all other devices, those that come later included.
fn drhds(config: &Config, units: &Units, topology: &Topology) -> Result<Vec<Structure>, Error> {
    let mut scopes: Vec<Vec<Scope>> = units.units().map(|_| Vec::new()).collect();
    scopes[0].push(Scope {
        kind: ScopeKind::Ioapic,
        enumeration_id: ioapic::ID,
        start_bus: ioapic::SOURCE.bus(),
        path: vec![hop(ioapic::SOURCE.devfn())],
    });
    for (index, port) in topology.ports.iter().enumerate() {
        match units.unit_of_port(index) {
            0 => {}
            unit => scopes[unit].push(on_root_bus(ScopeKind::Bridge, *port)),
        }
    }
    check_namespace(&config.dmar.namespace)?;
    for (device, described) in numbered(&config.dmar.namespace) {
        scopes[number(units, described.unit)?].push(namespace_scope(device, described));
    }
    let drhd = |(unit, scopes)| {
        Structure::Drhd(Drhd {
            segment: SEGMENT,
            registers: layout::vtd(unit),
            size: 0,
            include_pci_all: unit == 0,
            scopes,
        })
    };
    let mut structures: Vec<Structure> = scopes.into_iter().enumerate().map(drhd).collect();
    structures.rotate_left(1);
    Ok(structures)
}

/// The guest must leave the memory alone, or its allocator gives it out.
fn rmrr(memory: &ReservedMemory) -> Result<Structure, Error> {
    let first = layout::FIRMWARE_TABLES.0;
    let last = first + layout::FIRMWARE_TABLES_SIZE - 1;
    if memory.base < first || memory.last > last || memory.last < memory.base {
        return Err(Error::Config(format!(
            "reserved memory for devices at {:#x} to {:#x} is not within {first:#x} to {last:#x}, which guests leave alone",
            memory.base, memory.last
        )));
    }
    if !memory.base.is_multiple_of(PAGE_SIZE) || !(memory.last + 1).is_multiple_of(PAGE_SIZE) {
        return Err(Error::Config(format!(
            "reserved memory for devices at {:#x} to {:#x} is not made of whole pages",
            memory.base, memory.last
        )));
    }
    Ok(Structure::Rmrr(Rmrr {
        segment: SEGMENT,
        base: GuestAddress(memory.base),
        last: GuestAddress(memory.last),
        scopes: memory.devices.iter().map(endpoint).collect(),
    }))
}

/// Devices below every root port may cache translations. Without ports there is nothing to say.
fn atsr(topology: &Topology) -> Option<Structure> {
    (!topology.ports.is_empty()).then_some(Structure::Atsr(Atsr {
        segment: SEGMENT,
        all_ports: true,
        scopes: Vec::new(),
    }))
}

/// Integrated devices with caches. They work without, too.
fn satc(topology: &Topology) -> Option<Structure> {
    let caches = topology.caches.iter();
    let scopes: Vec<Scope> = caches
        .map(|devfn| on_root_bus(ScopeKind::Endpoint, *devfn))
        .collect();
    (!scopes.is_empty()).then_some(Structure::Satc(Satc {
        segment: SEGMENT,
        required: false,
        scopes,
    }))
}

/// Devices of the ACPI namespace with the numbers that name them in the table, from 1 on.
fn numbered(namespace: &[NamespaceDevice]) -> impl Iterator<Item = (u8, &NamespaceDevice)> {
    (1..=u8::MAX).zip(namespace)
}

/// Each of them needs a number.
fn check_namespace(namespace: &[NamespaceDevice]) -> Result<(), Error> {
    let (count, most) = (namespace.len(), u8::MAX);
    if count <= usize::from(most) {
        return Ok(());
    }
    Err(Error::Config(format!(
        "{count} devices of the ACPI namespace are described, but a DMAR table has numbers for {most}"
    )))
}

fn number(units: &Units, unit: u16) -> Result<usize, Error> {
    let count = units.units().count();
    let number = usize::from(unit);
    if number < count {
        return Ok(number);
    }
    Err(Error::Config(format!(
        "remapping unit {unit} is described, but the machine has {count} of them"
    )))
}

fn on_root_bus(kind: ScopeKind, devfn: u8) -> Scope {
    Scope {
        kind,
        enumeration_id: 0,
        start_bus: 0,
        path: vec![hop(devfn)],
    }
}

fn endpoint(path: &DevicePath) -> Scope {
    let hops = path.iter();
    Scope {
        kind: ScopeKind::Endpoint,
        enumeration_id: 0,
        start_bus: 0,
        path: hops
            .map(|&(device, function)| PathElement { device, function })
            .collect(),
    }
}

fn namespace_scope(number: u8, described: &NamespaceDevice) -> Scope {
    let (device, function) = described.devfn;
    Scope {
        kind: ScopeKind::Namespace,
        enumeration_id: number,
        start_bus: described.bus,
        path: vec![PathElement { device, function }],
    }
}

const fn hop(devfn: u8) -> PathElement {
    PathElement {
        device: devfn >> 3,
        function: devfn & 7,
    }
}

#[cfg(test)]
mod tests;
