// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Random edits of guest tables and moves of devices, on both kinds of host, with and without refusals.

use super::rig::*;
use crate::backend::fake::{Call, CallKind, FakeOptions, Injection, Logged};
use crate::backend::{HostError, TableId};
use crate::mirror::Budget;
use crate::run::push_joined;
use iommu::address::Iova;
use iommu::follow::{Answer, Attachment, DeviceHandle, FollowEvent, Invalidated, Unmet};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Large pages that are edited: two beside each other, and two that meet at the interrupt window, which is the first half of
/// the last.
const REGIONS: [u64; 4] = [0, LARGE, 0xfec0_0000, 0xfee0_0000];

/// Pages of a region that are edited.
const SLOTS: [u64; 8] = [0, 1, 2, 3, 255, 256, 257, 511];

/// Where pages lead: into RAM, to its last large page, where there is none, and above 4 GiB.
const TARGETS: [u64; 4] = [0x100_0000, GIB - LARGE, GIB, 4 * GIB];

#[derive(Clone, Copy, Debug)]
enum Edit {
    Map(u64, u64, u64),
    Clear(u64),
    Break(u64),
    MapLarge(u64, u64),
    Split(u64),
    ClearLarge(u64),
    ReadOnly(u64),
}

#[derive(Clone, Debug)]
enum Step {
    /// Edits of the tables at one root, and how they are invalidated.
    Edit(usize, Vec<Edit>, u8),
    /// A device goes to the tables at one root, or to none.
    Move(DeviceHandle, Option<usize>),
}

fn page() -> impl Strategy<Value = u64> {
    (0..REGIONS.len(), 0..SLOTS.len())
        .prop_map(|(region, slot)| REGIONS[region] + SLOTS[slot] * PAGE)
}

fn edit() -> impl Strategy<Value = Edit> {
    let region = (0..REGIONS.len()).prop_map(|region| REGIONS[region]);
    let target = (0..TARGETS.len()).prop_map(|target| TARGETS[target]);
    let bits = prop_oneof![5 => Just(RW), 1 => Just(R), 1 => Just(W)];
    prop_oneof![
        8 => (page(), target.clone(), bits).prop_map(|(page, target, bits)| Edit::Map(page, target, bits)),
        5 => page().prop_map(Edit::Clear),
        1 => page().prop_map(Edit::Break),
        3 => (region.clone(), target).prop_map(|(region, target)| Edit::MapLarge(region, target)),
        2 => region.clone().prop_map(Edit::Split),
        1 => region.clone().prop_map(Edit::ClearLarge),
        1 => region.prop_map(Edit::ReadOnly),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let device = prop_oneof![Just(A), Just(B)];
    let root = prop_oneof![4 => (0..2usize).prop_map(Some), 1 => Just(None)];
    prop_oneof![
        5 => (0..2usize, prop::collection::vec(edit(), 1..8), 0..4u8)
            .prop_map(|(root, edits, how)| Step::Edit(root, edits, how)),
        1 => (device, root).prop_map(|(device, root)| Step::Move(device, root)),
    ]
}

/// A guest with two domains and two devices.
struct Guest {
    rig: Rig,
    roots: [u64; 2],
    /// Where each device is meant to be.
    domains: BTreeMap<DeviceHandle, Option<usize>>,
    /// Devices that the guest knows to be in trouble.
    told: BTreeSet<DeviceHandle>,
    /// Attachments to be told again.
    refused: BTreeSet<DeviceHandle>,
}

impl Guest {
    fn new(options: FakeOptions) -> Self {
        let mut rig = Rig::with(options, Budget::for_ram(GIB));
        let roots = [rig.table(), rig.table()];
        for root in roots {
            for region in REGIONS {
                rig.entry(root, region, 1);
            }
        }
        let mut guest = Self {
            rig,
            roots,
            domains: BTreeMap::new(),
            told: BTreeSet::new(),
            refused: BTreeSet::new(),
        };
        for (device, domain) in [(A, Some(0)), (B, None)] {
            let _ = guest.step(&Step::Move(device, domain));
        }
        guest
    }

    /// Edits the tables; returns what has to be invalidated.
    fn edit(&mut self, root: u64, edit: Edit) -> (u64, u64) {
        let rig = &mut self.rig;
        let (Edit::Map(at, ..)
        | Edit::Clear(at)
        | Edit::Break(at)
        | Edit::MapLarge(at, _)
        | Edit::Split(at)
        | Edit::ClearLarge(at)
        | Edit::ReadOnly(at)) = edit;
        let region = (at & !(LARGE - 1), LARGE);
        let above = rig.entry(root, at, 2);
        let word = rig.memory.word(above);
        let was_large = word & PS != 0;
        let offset = at & (LARGE - 1);
        match edit {
            Edit::Map(at, target, bits) => rig.map(root, at, target + offset, bits),
            Edit::Clear(at) => rig.clear(root, at, 1),
            Edit::Break(at) => rig.map(root, at, 0x5000, RW | RESERVED),
            Edit::MapLarge(at, target) => rig.map_large(root, at, target, RW),
            Edit::Split(at) if was_large => {
                rig.memory.set(above, 0);
                rig.map_pages(root, at, word & 0xf_ffff_ffff_f000, LARGE);
            }
            Edit::ClearLarge(_) => rig.memory.set(above, 0),
            Edit::ReadOnly(_) if word & RW != 0 => rig.memory.set(above, word & !W | R),
            Edit::Split(_) | Edit::ReadOnly(_) => {}
        }
        match edit {
            Edit::Map(..) | Edit::Clear(_) | Edit::Break(_) if !was_large => (at, PAGE),
            _ => region,
        }
    }

    fn attach(&self, device: DeviceHandle) -> FollowEvent {
        let to = self.domains[&device].map_or(Attachment::Blocked, |root| self.domain(root));
        FollowEvent::Attach { device, to }
    }

    fn domain(&self, root: usize) -> Attachment {
        self.rig.domain(tag(root), self.roots[root])
    }

    /// One batch; attachments that were refused are told again first, as the unit does.
    fn step(&mut self, step: &Step) -> Answer {
        let mut events: Vec<_> = self
            .refused
            .iter()
            .map(|device| self.attach(*device))
            .collect();
        match step {
            Step::Edit(root, edits, how) => {
                let table = self.roots[*root];
                let ranges: Vec<_> = edits.iter().map(|edit| self.edit(table, *edit)).collect();
                match how {
                    0 => events.push(domain_invalidated(tag(*root))),
                    1 => events.push(FollowEvent::Invalidated(Invalidated::ALL)),
                    _ => events.extend(
                        ranges
                            .iter()
                            .map(|(start, len)| pages_invalidated(tag(*root), *start, *len)),
                    ),
                }
            }
            Step::Move(device, root) => {
                self.domains.insert(*device, *root);
                events.push(self.attach(*device));
            }
        }
        let answer = self.rig.unit.apply(&events);
        self.refused.clear();
        for refusal in answer
            .results
            .iter()
            .filter_map(|result| result.as_ref().err())
        {
            for unmet in &refusal.unmet {
                self.told.insert(unmet.device());
                if let Unmet::Attachment(device) = unmet {
                    self.refused.insert(*device);
                }
            }
        }
        for device in &answer.resynced {
            assert!(self.told.remove(device), "{device} was never in trouble");
        }
        answer
    }

    /// What a device is to reach.
    fn expected(&self, device: DeviceHandle) -> Pages {
        let pages = REGIONS
            .iter()
            .flat_map(|region| region / PAGE..region / PAGE + 512);
        match self.domains[&device] {
            Some(root) => self.rig.expected(self.roots[root], pages),
            None => Pages::new(),
        }
    }

    fn tables(&self) -> BTreeMap<TableId, Pages> {
        let host = &self.rig.host;
        host.tables()
            .into_iter()
            .map(|id| (id, pages_of(&host.mappings(id).unwrap())))
            .collect()
    }
}

const fn tag(root: usize) -> u16 {
    if root == 0 { 1 } else { 2 }
}

/// What stays the same in both.
fn common(before: &Pages, after: &Pages) -> Pages {
    before
        .iter()
        .filter(|(page, target)| after.get(page) == Some(target))
        .map(|(page, target)| (*page, *target))
        .collect()
}

fn without(pages: &Pages, others: &Pages) -> Pages {
    pages
        .iter()
        .filter(|(page, _)| !others.contains_key(page))
        .map(|(page, target)| (*page, *target))
        .collect()
}

/// The fewest calls that remove `gone`, and map `new`, without touching `stays`.
fn fewest_calls(gone: &Pages, stays: &Pages, new: &Pages) -> usize {
    let mut all: Vec<(u64, bool)> = gone.keys().map(|page| (*page, true)).collect();
    all.extend(stays.keys().map(|page| (*page, false)));
    all.sort_unstable();
    let mut open = false;
    let mut calls = 0;
    for (_, goes) in all {
        calls += usize::from(goes && !open);
        open = goes;
    }
    let mut runs = Vec::new();
    for (page, (gpa, rights)) in new {
        push_joined(
            &mut runs,
            super::rig::run(page * PAGE, PAGE, gpa * PAGE, *rights),
        );
    }
    calls + runs.len()
}

/// Whether a call removes one of `pages` from `table`.
fn removes(logged: &Logged, table: TableId, pages: &Pages) -> bool {
    match logged.call {
        Call::Unmap(of, range) | Call::CutOut(of, range) if of == table => {
            let (first, last) = (range.start().0 / PAGE, range.last().0 / PAGE);
            pages.range(first..=last).next().is_some()
        }
        Call::UnmapAll(of) => of == table && !pages.is_empty(),
        _ => false,
    }
}

fn of_table(logged: &Logged, table: TableId) -> bool {
    match logged.call {
        Call::Map(of, ..) | Call::Unmap(of, _) | Call::CutOut(of, _) | Call::UnmapAll(of) => {
            of == table
        }
        _ => false,
    }
}

proptest! {
    /// After every batch the host has what the tables say; what stayed valid was never absent, no call was too many.
    #[test]
    fn host_that_cuts_follows_the_tables_without_a_gap_and_in_the_fewest_calls(
        steps in prop::collection::vec(step(), 1..12),
    ) {
        let mut guest = Guest::new(FakeOptions::iommufd());
        for step in steps {
            let before = guest.tables();
            let _ = guest.rig.host.take_log();
            let answer = guest.step(&step);
            prop_assert!(answer.results.iter().all(Result::is_ok));
            for device in [A, B] {
                prop_assert_eq!(guest.rig.pages(device), guest.expected(device));
            }
            guest.rig.assert_ledger_is_true();
            let log = guest.rig.mapping_calls();
            for (table, after) in guest.tables() {
                let before = before.get(&table).cloned().unwrap_or_default();
                let stays = common(&before, &after);
                prop_assert!(!log.iter().any(|logged| removes(logged, table, &stays)), "{:?}", log);
                let calls = log.iter().filter(|logged| of_table(logged, table)).count();
                let fewest = fewest_calls(&without(&before, &stays), &stays, &without(&after, &stays));
                prop_assert_eq!(calls, fewest, "{:?}", log);
            }
        }
        prop_assert_eq!(guest.rig.mirror.stats().gaps, 0);
    }

    /// The same where mappings cannot be cut, but that what stayed valid may be absent where a gap was counted. Few entries,
    /// so that compaction has its part.
    #[test]
    fn host_that_cannot_cut_follows_the_tables_and_counts_its_gaps(
        steps in prop::collection::vec(step(), 1..12), entries in prop_oneof![Just(65_535u32), 40..80u32],
    ) {
        let mut guest = Guest::new(FakeOptions {
            entry_limit: Some(entries),
            ..FakeOptions::type1()
        });
        for step in steps {
            let before = guest.tables();
            let gaps = guest.rig.mirror.stats().gaps;
            let _ = guest.rig.host.take_log();
            let answer = guest.step(&step);
            prop_assert!(answer.results.iter().all(Result::is_ok));
            for device in [A, B] {
                prop_assert_eq!(guest.rig.pages(device), guest.expected(device));
            }
            guest.rig.assert_ledger_is_true();
            let log = guest.rig.mapping_calls();
            let absent = guest.tables().iter().any(|(table, after)| {
                let stays = common(&before[table], after);
                log.iter().any(|logged| removes(logged, *table, &stays))
            });
            prop_assert_eq!(absent, guest.rig.mirror.stats().gaps > gaps);
        }
    }
}

fn injection() -> impl Strategy<Value = Injection> {
    let kind = prop_oneof![
        3 => Just(CallKind::Map),
        2 => Just(CallKind::Remove),
        1 => Just(CallKind::Attach),
        1 => Just(CallKind::Create),
    ];
    let error = prop_oneof![
        Just(HostError::EntryLimit),
        Just(HostError::LockedMemory),
        Just(HostError::Overlap),
        Just(HostError::Invalid),
        Just(HostError::Unpinnable),
        Just(HostError::Io),
        Just(HostError::Busy),
    ];
    (kind, error, 0..3u32, 1..5u32).prop_map(|(kind, error, after, times)| Injection {
        after,
        times,
        ..Injection::always(kind, error)
    })
}

/// Steps with refusals, then one without.
fn refusing(
    options: FakeOptions,
    steps: Vec<(Step, Option<Injection>)>,
) -> Result<(), TestCaseError> {
    let moves = options.features.can_move;
    let mut guest = Guest::new(options);
    for (step, injection) in steps {
        guest.rig.host.heal();
        if let Some(injection) = injection {
            guest.rig.host.inject(injection);
        }
        let _ = guest.step(&step);
        guest.rig.assert_ledger_is_true();
        for device in [A, B] {
            let (reached, expected) = (guest.rig.pages(device), guest.expected(device));
            let told = guest.told.contains(&device);
            prop_assert!(
                reached == expected || told,
                "{device} lacks something, and nobody knows"
            );
            let extra = without(&reached, &common(&reached, &expected));
            // Without moves a table that the host does not empty is all that there is; that much is known.
            prop_assert!(
                extra.is_empty() || !moves && told,
                "{device} reaches {extra:?}"
            );
        }
    }
    guest.rig.host.heal();
    let _ = guest.step(&Step::Edit(0, vec![], 1));
    for device in [A, B] {
        prop_assert_eq!(guest.rig.pages(device), guest.expected(device));
    }
    prop_assert_eq!(&guest.told, &BTreeSet::new());
    guest.rig.assert_ledger_is_true();
    Ok(())
}

proptest! {
    /// A refusal is never taken for success, nothing is reached that the tables do not say, and everything comes right
    /// with the next batch that the host does not refuse.
    #[test]
    fn host_that_cuts_and_refuses_is_known_to_lack_and_is_made_whole(
        steps in prop::collection::vec((step(), prop::option::of(injection())), 1..10),
    ) {
        refusing(FakeOptions::iommufd(), steps)?;
    }

    #[test]
    fn host_that_cannot_cut_and_refuses_is_known_to_lack_and_is_made_whole(
        steps in prop::collection::vec((step(), prop::option::of(injection())), 1..10),
    ) {
        refusing(FakeOptions::type1(), steps)?;
    }

    /// Every kind of tables, also such that make no sense, is carried out or refused without a panic, and in bounded time.
    #[test]
    fn tables_of_random_words_do_no_harm(words in prop::collection::vec((0..64u64, any::<u64>()), 1..200)) {
        let mut rig = Rig::with(FakeOptions::iommufd(), Budget { tables: 512, runs: 512 });
        let tables: Vec<u64> = (0..4).map(|_| rig.table()).collect();
        for (n, (place, word)) in words.into_iter().enumerate() {
            // Half of them name one of the tables.
            let word = if word & 0x800 == 0 { tables[n % 4] | word & 3 } else { word };
            rig.memory.set(tables[n % 4] + place * 8, word);
        }
        let event = FollowEvent::Attach { device: A, to: rig.domain(1, tables[0]) };
        let _ = rig.unit.apply(&[event]);
        rig.assert_ledger_is_true();
        prop_assert!(rig.mirror.stats().tables <= 512 + 64);
        let window = range(0xfee0_0000, 0x10_0000);
        for run in rig.reached(A) {
            prop_assert!(!run.iova.overlaps(&window) && run.iova.start() < Iova(1 << 48));
        }
    }
}
