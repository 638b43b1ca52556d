// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Random programs of table edits, invalidations and DMA, against a model that walks memory afresh at each access.
//!
//! Uncached, every answer is the model's. Cached, an answer may be what the model said at any earlier moment, but of
//! nothing that an invalidation named since then. A domain id always names the same tables, as software must see to.

use super::*;
use crate::address::IovaRange;
use crate::ids::DomainId;
use crate::invalidation::{FunctionMask, Invalidation};
use proptest::prelude::*;
use std::collections::BTreeMap;

type Words = BTreeMap<u64, u64>;
/// The guest-physical address, or the fault's code and whether it is recorded.
type Outcome = Result<u64, (u8, bool)>;

const SOURCES: [u16; 4] = [0x0008, 0x0009, 0x0010, 0x0108];
const ROOT: u64 = 0x1000;
/// Context tables of buses 0 and 1.
const CONTEXTS: [u64; 2] = [0x2000, 0x3000];
/// What the contexts choose from: low and high word.
const CONTEXT_CHOICES: [(u64, u64); 6] = [
    (0x1_0001, 0x0501),
    (0x2_0001, 0x0602),
    (0x2_0003, 0x0602),
    (0x0_0009, 0x0702),
    (0x0_0000, 0x0000),
    (0x1_0001, 0x0503),
];
/// Table pages of domain 5 (three levels, top at 0x10000) and of domain 6 (four levels, top at 0x20000). Entries may point
/// to any page of their own domain, the top included.
const TABLES: [[u64; 5]; 2] = [
    [0x1_0000, 0x1_1000, 0x1_2000, 0x1_3000, 0x1_4000],
    [0x2_0000, 0x2_1000, 0x2_2000, 0x2_3000, 0x2_4000],
];
const ACCESSES: [Access; 3] = [Access::Read, Access::Write, Access::Atomic];

#[derive(Clone, Debug)]
enum Step {
    Entry(u64, u64),
    Context(usize, usize),
    Root(usize, bool),
    Invalidate(Invalidation),
    Dma(Request),
}

fn entry() -> impl Strategy<Value = Step> {
    (0..2usize, 0..5usize, 0..3u64).prop_flat_map(|(domain, page, index)| {
        let table = (0..5usize, 1..4u64).prop_map(move |(to, rights)| TABLES[domain][to] | rights);
        let page_of = |granule: u64, bits: u64| {
            (1..20u64, 1..4u64).prop_map(move |(number, rights)| number * granule + rights + bits)
        };
        let word = prop_oneof![
            6 => table,
            3 => page_of(0x1000, 0),
            1 => page_of(0x1000, 0x80),
            2 => page_of(0x20_0000, 0x80),
            2 => page_of(0x4000_0000, 0x80),
            1 => Just(0xfee0_0003u64),
            1 => Just(1 << 62 | 0x1003),
            1 => Just(0x1803u64),
            2 => Just(0u64),
        ];
        word.prop_map(move |word| Step::Entry(TABLES[domain][page] + index * 8, word))
    })
}

fn iova() -> impl Strategy<Value = u64> {
    let parts = (0..3u64, 0..3u64, 0..3u64, 0..3u64, 0..0x1000u64);
    parts.prop_map(|(a, b, c, d, offset)| {
        let top = if a == 2 { 0 } else { a };
        top << 39 | b << 30 | c << 21 | d << 12 | offset
    })
}

fn invalidation() -> impl Strategy<Value = Step> {
    let domain = prop::sample::select(vec![5u16, 6, 7]).prop_map(DomainId);
    let device = (
        prop::sample::select(SOURCES.to_vec()),
        prop::sample::select(vec![
            FunctionMask::Exact,
            FunctionMask::Bit2,
            FunctionMask::Bits210,
        ]),
    );
    let orders = prop::sample::select(vec![0u32, 1, 9, 10, 18, 27, 52]);
    let pages = (domain.clone(), iova(), orders, any::<bool>());
    prop_oneof![
        1 => Just(Invalidation::ContextGlobal),
        1 => domain.clone().prop_map(Invalidation::ContextDomain),
        3 => device.prop_map(|(source, mask)| Invalidation::ContextDevice {
            domain: DomainId(0),
            source: SourceId(source),
            mask,
        }),
        1 => Just(Invalidation::IotlbGlobal),
        2 => domain.prop_map(Invalidation::IotlbDomain),
        4 => pages.prop_map(|(domain, iova, order, leaf_only)| Invalidation::IotlbPages {
            domain,
            range: IovaRange::aligned_block(Iova(iova), order),
            leaf_only,
        }),
        1 => Just(Invalidation::InterruptGlobal),
    ]
    .prop_map(Step::Invalidate)
}

fn dma() -> impl Strategy<Value = Step> {
    let access = prop::sample::select(ACCESSES.to_vec());
    (prop::sample::select(SOURCES.to_vec()), iova(), access).prop_map(|(source, iova, access)| {
        Step::Dma(Request::untranslated(SourceId(source), Iova(iova), access))
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => entry(),
        1 => (0..SOURCES.len(), 0..CONTEXT_CHOICES.len()).prop_map(|(s, c)| Step::Context(s, c)),
        1 => (0..2usize, prop::bool::weighted(0.8)).prop_map(|(bus, on)| Step::Root(bus, on)),
        4 => invalidation(),
        12 => dma(),
    ]
}

/// Tables in which something can be reached from the start.
fn start() -> Words {
    let mut words = Words::new();
    for (bus, table) in CONTEXTS.iter().enumerate() {
        words.insert(ROOT + bus as u64 * 16, table | 1);
    }
    for (number, source) in SOURCES.iter().enumerate() {
        set_context(&mut words, *source, CONTEXT_CHOICES[number % 2]);
    }
    for tables in TABLES {
        for pair in tables.windows(2) {
            words.insert(pair[0], pair[1] | 3);
        }
    }
    words
}

fn context_address(source: u16) -> u64 {
    CONTEXTS[usize::from(source >> 8)] + u64::from(source & 0xff) * 16
}

fn set_context(words: &mut Words, source: u16, (low, high): (u64, u64)) {
    words.insert(context_address(source), low);
    words.insert(context_address(source) + 8, high);
}

/// What the model finds in a context entry: domain id and, unless requests pass, top table and number of levels; with the
/// fault's code and whether it is recorded.
type ModelContext = Result<(u16, Option<(u64, u32)>, bool), (u8, bool)>;

fn model_context(words: &Words, source: u16) -> ModelContext {
    let word = |gpa: u64| words.get(&gpa).copied().unwrap_or(0);
    let root = word(ROOT + u64::from(source >> 8) * 16);
    if root & 1 == 0 {
        return Err((0x1, true));
    }
    let at = (root & 0xffff_ffff_f000) + u64::from(source & 0xff) * 16;
    let (low, high) = (word(at), word(at + 8));
    let record = low & 2 == 0;
    if low & 1 == 0 {
        return Err((0x2, record));
    }
    let domain = u16::try_from(high >> 8 & 0xffff).unwrap();
    let levels = match high & 7 {
        1 => 3,
        2 => 4,
        _ => return Err((0x3, record)),
    };
    match low >> 2 & 3 {
        0 => Ok((domain, Some((low & 0xffff_ffff_f000, levels)), record)),
        2 => Ok((domain, None, record)),
        _ => Err((0x3, record)),
    }
}

/// First byte and size of the page, output, readable, writable.
type ModelPage = (u64, u64, u64, bool, bool);

/// The page that maps `iova`, or the code of the fault that does not depend on the access; `Ok(None)` where nothing is
/// present.
fn model_walk(words: &Words, top: u64, levels: u32, iova: u64) -> Result<Option<ModelPage>, u8> {
    let (mut table, mut read, mut write) = (top, true, true);
    for level in (1..=levels).rev() {
        let size = 1u64 << [12, 21, 30, 39][level as usize - 1];
        let entry = words
            .get(&(table + iova / size % 512 * 8))
            .copied()
            .unwrap_or(0);
        if entry & 3 == 0 {
            return Ok(None);
        }
        read &= entry & 1 != 0;
        write &= entry & 2 != 0;
        let leaf = level == 1 || entry & 0x80 != 0;
        let address = entry & 0xf_ffff_ffff_f000;
        let misplaced = leaf && (level == 4 || address % size != 0);
        let snoop_above_leaf = !leaf && entry & 0x800 != 0;
        if entry & 0x400f_0000_0000_0000 != 0 || misplaced || snoop_above_leaf {
            return Err(0xc);
        }
        if leaf {
            return Ok(Some((iova / size * size, size, address, read, write)));
        }
        table = address;
    }
    unreachable!("level 1 is always a leaf")
}

/// The model's answer through a context and the tables in `words`, and the page if there is one.
fn model(words: &Words, context: ModelContext, request: &Request) -> (Outcome, Option<(u64, u64)>) {
    let iova = request.address.0;
    let (top, levels, record) = match context {
        Err(fault) => return (Err(fault), None),
        Ok((_, None, record)) if iova >> 48 != 0 => return (Err((0x4, record)), None),
        Ok((_, None, _)) => return (Ok(iova), None),
        Ok((_, Some((top, levels)), record)) => (top, levels, record),
    };
    if iova >> (12 + 9 * levels) != 0 {
        return (Err((0x4, record)), None);
    }
    let (reads, writes) = match request.access {
        Access::Read => (true, false),
        Access::Write => (false, true),
        Access::Atomic => (true, true),
    };
    match model_walk(words, top, levels, iova) {
        Err(code) => (Err((code, record)), None),
        Ok(Some((first, size, output, read, write))) => {
            let outcome = if writes && !write {
                Err((0x5, record))
            } else if reads && !read {
                Err((0x6, record))
            } else if output < 0xfef0_0000 && output + size > 0xfee0_0000 {
                Err((0xe, record))
            } else {
                Ok(output + (iova - first))
            };
            (outcome, Some((first, first + size - 1)))
        }
        Ok(None) => (Err((if writes { 0x5 } else { 0x6 }, record)), None),
    }
}

/// Everything that memory ever held, and every invalidation with the number of states there were before it.
struct History {
    states: Vec<Words>,
    invalidations: Vec<(usize, Invalidation)>,
}

impl History {
    fn now(&self) -> usize {
        self.states.len() - 1
    }

    /// Whether an invalidation after `state` matches.
    fn named_since(&self, state: usize, names: impl Fn(&Invalidation) -> bool) -> bool {
        self.invalidations
            .iter()
            .any(|(states, invalidation)| *states > state && names(invalidation))
    }

    /// The contexts that may still be in use for `source`.
    fn contexts(&self, source: u16) -> Vec<ModelContext> {
        let mut found = vec![model_context(&self.states[self.now()], source)];
        for state in 0..self.now() {
            let context = model_context(&self.states[state], source);
            let Ok((domain, ..)) = context else { continue };
            let dropped = self.named_since(state, |invalidation| match *invalidation {
                Invalidation::ContextGlobal => true,
                Invalidation::ContextDomain(named) => named.0 == domain,
                Invalidation::ContextDevice {
                    source: named,
                    mask,
                    ..
                } => {
                    let ignored = match mask {
                        FunctionMask::Exact => 0,
                        FunctionMask::Bit2 => 4,
                        FunctionMask::Bits21 => 6,
                        FunctionMask::Bits210 => 7,
                    };
                    named.0 | ignored == source | ignored
                }
                _ => false,
            });
            if !dropped {
                found.push(context);
            }
        }
        found
    }

    /// Whether the cached translator may give this answer now.
    fn allows(&self, request: &Request, answer: Outcome) -> bool {
        self.contexts(request.source.0).into_iter().any(|context| {
            if model(&self.states[self.now()], context, request).0 == answer {
                return true;
            }
            let Ok((domain, ..)) = context else {
                return false;
            };
            (0..self.now()).any(|state| {
                let (old, page) = model(&self.states[state], context, request);
                let Some((first, last)) = page else {
                    return false;
                };
                old.is_ok()
                    && old == answer
                    && !self.named_since(state, |invalidation| match invalidation {
                        Invalidation::IotlbGlobal => true,
                        Invalidation::IotlbDomain(named) => named.0 == domain,
                        Invalidation::IotlbPages {
                            domain: named,
                            range,
                            ..
                        } => {
                            named.0 == domain && range.start().0 <= last && range.last().0 >= first
                        }
                        _ => false,
                    })
            })
        })
    }
}

/// Runs a program against a cached and an uncached translator.
fn check(steps: &[Step], sizes: CacheSizes) -> Result<(), TestCaseError> {
    let cached = Bench::bare(legacy(), sizes);
    let uncached = Bench::bare(legacy(), CacheSizes::NONE);
    let mut history = History {
        states: vec![start()],
        invalidations: Vec::new(),
    };
    for (gpa, word) in start() {
        cached.memory.set(gpa, word);
        uncached.memory.set(gpa, word);
    }
    for step in steps {
        let mut words = history.states[history.now()].clone();
        match step {
            Step::Entry(gpa, word) => {
                words.insert(*gpa, *word);
            }
            Step::Context(source, choice) => {
                set_context(&mut words, SOURCES[*source], CONTEXT_CHOICES[*choice]);
            }
            Step::Root(bus, on) => {
                words.insert(ROOT + *bus as u64 * 16, CONTEXTS[*bus] | u64::from(*on));
            }
            Step::Invalidate(invalidation) => {
                cached.translator.invalidate(&[*invalidation]);
                uncached.translator.invalidate(&[*invalidation]);
                history
                    .invalidations
                    .push((history.states.len(), *invalidation));
            }
            Step::Dma(request) => {
                let fresh = model(&words, model_context(&words, request.source.0), request).0;
                prop_assert_eq!(uncached.request(request), fresh);
                let answer = cached.request(request);
                prop_assert!(
                    history.allows(request, answer),
                    "{answer:x?} for {request:x?}, which is {fresh:x?} now"
                );
                continue;
            }
        }
        for (gpa, word) in &words {
            cached.memory.set(*gpa, *word);
            uncached.memory.set(*gpa, *word);
        }
        history.states.push(words);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn translation_lags_memory_only_until_it_is_invalidated(
        steps in prop::collection::vec(step(), 1..120)
    ) {
        check(&steps, WITHOUT_TABLES)?;
    }

    /// Small caches drop lines all the time and drop pages by scanning.
    #[test]
    fn translation_with_small_caches_lags_memory_only_until_it_is_invalidated(
        steps in prop::collection::vec(step(), 1..120)
    ) {
        check(&steps, CacheSizes { contexts: 4, pasids: 4, pages: 4, tables: 0, interrupts: 4 })?;
    }
}
