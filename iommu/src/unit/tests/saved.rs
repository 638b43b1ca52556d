// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Saving and restoring: a restored unit is the one that was saved, and nothing else can be restored.

use super::properties::{Step, apply, capabilities, step};
use super::*;
use crate::saved::{RestoreError, SavedUnit};
use proptest::prelude::*;

/// A unit with the same capabilities and a copy of the memory.
fn twin(bench: &Bench) -> Bench {
    let twin = Bench::with_capabilities(*bench.unit.capabilities());
    let mut bytes = vec![0; 0x10_0000];
    PhysMem::read(&*bench.ram, GuestAddress(0), &mut bytes).unwrap();
    PhysMem::write(&*twin.ram, GuestAddress(0), &bytes).unwrap();
    twin
}

/// Everything on: queue, interrupt table, root table, and a context entry for 00:02.0 that passes through.
fn running() -> Bench {
    let bench = Bench::with_queue();
    let store = |at: u64, value: u64| {
        PhysMem::write(&*bench.ram, GuestAddress(at), &value.to_le_bytes()).unwrap();
    };
    store(0x8000, 0x9001);
    store(0x9000 + 16 * 0x10, 0x9);
    store(0x9000 + 16 * 0x10 + 8, 0x102);
    // Entry 0: vector 0x31 to APIC id 1.
    store(0xb000, 0x0000_0001_0031_0001);
    bench.w64(0xb8, 0xb807);
    bench.w32(0x18, 0x0500_0000);
    bench.w32(0x18, 0x0600_0000);
    bench.w64(0x20, 0x8000);
    bench.w32(0x18, 0x4600_0000);
    bench.w32(0x18, 0x8600_0000);
    bench.submit(&[(0xd2, 0), (2 << 32 | 0x25, 0x2000)]);
    bench
}

fn identity(bench: &Bench, source: u16) -> Option<u64> {
    let request = Request::untranslated(SourceId(source), Iova(0x5000), Access::Read);
    let translation = bench.unit.translate(&request).ok()?;
    Some(translation.gpa.0)
}

const MESSAGE: MsiMessage = MsiMessage {
    address: 0xfee0_0010,
    data: 0,
};

#[test]
fn cold_unit_is_restored_as_it_was() {
    for bench in [Bench::new(), Bench::scalable()] {
        let saved = bench.unit.save();
        bench.w32(0x18, 0x8000_0000);
        assert_ne!(bench.unit.save(), saved);
        bench.unit.restore(&saved).unwrap();
        assert_eq!(bench.unit.save(), saved);
        bench.unit.reset();
        assert_eq!(bench.unit.save(), saved);
    }
}

#[test]
fn restored_unit_translates_remaps_and_drains_as_the_saved_one() {
    let bench = running();
    bench.fault(0x18, 0x7000, Access::Write);
    let twin = twin(&bench);
    twin.unit.restore(&bench.unit.save()).unwrap();
    assert_eq!(twin.unit.save(), bench.unit.save());
    assert_eq!(twin.changes(), 1, "routes are computed again");
    for bench in [&bench, &twin] {
        assert_eq!(identity(bench, 0x10), Some(0x5000));
        assert_eq!(identity(bench, 0x18), None);
        let message = bench.unit.remap(SourceId(8), MESSAGE).unwrap();
        assert_eq!((message.address, message.data), (0xfee0_1000, 0x4031));
        bench.put(2, 3 << 32 | 0x25, 0x2004);
        bench.w32(0x88, 0x30);
        assert_eq!(bench.memory32(0x2004), 3);
    }
    assert_eq!(twin.unit.save(), bench.unit.save());
    assert_eq!(twin.unit.counters().restores, 1);
}

#[test]
fn restore_drops_what_the_caches_hold() {
    let bench = running();
    let saved = Bench::new().unit.save();
    assert_eq!(identity(&bench, 0x10), Some(0x5000));
    let before = bench.unit.save();
    bench.unit.restore(&saved).unwrap();
    assert_eq!(identity(&bench, 0x18), Some(0x5000), "translation is off");
    assert_eq!(bench.unit.peek_remap(SourceId(8), MESSAGE), Some(MESSAGE));
    // The context is gone when the first state comes back.
    let zero = [0; 16];
    PhysMem::write(&*bench.ram, GuestAddress(0x9100), &zero).unwrap();
    bench.unit.restore(&before).unwrap();
    assert_eq!(identity(&bench, 0x10), None);
}

#[test]
fn stopped_queue_is_restored_stopped_and_goes_on_when_told() {
    let bench = Bench::with_queue();
    bench.submit(&[(0xd2, 0), (0x0f, 0), (2 << 32 | 0x25, 0x2000)]);
    let twin = twin(&bench);
    twin.unit.restore(&bench.unit.save()).unwrap();
    assert_eq!((twin.r64(0x80), twin.r64(0xb0)), (0x10, 3));
    twin.put(1, 0xd2, 0);
    twin.w32(0x34, 0x10);
    assert_eq!((twin.r64(0x80), twin.memory32(0x2000)), (0x30, 2));
}

#[test]
fn what_was_still_queued_is_processed_after_the_restore() {
    let bench = Bench::with_queue();
    bench.put(0, 0xd2, 0);
    bench.put(1, 2 << 32 | 0x25, 0x2000);
    let mut saved = bench.unit.save();
    // IQT, as if the tail had been written just before.
    saved.registers[0x88 / 4] = 0x20;
    bench.unit.restore(&saved).unwrap();
    assert_eq!((bench.r64(0x80), bench.memory32(0x2000)), (0x20, 2));
}

#[test]
fn pending_event_survives_and_is_sent_when_unmasked() {
    let bench = Bench::new();
    bench.w32(0x3c, 0x31);
    bench.w32(0x40, 0xfee0_1000);
    bench.fault(0x10, 0x1000, Access::Read);
    let twin = twin(&bench);
    twin.unit.restore(&bench.unit.save()).unwrap();
    twin.w32(0x38, 0);
    assert_eq!(twin.messages().len(), 1);
}

#[test]
fn saved_unit_survives_serialization() {
    let bench = running();
    bench.fault(0x18, 0x7000, Access::Write);
    let saved = bench.unit.save();
    let text = serde_json::to_string(&saved).unwrap();
    let back: SavedUnit = serde_json::from_str(&text).unwrap();
    assert_eq!(back, saved);
}

#[test]
fn other_version_or_other_capabilities_are_refused() {
    let bench = Bench::new();
    let saved = bench.unit.save();
    let version = SavedUnit {
        version: 2,
        ..saved.clone()
    };
    assert_eq!(bench.unit.restore(&version), Err(RestoreError::Version(2)));
    for change in [
        SavedUnit {
            cap: saved.cap | 0x80,
            ..saved.clone()
        },
        SavedUnit {
            ecap: saved.ecap | 1 << 43,
            ..saved.clone()
        },
        SavedUnit {
            host_address_width: 39,
            ..saved.clone()
        },
    ] {
        assert!(matches!(
            bench.unit.restore(&change),
            Err(RestoreError::Capabilities { .. })
        ));
    }
    assert!(matches!(
        Bench::scalable().unit.restore(&saved),
        Err(RestoreError::Capabilities { .. })
    ));
}

#[test]
fn register_that_cannot_hold_its_value_is_refused() {
    let bench = Bench::new();
    let saved = bench.unit.save();
    for (offset, value) in [
        (0x00u16, 0x11u32),
        (0x08, 0),
        (0x18, 1),
        // FLS, and a reserved bit.
        (0x1c, 1 << 29),
        (0x1c, 1),
        // ICC and IVT are never left set.
        (0x2c, 1 << 31),
        (0xfc, 1 << 31),
        (0x34, 0x80),
        (0xc0, 0x20),
        (0xe0, 1 << 31),
        (0x220, 1),
    ] {
        let mut damaged = saved.clone();
        damaged.registers[usize::from(offset / 4)] = value;
        assert_eq!(
            bench.unit.restore(&damaged),
            Err(RestoreError::Register(offset))
        );
    }
    let mut short = saved.clone();
    short.registers.pop();
    assert_eq!(
        bench.unit.restore(&short),
        Err(RestoreError::Register(0x29c))
    );
    let mut long = saved.clone();
    long.registers.push(0);
    assert_eq!(
        bench.unit.restore(&long),
        Err(RestoreError::Register(0x2a0))
    );
    assert_eq!(bench.unit.save(), saved, "nothing has changed");
}

#[test]
fn contradictions_are_refused() {
    let bench = Bench::with_queue();
    let saved = bench.unit.save();
    let registers: [&[(usize, u32)]; 9] = [
        // PPF without F, F without PPF, a record that does not exist.
        &[(0x34, 2)],
        &[(0x22c, 1 << 31)],
        &[(0x34, 0x802), (0x22c, 1 << 31)],
        // A head beyond the queue, and one while the queue is off.
        &[(0x80, 0x1000)],
        &[(0x1c, 0), (0x80, 0x10)],
        // Error records without their error.
        &[(0xb0, 3)],
        &[(0xb4, 1)],
        &[(0xb4, 1 << 16)],
        // An event that nothing holds back.
        &[(0x38, 1 << 30)],
    ];
    for words in registers {
        let mut damaged = saved.clone();
        for &(offset, value) in words {
            damaged.registers[offset / 4] = value;
        }
        assert!(
            matches!(
                bench.unit.restore(&damaged),
                Err(RestoreError::Contradiction(_))
            ),
            "{words:x?}"
        );
    }
    for damaged in [
        SavedUnit {
            next_record: 8,
            ..saved.clone()
        },
        SavedUnit {
            root: 1,
            ..saved.clone()
        },
        SavedUnit {
            interrupt_table: 0x10,
            ..saved.clone()
        },
        SavedUnit {
            queue: 0x8,
            ..saved.clone()
        },
    ] {
        assert!(matches!(
            bench.unit.restore(&damaged),
            Err(RestoreError::Contradiction(_))
        ));
    }
    // A wide queue has no descriptor in the middle of another.
    let wide = Bench::with_wide_queue();
    let mut odd = wide.unit.save();
    odd.registers[0x80 / 4] = 0x10;
    assert!(wide.unit.restore(&odd).is_err());
}

/// Values near the possible ones: whatever of them is accepted leaves a unit that works.
fn damage() -> impl Strategy<Value = Vec<(usize, u32)>> {
    let bit = (0u32..32).prop_map(|bit| 1u32 << bit);
    let value = prop_oneof![3 => bit, 1 => any::<u32>()];
    prop::collection::vec((0usize..0xa8, value), 0..4)
}

proptest! {
    /// After any stream of accesses the unit can be restored, and goes on exactly like the one that was saved.
    #[test]
    fn restored_unit_goes_on_like_the_saved_one(
        capabilities in capabilities(),
        before in prop::collection::vec(step(), 0..40),
        after in prop::collection::vec(step(), 0..40),
    ) {
        let bench = Bench::with_capabilities(capabilities);
        before.iter().for_each(|step| apply(&bench, step));
        let twin = twin(&bench);
        let late = bench.recorder.late.load(Ordering::SeqCst);
        twin.recorder.late.store(late, Ordering::SeqCst);
        twin.unit.restore(&bench.unit.save()).unwrap();
        bench.messages();
        twin.messages();
        for step in &after {
            apply(&bench, step);
            apply(&twin, step);
            prop_assert_eq!(twin.unit.save(), bench.unit.save());
            prop_assert_eq!(twin.messages(), bench.messages());
        }
    }

    /// A damaged value is refused, or is another state that a unit can be in.
    #[test]
    fn damaged_value_is_refused_or_harmless(
        capabilities in capabilities(),
        before in prop::collection::vec(step(), 0..20),
        damage in damage(),
        after in prop::collection::vec(step(), 0..20),
    ) {
        let bench = Bench::with_capabilities(capabilities);
        before.iter().for_each(|step| apply(&bench, step));
        let mut saved = bench.unit.save();
        for (index, bits) in damage {
            saved.registers[index] ^= bits;
        }
        let untouched = bench.unit.save();
        match bench.unit.restore(&saved) {
            Ok(()) => {
                after.iter().for_each(|step| apply(&bench, step));
                let again = bench.unit.save();
                bench.unit.restore(&again).unwrap();
                prop_assert_eq!(bench.unit.save(), again);
            }
            Err(_) => prop_assert_eq!(bench.unit.save(), untouched),
        }
        apply(&bench, &Step::Reset);
        prop_assert_eq!(bench.unit.save(), Bench::with_capabilities(capabilities).unit.save());
    }
}
