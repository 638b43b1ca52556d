// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Random programs of table edits, invalidations of every type and DMA from several sources and PASIDs, against a model
//! that walks memory afresh at each access.
//!
//! Uncached, every answer is the model's, and so are the accessed and dirty bits in memory. Cached, an answer may be what
//! the model said at any earlier moment, but of nothing that an invalidation named since then. Software that invalidates
//! whatever it edits never sees a difference. A domain id always names the same tables, as software must see to.

use super::model::{self, FoundContext, ModelEntry, ModelPage, Outcome, Words};
use super::programs::{Step, apply, duty, program, start};
use super::*;
use crate::address::IovaRange;
use crate::invalidation::{FunctionMask, Invalidation, Invalidation as I};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn load(bench: &Bench, words: &Words) {
    for (gpa, word) in words {
        bench.memory.set(*gpa, *word);
    }
}

/// What a request comes to now, and the bits that it sets.
fn fresh(words: &Words, request: &Request) -> (Outcome, model::Marks) {
    let pasid = request.pasid.map(Pasid::get);
    let entry = model::context(words, request.source.0)
        .and_then(|context| model::entry(words, &context, pasid));
    match entry {
        Err(fault) => (Err(fault), Vec::new()),
        Ok(entry) => {
            let (outcome, _, marks) = model::outcome(words, &entry, request);
            (outcome, marks)
        }
    }
}

/// Everything that memory ever held, and every invalidation with the number of states there were before it.
struct History {
    states: Vec<Words>,
    invalidations: Vec<(usize, Invalidation)>,
}

impl History {
    fn new() -> Self {
        Self {
            states: vec![start()],
            invalidations: Vec::new(),
        }
    }

    fn now(&self) -> usize {
        self.states.len() - 1
    }

    fn named_since(&self, state: usize, names: impl Fn(&Invalidation) -> bool) -> bool {
        self.invalidations
            .iter()
            .any(|(states, invalidation)| *states > state && names(invalidation))
    }

    /// The contexts that may still be in use for `source`, and since when.
    fn contexts(&self, source: u16) -> Vec<(usize, FoundContext)> {
        let named = |invalidation: &Invalidation| names_context(invalidation, source);
        (0..=self.now())
            .map(|state| (state, model::context(&self.states[state], source)))
            .filter(|(state, context)| {
                *state == self.now() || context.is_ok() && !self.named_since(*state, named)
            })
            .collect()
    }

    /// Whether the cached translator may give this answer now.
    fn allows(&self, request: &Request, answer: Outcome) -> bool {
        let pasid = request.pasid.map(Pasid::get);
        self.contexts(request.source.0)
            .into_iter()
            .any(|(since, context)| {
                let context = match context {
                    Err(fault) => return Err(fault) == answer,
                    Ok(context) => context,
                };
                (since..=self.now()).any(|state| {
                    let entry = match model::entry(&self.states[state], &context, pasid) {
                        Err(fault) => return state == self.now() && Err(fault) == answer,
                        Ok(entry) => entry,
                    };
                    let named = |invalidation: &Invalidation| {
                        names_entry(invalidation, &entry)
                            || names_context(invalidation, request.source.0)
                    };
                    let usable = state == self.now() || !self.named_since(state, named);
                    usable && self.allows_through(&entry, request, answer)
                })
            })
    }

    fn allows_through(&self, entry: &ModelEntry, request: &Request, answer: Outcome) -> bool {
        if model::outcome(&self.states[self.now()], entry, request).0 == answer {
            return true;
        }
        (0..self.now()).any(|state| {
            let (old, page, _) = model::outcome(&self.states[state], entry, request);
            let Some(page) = page else { return false };
            let named = |invalidation: &Invalidation| names_page(invalidation, entry, &page);
            old.is_ok() && old == answer && !self.named_since(state, named)
        })
    }
}

fn names_context(invalidation: &Invalidation, source: u16) -> bool {
    match *invalidation {
        I::ContextGlobal | I::ContextDomain(_) => true,
        I::ContextDevice {
            source: named,
            mask: FunctionMask::Exact,
            ..
        } => named.0 == source,
        I::ContextDevice { source: named, .. } => named.0 | 7 == source | 7,
        _ => false,
    }
}

fn names_entry(invalidation: &Invalidation, entry: &ModelEntry) -> bool {
    match *invalidation {
        I::PasidCacheGlobal => true,
        I::PasidCacheDomain(domain) => domain.0 == entry.domain(),
        I::PasidCacheOne { domain, pasid } => {
            domain.0 == entry.domain() && u64::from(pasid.get()) == entry.pasid
        }
        _ => false,
    }
}

fn names_page(invalidation: &Invalidation, entry: &ModelEntry, page: &ModelPage) -> bool {
    let second_only = entry.kind() == 2;
    let touches = |range: &IovaRange, size: u64| {
        let first = page.first / size * size;
        range.start().0 <= first + (size - 1) && range.last().0 >= first
    };
    match *invalidation {
        I::IotlbGlobal => true,
        I::IotlbDomain(domain) => domain.0 == entry.domain(),
        I::IotlbPages { domain, range, .. } => {
            domain.0 == entry.domain() && (!second_only || touches(&range, page.size))
        }
        I::PasidIotlbAll { domain, pasid } => {
            !second_only && domain.0 == entry.domain() && u64::from(pasid.get()) == entry.pasid
        }
        I::PasidIotlbPages {
            domain,
            pasid,
            range,
            ..
        } => {
            !second_only
                && domain.0 == entry.domain()
                && u64::from(pasid.get()) == entry.pasid
                && touches(&range, page.whole)
        }
        _ => false,
    }
}

/// Runs a program against a cached and an uncached translator.
fn check(steps: &[Step], sizes: CacheSizes) -> Result<(), TestCaseError> {
    let cached = Bench::bare(full(), sizes);
    let uncached = Bench::bare(full(), CacheSizes::NONE);
    cached.set_mode(TableMode::Scalable);
    uncached.set_mode(TableMode::Scalable);
    let mut history = History::new();
    load(&cached, &start());
    for step in steps {
        if let Step::Dma(request) = step {
            let words = &history.states[history.now()];
            check_uncached(&uncached, words, request)?;
            load(&cached, words);
            let answer = cached.request(request);
            prop_assert!(
                history.allows(request, answer),
                "{answer:x?} for {request:x?}, which is {:x?} now",
                fresh(words, request).0
            );
        } else if let Step::Invalidate(invalidation) = step {
            cached.translator.invalidate(&[*invalidation]);
            let states = history.states.len();
            history.invalidations.push((states, *invalidation));
        }
        // A state of its own after an invalidation too: what is read from now on is not named by it.
        if !matches!(step, Step::Dma(_)) {
            let mut words = history.states[history.now()].clone();
            apply(&mut words, step);
            history.states.push(words);
        }
    }
    Ok(())
}

/// Answer and memory are the model's.
fn check_uncached(bench: &Bench, words: &Words, request: &Request) -> Result<(), TestCaseError> {
    load(bench, words);
    let (outcome, marks) = fresh(words, request);
    prop_assert_eq!(bench.request(request), outcome, "{:x?}", request);
    for (gpa, word) in words {
        let marked = marks.iter().filter(|(at, _)| at == gpa);
        let expected = marked.fold(*word, |word, (_, bits)| word | bits);
        prop_assert_eq!(
            bench.memory.word(*gpa),
            expected,
            "{:#x} after {:x?}",
            gpa,
            request
        );
    }
    Ok(())
}

/// Runs a program that invalidates what it edits.
fn check_dutiful(steps: &[Step], sizes: CacheSizes) -> Result<(), TestCaseError> {
    let cached = Bench::bare(full(), sizes);
    cached.set_mode(TableMode::Scalable);
    let mut words = start();
    load(&cached, &words);
    for step in steps {
        if let Step::Dma(request) = step {
            load(&cached, &words);
            let expected = fresh(&words, request).0;
            prop_assert_eq!(cached.request(request), expected, "{:x?}", request);
        } else {
            apply(&mut words, step);
            load(&cached, &words);
            cached.translator.invalidate(&duty(step));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn translation_lags_memory_only_until_it_is_invalidated(steps in program()) {
        check(&steps, WITHOUT_TABLES)?;
    }

    /// Small caches drop lines all the time and drop pages by scanning.
    #[test]
    fn translation_with_small_caches_lags_memory_only_until_it_is_invalidated(steps in program()) {
        check(&steps, CacheSizes { contexts: 4, pasids: 4, pages: 4, tables: 0, interrupts: 0 })?;
    }

    #[test]
    fn translation_for_software_that_invalidates_is_fresh(steps in program()) {
        check_dutiful(&steps, CacheSizes::default())?;
    }
}

/// The programs do reach what they are for.
#[test]
fn programs_are_answered_and_refused_in_many_ways() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut codes, mut answers) = (BTreeSet::new(), 0);
    for _ in 0..300 {
        let steps = program().new_tree(&mut runner).unwrap().current();
        let mut words = start();
        for step in &steps {
            apply(&mut words, step);
            if let Step::Dma(request) = step {
                match fresh(&words, request).0 {
                    Ok(_) => answers += 1,
                    Err((code, _)) => drop(codes.insert(code)),
                }
            }
        }
    }
    assert!(answers > 500, "{answers} answers");
    assert!(codes.len() >= 20, "{codes:x?}");
}
