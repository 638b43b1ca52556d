// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Makes devices ask for what the IOMMU must refuse: `faults GROUP ROOT INTERRUPTS`, with the values of the unit's root table
//! and interrupt table registers.
//!
//! The first dmatest of the machine is put into an identity domain. From then on it reads and writes all memory, which the
//! kernel keeps from programs, and so changes the unit's tables behind the kernel's back. The others make the requests.
//!
//! | GROUP | |
//! |---|---|
//! | unmapped | nothing is changed: what the kernel itself left out |
//! | roots, contexts, pasids | root and context entries, PASID directories and entries of scalable mode |
//! | first, second, nested | paging structures of the program's own, below PASID entries of its own |
//! | interrupts | interrupt requests and entries |
//! | legacy-roots, legacy-tables, legacy-requests | legacy mode |
//!
//! Each refused request stands in a line `FAULT NAME DEVICE`. Every change is undone at once, but the kernel must not look at a
//! table in between, as it does when it logs a fault: the fault event has to be masked meanwhile. No kernel invalidates for
//! these changes, so a valid entry that was changed is used by one device or PASID only, which then stays with what the unit
//! cached; nothing that is not valid is cached, because no unit here has caching mode.

mod device;
mod legacy;
mod scalable;
mod tables;

use anyhow::{Result, bail};

use crate::dmatest::driver::{BLOCKED, Command, DONE};
use device::Device;
use tables::{Change, Memory};

/// Where memory of the machine lies that its kernel was told to leave alone: zeroed, 1 MiB.
const SCRATCH: u64 = 0x0800_0000;

/// An address at which there is neither memory nor a device.
const NOWHERE: u64 = 0x9000_0000;

/// Reads 64 bytes.
fn read(address: u64) -> Command {
    Command::checksum(address, 64)
}

/// Writes 64 bytes.
fn write(address: u64) -> Command {
    Command::fill(address, 64, 0)
}

/// The devices and the tables.
struct Bench {
    memory: Memory,
    /// On the root bus.
    devices: Vec<Device>,
    /// Behind a root port.
    below: Device,
    /// The root table.
    root: u64,
    /// The interrupt table.
    interrupts: u64,
}

/// Runs `faults ARGUMENTS…`.
pub fn run(args: &[&str]) -> Result<()> {
    let &[group, root, interrupts] = args else {
        bail!("faults takes a group and the values of two registers")
    };
    let bench = &mut Bench::open(address(root)?, address(interrupts)?)?;
    match group {
        "unmapped" => scalable::unmapped(bench),
        "roots" => scalable::roots(bench),
        "contexts" => scalable::contexts(bench),
        "pasids" => scalable::pasids(bench),
        "first" => scalable::first(bench),
        "second" => scalable::second(bench),
        "nested" => scalable::nested(bench),
        "interrupts" => interrupt_requests(bench),
        "legacy-roots" => legacy::roots(bench),
        "legacy-tables" => legacy::tables(bench),
        "legacy-requests" => legacy::requests(bench),
        _ => bail!("faults knows no '{group}'"),
    }
}

/// The table address in a register's value.
fn address(register: &str) -> Result<u64> {
    let digits = register.trim_start_matches("0x");
    Ok(u64::from_str_radix(digits, 16)? & !0xfff)
}

impl Bench {
    fn open(root: u64, interrupts: u64) -> Result<Self> {
        let mut devices = Device::all()?;
        let Some(below) = devices.pop_if(|device| device.source >> 8 != 0) else {
            bail!("no dmatest behind a root port")
        };
        if devices.len() < 2 {
            bail!("only {} dmatest on the root bus", devices.len());
        }
        Ok(Self {
            memory: Memory::new(devices.remove(0))?,
            devices,
            below,
            root,
            interrupts,
        })
    }

    /// Makes the changes, has device `number` carry out `command`, which must end with `status`, and undoes the changes.
    fn refused(
        &mut self,
        name: &str,
        number: usize,
        changes: &[Change],
        command: &Command,
        status: u32,
    ) -> Result<()> {
        let Some(device) = self.devices.get_mut(number) else {
            bail!("no device {number} for '{name}'")
        };
        refused(&mut self.memory, device, name, changes, command, status)
    }

    /// As [`Bench::refused`], by the device behind the root port.
    fn refused_below(&mut self, name: &str, changes: &[Change], command: &Command) -> Result<()> {
        let device = &mut self.below;
        refused(&mut self.memory, device, name, changes, command, BLOCKED)
    }
}

fn refused(
    memory: &mut Memory,
    device: &mut Device,
    name: &str,
    changes: &[Change],
    command: &Command,
    status: u32,
) -> Result<()> {
    let before = memory.change(changes)?;
    let answer = device.run(command);
    memory.undo(&before)?;
    match answer? {
        answer if answer.status == status => println!("FAULT {name} {}", device.function.id),
        answer => bail!("'{name}' was to end with status {status}, but: {answer:x?}"),
    }
    Ok(())
}

/// Writes that are interrupt requests, or would be. A device does not hear what becomes of an interrupt.
fn interrupt_requests(bench: &mut Bench) -> Result<()> {
    const REMAPPABLE: u64 = 1 << 4;
    const SUBHANDLE: u64 = 1 << 3;
    let base = 0xfee0_0000;
    let index = |index: u64| base | REMAPPABLE | (index & 0x7fff) << 5 | (index >> 15) << 2;
    let entry = |table: u64, index: u64, words: [u64; 2]| {
        let at = table + 16 * index;
        [(at + 8, words[1]), (at, words[0])]
    };
    let mut send = |name, changes: &[Change], address, data| {
        bench.refused(name, 0, changes, &Command::fill(address, 4, data), DONE)
    };
    send("compatibility-format", &[], base, 0x41)?;
    send("reserved-data", &[], index(0) | SUBHANDLE, 1 << 16)?;
    send("beyond-table", &[], index(0xffff) | SUBHANDLE, 1)?;
    send("absent-entry", &[], index(0x1000), 0)?;
    let table = bench.interrupts;
    // Present, vector 0x41, for the source with the number in the second word.
    let own = u64::from(bench.devices[0].source);
    let good = [1 | 0x41 << 16, own | 1 << 18];
    let mut send = |name, entry: &[Change], address| {
        bench.refused(name, 0, entry, &Command::fill(address, 4, 0), DONE)
    };
    let reserved = entry(table, 0x1001, [good[0] | 1 << 12, good[1]]);
    send("reserved-entry", &reserved, index(0x1001))?;
    let another = entry(table, 0x1002, [good[0], good[1] ^ 0x0100]);
    send("another-source", &another, index(0x1002))?;
    let eight_bytes = Command::fill(index(0), 8, 0);
    bench.refused("not-a-message", 0, &[], &eight_bytes, BLOCKED)
}
