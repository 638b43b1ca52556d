// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a run costs: bytes that a ledger asks of the allocator. Alone in its process, because all of them are counted.

use iommu::address::{Iova, IovaRange};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use vfio::ledger::Ledger;
use vfio::run::{Rights, Run};
use vm_memory::GuestAddress;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[expect(unsafe_code, reason = "an allocator is unsafe to implement")]
// SAFETY: both calls go to the system's allocator with what the caller gave, which upholds the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller upholds the contract of this very function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller upholds the contract of this very function.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Pages that continue nothing, so that each is a run of its own.
pub fn page(number: u64) -> Run {
    Run {
        iova: IovaRange::from_len(Iova(number << 13), 0x1000).expect("a page"),
        gpa: GuestAddress(number << 14),
        rights: Rights::ReadWrite,
    }
}

/// Bytes for each run of a ledger that `fill` filled.
pub fn bytes_a_run(fill: impl FnOnce(&mut Ledger)) -> usize {
    let before = ALLOCATED.load(Ordering::Relaxed);
    let mut ledger = Ledger::new(true);
    fill(&mut ledger);
    let bytes = ALLOCATED.load(Ordering::Relaxed) - before;
    bytes.div_ceil(ledger.len())
}
