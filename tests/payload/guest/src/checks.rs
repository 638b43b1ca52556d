// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The check groups. Another set (scalable mode, PASID tables) is one more module and one more row of `GROUPS`.

mod contexts;
mod dma;
mod fault_log;
mod faults;
mod handshakes;
mod interrupt_faults;
mod intremap;
mod ioapic;
mod manycpu;
mod queue;
mod queue_errors;
mod register_invalidation;
mod registers;
mod translation;

use crate::check::Checks;
use crate::edu::Edu;
use crate::options::Options;
use crate::vtd::unit::Unit;
use crate::{interrupts, mem};

/// Vectors that the checks use.
pub const EDU_VECTOR: u8 = 0x41;
pub const OTHER_VECTOR: u8 = 0x52;
pub const FAULT_VECTOR: u8 = 0x63;
pub const COMPLETION_VECTOR: u8 = 0x74;

/// What the checks run on.
pub struct Machine {
    pub unit: Unit,
    pub edu: Edu,
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

/// A group of checks.
pub struct Group {
    pub name: &'static str,
    /// Whether it runs when the command line names no group.
    default: bool,
    run: fn(&Machine, Checks),
}

const fn group(name: &'static str, run: fn(&Machine, Checks)) -> Group {
    Group {
        name,
        default: true,
        run,
    }
}

/// All groups, in the order in which they run. `registers` is first: it sees the reset values.
pub const GROUPS: &[Group] = &[
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
    Group {
        name: "manycpu",
        default: false,
        run: manycpu::run,
    },
];

/// Runs the groups that the command line names, or the default ones, each from an idle unit.
pub fn run(machine: &Machine, options: &Options) {
    let named = GROUPS.iter().any(|group| options.has(group.name));
    for group in GROUPS {
        if options.has(group.name) || !named && group.default {
            mem::reset();
            (group.run)(machine, Checks { group: group.name });
            machine.unit.quiesce();
            machine.edu.set_intx();
            interrupts::clear();
        }
    }
}
