// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! PASID directories, tables and entries of any kind, aliased ones among them, and all invalidations that have them read again:
//! no panic, bounded work, no more PASIDs bound than the budget allows, and a follower that is told nothing that contradicts
//! what it was told before.
#![no_main]

use arbitrary::Arbitrary;
use fuzz::{Entry, Machine, PAGES, capabilities};
use iommu::follow::{
    Answer, Attachment, DeviceHandle, FollowEvent, FollowedDevice, Follower, PasidBudget, Refusal,
    Unmet,
};
use iommu::ids::{Pasid, Requester, SourceId};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Pages of the structures: queue, root, contexts, directory. Everything else is for tables.
const QUEUE: u64 = 0x0000;
const ROOT: u64 = 0x1000;
const CONTEXTS: u64 = 0x2000;
const DIRECTORY: u64 = 0x3000;
const STATUS: u64 = 0xfff0;
const DEVICE: DeviceHandle = DeviceHandle(1);
const SOURCE: u64 = 0x18;

const BUDGET: PasidBudget = PasidBudget {
    bits: 20,
    bindings: 96,
    tables: 12,
};

/// Accesses of memory that one batch makes at most: 32 pages of the directory and the tables of the budget word by word, and
/// each entry read anew until it holds still.
const BATCH_BOUND: u64 = (32 + 12) * 512 + 12 * 64 * 64 + 4096;

#[derive(Arbitrary, Debug)]
enum Step {
    Entry(Entry),
    /// A PASID entry as drivers write it: table, PASID, kind, and where it leads.
    Bind(u8, u8, u8, u8),
    /// A word of the directory that names a table, or none.
    Directory(u16, u8),
    /// The low words of descriptors: kind, domain, PASID.
    Invalidate(Vec<(u8, u8, u32)>),
    Translate(bool),
    /// The follower refuses from now on what has this bit in its PASID, or nothing.
    Refuse(Option<u8>),
}

#[derive(Arbitrary, Debug)]
struct Input {
    capabilities: u16,
    size: u8,
    rid_pasid: u32,
    steps: Vec<Step>,
}

#[derive(Debug, Default)]
struct Judge {
    bound: Mutex<BTreeSet<Pasid>>,
    refuses: Mutex<Option<u8>>,
}

impl Judge {
    fn judge(&self, event: &FollowEvent) -> Result<(), Refusal> {
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        let refuses = *self.refuses.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = |pasid: Pasid| refuses.is_some_and(|bit| pasid.get() >> (bit % 20) & 1 == 1);
        match *event {
            FollowEvent::Bind { pasid, to, .. } => {
                assert_ne!(to, Attachment::Blocked);
                assert!(!bound.contains(&pasid), "{pasid:?} is bound already");
                if refused(pasid) {
                    return Err(Unmet::Binding(DEVICE, pasid).into());
                }
                bound.insert(pasid);
            }
            FollowEvent::Rebind { pasid, to, .. } => {
                assert_ne!(to, Attachment::Blocked);
                assert!(bound.contains(&pasid), "{pasid:?} is not bound");
                if refused(pasid) {
                    bound.remove(&pasid);
                    return Err(Unmet::Binding(DEVICE, pasid).into());
                }
            }
            FollowEvent::Unbind { pasid, .. } => {
                bound.remove(&pasid);
            }
            FollowEvent::Reset => bound.clear(),
            FollowEvent::Attach { .. } | FollowEvent::Invalidated(_) => {}
        }
        assert!(bound.len() <= BUDGET.bindings as usize);
        Ok(())
    }
}

impl Follower for Judge {
    fn apply(&self, events: &[FollowEvent]) -> Answer {
        Answer {
            results: events.iter().map(|event| self.judge(event)).collect(),
            resynced: Vec::new(),
        }
    }
}

fn submit(machine: &Machine, free: &mut u64, descriptors: &[(u8, u8, u32)]) {
    let kinds = [0x11, 0x21, 0x31, 0x37, 0x07, 0x17, 0x12, 0x22, 0x26];
    let lows = descriptors.iter().take(16).map(|(kind, domain, pasid)| {
        let low: u64 = kinds[usize::from(*kind) % kinds.len()];
        let named = match low {
            0x31 => SOURCE << 32,
            0x17 | 0x26 => u64::from(pasid & 0xf_ffff) << 32,
            _ => 0,
        };
        low | u64::from(domain & 3) << 16 | named
    });
    for (low, high) in lows
        .map(|low| (low, 0))
        .chain([(0x0000_0001_0000_0025, STATUS)])
    {
        let word = QUEUE / 8 + *free * 4;
        for (offset, value) in [low, high, 0, 0].into_iter().enumerate() {
            machine.memory.set(word + offset as u64, value);
        }
        *free = (*free + 1) % 128;
    }
    machine.memory.accesses();
    machine.unit.write(0x88, &(*free << 5).to_le_bytes());
    let accesses = machine.memory.accesses();
    assert!(
        accesses <= 16 * BATCH_BOUND,
        "{accesses} accesses of one batch"
    );
}

fn translate(machine: &Machine, on: bool) {
    let command: u32 = if on { 0x8400_0000 } else { 0x0400_0000 };
    machine.unit.write(0x18, &command.to_le_bytes());
}

fuzz_target!(|input: Input| {
    // Scalable mode with PASIDs and caching mode.
    let machine = Machine::new(capabilities((input.capabilities | 0x24) & !0x18));
    let judge = Arc::new(Judge::default());
    let follower: Arc<dyn Follower> = Arc::clone(&judge) as _;
    machine.unit.set_follower(follower).expect("the first one");
    let set = |gpa: u64, value: u64| machine.memory.set(gpa / 8, value);
    set(ROOT, CONTEXTS | 1);
    set(
        CONTEXTS + 32 * SOURCE,
        DIRECTORY | u64::from(input.size & 7) << 9 | 9,
    );
    set(
        CONTEXTS + 32 * SOURCE + 8,
        u64::from(input.rid_pasid & 0xf_ffff),
    );
    for (offset, value) in [(0x90, QUEUE | 0x800), (0x20, ROOT | 0x400)] {
        machine.unit.write(offset, &value.to_le_bytes());
    }
    for command in [0x0400_0000u32, 0x4400_0000] {
        machine.unit.write(0x18, &command.to_le_bytes());
    }
    translate(&machine, true);
    let followed = FollowedDevice {
        handle: DEVICE,
        requester: Arc::new(Requester::new(SourceId(0x18))),
        pasids: Some(BUDGET),
    };
    machine.unit.follow(followed).expect("the only one");
    let mut free = 0;
    for step in input.steps.iter().take(64) {
        match step {
            Step::Entry(entry) => entry.store(&machine),
            Step::Bind(table, pasid, kind, target) => {
                let at = (4 + u64::from(table % 12) << 12) + u64::from(pasid % 64) * 64;
                let target = u64::from(*target) % PAGES << 12;
                let low = [0, 0x41, 0x89, 0xc9, 0x101, 0x489, 0x1, 0x141][usize::from(kind % 8)];
                set(at + 16, target);
                set(at + 8, u64::from(kind >> 3 & 3));
                set(at, low | if low & 0x80 == 0 { 0 } else { target });
            }
            Step::Directory(index, table) => {
                let table = match table % 13 {
                    12 => 0,
                    table => (4 + u64::from(table) << 12) | 1,
                };
                set(DIRECTORY + u64::from(index % 512) * 8, table);
            }
            Step::Invalidate(descriptors) => submit(&machine, &mut free, descriptors),
            Step::Translate(on) => translate(&machine, *on),
            Step::Refuse(bit) => {
                *judge.refuses.lock().unwrap_or_else(PoisonError::into_inner) = *bit;
            }
        }
    }
    machine.unit.reset();
    let bound = judge.bound.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(bound.is_empty(), "{bound:?} after a reset");
});
