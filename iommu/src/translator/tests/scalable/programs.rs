// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Random programs: edits of tables from a few choices, invalidations, and DMA.

use super::model::Words;
use super::*;
use crate::address::IovaRange;
use crate::ids::DomainId;
use crate::invalidation::{FunctionMask, Invalidation, Invalidation as I};
use proptest::prelude::*;

pub(super) const SOURCES: [u16; 3] = [0x0008, 0x0009, 0x0088];
const DOMAINS: [u16; 5] = [5, 6, 7, 8, 9];
const PASIDS: u32 = 4;
const ACCESSES: [Access; 3] = [Access::Read, Access::Write, Access::Atomic];
const ROOT: u64 = 0x1000;
/// Context tables of the lower and the upper half of bus 0.
const CONTEXTS: [u64; 2] = [0x2000, 0x3000];
const CONTEXT_CHOICES: [(u64, u64); 7] = [
    (0x4009, 0),
    (0x4009, 1),
    (0x400b, 3),
    (0x4001, 2),
    (0x4009, 0x2000),
    (0x4029, 0),
    (0, 0),
];
const DIRECTORY_CHOICES: [u64; 4] = [0x5001, 0x5003, 0x5005, 0];
/// Low, middle and high word: second stage of domain 5, first stage of domain 6, nested in domain 7, unchanged in domain 8,
/// first stage with everything enabled and with protection in domain 9, invalid, not present.
const ENTRY_CHOICES: [(u64, u64, u64); 8] = [
    (0x1_0089, 0x80_0005, 0),
    (0x49, 0x80_0006, 0x2_0000),
    (0x4_00c9, 0x80_0007, 0x5_0000),
    (0x109, 0x80_0008, 0),
    (0x49, 0x80_0009, 0x2_0023),
    (0x4b, 0x80_0009, 0x2_0073),
    (0x1_0081, 0x80_0005, 0),
    (0, 0x80_0006, 0),
];
/// Table pages: second stage of domain 5, first stage of domains 6 and 9, second stage of domain 7, and the first stage
/// in front of it, at the same host addresses as long as the second stage maps 1 GiB to itself.
const TABLES: [[u64; 4]; 4] = [
    [0x1_0000, 0x1_1000, 0x1_2000, 0x1_3000],
    [0x2_0000, 0x2_1000, 0x2_2000, 0x2_3000],
    [0x4_0000, 0x4_1000, 0x4_2000, 0x4_3000],
    [0x5_0000, 0x5_1000, 0x5_2000, 0x5_3000],
];
/// Which of [`TABLES`] are first-stage tables.
const IS_FIRST: [bool; 4] = [false, true, false, true];

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Which tables, and the word.
    Table(usize, u64, u64),
    Entry(u32, usize),
    Directory(usize),
    Context(usize, usize),
    Root(usize, bool),
    Invalidate(Invalidation),
    Dma(Request),
}

fn table_edit() -> impl Strategy<Value = Step> {
    (0..4usize, 0..4usize, 0..3u64).prop_flat_map(|(set, page, index)| {
        let place = TABLES[set][page] + index * 8;
        let rights = if IS_FIRST[set] {
            vec![0x67u64, 0x27, 0x07, 0x63, 0x65]
        } else {
            vec![1, 2, 3, 3, 3]
        };
        let rights = prop::sample::select(rights);
        let table = (0..4usize, rights.clone()).prop_map(move |(to, r)| TABLES[set][to] | r);
        let leaf = |granule: u64, bits: u64| {
            (0..20u64, rights.clone()).prop_map(move |(number, r)| number * granule + r + bits)
        };
        let word = prop_oneof![
            6 => table,
            3 => leaf(0x1000, 0),
            1 => leaf(0x1000, 0x80),
            2 => leaf(0x20_0000, 0x80),
            2 => leaf(0x4000_0000, 0x80),
            1 => leaf(0x1000, 1 << 63),
            1 => Just(0xfee0_0067u64),
            1 => Just(1 << 48 | 0x1067),
            1 => Just(1 << 62 | 0x1003u64),
            2 => Just(0u64),
        ];
        word.prop_map(move |word| Step::Table(set, place, word))
    })
}

fn iova() -> impl Strategy<Value = u64> {
    let top = prop::sample::select(vec![0u64, 0, 0, 1, 0x1ff80, 1 << 9]);
    let parts = (top, 0..3u64, 0..3u64, 0..3u64, 0..0x1000u64);
    parts.prop_map(|(a, b, c, d, offset)| a << 39 | b << 30 | c << 21 | d << 12 | offset)
}

fn invalidation() -> impl Strategy<Value = Invalidation> {
    let domain = prop::sample::select(DOMAINS.to_vec()).prop_map(DomainId);
    let pasid = (0..PASIDS).prop_map(|value| Pasid::new(value).unwrap());
    let both = (domain.clone(), pasid);
    let masks = vec![FunctionMask::Exact, FunctionMask::Bits210];
    let device = (
        prop::sample::select(SOURCES.to_vec()),
        prop::sample::select(masks),
    );
    let order = prop::sample::select(vec![0u32, 1, 9, 10, 18, 27, 51, 52]);
    let range =
        (iova(), order).prop_map(|(iova, order)| IovaRange::aligned_block(Iova(iova), order));
    let ranges = (range, any::<bool>()).boxed();
    prop_oneof![
        1 => Just(I::ContextGlobal),
        1 => domain.clone().prop_map(I::ContextDomain),
        2 => device.prop_map(|(source, mask)| I::ContextDevice {
            domain: DomainId(0),
            source: SourceId(source),
            mask,
        }),
        1 => Just(I::PasidCacheGlobal),
        1 => domain.clone().prop_map(I::PasidCacheDomain),
        3 => both.clone().prop_map(|(domain, pasid)| I::PasidCacheOne { domain, pasid }),
        1 => Just(I::IotlbGlobal),
        1 => domain.clone().prop_map(I::IotlbDomain),
        3 => (domain, ranges.clone()).prop_map(|(domain, (range, leaf_only))| I::IotlbPages {
            domain,
            range,
            leaf_only,
        }),
        1 => both.clone().prop_map(|(domain, pasid)| I::PasidIotlbAll { domain, pasid }),
        3 => (both, ranges).prop_map(|((domain, pasid), (range, leaf_only))| I::PasidIotlbPages {
            domain,
            pasid,
            range,
            leaf_only,
        }),
    ]
}

fn dma() -> impl Strategy<Value = Step> {
    let access = prop::sample::select(ACCESSES.to_vec());
    let pasid = prop::option::weighted(0.8, 0..PASIDS);
    let flags = (prop::bool::weighted(0.1), prop::bool::weighted(0.2));
    let source = prop::sample::select(SOURCES.to_vec());
    (source, pasid, iova(), access, flags).prop_map(
        |(source, pasid, iova, access, (execute, privileged))| {
            Step::Dma(Request {
                pasid: pasid.and_then(Pasid::new),
                execute,
                privileged,
                ..Request::untranslated(SourceId(source), Iova(iova), access)
            })
        },
    )
}

fn edit() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => table_edit(),
        3 => (0..PASIDS, 0..ENTRY_CHOICES.len()).prop_map(|(p, c)| Step::Entry(p, c)),
        1 => (0..DIRECTORY_CHOICES.len()).prop_map(Step::Directory),
        1 => (0..SOURCES.len(), 0..CONTEXT_CHOICES.len()).prop_map(|(s, c)| Step::Context(s, c)),
        1 => (0..2usize, prop::bool::weighted(0.8)).prop_map(|(half, on)| Step::Root(half, on)),
    ]
}

pub(super) fn program() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => edit(),
        5 => invalidation().prop_map(Step::Invalidate),
        14 => dma(),
    ];
    prop::collection::vec(step, 1..100)
}

/// Tables in which something can be reached from the start.
pub(super) fn start() -> Words {
    let mut words = Words::new();
    words.insert(ROOT, CONTEXTS[0] | 1);
    words.insert(ROOT + 8, CONTEXTS[1] | 1);
    words.insert(0x4000, 0x5001);
    for (number, source) in SOURCES.iter().enumerate() {
        set_context(&mut words, *source, CONTEXT_CHOICES[number % 2]);
    }
    for pasid in 0..PASIDS {
        set_entry(&mut words, pasid, ENTRY_CHOICES[pasid as usize]);
    }
    for (set, tables) in TABLES.iter().enumerate() {
        let rights = if IS_FIRST[set] { 0x27 } else { 3 };
        for pair in tables.windows(2) {
            words.insert(pair[0], pair[1] | rights);
        }
        words.insert(tables[3] + 8, if IS_FIRST[set] { 0x9067 } else { 0x9003 });
    }
    // The second stage of domain 7 maps 1 GiB to itself.
    words.insert(0x4_1000, 0x83);
    words
}

fn set_context(words: &mut Words, source: u16, (low, high): (u64, u64)) {
    let table = CONTEXTS[usize::from(source & 0x80 != 0)];
    let at = table + u64::from(source & 0x7f) * 32;
    words.insert(at, low);
    words.insert(at + 8, high);
}

fn set_entry(words: &mut Words, pasid: u32, (low, middle, high): (u64, u64, u64)) {
    let at = 0x5000 + u64::from(pasid) * 64;
    words.insert(at, low);
    words.insert(at + 8, middle);
    words.insert(at + 16, high);
}

pub(super) fn apply(words: &mut Words, step: &Step) {
    match step {
        Step::Table(_, gpa, word) => drop(words.insert(*gpa, *word)),
        Step::Entry(pasid, choice) => set_entry(words, *pasid, ENTRY_CHOICES[*choice]),
        Step::Directory(choice) => drop(words.insert(0x4000, DIRECTORY_CHOICES[*choice])),
        Step::Context(source, choice) => {
            set_context(words, SOURCES[*source], CONTEXT_CHOICES[*choice]);
        }
        Step::Root(half, on) => {
            words.insert(ROOT + *half as u64 * 8, CONTEXTS[*half] | u64::from(*on));
        }
        Step::Invalidate(_) | Step::Dma(_) => {}
    }
}

/// What software that knows its business sends after an edit.
pub(super) fn duty(step: &Step) -> Vec<Invalidation> {
    let pasids = |domains: &'static [u16]| {
        (0..PASIDS).flat_map(move |value| {
            domains.iter().map(move |domain| I::PasidIotlbAll {
                domain: DomainId(*domain),
                pasid: Pasid::new(value).unwrap(),
            })
        })
    };
    match *step {
        Step::Table(0, ..) => vec![I::IotlbDomain(DomainId(5))],
        Step::Table(1, ..) => pasids(&[6, 9]).collect(),
        // Whatever the range: it is one of the second stage.
        Step::Table(2, ..) => vec![I::IotlbPages {
            domain: DomainId(7),
            range: IovaRange::aligned_block(Iova(0x1000), 0),
            leaf_only: false,
        }],
        Step::Table(..) => pasids(&[7]).collect(),
        Step::Entry(..) | Step::Directory(_) => vec![I::PasidCacheGlobal, I::IotlbGlobal],
        Step::Context(source, _) => vec![I::ContextDevice {
            domain: DomainId(0),
            source: SourceId(SOURCES[source]),
            mask: FunctionMask::Exact,
        }],
        Step::Root(..) => vec![I::ContextGlobal],
        Step::Invalidate(_) | Step::Dma(_) => Vec::new(),
    }
}
