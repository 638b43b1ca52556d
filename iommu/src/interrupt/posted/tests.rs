// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Posting into a descriptor, whose words are raw values from the specification's table.

use super::*;
use crate::capabilities::ScalableOptions;
use crate::testing::FakeMem;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where the descriptor is.
const AT: u64 = 0x1_0040;

fn capabilities() -> Capabilities {
    Capabilities::scalable(&ScalableOptions {
        posted_interrupts: true,
        ..ScalableOptions::default()
    })
    .unwrap()
}

fn memory(control: u64) -> FakeMem {
    let memory = FakeMem::new(1 << 40);
    memory.set(AT + 32, control);
    memory
}

/// An entry for this vector.
fn posting(vector: u8, urgent: bool) -> Posting {
    let low = 0x0001_0040 << 32 | u64::from(vector) << 16 | 0x8001 | u64::from(urgent) << 14;
    let entry = Irte {
        low: low.into(),
        high: 0x4_0008.into(),
    };
    Posting::of(entry, true)
}

fn post(memory: &FakeMem, posting: &Posting) -> Result<Option<(u64, u32)>, u8> {
    posting
        .post(memory, &capabilities())
        .map(|message| message.map(|message| (message.address, message.data)))
        .map_err(FaultReason::code)
}

/// Vector 0xf2 to APIC id 0x1234_5678.
const CONTROL_WORD: u64 = 0x1234_5678_00f2_0000;

#[test]
fn address_of_the_descriptor_is_joined() {
    let entry = Irte {
        low: 0xffff_ffc0_0031_8001.into(),
        high: 0x8765_4321_0004_0008.into(),
    };
    let posting = Posting::of(entry, false);
    assert_eq!(posting.descriptor, GuestAddress(0x8765_4321_ffff_ffc0));
    assert_eq!((posting.vector, posting.urgent), (0x31, false));
}

#[test]
fn vector_becomes_its_bit_and_a_notification_is_sent() {
    for vector in [0u8, 1, 63, 64, 127, 128, 200, 255] {
        let memory = memory(CONTROL_WORD);
        assert_eq!(
            post(&memory, &posting(vector, false)),
            Ok(Some((0x1234_5600_fee7_8000, 0x40f2)))
        );
        for word in 0..4u64 {
            let expected = if u64::from(vector) / 64 == word {
                1 << (vector % 64)
            } else {
                0
            };
            assert_eq!(memory.word(AT + 8 * word), expected, "vector {vector}");
        }
        assert_eq!(memory.word(AT + 32), CONTROL_WORD | 1);
    }
}

#[test]
fn further_vectors_are_added_without_a_notification() {
    let memory = memory(CONTROL_WORD);
    assert!(post(&memory, &posting(5, false)).unwrap().is_some());
    assert_eq!(post(&memory, &posting(6, true)), Ok(None));
    assert_eq!(memory.word(AT), 0x60);
    // Software collects: it clears ON, and then takes the requests.
    memory.set(AT + 32, CONTROL_WORD);
    memory.set(AT, 0);
    assert!(post(&memory, &posting(6, false)).unwrap().is_some());
}

#[test]
fn suppressed_notification_is_sent_only_when_urgent() {
    let memory = memory(CONTROL_WORD | 2);
    assert_eq!(post(&memory, &posting(5, false)), Ok(None));
    assert_eq!(memory.word(AT + 32), CONTROL_WORD | 2, "ON stays clear");
    assert_eq!(memory.word(AT), 0x20);
    assert!(post(&memory, &posting(6, true)).unwrap().is_some());
    assert_eq!(memory.word(AT + 32), CONTROL_WORD | 3);
}

#[test]
fn destination_has_8_bits_without_extended_mode() {
    let memory = memory(CONTROL_WORD);
    let posting = Posting {
        extended: false,
        ..posting(5, false)
    };
    assert_eq!(post(&memory, &posting), Ok(Some((0xfee5_6000, 0x40f2))));
}

#[test]
fn each_reserved_bit_is_a_fault_and_posts_nothing() {
    let control = (2..16).chain(24..32).map(|bit| (32, bit));
    let words = [40, 48, 56]
        .into_iter()
        .flat_map(|word| [0, 31, 63].map(|bit| (word, bit)));
    for (word, bit) in control.chain(words) {
        let memory = memory(CONTROL_WORD);
        memory.set(AT + word, memory.word(AT + word) | 1 << bit);
        assert_eq!(post(&memory, &posting(5, true)), Err(0x28), "{word} {bit}");
        assert_eq!(memory.word(AT), 0);
    }
}

#[test]
fn descriptor_that_is_no_memory_is_a_fault() {
    for word in 0..8 {
        let memory = memory(CONTROL_WORD);
        memory.fail(AT + 8 * word);
        let expected = if (1..4).contains(&word) {
            // Words that hold no bit of vector 5.
            Ok(Some((0x1234_5600_fee7_8000, 0x40f2)))
        } else {
            Err(0x27)
        };
        assert_eq!(post(&memory, &posting(5, false)), expected, "word {word}");
    }
}

#[test]
fn descriptor_beyond_the_host_address_width_is_a_fault() {
    for address in [1u64 << 48, 0xffff_ffff_ffff_ffc0] {
        let beyond = Posting {
            descriptor: GuestAddress(address),
            ..posting(5, false)
        };
        assert_eq!(post(&memory(CONTROL_WORD), &beyond), Err(0x27));
    }
}

/// Memory that somebody else writes before each exchange.
#[derive(Debug)]
struct Contended(FakeMem, AtomicBool);

impl PhysMem for Contended {
    fn read(&self, gpa: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.0.read(gpa, buf)
    }
    fn write(&self, gpa: Gpa, buf: &[u8]) -> Result<(), MemoryError> {
        self.0.write(gpa, buf)
    }
    fn load_u64(&self, gpa: Gpa) -> Result<u64, MemoryError> {
        self.0.load_u64(gpa)
    }
    fn store_u32(&self, gpa: Gpa, value: u32) -> Result<(), MemoryError> {
        self.0.store_u32(gpa, value)
    }
    fn compare_exchange_u64(
        &self,
        gpa: Gpa,
        current: u64,
        new: u64,
    ) -> Result<Result<u64, u64>, MemoryError> {
        if self.1.load(Ordering::Relaxed) {
            self.0.set(gpa.0, self.0.word(gpa.0).wrapping_add(1 << 40));
        }
        self.0.compare_exchange_u64(gpa, current, new)
    }
}

#[test]
fn word_that_never_holds_still_is_given_up() {
    let memory = Contended(memory(CONTROL_WORD), AtomicBool::new(true));
    let result = posting(5, false).post(&memory, &capabilities());
    assert_eq!(result, Err(FaultReason::PostedDescriptorUnreadable));
    memory.1.store(false, Ordering::Relaxed);
    assert!(
        posting(5, false)
            .post(&memory, &capabilities())
            .unwrap()
            .is_some()
    );
}

/// Devices post while software collects as it does: clear ON, then take each word. Every vector is seen, and software looks
/// only when it was notified.
#[test]
fn no_request_is_lost_between_devices_and_software() {
    const THREADS: u8 = 4;
    let memory = memory(0x0000_0001_00f2_0000);
    let (notify, notified) = std::sync::mpsc::channel();
    let collected = std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (memory, notify) = (&memory, notify.clone());
            scope.spawn(move || {
                for vector in (thread..=255).step_by(THREADS.into()) {
                    if posting(vector, false)
                        .post(memory, &capabilities())
                        .unwrap()
                        .is_some()
                    {
                        notify.send(()).unwrap();
                    }
                }
            });
        }
        drop(notify);
        let mut collected = [0u64; 4];
        for () in notified {
            let mut control = memory.word(AT + 32);
            while let Ok(Err(seen)) =
                memory.compare_exchange_u64(GuestAddress(AT + 32), control, control & !1)
            {
                control = seen;
            }
            for (word, bits) in (0..).zip(&mut collected) {
                let at = GuestAddress(AT + 8 * word);
                let mut current = memory.word(at.0);
                while let Ok(Err(seen)) = memory.compare_exchange_u64(at, current, 0) {
                    current = seen;
                }
                *bits |= current;
            }
        }
        collected
    });
    assert_eq!(collected, [u64::MAX; 4]);
}
