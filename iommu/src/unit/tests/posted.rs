// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Posted interrupts from the request to memory, the notification and the fault record.

use super::*;

const TABLE: u64 = 0x9000;
const DESCRIPTOR: u64 = 0xa000;

fn store(bench: &Bench, at: u64, value: u64) {
    PhysMem::write(&*bench.ram, GuestAddress(at), &value.to_le_bytes()).unwrap();
}

/// Remapping with entry 0 posting vector 0x31, notified by vector 0xf2 at APIC id 1.
fn bench() -> Bench {
    let options = ScalableOptions {
        posted_interrupts: true,
        ..ScalableOptions::default()
    };
    let bench = Bench::with_capabilities(Capabilities::scalable(&options).unwrap());
    bench.w64(0xb8, TABLE | 0x807);
    bench.w32(0x18, 0x0300_0000);
    store(&bench, TABLE, DESCRIPTOR << 32 | 0x0031_8001);
    store(&bench, DESCRIPTOR + 32, 0x0000_0001_00f2_0000);
    bench
}

const REQUEST: MsiMessage = MsiMessage {
    address: 0xfee0_0010,
    data: 0,
};

#[test]
fn interrupt_is_posted_and_notified_once() {
    let bench = bench();
    let notification = MsiMessage {
        address: 0xfee0_1000,
        data: 0x40f2,
    };
    let send = || bench.unit.remap(SourceId(8), REQUEST);
    assert_eq!(send(), Some(notification));
    assert_eq!(send(), None);
    assert_eq!(bench.memory32(DESCRIPTOR + 4), 1 << (0x31 - 32));
    assert_eq!(bench.memory32(DESCRIPTOR + 32), 0x00f2_0001);
    assert_eq!(bench.r32(0x34), 0);
    assert_eq!(bench.unit.counters().posted, 2);
    bench.unit.remap_to(SourceId(8), REQUEST, &*bench.recorder);
    assert_eq!(bench.messages(), []);
}

#[test]
fn peeking_posts_nothing() {
    let bench = bench();
    assert_eq!(bench.unit.peek_remap(SourceId(8), REQUEST), None);
    assert_eq!(bench.memory32(DESCRIPTOR + 4), 0);
    assert_eq!(bench.memory32(DESCRIPTOR + 32), 0x00f2_0000);
}

#[test]
fn failure_is_recorded_with_the_index_unless_disabled() {
    let bench = bench();
    store(&bench, DESCRIPTOR + 40, 1);
    // Handle 2.
    store(&bench, TABLE + 32, DESCRIPTOR << 32 | 0x0031_8001);
    let message = MsiMessage {
        address: 0xfee0_0050,
        data: 0,
    };
    assert_eq!(bench.unit.remap(SourceId(8), message), None);
    assert_eq!(bench.r64(0x220), 2 << 48);
    assert_eq!(bench.r64(0x228), 0x8000_0028_0000_0008);
    store(&bench, TABLE, 0x10_0000 << 32 | 0x0031_8003);
    assert_eq!(bench.unit.remap(SourceId(8), REQUEST), None);
    assert_eq!(bench.r32(0x23c), 0, "FPD");
    assert_eq!(bench.unit.counters().faults_total(), 2);
}
