// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Physical memory: volatile access by address, and an arena of zeroed pages for tables, queues and buffers.
//!
//! The low 4 GiB are mapped one to one. The arena lies below 256 MiB, so that the `edu` device with its 28-bit DMA mask
//! reaches all of it.
#![expect(unsafe_code, reason = "memory is reached by its physical address")]

use core::sync::atomic::{AtomicU64, Ordering};

/// Bytes in a 4 KiB page.
pub const PAGE: u64 = 0x1000;
/// Two naturally aligned 2 MiB blocks for large-page checks, outside the arena.
pub const LARGE: [u64; 2] = [0x340_0000, 0x360_0000];
/// The machine needs RAM up to here.
pub const RAM_NEEDED: u64 = 0x400_0000;
/// An address where no machine has RAM, inside every host address width.
pub const HOLE: u64 = (1 << 38) - 0x10_0000;
const ARENA: u64 = 0x100_0000;
const ARENA_END: u64 = 0x300_0000;

static NEXT: AtomicU64 = AtomicU64::new(ARENA);

/// A zeroed page of the arena.
pub fn page() -> u64 {
    pages(1, PAGE)
}

/// `count` zeroed pages that follow one another, aligned to `align` bytes (a power of two).
pub fn pages(count: u64, align: u64) -> u64 {
    let at = (NEXT.load(Ordering::Relaxed) + align - 1) & !(align - 1);
    let end = at + count * PAGE;
    assert!(end <= ARENA_END, "arena exhausted");
    NEXT.store(end, Ordering::Relaxed);
    crate::arch::zero(at, count * PAGE);
    at
}

/// Gives the whole arena back; only between groups, when the unit is idle.
pub fn reset() {
    NEXT.store(ARENA, Ordering::Relaxed);
}

macro_rules! accessors {
    ($($read:ident $write:ident $type:ty;)*) => { $(
        pub fn $read(address: u64) -> $type {
            // SAFETY: every address below 4 GiB is mapped; another one ends in the exception handler.
            unsafe { (address as *const $type).read_volatile() }
        }

        pub fn $write(address: u64, value: $type) {
            // SAFETY: as above, and callers write only to the arena, the trampoline page and device registers.
            unsafe { (address as *mut $type).write_volatile(value) }
        }
    )* };
}

accessors! {
    read8 write8 u8;
    read16 write16 u16;
    read32 write32 u32;
    read64 write64 u64;
}
