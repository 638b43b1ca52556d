// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Entries in the format for posted interrupts: which are legal, and what they say.

use super::*;
use crate::capabilities::ScalableOptions;
use crate::interrupt::Delivery;
use crate::invalidation::Invalidation;

/// Entry 3 of the table at 0x7_0000.
const ENTRY: u64 = 0x7_0030;
/// Present, IM, vector 0x31, descriptor at 0x0005_0040.
const LOW: u64 = 0x0005_0040_0031_8001;
/// SVT = 01, SQ = 00, SID of [`DEVICE`].
const HIGH: u64 = 0x4_0008;

fn bench(posted: bool) -> Bench {
    let capabilities = Capabilities::scalable(&ScalableOptions {
        posted_interrupts: posted,
        ..ScalableOptions::default()
    })
    .unwrap();
    let bench = Bench::with(capabilities);
    bench.translator.set_interrupts(InterruptMode {
        table: Some(InterruptTable {
            table: GuestAddress(0x7_0000),
            entries: 256,
            extended: true,
        }),
        compatibility_allowed: false,
    });
    bench
}

/// The outcome for entry 3 with these words: descriptor, vector, urgency; or code and whether it is recorded.
fn entry(bench: &Bench, low: u64, high: u64) -> Result<(u64, u8, bool), (u8, bool)> {
    bench.memory.set(ENTRY, low);
    bench.memory.set(ENTRY + 8, high);
    bench
        .translator
        .invalidate(&[Invalidation::InterruptGlobal]);
    let message = MsiMessage {
        address: 0xfee0_0070,
        data: 0,
    };
    match bench.translator.remap(DEVICE, message) {
        Ok(Delivery::Posted { posting, index: 3 }) => {
            Ok((posting.descriptor.0, posting.vector, posting.urgent))
        }
        Ok(other) => panic!("{other:?}"),
        Err(fault) => Err((fault.reason.code(), fault.record)),
    }
}

#[test]
fn posted_entry_says_where_and_what() {
    let bench = bench(true);
    assert_eq!(entry(&bench, LOW, HIGH), Ok((0x5_0040, 0x31, false)));
    assert_eq!(
        entry(&bench, LOW | 0x4f00, HIGH | 0x12 << 32),
        Ok((0x12_0005_0040, 0x31, true)),
        "bits 11:8 are available"
    );
}

#[test]
fn posted_entry_without_the_capability_is_reserved() {
    assert_eq!(entry(&bench(false), LOW, HIGH), Err((0x24, true)));
    assert_eq!(entry(&bench(false), LOW | 2, HIGH), Err((0x24, false)));
}

#[test]
fn each_reserved_bit_of_a_posted_entry_is_a_fault() {
    let bench = bench(true);
    for bit in (2..8).chain(12..14).chain(24..38) {
        assert_eq!(
            entry(&bench, LOW | 1 << bit, HIGH),
            Err((0x24, true)),
            "bit {bit}"
        );
    }
    for bit in 20..32 {
        assert_eq!(
            entry(&bench, LOW, HIGH | 1 << bit),
            Err((0x24, true)),
            "bit {}",
            bit + 64
        );
    }
}

#[test]
fn posted_entry_is_validated_like_any_other() {
    let bench = bench(true);
    assert_eq!(entry(&bench, LOW, HIGH + 8), Err((0x26, true)));
    assert_eq!(entry(&bench, LOW & !1, HIGH), Err((0x22, true)));
}
