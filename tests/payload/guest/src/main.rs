// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A bare-metal guest that programs an emulated VT-d unit and checks what it does.
//!
//! It expects a q35-like machine: a VT-d unit (named by DMAR, else at 0xFED90000), an IOAPIC at 0xFEC00000, an `edu` device
//! on bus 0, a serial port at 0x3F8, isa-debug-exit at port 0xF4 and 64 MiB of RAM. Each check prints one line, `PASS`,
//! `FAIL` or `SKIP`; the last line is the sum, and the exit device gets 0 when all was right. Every wait is bounded.
//!
//! Words of the command line: names of groups to run (those of legacy mode if none), `scalable` (all groups of scalable mode,
//! which need a `dmatest` device on bus 0 too), `edu64` (the `edu` device has a 64-bit
//! DMA mask), `oracle=qemu` (leave out what QEMU is known to get wrong).
//!
//! The tables and descriptors are written as raw words from the specification: nothing here is shared with the unit's code.
#![no_std]
#![no_main]

mod acpi;
mod arch;
mod check;
mod checks;
mod dmatest;
mod edu;
mod interrupts;
mod ioapic;
mod mem;
mod options;
mod oracle;
mod out;
mod pci;
mod vtd;

use checks::{Machine, Tables};
use options::Options;
use vtd::unit::Unit;

const UNIT_BASE: u64 = 0xFED9_0000;

/// Entered from the boot code with the address of the multiboot information.
#[expect(unsafe_code, reason = "the boot code calls this by name")]
#[unsafe(no_mangle)]
extern "C" fn payload_main(multiboot: u32) -> ! {
    out::init();
    let options = Options::from_multiboot(multiboot);
    options.reject_unknown(|word| word == "edu64" || checks::knows(word));
    if options.has("oracle=qemu") {
        check::oracle_is_qemu();
    }
    if options.memory_end() < mem::RAM_NEEDED {
        check::failure(
            "too little RAM:",
            &[("end", options.memory_end()), ("needed", mem::RAM_NEEDED)],
        );
        check::finish();
    }
    interrupts::init();
    let tables = Tables {
        ecam: acpi::ecam(),
        dmar: acpi::dmar(),
    };
    let Some(edu) = edu::Edu::find(tables.ecam) else {
        check::failure("no edu device with an MSI capability on bus 0", &[]);
        check::finish();
    };
    let unit = Unit::new(tables.dmar.map_or(UNIT_BASE, |dmar| dmar.base));
    if unit.cap == u64::MAX || unit.cap == 0 {
        check::failure("no VT-d unit:", &[("CAP", unit.cap), ("ECAP", unit.ecap)]);
        check::finish();
    }
    let machine = Machine::new(unit, edu, &tables, options.has("edu64"));
    checks::run(&machine, &options);
    check::finish()
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    let line = info.location().map_or(0, core::panic::Location::line);
    if let Some(location) = info.location() {
        out::text(location.file());
        out::text("\n");
    }
    check::failure("panic", &[("line", line.into())]);
    check::finish()
}
