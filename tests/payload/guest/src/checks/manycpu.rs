// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! All CPUs that MADT names are started; the one with the highest APIC id takes a remapped MSI.
#![expect(
    unsafe_code,
    reason = "the boot code's variables are reached by address"
)]

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::{EDU_VECTOR, Machine};
use crate::check::Checks;
use crate::vtd::irte::{self, Irt};
use crate::vtd::queue::{IEC_GLOBAL, Queue};
use crate::vtd::unit::IRE;
use crate::{acpi, arch, interrupts, mem, out};

const TRAMPOLINE: u64 = 0x8000;
const INIT: u32 = 0x4500;
const START_UP: u32 = 0x4600 | 0x8;

unsafe extern "C" {
    static trampoline: u8;
    static trampoline_end: u8;
    static ap_stacks: u8;
    static ap_stacks_taken: u8;
}

static STARTED: AtomicU32 = AtomicU32::new(0);
/// APIC id of the CPU that takes the MSI.
static TARGET: AtomicU32 = AtomicU32::new(u32::MAX);
static READY: AtomicBool = AtomicBool::new(false);
static STOP: AtomicBool = AtomicBool::new(false);

pub fn run(machine: &Machine, checks: Checks) {
    let (cpus, highest) = acpi::cpus();
    if !checks.holds("MADT names more than one CPU", cpus > 1) {
        return;
    }
    TARGET.store(highest, Ordering::SeqCst);
    start_others(cpus - 1);
    let all = arch::poll(arch::LONG, || STARTED.load(Ordering::SeqCst) >= cpus - 1);
    checks.equal("every CPU starts", cpus, STARTED.load(Ordering::SeqCst) + 1);
    let ready = arch::poll(arch::SHORT, || READY.load(Ordering::SeqCst));
    checks.holds("the CPU with the highest APIC id is among them", ready);
    let took = all && ready && msi_arrives(machine, highest);
    STOP.store(true, Ordering::SeqCst);
    checks.holds("a remapped MSI arrives there", took);
    if took {
        out::text("manycpu: ");
        out::decimal(cpus.into());
        out::text(" cpus, MSI on APIC id ");
        out::decimal(highest.into());
        out::text("\n");
    }
}

fn start_others(count: u32) {
    let code = (&raw const trampoline) as u64;
    let end = (&raw const trampoline_end) as u64;
    for offset in 0..end - code {
        mem::write8(TRAMPOLINE + offset, mem::read8(code + offset));
    }
    let (stacks, _) = arch::halves(mem::pages(count.into(), mem::PAGE));
    mem::write32((&raw const ap_stacks) as u64, stacks);
    mem::write32((&raw const ap_stacks_taken) as u64, 0);
    interrupts::send_to_others(INIT);
    pause(20_000_000);
    interrupts::send_to_others(START_UP);
    // A second start-up IPI is ignored by CPUs that run already.
    if !arch::poll(arch::SHORT, || STARTED.load(Ordering::SeqCst) >= count) {
        interrupts::send_to_others(START_UP);
    }
}

fn pause(ticks: u64) {
    let start = arch::rdtsc();
    arch::poll(ticks, || arch::rdtsc().wrapping_sub(start) > ticks);
}

fn msi_arrives(machine: &Machine, apic_id: u32) -> bool {
    machine.unit.quiesce();
    let eime = machine.unit.has_eim() && interrupts::x2apic();
    let (irt, mut queue) = (Irt::new(eime), Queue::start(machine.unit));
    irt.set(
        7,
        irt.low(EDU_VECTOR, apic_id),
        irte::SVT_SOURCE | u64::from(machine.edu.source()),
    );
    machine.unit.set_irt(irt.base, Irt::SIZE, eime);
    queue.run(IEC_GLOBAL, 0);
    machine.unit.set(IRE);
    interrupts::clear();
    machine.edu.set_msi(irte::address(7), 0);
    machine.edu.send_msi();
    // This CPU keeps its interrupts off: what is counted arrived over there.
    arch::poll(arch::SHORT, || interrupts::count(EDU_VECTOR) != 0)
        && interrupts::count(EDU_VECTOR) == 1
}

/// Entered by every other CPU, on a stack of its own, interrupts off.
#[unsafe(no_mangle)]
extern "C" fn ap_main() {
    let target = TARGET.load(Ordering::SeqCst);
    if initial_apic_id() == target {
        interrupts::init_cpu(1);
        STARTED.fetch_add(1, Ordering::SeqCst);
        READY.store(interrupts::apic_id() == target, Ordering::SeqCst);
        while !STOP.load(Ordering::SeqCst) {
            arch::interrupt_window();
            core::hint::spin_loop();
        }
    } else {
        STARTED.fetch_add(1, Ordering::SeqCst);
    }
    arch::halt()
}

/// The APIC id that CPUID reports: all 32 bits of it where leaf 0xB is there.
fn initial_apic_id() -> u32 {
    use core::arch::x86_64::__cpuid;
    use core::arch::x86_64::__cpuid_count;
    let topology = __cpuid(0).eax >= 0xB && __cpuid_count(0xB, 0).ebx != 0;
    if topology {
        __cpuid_count(0xB, 0).edx
    } else {
        __cpuid(1).ebx >> 24
    }
}
