// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Interrupt table, local APIC and counters of what arrived.
//!
//! Interrupts are let in only inside `arch::interrupt_window`. Handlers count and end the interrupt; an exception ends the run.
#![expect(unsafe_code, reason = "the CPU's tables are named by address")]

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::arch::{self, rdmsr, wrmsr};
use crate::{check, mem};

const VECTORS: usize = 256;
const STACK: u64 = 4 * mem::PAGE;
/// Below the arena, after the image: interrupt table, task states, interrupt stacks.
const TABLES: u64 = 0xF0_0000;
const IDT: u64 = TABLES;
const TASKS: u64 = TABLES + mem::PAGE;
const STACKS: u64 = TABLES + 2 * mem::PAGE;

const MSR_APIC_BASE: u32 = 0x1B;
const MSR_X2APIC: u32 = 0x800;
const XAPIC: u64 = 0xFEE0_0000;
const ID: u32 = 0x2;
const TPR: u32 = 0x8;
const EOI: u32 = 0xB;
const SPURIOUS: u32 = 0xF;
const IN_SERVICE: u32 = 0x10;
const ICR: u32 = 0x30;
const SPURIOUS_VECTOR: u32 = 0xFF;

static COUNTS: [AtomicU32; VECTORS] = [const { AtomicU32::new(0) }; VECTORS];
static X2APIC: AtomicBool = AtomicBool::new(false);
static HOLD_EOI: AtomicBool = AtomicBool::new(false);

unsafe extern "C" {
    static interrupt_stubs: u8;
    static gdt: u8;
}

/// Interrupt table for all CPUs, and this CPU's task state and APIC.
pub fn init() {
    mem_zero_tables();
    let stubs = (&raw const interrupt_stubs) as u64;
    for vector in 0..VECTORS as u64 {
        let stub = stubs + vector * 16;
        let gate = stub & 0xFFFF | 0x08 << 16 | 1 << 32 | 0x8E << 40 | (stub >> 16 & 0xFFFF) << 48;
        mem::write64(IDT + vector * 16, gate);
        mem::write64(IDT + vector * 16 + 8, stub >> 32);
    }
    // Both 8259s, where there are any, stay silent.
    arch::out8(0x21, 0xFF);
    arch::out8(0xA1, 0xFF);
    X2APIC.store(arch::has_x2apic(), Ordering::Relaxed);
    init_cpu(0);
}

fn mem_zero_tables() {
    arch::zero(TABLES, 2 * mem::PAGE + 2 * STACK);
}

/// Task state (0 or 1) with an interrupt stack of its own, interrupt table and local APIC of the running CPU.
pub fn init_cpu(task: u64) {
    let state = TASKS + task * 0x100;
    mem::write64(state + 0x24, STACKS + (task + 1) * STACK);
    mem::write16(state + 0x66, 0x68);
    let slot = (&raw const gdt) as u64 + 0x20 + task * 0x10;
    mem::write64(
        slot,
        0x67 | (state & 0xFF_FFFF) << 16 | 0x89 << 40 | (state >> 24 & 0xFF) << 56,
    );
    mem::write64(slot + 8, state >> 32);
    arch::load_idt(IDT, 0xFFF);
    arch::load_task(if task == 0 { 0x20 } else { 0x30 });
    init_apic();
}

/// Turns the running CPU's APIC on, in x2APIC mode where the CPU has it.
pub fn init_apic() {
    let base = rdmsr(MSR_APIC_BASE) | 1 << 11;
    wrmsr(MSR_APIC_BASE, base);
    if X2APIC.load(Ordering::Relaxed) {
        wrmsr(MSR_APIC_BASE, base | 1 << 10);
    }
    apic_write(TPR, 0);
    apic_write(SPURIOUS, 1 << 8 | SPURIOUS_VECTOR);
}

fn apic_write(register: u32, value: u32) {
    if X2APIC.load(Ordering::Relaxed) {
        wrmsr(MSR_X2APIC + register, value.into());
    } else {
        mem::write32(XAPIC + u64::from(register) * 16, value);
    }
}

/// Whether the APICs run in x2APIC mode.
pub fn x2apic() -> bool {
    X2APIC.load(Ordering::Relaxed)
}

fn apic_read(register: u32) -> u32 {
    if x2apic() {
        arch::halves(rdmsr(MSR_X2APIC + register)).0
    } else {
        mem::read32(XAPIC + u64::from(register) * 16)
    }
}

/// APIC id of the running CPU.
pub fn apic_id() -> u32 {
    let id = apic_read(ID);
    if x2apic() { id } else { id >> 24 }
}

/// Sends an interprocessor interrupt to all CPUs but this one.
pub fn send_to_others(command: u32) {
    apic_write(ICR, command | 0b11 << 18);
}

/// Whether the local APIC keeps an interrupt in service until it is ended, tried with an interrupt to itself.
///
/// Some KVMs that interpret guest code do not. Level-triggered interrupts then come again at once, whatever the IOAPIC does.
pub fn kept_in_service() -> bool {
    const VECTOR: u8 = 0x85;
    clear();
    hold_end_of_interrupt(true);
    apic_write(ICR, u32::from(VECTOR) | 0b01 << 18);
    arrived(VECTOR, 1);
    let kept = apic_read(IN_SERVICE + u32::from(VECTOR / 32)) >> (VECTOR % 32) & 1 != 0;
    hold_end_of_interrupt(false);
    end_of_interrupt();
    clear();
    kept
}

/// Ends the interrupt in service.
pub fn end_of_interrupt() {
    apic_write(EOI, 0);
}

/// While `hold`, handlers leave the interrupt in service.
pub fn hold_end_of_interrupt(hold: bool) {
    HOLD_EOI.store(hold, Ordering::Relaxed);
}

/// How often `vector` arrived since the last `clear`.
pub fn count(vector: u8) -> u32 {
    COUNTS[usize::from(vector)].load(Ordering::Relaxed)
}

/// Takes what is pending, then forgets all counts.
pub fn clear() {
    settle();
    COUNTS
        .iter()
        .for_each(|count| count.store(0, Ordering::Relaxed));
}

/// Lets in what is pending. Delivery in an emulated machine is complete when the store that caused it is, or a moment later.
pub fn settle() {
    for _ in 0..64 {
        arch::interrupt_window();
    }
}

/// Waits for `vector` to arrive `times` times, no more and no less.
pub fn arrived(vector: u8, times: u32) -> bool {
    arch::poll(arch::SHORT, || {
        arch::interrupt_window();
        count(vector) >= times
    });
    settle();
    count(vector) == times
}

/// Whether nothing at all arrives, on any vector.
pub fn silence() -> bool {
    for _ in 0..16 {
        settle();
    }
    COUNTS
        .iter()
        .all(|count| count.load(Ordering::Relaxed) == 0)
}

#[unsafe(no_mangle)]
extern "C" fn interrupt_entry(vector: u64, error: u64, rip: u64) {
    if vector < 32 {
        check::failure(
            "exception",
            &[
                ("vector", vector),
                ("error", error),
                ("rip", rip),
                ("address", arch::cr2()),
            ],
        );
        check::finish();
    }
    let [low, ..] = vector.to_le_bytes();
    COUNTS[usize::from(low)].fetch_add(1, Ordering::Relaxed);
    if vector != u64::from(SPURIOUS_VECTOR) && !HOLD_EOI.load(Ordering::Relaxed) {
        end_of_interrupt();
    }
}
