// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Random edits of contexts, directories and PASID entries, and random invalidations through the queue. After each wait what
//! was told equals what a model holds that reads the words itself: of all that was ever named, what stood there when it was
//! named last. No event says what was said before.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const SOURCES: [u16; 2] = [DEVICE, OTHER];
const DIRECTORIES: [u64; 2] = [0x1_0000, 0x1_8000];
const TABLES: [u64; 3] = [0x2_0000, 0x2_1000, 0x2_2000];
/// Four of each of three tables, which may be one table.
const PASIDS: [u32; 12] = [0, 1, 2, 63, 64, 65, 66, 127, 8128, 8129, 8130, 8191];

/// Kind, domain and roots.
type Reach = (&'static str, u64, u64, u64);
const BLOCKED: Reach = ("blocked", 0, 0, 0);
const IDENTITY: Reach = ("identity", 0, 0, 0);

#[derive(Clone, Debug)]
enum Step {
    Context(usize, [u64; 2]),
    Directory(usize, u64, u64),
    Entry(usize, u64, [u64; 3]),
    Invalidate(Vec<(u64, u64)>),
    Translate(bool),
    Restart,
}

fn pasid() -> impl Strategy<Value = u64> {
    prop::sample::select(PASIDS.to_vec()).prop_map(u64::from)
}

fn context() -> impl Strategy<Value = [u64; 2]> {
    let low = (
        prop::sample::select(DIRECTORIES.to_vec()),
        prop::sample::select(vec![9u64, 9, 9, 9, 1, 0, 0x29]),
    );
    (low, prop::sample::select(vec![0u64, 1, 66]))
        .prop_map(|((directory, flags), rid)| [directory | flags, rid])
}

fn entry() -> impl Strategy<Value = [u64; 3]> {
    let root = || (0u64..2).prop_map(|index| 0x3_0000 + index * 0x1000);
    let low = prop::sample::select(vec![0u64, 0x89, 0x89, 0x41, 0xc9, 0x101, 0x489, 0x141]);
    (low, root(), root(), 4u64..7)
        .prop_map(|(low, first, second, domain)| [low | second, domain, first])
}

fn descriptor() -> impl Strategy<Value = (u64, u64)> {
    let domain = || prop::sample::select(vec![0u64, 4, 5, 6]);
    prop_oneof![
        1 => Just((0x11, 0)),
        1 => domain().prop_map(|domain| (0x21 | domain << 16, 0)),
        2 => prop::sample::select(SOURCES.to_vec())
            .prop_map(|source| (0x31 | u64::from(source) << 32, 0)),
        2 => Just((0x37, 0)),
        3 => domain().prop_map(|domain| (0x07 | domain << 16, 0)),
        6 => (domain(), pasid()).prop_map(|(domain, pasid)| (0x17 | domain << 16 | pasid << 32, 0)),
        1 => domain().prop_map(|domain| (0x22 | domain << 16, 0)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0usize..2, context()).prop_map(|(device, words)| Step::Context(device, words)),
        3 => (0usize..2, pasid(), prop::sample::select(vec![0u64, TABLES[0], TABLES[1], TABLES[2], 0x2_0004]))
            .prop_map(|(directory, pasid, table)| Step::Directory(directory, pasid, table)),
        8 => (0usize..3, pasid(), entry()).prop_map(|(table, pasid, words)| Step::Entry(table, pasid, words)),
        8 => prop::collection::vec(descriptor(), 1..4).prop_map(Step::Invalidate),
        1 => any::<bool>().prop_map(Step::Translate),
        1 => Just(Step::Restart),
    ]
}

/// One device as the model knows it.
#[derive(Clone, Debug, Default)]
struct Model {
    /// Low and high word; `None` while translation is off.
    context: Option<[u64; 2]>,
    own: Option<(Reach, Option<u64>)>,
    bound: BTreeMap<u32, (Reach, u64)>,
}

struct Words<'a>(&'a Bed);

impl Words<'_> {
    fn word(&self, at: u64) -> u64 {
        self.0.bench.ram.load_u64(GuestAddress(at)).unwrap()
    }

    /// Where the entry of `pasid` leads, and its domain, below a valid context.
    fn entry(&self, context: [u64; 2], pasid: u32) -> Option<(Reach, u64)> {
        let pasid = u64::from(pasid);
        let directory = self.word((context[0] & !0xfff) + pasid / 64 * 8);
        if directory & 1 == 0 || directory & 0xffc != 0 {
            return None;
        }
        let at = (directory & !0xfff) + pasid % 64 * 64;
        let [low, domain, high] = [self.word(at), self.word(at + 8), self.word(at + 16)];
        if low & 1 == 0 || low & 0xc00 != 0 {
            return None;
        }
        let (first, second) = (high & !0xfff, low & !0xfff);
        let reach = match low >> 6 & 7 {
            1 => ("first", domain, first, 0),
            2 => ("second", domain, 0, second),
            3 => ("nested", domain, first, second),
            4 => IDENTITY,
            _ => return None,
        };
        Some((reach, domain))
    }
}

impl Model {
    fn valid(&self) -> Option<[u64; 2]> {
        self.context
            .filter(|[low, _]| low & 1 == 1 && low & 0x1e0 == 0)
    }

    fn rid(&self) -> u32 {
        u32::try_from(self.context.map_or(0, |[_, high]| high)).unwrap()
    }

    /// What requests without PASID come to now.
    fn read_own(&self, words: &Words<'_>) -> (Reach, Option<u64>) {
        match (self.context, self.valid()) {
            (None, _) => (IDENTITY, None),
            (Some(_), None) => (BLOCKED, None),
            (_, Some(context)) => match words.entry(context, self.rid()) {
                Some((reach, domain)) => (reach, Some(domain)),
                None => (BLOCKED, None),
            },
        }
    }

    fn read(&self, words: &Words<'_>, pasid: u32) -> Option<(Reach, u64)> {
        let context = self.valid().filter(|[low, _]| low & 8 != 0)?;
        (pasid != self.rid())
            .then(|| words.entry(context, pasid))
            .flatten()
    }

    /// Everything is looked at.
    fn reread(&mut self, words: &Words<'_>, context: Option<[u64; 2]>) {
        self.context = context;
        self.own = Some(self.read_own(words));
        let bound = PASIDS.iter().map(|&pasid| (pasid, self.read(words, pasid)));
        self.bound = bound
            .filter_map(|(pasid, seen)| Some((pasid, seen?)))
            .collect();
    }

    /// Entries that `named` names, from old and new domain, are looked at.
    fn reread_named(
        &mut self,
        words: &Words<'_>,
        named: impl Fn(u32, Option<u64>, Option<u64>) -> bool,
    ) {
        if self.valid().is_none() {
            return;
        }
        let (own, rid) = (self.read_own(words), self.rid());
        if named(rid, self.own.and_then(|own| own.1), own.1) {
            self.own = Some(own);
        }
        for pasid in PASIDS.into_iter().filter(|pasid| *pasid != rid) {
            let (old, new) = (self.bound.get(&pasid).copied(), self.read(words, pasid));
            if named(pasid, old.map(|seen| seen.1), new.map(|seen| seen.1)) {
                match new {
                    Some(seen) => self.bound.insert(pasid, seen),
                    None => self.bound.remove(&pasid),
                };
            }
        }
    }
}

fn reach(to: &Attachment) -> Reach {
    match to {
        Attachment::Blocked => BLOCKED,
        Attachment::Identity => IDENTITY,
        Attachment::Domain(domain) => {
            let id = u64::from(domain.id.0);
            match domain.tables.stages {
                Stages::First(first) => ("first", id, first.table.0, 0),
                Stages::Second(second) => ("second", id, 0, second.table.0),
                Stages::Nested(first, second) => ("nested", id, first.table.0, second.table.0),
            }
        }
    }
}

/// What a follower has come to know: without PASID, and with each.
#[derive(Default)]
struct Known {
    own: Option<Reach>,
    bound: BTreeMap<u32, Reach>,
}

/// A bed, what its follower knows, and the model.
struct Run {
    bed: Bed,
    on: bool,
    known: [Known; 2],
    models: [Model; 2],
}

impl Run {
    fn new() -> Self {
        let bed = Bed::scalable();
        let mut run = Self {
            bed,
            on: false,
            known: Default::default(),
            models: Default::default(),
        };
        for (index, source) in SOURCES.into_iter().enumerate() {
            let handle = DeviceHandle(u32::try_from(index).unwrap());
            let told = run.bed.follow(handle, source);
            run.hear(&told);
        }
        run.reread_all();
        run
    }

    fn contexts(&self) -> [Option<[u64; 2]>; 2] {
        SOURCES.map(|source| {
            let at = 0x9000 + 32 * u64::from(source);
            let words = Words(&self.bed);
            self.on.then(|| [words.word(at), words.word(at + 8)])
        })
    }

    fn reread_all(&mut self) {
        let contexts = self.contexts();
        for (model, context) in self.models.iter_mut().zip(contexts) {
            model.reread(&Words(&self.bed), context);
        }
    }

    /// Takes events as a follower does, and refuses those that change nothing.
    fn hear(&mut self, events: &[FollowEvent]) {
        for event in events {
            let Some(DeviceHandle(index)) = event.device() else {
                continue;
            };
            let known = &mut self.known[usize::try_from(index).unwrap()];
            match event {
                FollowEvent::Attach { to, .. } => {
                    assert_ne!(known.own.replace(reach(to)), Some(reach(to)));
                }
                FollowEvent::Bind { pasid, to, .. } => {
                    assert_eq!(known.bound.insert(pasid.get(), reach(to)), None);
                }
                FollowEvent::Rebind { pasid, to, .. } => {
                    let old = known.bound.insert(pasid.get(), reach(to));
                    assert!(old.is_some_and(|old| old != reach(to)));
                }
                FollowEvent::Unbind { pasid, .. } => {
                    assert!(known.bound.remove(&pasid.get()).is_some());
                }
                FollowEvent::Invalidated(_) | FollowEvent::Reset => {}
            }
        }
    }

    fn invalidate(&mut self, descriptors: &[(u64, u64)]) {
        let told = self.bed.submit(descriptors);
        self.hear(&told);
        let contexts = self.contexts();
        let words = Words(&self.bed);
        for (index, model) in self.models.iter_mut().enumerate() {
            let source = u64::from(SOURCES[index]);
            let named = descriptors.iter().any(|(low, _)| match low & 0x3f {
                0x11 => true,
                0x31 => low >> 32 & 0xffff == source,
                // A context without PASID entries names no domain, and one with PASID entries none either.
                0x21 => model.valid().is_some() || is_valid(contexts[index]),
                _ => false,
            });
            if named {
                model.reread(&words, contexts[index]);
                continue;
            }
            model.reread_named(&words, |pasid, old, new| {
                descriptors.iter().any(|(low, _)| {
                    let domain = Some(low >> 16 & 0xffff);
                    let either = domain == old || domain == new;
                    match low & 0x3f {
                        0x37 => true,
                        0x07 => either,
                        0x17 if low >> 32 == u64::from(pasid) => {
                            either || domain == Some(0) && old.is_none()
                        }
                        _ => false,
                    }
                })
            });
        }
    }

    fn step(&mut self, step: &Step) {
        let bed = &self.bed;
        match step {
            Step::Context(device, words) => {
                let at = 0x9000 + 32 * u64::from(SOURCES[*device]);
                bed.set(at + 8, words[1]);
                bed.set(at, words[0]);
            }
            Step::Directory(directory, pasid, table) => {
                let at = DIRECTORIES[*directory] + pasid / 64 * 8;
                bed.set(at, table | u64::from(*table != 0));
            }
            Step::Entry(table, pasid, words) => bed.entry(TABLES[*table], *pasid, *words),
            Step::Invalidate(descriptors) => self.invalidate(descriptors),
            Step::Translate(on) if *on == self.on => {}
            Step::Translate(on) => {
                self.on = *on;
                bed.bench
                    .w32(0x18, if *on { 0x8400_0000 } else { 0x0400_0000 });
                self.replayed();
            }
            Step::Restart => {
                let command = if self.on { 0xc400_0000 } else { 0x4400_0000 };
                bed.bench.w32(0x18, command);
                self.replayed();
            }
        }
    }

    /// After a command that makes the unit look at everything.
    fn replayed(&mut self) {
        let told = self.bed.told();
        self.hear(&told);
        self.reread_all();
    }

    fn check(&self) {
        for (known, model) in self.known.iter().zip(&self.models) {
            assert_eq!(known.own, model.own.map(|own| own.0));
            let bound: BTreeMap<_, _> = model
                .bound
                .iter()
                .map(|(pasid, seen)| (*pasid, seen.0))
                .collect();
            assert_eq!(known.bound, bound);
        }
    }
}

fn is_valid(context: Option<[u64; 2]>) -> bool {
    context.is_some_and(|[low, _]| low & 1 == 1 && low & 0x1e0 == 0)
}

proptest! {
    #[test]
    fn what_is_told_is_what_the_tables_say(steps in prop::collection::vec(step(), 1..60)) {
        let mut run = Run::new();
        run.step(&Step::Translate(true));
        for step in &steps {
            run.step(step);
            run.check();
        }
        run.invalidate(&[(0x11, 0)]);
        run.reread_all();
        run.check();
    }
}
