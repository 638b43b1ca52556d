// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What must hold however the threads of devices and of the guest interleave, explored over random schedules.

use super::scalable::{FIRST, NESTED, TRACKED, full};
use super::*;
use crate::dma::Translate;
use crate::ids::{DomainId, Pasid, Requester};
use crate::invalidation::{FunctionMask, Invalidation};
use crate::memory::Ram;
use crate::sync::{explore, step};
use shuttle::rand::Rng;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use vm_memory::Bytes;

const SCHEDULES: usize = 2000;
const OLD: u64 = 0x9000;
const NEW: u64 = 0xa000;

/// Lets the others come any distance first.
fn delay(most: u32) {
    for _ in 0..shuttle::rand::thread_rng().gen_range(0..most) {
        step();
    }
}

/// The vector that an interrupt is remapped to.
fn vector_of(translator: &Translator, message: MsiMessage) -> u32 {
    let delivery = translator.remap(DEVICE, message).unwrap();
    delivery.message().unwrap().data & 0xff
}

/// Lets other threads run between a translation and the access.
#[derive(Debug)]
struct Slow(Arc<Translator>);

impl Translate for Slow {
    fn translate(&self, request: &Request) -> Result<Translation, Fault> {
        let answer = self.0.translate(request);
        step();
        answer
    }
}

struct Machine {
    tables: Arc<FakeMem>,
    translator: Arc<Translator>,
    ram: Arc<Ram>,
    space: Arc<DmaSpace>,
}

/// A device whose IOVA 0x1000 is page [`OLD`] of RAM, in the address space of `pasid`, which makes it scalable mode.
fn machine(pasid: Option<u32>) -> Machine {
    let Bench { memory, translator } = match pasid {
        Some(_) => Bench::scalable_with(full(), CacheSizes::default()),
        None => Bench::standard(),
    };
    let translator = Arc::new(translator);
    let ram = Arc::new(Ram::from_ranges(&[(GuestAddress(0x8000), 0x4000)]).unwrap());
    let requester = Arc::new(Requester::new(DEVICE));
    requester.set_bus_master(true);
    let slow = Arc::new(Slow(Arc::clone(&translator)));
    let space = DmaSpace::translated(
        Arc::clone(&ram),
        requester,
        pasid.and_then(Pasid::new),
        slow,
    );
    translator.register(&space);
    Machine {
        tables: memory,
        translator,
        ram,
        space,
    }
}

/// Lets the entry that the device's requests go through be cached already in every other schedule, so that the first of
/// them only misses its page. The request is to an address that is not mapped.
fn perhaps_warmed_up(machine: &Machine, pasid: Option<u32>) {
    if shuttle::rand::thread_rng().gen_bool(0.5) {
        let request = Request {
            pasid: pasid.and_then(Pasid::new),
            ..Request::untranslated(DEVICE, Iova(0x1f_f000), Access::Read)
        };
        machine.translator.translate(&request).unwrap_err();
    }
}

/// While two threads write to IOVA 0x1000, `edit` takes it away from [`OLD`] and `forbid` says so to the unit. From then on
/// the page is the guest's, and `after` is what the device gets.
fn page_taken_from_a_busy_device(
    pasid: Option<u32>,
    edit: &'static [(u64, u64)],
    forbid: fn(&Translator),
    after: Result<u64, (u8, bool)>,
) {
    explore(
        move || {
            let machine = machine(pasid);
            perhaps_warmed_up(&machine, pasid);
            let devices: Vec<_> = (0..2)
                .map(|_| {
                    let space = Arc::clone(&machine.space);
                    shuttle::thread::spawn(move || {
                        for _ in 0..2 {
                            let _blocked = space.section().write(Iova(0x1000), &[0xee]);
                        }
                    })
                })
                .collect();
            delay(80);
            for (gpa, word) in edit {
                machine.tables.set(*gpa, *word);
            }
            forbid(&machine.translator);
            machine.ram.write_obj(0x55u8, GuestAddress(OLD)).unwrap();
            for device in devices {
                device.join().unwrap();
            }
            let held: u8 = machine.ram.read_obj(GuestAddress(OLD)).unwrap();
            assert_eq!(held, 0x55, "a write landed after the invalidation");
            let request = Request {
                pasid: pasid.and_then(Pasid::new),
                ..Request::untranslated(DEVICE, Iova(0x1000), Access::Read)
            };
            let outcome = machine.translator.translate(&request);
            assert_eq!(
                outcome
                    .map(|found| found.gpa.0)
                    .map_err(|fault| (fault.reason.code(), fault.record)),
                after,
                "a stale result was kept"
            );
        },
        SCHEDULES,
    );
}

#[test]
fn page_invalidation_ends_every_dma_to_the_old_page() {
    page_taken_from_a_busy_device(
        None,
        &[(0x6008, NEW | 3)],
        |translator| {
            translator.invalidate(&[Invalidation::IotlbPages {
                domain: DomainId(5),
                range: crate::address::IovaRange::aligned_block(Iova(0x1000), 0),
                leaf_only: true,
            }]);
        },
        Ok(NEW),
    );
}

#[test]
fn domain_invalidation_ends_every_dma_to_the_old_page() {
    page_taken_from_a_busy_device(
        None,
        &[(0x6008, 0)],
        |translator| translator.invalidate(&[Invalidation::IotlbDomain(DomainId(5))]),
        Err((0x6, true)),
    );
}

/// The device moves to domain 6, whose pages were never cached.
#[test]
fn context_invalidation_ends_every_dma_through_the_old_domain() {
    page_taken_from_a_busy_device(
        None,
        &[(0x2080, 0), (0x2088, 0x0601), (0x2080, 0x1_3001)],
        |translator| {
            translator.invalidate(&[
                Invalidation::ContextDevice {
                    domain: DomainId(5),
                    source: DEVICE,
                    mask: FunctionMask::Exact,
                },
                Invalidation::IotlbDomain(DomainId(5)),
            ]);
        },
        Ok(0x1_9000),
    );
}

/// Another root table, whose tables are empty.
#[test]
fn new_root_ends_every_dma_through_the_old_tables() {
    page_taken_from_a_busy_device(
        None,
        &[],
        |translator| {
            translator.set_translation(Some(RootPointer {
                table: GuestAddress(0x4_0000),
                mode: TableMode::Legacy,
            }));
        },
        Err((0x1, true)),
    );
}

/// The PASID moves to the tables of [`TRACKED`], in its domain.
#[test]
fn pasid_invalidation_ends_every_dma_through_the_old_entry() {
    page_taken_from_a_busy_device(
        Some(FIRST),
        &[
            (0x5040, 0),
            (0x5048, 0x80_000b),
            (0x7_3008, NEW | 3),
            (0x5040, 0x7_0289),
        ],
        |translator| {
            let (domain, pasid) = (DomainId(6), Pasid::new(FIRST).unwrap());
            translator.invalidate(&[
                Invalidation::PasidCacheOne { domain, pasid },
                Invalidation::PasidIotlbAll { domain, pasid },
            ]);
        },
        Ok(NEW),
    );
}

#[test]
fn context_invalidation_ends_every_dma_of_its_pasids() {
    page_taken_from_a_busy_device(
        Some(FIRST),
        &[(0x2100, 0)],
        |translator| {
            translator.invalidate(&[Invalidation::ContextGlobal, Invalidation::IotlbGlobal])
        },
        Err((0x41, true)),
    );
}

#[test]
fn pasid_page_invalidation_ends_every_dma_to_the_old_page() {
    page_taken_from_a_busy_device(
        Some(FIRST),
        &[(0x2_3008, NEW | 0x67)],
        |translator| {
            translator.invalidate(&[Invalidation::PasidIotlbPages {
                domain: DomainId(6),
                pasid: Pasid::new(FIRST).unwrap(),
                range: crate::address::IovaRange::aligned_block(Iova(0x1000), 0),
                leaf_only: true,
            }]);
        },
        Ok(NEW),
    );
}

/// The table above the page is replaced, which the paging-structure cache must not outlive.
#[test]
fn page_invalidation_ends_every_dma_through_the_old_table() {
    page_taken_from_a_busy_device(
        Some(FIRST),
        &[(0x12_3008, NEW | 0x67), (0x2_2000, 0x12_3027)],
        |translator| {
            translator.invalidate(&[Invalidation::PasidIotlbPages {
                domain: DomainId(6),
                pasid: Pasid::new(FIRST).unwrap(),
                range: crate::address::IovaRange::aligned_block(Iova(0x1000), 0),
                leaf_only: false,
            }]);
        },
        Ok(NEW),
    );
}

/// The second stage changes behind a first one.
#[test]
fn second_stage_invalidation_ends_every_nested_dma() {
    page_taken_from_a_busy_device(
        Some(NESTED),
        &[(0x1_3008, NEW | 3)],
        |translator| {
            translator.invalidate(&[Invalidation::IotlbPages {
                domain: DomainId(7),
                range: crate::address::IovaRange::aligned_block(Iova(0x1000), 0),
                leaf_only: true,
            }]);
        },
        Ok(NEW),
    );
}

/// Software clears dirty bits while a device writes: what is written after the invalidation is marked again.
#[test]
fn write_after_a_dirty_bit_was_cleared_sets_it_again() {
    explore(
        || {
            let machine = machine(Some(TRACKED));
            perhaps_warmed_up(&machine, Some(TRACKED));
            let device = {
                let space = Arc::clone(&machine.space);
                shuttle::thread::spawn(move || {
                    for value in 1..=3 {
                        space.section().write(Iova(0x1000), &[value]).unwrap();
                    }
                })
            };
            delay(60);
            machine.tables.set(0x7_3008, OLD | 0x103);
            machine.translator.invalidate(&[Invalidation::IotlbPages {
                domain: DomainId(11),
                range: crate::address::IovaRange::aligned_block(Iova(0x1000), 0),
                leaf_only: true,
            }]);
            let seen: u8 = machine.ram.read_obj(GuestAddress(OLD)).unwrap();
            device.join().unwrap();
            let held: u8 = machine.ram.read_obj(GuestAddress(OLD)).unwrap();
            let dirty = machine.tables.word(0x7_3008) & 0x200 != 0;
            assert!(
                dirty || held == seen,
                "a write after the invalidation went unnoticed"
            );
        },
        SCHEDULES,
    );
}

#[test]
fn interrupt_entry_is_never_stale_after_its_invalidation() {
    explore(
        || {
            let Bench { memory, translator } = Bench::standard();
            let translator = Arc::new(translator);
            memory.set(0x7000, 0x0030_0001);
            translator.set_interrupts(InterruptMode {
                table: Some(InterruptTable {
                    table: GuestAddress(0x7000),
                    entries: 256,
                    extended: true,
                }),
                compatibility_allowed: false,
            });
            let message = MsiMessage {
                address: 0xfee0_0010,
                data: 0,
            };
            let sender = {
                let translator = Arc::clone(&translator);
                shuttle::thread::spawn(move || {
                    translator.remap(DEVICE, message).unwrap();
                })
            };
            delay(30);
            memory.set(0x7000, 0x0031_0001);
            translator.invalidate(&[Invalidation::InterruptIndex { first: 0, count: 1 }]);
            sender.join().unwrap();
            assert_eq!(vector_of(&translator, message), 0x31);
        },
        SCHEDULES,
    );
}

/// After the invalidation the old vector belongs to the guest, which may have given it to another device.
#[test]
fn interrupt_is_not_delivered_by_its_old_entry_after_the_invalidation() {
    explore(
        || {
            let Bench { memory, translator } = Bench::standard();
            let translator = Arc::new(translator);
            memory.set(0x7000, 0x0030_0001);
            translator.set_interrupts(InterruptMode {
                table: Some(InterruptTable {
                    table: GuestAddress(0x7000),
                    entries: 256,
                    extended: true,
                }),
                compatibility_allowed: false,
            });
            let freed = Arc::new(AtomicBool::new(false));
            let sender = {
                let (translator, freed) = (Arc::clone(&translator), Arc::clone(&freed));
                shuttle::thread::spawn(move || {
                    for _ in 0..3 {
                        let _section = translator.interrupt_section();
                        let message = MsiMessage {
                            address: 0xfee0_0010,
                            data: 0,
                        };
                        let vector = vector_of(&translator, message);
                        (0..4).for_each(|_| step());
                        let late = vector == 0x30 && freed.load(SeqCst);
                        assert!(!late, "the old vector was delivered late");
                    }
                })
            };
            delay(30);
            memory.set(0x7000, 0x0031_0001);
            translator.invalidate(&[Invalidation::InterruptIndex { first: 0, count: 1 }]);
            freed.store(true, SeqCst);
            sender.join().unwrap();
        },
        SCHEDULES,
    );
}
