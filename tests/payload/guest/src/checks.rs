// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The check groups: those of legacy mode, which run when none is named, and those of scalable mode.

mod contexts;
mod dma;
mod fault_log;
mod faults;
mod handshakes;
mod hostile;
mod interrupt_faults;
mod intremap;
mod ioapic;
mod manycpu;
mod passed;
mod queue;
mod queue_errors;
mod register_invalidation;
mod registers;
mod scalable;
mod translation;

use crate::acpi::Dmar;
use crate::check::Checks;
use crate::dmatest::Dmatest;
use crate::edu::Edu;
use crate::options::Options;
use crate::vtd::unit::{LEGACY, Unit};
use crate::{check, interrupts, mem};

/// Vectors that the checks use.
pub const EDU_VECTOR: u8 = 0x41;
pub const OTHER_VECTOR: u8 = 0x52;
pub const FAULT_VECTOR: u8 = 0x63;
pub const COMPLETION_VECTOR: u8 = 0x74;
pub const PAGE_VECTOR: u8 = 0x95;
pub const POSTED_VECTOR: u8 = 0xA6;

/// QEMU's IOAPIC source id, for a machine that has no DMAR table.
const IOAPIC_SOURCE: u16 = 0xFF00;

/// What the firmware's tables say.
pub struct Tables {
    pub ecam: Option<u64>,
    pub dmar: Option<Dmar>,
}

/// What the checks run on.
pub struct Machine {
    pub unit: Unit,
    pub edu: Edu,
    dmatest: Option<Dmatest>,
    /// Width in bits of the addresses that tables may hold.
    pub host_width: u8,
    /// Whether a DMAR table was found.
    pub dmar: bool,
    /// Whether configuration space is reached through MCFG's window.
    pub ecam: bool,
    /// Source id of the IOAPIC's interrupt requests.
    pub ioapic: u16,
    /// Whether the `edu` device reaches beyond 28 bits.
    pub edu64: bool,
    pub apic_id: u32,
}

impl Machine {
    /// The machine around `unit` and `edu`.
    pub fn new(unit: Unit, edu: Edu, tables: &Tables, edu64: bool) -> Machine {
        Machine {
            unit,
            edu,
            dmatest: Dmatest::find(tables.ecam),
            host_width: tables.dmar.map_or(39, |dmar| dmar.host_width),
            dmar: tables.dmar.is_some(),
            ecam: tables.ecam.is_some(),
            ioapic: tables
                .dmar
                .and_then(|dmar| dmar.ioapic)
                .unwrap_or(IOAPIC_SOURCE),
            edu64,
            apic_id: interrupts::apic_id(),
        }
    }

    /// The `dmatest` device.
    ///
    /// # Panics
    /// There is none: `run` looks before it starts a group of scalable mode.
    pub fn dmatest(&self) -> Dmatest {
        self.dmatest.expect("a dmatest device")
    }
}

/// A group of checks.
#[derive(Clone, Copy)]
pub struct Group {
    pub name: &'static str,
    run: fn(&Machine, Checks),
}

const fn group(name: &'static str, run: fn(&Machine, Checks)) -> Group {
    Group { name, run }
}

/// The groups that run when the command line names none, in that order. `registers` is first: it sees the reset values.
const DEFAULT: &[Group] = &[
    group("registers", registers::run),
    group("handshakes", handshakes::run),
    group("queue", queue::run),
    group("queue-errors", queue_errors::run),
    group("register-invalidation", register_invalidation::run),
    group("translation", translation::run),
    group("contexts", contexts::run),
    group("faults", faults::run),
    group("fault-log", fault_log::run),
    group("intremap", intremap::run),
    group("interrupt-faults", interrupt_faults::run),
    group("ioapic", ioapic::run),
];

/// The groups that run only when named.
const NAMED: &[Group] = &[
    group("manycpu", manycpu::run),
    group("hostile", hostile::run),
    group("passed-rebind", passed::rebind::run),
    group("passed-global", passed::global::run),
    group("passed-domains", passed::domains::run),
    group("passed-arrival", passed::arrival::run),
    group("passed-replay", passed::replay::run),
];

/// The word that stands for all groups of scalable mode.
const SCALABLE: &str = "scalable";

/// Whether the command line may hold this word.
pub fn knows(word: &str) -> bool {
    word == SCALABLE || all().any(|group| group.name == word)
}

fn scalable_groups() -> impl Iterator<Item = Group> {
    scalable::GROUPS.iter().map(|&(name, run)| group(name, run))
}

fn all() -> impl Iterator<Item = Group> {
    scalable_groups().chain(DEFAULT.iter().chain(NAMED).copied())
}

/// Runs the groups that the command line names, or the default ones, each from an idle unit.
pub fn run(machine: &Machine, options: &Options) {
    if !options.words().any(knows) {
        DEFAULT.iter().for_each(|group| group.start(machine));
        return;
    }
    let scalable =
        scalable_groups().filter(|group| options.has(SCALABLE) || options.has(group.name));
    for group in scalable {
        if machine.dmatest.is_none() || !machine.unit.has_scalable() {
            check::failure(
                "no unit with scalable mode, or no dmatest device on bus 0",
                &[],
            );
            return;
        }
        group.start(machine);
        // Queues of 128-bit descriptors do not go with scalable tables.
        machine.unit.set_root(LEGACY);
    }
    let others = DEFAULT.iter().chain(NAMED);
    others
        .filter(|group| options.has(group.name))
        .for_each(|group| group.start(machine));
}

impl Group {
    fn start(&self, machine: &Machine) {
        mem::reset();
        (self.run)(machine, Checks::of_group(self.name));
        machine.unit.quiesce();
        machine.edu.set_intx();
        interrupts::clear();
    }
}
