// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Random streams of register accesses and descriptors: no panic, bounded work, and consistent registers after each.

use super::*;
use crate::address::Gpa;
use crate::memory::MemoryError;
use crate::page_request::PageRequest;
use proptest::prelude::*;
use std::sync::atomic::AtomicU64;

/// RAM that counts the reads of the unit.
#[derive(Debug)]
struct Counting {
    ram: Ram,
    reads: AtomicU64,
}

impl PhysMem for Counting {
    fn read(&self, gpa: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        PhysMem::read(&self.ram, gpa, buf)
    }

    fn write(&self, gpa: Gpa, buf: &[u8]) -> Result<(), MemoryError> {
        PhysMem::write(&self.ram, gpa, buf)
    }

    fn load_u64(&self, gpa: Gpa) -> Result<u64, MemoryError> {
        self.ram.load_u64(gpa)
    }

    fn store_u32(&self, gpa: Gpa, value: u32) -> Result<(), MemoryError> {
        self.ram.store_u32(gpa, value)
    }

    fn compare_exchange_u64(
        &self,
        gpa: Gpa,
        current: u64,
        new: u64,
    ) -> Result<Result<u64, u64>, MemoryError> {
        self.ram.compare_exchange_u64(gpa, current, new)
    }
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Write32(u64, u32),
    Write64(u64, u64),
    Descriptor(u64, u64, u64),
    Tail(u32),
    Fault(u64),
    PageRequest {
        group: u16,
        last: bool,
    },
    /// Whether the device that caches is late from now on.
    Late(bool),
    Reset,
}

/// Offsets of registers, and a few that are not.
fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => prop::sample::select(vec![
            0x18u64, 0x20, 0x28, 0x2c, 0x34, 0x38, 0x3c, 0x40, 0x88, 0x90, 0x9c, 0xa0, 0xb8, 0xf0, 0xf8, 0xfc, 0x22c,
            0x23c, 0x29c, 0xc0, 0xc8, 0xd0, 0xdc, 0xe0, 0xe4, 0xe8,
        ]),
        1 => 0u64..0x1010,
    ]
}

/// Queue addresses that are in RAM or not, small and large, narrow and wide.
fn queue_address() -> impl Strategy<Value = u64> {
    (
        prop::sample::select(vec![0u64, 0x4000, 0xf000, 0x1_0000, !0xfff]),
        0u64..8,
        0u64..8,
    )
        .prop_map(|(base, size, wide)| base | size | if wide == 0 { 0x800 } else { 0 })
}

fn descriptor() -> impl Strategy<Value = (u64, u64)> {
    prop_oneof![
        4 => prop::sample::select(vec![
            (0x11u64, 0u64), (0x0007_0031, 0), (0xd2, 0), (0xe2, 0), (0xf2, 0x1000), (0x04, 0), (0x14, 0),
            (0x45, 0), (0x35 | 2 << 32, 0x8000), (0x25 | 2 << 32, 0x10_0000), (0x03, 0), (0x26, 0),
            (0x10ff_0000_0003, 0x1001), (0x1_10ff_0008, 0), (0x0007_0037, 0), (0x1_0007_0036, 0x1000), (0x1_10ff_0019, 8),
            (0xa5 | 2 << 32, 0x8000),
        ]),
        1 => (any::<u64>(), any::<u64>()),
    ]
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (offset(), any::<u32>()).prop_map(|(offset, value)| Step::Write32(offset, value)),
        2 => (offset(), any::<u64>()).prop_map(|(offset, value)| Step::Write64(offset, value)),
        2 => prop::sample::select(vec![0x0400_0000u32, 0x8700_0000, 0xc700_0000, 0])
            .prop_map(|value| Step::Write32(0x18, value)),
        2 => queue_address().prop_map(|value| Step::Write64(0x90, value)),
        2 => Just(Step::Write32(0x34, 0xff)),
        6 => (0u64..0x1000, descriptor()).prop_map(|(index, (qw0, qw1))| Step::Descriptor(index, qw0, qw1)),
        6 => (0u32..0x40).prop_map(|index| Step::Tail(index * 16)),
        1 => any::<u32>().prop_map(Step::Tail),
        2 => any::<u64>().prop_map(Step::Fault),
        2 => (0u16..512, any::<bool>()).prop_map(|(group, last)| Step::PageRequest { group, last }),
        1 => any::<bool>().prop_map(Step::Late),
        1 => Just(Step::Reset),
    ]
}

pub(super) fn apply(bench: &Bench, step: &Step) {
    match *step {
        Step::Write32(offset, value) => bench.w32(offset, value),
        Step::Write64(offset, value) => bench.w64(offset, value),
        Step::Tail(tail) => bench.w32(0x88, tail),
        Step::Fault(address) => bench.fault(0x10, address, Access::Write),
        Step::PageRequest { group, last } if bench.unit.capabilities.page_requests() => {
            bench.unit.enqueue(&page_request(group, last));
        }
        Step::PageRequest { group, last } => {
            bench.unit.page_request(&page_request(group, last));
        }
        Step::Late(late) => bench.recorder.late.store(late, Ordering::SeqCst),
        Step::Reset => bench.unit.reset(),
        Step::Descriptor(index, qw0, qw1) => {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&qw0.to_le_bytes());
            bytes[8..].copy_from_slice(&qw1.to_le_bytes());
            PhysMem::write(&*bench.ram, GuestAddress(16 * index), &bytes).unwrap();
        }
    }
}

fn page_request(group: u16, last: bool) -> PageRequest {
    PageRequest {
        source: SourceId(CACHING),
        pasid: None,
        address: Iova(0x5000),
        read: true,
        write: false,
        execute: false,
        privileged: false,
        last,
        group,
    }
}

fn check(bench: &Bench) {
    let (gsts, fsts) = (bench.r32(0x1c), bench.r32(0x34));
    let (head, tail) = (bench.r64(0x80), bench.r64(0x88));
    assert_eq!(gsts & 0x387f_ffff, 0, "only what is offered is ever on");
    assert_eq!(fsts & 0xffff_0088, 0);
    let recorded = (0..8).any(|index| bench.r32(0x22c + 16 * index) >> 31 == 1);
    assert_eq!(fsts >> 1 & 1 == 1, recorded, "PPF is the OR of F");
    let state = &bench.unit.shell().state;
    if gsts >> 26 & 1 == 0 {
        assert_eq!(head, 0);
    } else if fsts & 0x50 == 0 {
        assert_eq!(head, tail, "nothing is left undone");
    }
    assert!(state.queue_view().is_none());
    assert!(head < 0x8_0000 && state.next_record < 8);
    // Without its error, no part of IQERCD means anything.
    let record = state.registers.qword(0xb0);
    for (error, part) in [(0x10, 0xf), (0x40, 0xffff << 32), (0x20, 0xffff << 48)] {
        assert!(fsts & error != 0 || record & part == 0);
    }
    if fsts & 0x73 == 0 {
        assert_eq!(
            state.registers.dword(0x38) >> 30 & 1,
            0,
            "no event without a cause"
        );
    }
    if state.registers.dword(0xdc) == 0 {
        assert_eq!(state.registers.dword(0xe0) >> 30 & 1, 0);
    }
}

/// What the units of the streams can do: legacy mode only, or everything.
pub(super) fn capabilities() -> impl Strategy<Value = Capabilities> {
    prop_oneof![
        Just(*Bench::new().unit.capabilities()),
        Just(*Bench::scalable().unit.capabilities()),
    ]
}

proptest! {
    #[test]
    fn random_streams_keep_the_unit_consistent(
        capabilities in capabilities(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let memory = Arc::new(Counting {
            ram: Ram::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap(),
            reads: AtomicU64::new(0),
        });
        let ram = Arc::new(memory.ram.clone());
        let bench = Bench::in_memory(capabilities, Arc::clone(&memory) as _, ram);
        for step in &steps {
            apply(&bench, step);
            check(&bench);
            // Two queues full, of the largest queue that the 64 KiB of RAM can hold.
            let reads = memory.reads.swap(0, Ordering::Relaxed);
            prop_assert!(reads <= 2 * 0x1000 + 256, "{reads} reads");
        }
        prop_assert_eq!(bench.unit.shell().drainers.count, 0);
    }
}
