// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Edits of contexts and PASID entries, invalidations of every kind, and root tables that come and go, while a follower is
//! told, refuses at random, defers and loses work. After each wait and each command what was told equals what a naive reader
//! finds.
#![no_main]

use arbitrary::Arbitrary;
use fuzz::following::{Bed, CONTEXTS, DEVICES, DIRECTORIES, PASID_TABLES, ROOTS, SOURCES, STAGES};
use libfuzzer_sys::fuzz_target;

/// Steps of one run: what a directory holds is read word by word again and again.
const STEPS: usize = 64;
/// Descriptors of one batch.
const BATCH: usize = 6;
/// Four of each of three tables, which may be one table, and RID_PASID's usual one.
const PASIDS: [u32; 12] = [0, 1, 2, 63, 64, 65, 66, 127, 8128, 8129, 8191, 8192];
/// Low bits of context entries of scalable mode: valid ones, one that is not present, one with a reserved bit.
const SCALABLE_CONTEXTS: [u64; 8] = [0x9, 0x9, 0x9, 0xb, 0x1, 0x209, 0, 0x29];
/// The same of legacy mode: tables, unchanged, device-TLBs, none, a reserved bit.
const LEGACY_CONTEXTS: [u64; 8] = [0x1, 0x1, 0x1, 0x3, 0x9, 0x5, 0, 0x11];
/// Low bits of PASID entries: each type, widths, none, reserved bits and types.
const ENTRIES: [u64; 12] = [
    0x89, 0x89, 0x85, 0x41, 0x41, 0xc9, 0x101, 0x8b, 0x8d, 0, 0x489, 0x141,
];
/// Low bits of their third words: nothing, SRE, WPE, SMEP, five levels, ERE.
const RULES: [u64; 6] = [0, 0x1, 0x11, 0x41, 0x4, 0x2];

#[derive(Arbitrary, Debug)]
enum Step {
    /// An entry of a root table.
    Root(u8, bool, u8),
    /// The context entry of an id in a context table.
    Context {
        table: u8,
        source: u8,
        flags: u8,
        target: u8,
        more: u8,
    },
    /// A directory's entry.
    Directory(u8, u8, u8),
    /// A PASID entry.
    Entry {
        table: u8,
        pasid: u8,
        low: u8,
        domain: u8,
        high: u8,
        stages: u8,
    },
    /// Descriptors, and whether deferred work is lost.
    Submit(Vec<Descriptor>, bool),
    Translate(bool),
    Latch(u8),
    Reset,
    /// What the follower refuses, and whether it defers.
    Behave(u32, bool),
    Follow(u8, u8),
    Renumber(u8, u8),
    Unfollow(u8),
    /// The host lost what a device goes through, or made it good.
    Host(u8, Option<u8>, bool),
}

#[derive(Arbitrary, Debug)]
struct Descriptor {
    kind: u8,
    domain: u8,
    /// A PASID, or an id.
    named: u8,
    mask: u8,
    address: u64,
}

/// The element of a list that `choice` picks.
fn pick<T: Copy>(choice: u8, from: &[T]) -> T {
    from[usize::from(choice) % from.len()]
}

/// Few, so that they are shared and named.
fn domain(choice: u8) -> u64 {
    u64::from(choice % 4)
}

impl Descriptor {
    /// The descriptor's words. In legacy mode there are fewer kinds.
    fn words(&self, scalable: bool) -> [u64; 2] {
        let kinds: &[u64] = if scalable {
            &[
                0x11, 0x21, 0x31, 0x12, 0x22, 0x32, 0x07, 0x17, 0x17, 0x37, 0x26, 0x36,
            ]
        } else {
            &[0x11, 0x21, 0x31, 0x12, 0x22, 0x32]
        };
        let kind = pick(self.kind, kinds);
        let domain = domain(self.domain) << 16;
        let pasid = u64::from(pick(self.named, &PASIDS)) << 32;
        let source = u64::from(pick(self.named, &SOURCES)) << 32;
        // Aligned to no more than what is offered.
        let order = u64::from(self.mask % 10);
        let address = self.address & 0xffff_ffff_f000 & !((0x1000 << order) - 1);
        let pages = address | u64::from(self.mask & 0x40) | order;
        match kind {
            0x31 => [kind | domain | source | u64::from(self.mask & 3) << 48, 0],
            0x32 => [kind | domain, pages],
            0x36 => [kind | domain | pasid, pages],
            0x17 | 0x26 => [kind | domain | pasid, 0],
            0x21 | 0x22 | 0x07 => [kind | domain, 0],
            _ => [kind, 0],
        }
    }
}

impl Step {
    fn apply(&self, bed: &mut Bed) {
        match self {
            Self::Root(root, upper, choice) => {
                let table = |number: usize| CONTEXTS[number] | 1;
                let values = [table(0), table(1), table(0), 0, CONTEXTS[0] | 3];
                let at = pick(*root, &ROOTS) + u64::from(*upper) * 8;
                bed.set(at, pick(*choice, &values));
            }
            Self::Context { .. } => self.context(bed),
            Self::Directory(directory, pasid, table) => {
                let tables = PASID_TABLES.map(|table| table | 1);
                let values = [
                    tables[0],
                    tables[1],
                    tables[2],
                    tables[0] | 2,
                    0,
                    tables[1] | 4,
                ];
                let at = pick(*directory, &DIRECTORIES) + u64::from(pick(*pasid, &PASIDS)) / 64 * 8;
                bed.set(at, pick(*table, &values));
            }
            Self::Entry { .. } => self.entry(bed),
            Self::Submit(descriptors, lossy) => {
                let words: Vec<_> = (descriptors.iter().take(BATCH))
                    .map(|descriptor| descriptor.words(bed.is_scalable()))
                    .collect();
                bed.submit(&words, *lossy);
            }
            Self::Translate(on) => bed.translate(*on),
            Self::Latch(root) => bed.latch(usize::from(*root)),
            Self::Reset => bed.reset(),
            Self::Behave(refusals, defers) => bed.recorder.behave(*refusals, *defers),
            Self::Follow(device, source) => {
                bed.follow(u32::from(*device) % DEVICES, pick(*source, &SOURCES));
            }
            Self::Renumber(device, source) => {
                bed.renumber(u32::from(*device) % DEVICES, pick(*source, &SOURCES));
            }
            Self::Unfollow(device) => bed.unfollow(u32::from(*device) % DEVICES),
            Self::Host(device, pasid, lost) => {
                let pasid = pasid.map(|choice| pick(choice, &PASIDS));
                bed.host_changed(u32::from(*device) % DEVICES, pasid, *lost);
            }
        }
    }

    fn context(&self, bed: &Bed) {
        let Self::Context {
            table,
            source,
            flags,
            target,
            more,
        } = *self
        else {
            return;
        };
        let devfn = u64::from(pick(source, &SOURCES));
        let (at, low, high) = if bed.is_scalable() {
            let rid = u64::from(pick(more, &PASIDS)) | u64::from(more >> 7) << 20;
            let low = pick(target, &DIRECTORIES) | pick(flags, &SCALABLE_CONTEXTS);
            (devfn % 0x80 * 32, low, rid)
        } else {
            let low = pick(target, &STAGES) | pick(flags, &LEGACY_CONTEXTS);
            let width = [2, 2, 1, 3][usize::from(more >> 6)];
            (devfn * 16, low, domain(more) << 8 | width)
        };
        let at = pick(table, &CONTEXTS) + at;
        bed.set(at + 8, high);
        bed.set(at, low);
    }

    fn entry(&self, bed: &Bed) {
        let Self::Entry {
            table,
            pasid,
            low,
            domain: of,
            high,
            stages,
        } = *self
        else {
            return;
        };
        let at = pick(table, &PASID_TABLES) + u64::from(pick(pasid, &PASIDS)) % 64 * 64;
        bed.set(at, pick(stages, &STAGES) | pick(low, &ENTRIES));
        bed.set(at + 8, domain(of));
        bed.set(at + 16, pick(stages >> 4, &STAGES) | pick(high, &RULES));
    }
}

fuzz_target!(|input: (bool, Vec<Step>)| {
    let (scalable, steps) = input;
    let mut bed = Bed::new(scalable);
    // Something leads somewhere from the beginning.
    for root in ROOTS {
        bed.set(root, CONTEXTS[0] | 1);
        bed.set(root + 8, if scalable { CONTEXTS[1] | 1 } else { 0 });
    }
    bed.translate(true);
    for step in steps.iter().take(STEPS) {
        step.apply(&mut bed);
    }
});
