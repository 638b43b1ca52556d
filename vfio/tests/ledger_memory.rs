// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a run costs: bytes that the ledger asks of the allocator. Alone in its process, because it counts all of them.

use iommu::address::{Iova, IovaRange};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use vfio::ledger::Ledger;
use vfio::run::{Rights, Run};
use vm_memory::GuestAddress;

const MOST_BYTES: usize = 64;

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
fn page(number: u64) -> Run {
    Run {
        iova: IovaRange::from_len(Iova(number << 13), 0x1000).expect("a page"),
        gpa: GuestAddress(number << 14),
        rights: Rights::ReadWrite,
    }
}

fn bytes_a_run(fill: impl FnOnce(&mut Ledger)) -> usize {
    let before = ALLOCATED.load(Ordering::Relaxed);
    let mut ledger = Ledger::new(true);
    fill(&mut ledger);
    let bytes = ALLOCATED.load(Ordering::Relaxed) - before;
    bytes.div_ceil(ledger.len())
}

/// One test, because tests of one process run beside each other.
#[test]
fn run_costs_at_most_64_bytes_in_any_order() {
    const RUNS: u64 = 100_000;
    let ascending = bytes_a_run(|ledger| {
        for number in 0..RUNS {
            ledger.insert(&page(number)).unwrap();
        }
    });
    let descending = bytes_a_run(|ledger| {
        for number in (0..RUNS).rev() {
            ledger.insert(&page(number)).unwrap();
        }
    });
    let scattered = bytes_a_run(|ledger| {
        for number in 0..RUNS {
            ledger.insert(&page(number * 7919 % 100_003)).unwrap();
        }
    });
    let thinned = bytes_a_run(|ledger| {
        for number in 0..RUNS {
            ledger.insert(&page(number)).unwrap();
        }
        for number in (0..RUNS).filter(|number| number % 5 != 0) {
            ledger.remove(page(number).iova);
        }
    });
    for (order, bytes) in [
        ("ascending", ascending),
        ("descending", descending),
        ("scattered", scattered),
        ("thinned", thinned),
    ] {
        assert!(bytes <= MOST_BYTES, "{order}: {bytes} bytes a run");
        assert!(bytes >= 24, "{order}: {bytes} bytes a run cannot be");
    }
}
