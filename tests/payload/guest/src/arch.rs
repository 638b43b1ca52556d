// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The processor's own instructions, and bounded waiting.
//!
//! The functions are safe to call: the payload owns the whole machine, and nothing but its own checks can be upset.
#![expect(unsafe_code, reason = "privileged instructions have no safe form")]

use core::arch::{asm, global_asm};

global_asm!(include_str!("boot.s"), options(att_syntax));

/// A bound for what an emulated unit does at once or within a moment: up to a second.
pub const SHORT: u64 = 1_000_000_000;
/// A bound for a DMA of the `edu` device, which takes 100 ms by design and far longer under nested emulation.
pub const LONG: u64 = 40_000_000_000;
/// Bound of every wait in turns, for a time stamp counter that stands still.
const TURNS: u32 = 200_000_000;

pub fn out8(port: u16, value: u8) {
    // SAFETY: port output touches no memory of ours.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack)) }
}

pub fn in8(port: u16) -> u8 {
    let value: u8;
    // SAFETY: port input touches no memory of ours.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack)) }
    value
}

pub fn out32(port: u16, value: u32) {
    // SAFETY: port output touches no memory of ours.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nomem, nostack)) }
}

pub fn in32(port: u16) -> u32 {
    let value: u32;
    // SAFETY: port input touches no memory of ours.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nomem, nostack)) }
    value
}

pub fn rdmsr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: callers name only APIC registers that the CPU said it has; anything else ends in the exception handler.
    unsafe { asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high, options(nostack)) }
    u64::from(high) << 32 | u64::from(low)
}

pub fn wrmsr(msr: u32, value: u64) {
    let (low, high) = halves(value);
    // SAFETY: as for rdmsr; no register written changes how memory is mapped.
    unsafe { asm!("wrmsr", in("ecx") msr, in("eax") low, in("edx") high, options(nostack)) }
}

/// Low and high double word.
pub fn halves(value: u64) -> (u32, u32) {
    let bytes = value.to_le_bytes();
    let [a, b, c, d, e, f, g, h] = bytes;
    (
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    )
}

/// Whether the CPU can run its APIC in x2APIC mode (CPUID.1:ECX bit 21).
pub fn has_x2apic() -> bool {
    core::arch::x86_64::__cpuid(1).ecx & 1 << 21 != 0
}

pub fn rdtsc() -> u64 {
    // SAFETY: CR4.TSD is 0, the instruction has no other effect.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Polls `done` until it holds or `ticks` of the time stamp counter have passed; what it said last.
pub fn poll(ticks: u64, mut done: impl FnMut() -> bool) -> bool {
    let start = rdtsc();
    for turn in 0..TURNS {
        if done() {
            return true;
        }
        core::hint::spin_loop();
        if turn > 256 && rdtsc().wrapping_sub(start) > ticks {
            break;
        }
    }
    done()
}

/// Lets interrupts in for a moment. They are taken here and nowhere else.
pub fn interrupt_window() {
    // SAFETY: the handlers keep the integer registers, the rest is declared clobbered; they run on a stack of their own.
    unsafe {
        asm!("sti", "2: pause", "dec ecx", "jnz 2b", "cli", inout("ecx") 16 => _, clobber_abi("C"));
    }
}

/// Ends this CPU's part: interrupts off, halted for good.
pub fn halt() -> ! {
    loop {
        // SAFETY: nothing follows.
        unsafe { asm!("cli", "hlt", options(nostack)) }
    }
}

/// The address of the last page fault.
pub fn cr2() -> u64 {
    let address: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr2", out(reg) address, options(nomem, nostack)) }
    address
}

/// Raises an exception that an empty interrupt table cannot take.
pub fn triple_fault() {
    // SAFETY: the caller wants the machine to end here.
    unsafe { asm!("ud2", options(nomem, nostack)) }
}

/// Loads the interrupt descriptor table at `base`, `limit` bytes minus one.
pub fn load_idt(base: u64, limit: u16) {
    let mut pointer = [0u8; 10];
    pointer[..2].copy_from_slice(&limit.to_le_bytes());
    pointer[2..].copy_from_slice(&base.to_le_bytes());
    // SAFETY: the caller passes a static table of complete entries.
    unsafe { asm!("lidt [{}]", in(reg) &raw const pointer, options(nostack)) }
}

/// Loads the task register with `selector`.
pub fn load_task(selector: u16) {
    // SAFETY: the caller has written the descriptor that the selector names.
    unsafe { asm!("ltr {:x}", in(reg) selector, options(nostack)) }
}

/// Zeroes `bytes` bytes (a multiple of 8) at `address`.
pub fn zero(address: u64, bytes: u64) {
    // SAFETY: the caller owns the range; it comes from the arena.
    unsafe {
        asm!("rep stosq", inout("rdi") address => _, inout("rcx") bytes / 8 => _, in("rax") 0u64, options(nostack));
    }
}

/// Compiler support: the prebuilt core library refers to these, and there is no C library here.
mod memory_functions {
    use core::arch::asm;

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
        // SAFETY: the compiler's contract for memcpy.
        unsafe {
            asm!("rep movsb", inout("rdi") to => _, inout("rsi") from => _, inout("rcx") count => _, options(nostack));
        }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memset(to: *mut u8, value: i32, count: usize) -> *mut u8 {
        // SAFETY: the compiler's contract for memset.
        unsafe {
            asm!("rep stosb", inout("rdi") to => _, inout("rcx") count => _, in("eax") value, options(nostack));
        }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
        let mut index = 0;
        let forward = to.cast_const() <= from;
        while index < count {
            let at = if forward { index } else { count - 1 - index };
            // SAFETY: the compiler's contract for memmove; volatile keeps this loop from becoming a call to itself.
            let byte = unsafe { from.wrapping_add(at).read_volatile() };
            // SAFETY: as above.
            unsafe { to.wrapping_add(at).write_volatile(byte) };
            index += 1;
        }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, count: usize) -> i32 {
        let mut index = 0;
        while index < count {
            // SAFETY: the compiler's contract for memcmp.
            let left = unsafe { a.wrapping_add(index).read_volatile() };
            // SAFETY: as above.
            let right = unsafe { b.wrapping_add(index).read_volatile() };
            if left != right {
                return i32::from(left) - i32::from(right);
            }
            index += 1;
        }
        0
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, count: usize) -> i32 {
        // SAFETY: same contract.
        unsafe { memcmp(a, b, count) }
    }

    /// Named by unwind tables of the prebuilt core library; with panic=abort nothing calls it.
    #[unsafe(no_mangle)]
    extern "C" fn rust_eh_personality() {}
}
