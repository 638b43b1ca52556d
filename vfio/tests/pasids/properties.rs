// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Random edits of contexts, directories and PASID entries of two devices, invalidations at each granularity, translation off and
//! on, other roots and modes, resets, restored states and refusals of the host. After each wait every endpoint reaches what a
//! model says that reads the words itself; endpoints that stay saw no call; what the host refused is blocked, is a fault, and is
//! tried again when it is named again. At the end nothing of the host's is left.

mod budgets;
mod model;
mod steps;

use super::guest::{
    A, B, CONTEXT_GLOBAL, CONTEXTS, Guest, IOTLB_GLOBAL, PASID_CACHE_GLOBAL, ROOTS, Reach, SOURCES,
    endpoint,
};
use iommu::saved::SavedUnit;
use model::{Mode, Model, Named, Place, places};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use steps::{GUEST_TABLES, SCALABLE, Step, step};
use vfio::backend::TableId;
use vfio::backend::fake::{Call, FakeOptions, Injection, Logged};
use vfio::hardware::Support;

/// Bits of B's PASIDs, where the host has it so.
const NARROW: u8 = 16;

struct Bed {
    guest: Guest,
    model: Model,
    /// Of B.
    pasid_bits: u8,
    saved: Option<((SavedUnit, u64), bool, Mode)>,
    /// What the host refused to do and was not told again since.
    refused: BTreeSet<Place>,
    /// The host did not drop something of a table since it was healed last.
    unclean: bool,
}

/// What was before a step.
struct Before {
    reach: BTreeMap<Place, Reach>,
    nested: BTreeSet<TableId>,
    /// What the host cannot have: the guest knows.
    unmet: BTreeSet<Place>,
    faults: u64,
}

impl Bed {
    fn new(narrow: bool) -> Self {
        let guest = Guest::boot(FakeOptions::nesting());
        for (table, contexts) in CONTEXTS.into_iter().enumerate().skip(1) {
            for (_, source) in SOURCES {
                let (size, low, high) = if table == 2 {
                    (16, GUEST_TABLES[0] | 1, 0x402)
                } else {
                    (32, SCALABLE[2], 0)
                };
                guest.set(contexts + size * source + 8, high);
                guest.set(contexts + size * source, low);
            }
        }
        let pasid_bits = if narrow { NARROW } else { 20 };
        let support = Support {
            pasid_bits,
            page_requests: !narrow,
            ..Support::EVERYTHING
        };
        guest.host.set_support(B, support);
        guest.plug(A);
        guest.plug(B);
        let model = Model::new(&guest);
        Self {
            guest,
            model,
            pasid_bits,
            saved: None,
            refused: BTreeSet::new(),
            unclean: false,
        }
    }

    /// What a place is to reach on a host that refuses nothing but what it cannot have.
    fn expected(&self, place: Place) -> Reach {
        let (device, pasid) = place;
        let too_wide = |pasid: u32| device == B && pasid >> self.pasid_bits != 0;
        match pasid {
            // The kernel keeps it for requests without PASID.
            Some(0) => Reach::Nothing,
            Some(pasid) if too_wide(pasid) => Reach::Nothing,
            _ => self.model.expected(place).0,
        }
    }

    fn before(&self) -> Before {
        let _ = self.guest.host.take_log();
        let _ = self.guest.host.take_flushes();
        Before {
            reach: places().map(|place| (place, self.reach(place))).collect(),
            nested: self.guest.host.nested_tables().into_keys().collect(),
            unmet: places().filter(|place| self.is_unmet(*place)).collect(),
            faults: self.guest.unit.counters().follow.faults,
        }
    }

    /// Whether an entry says something that the host cannot have.
    fn is_unmet(&self, place: Place) -> bool {
        let (_, domain) = self.model.expected(place);
        domain.is_some() && self.expected(place) == Reach::Nothing
    }

    fn reach(&self, (device, pasid): Place) -> Reach {
        self.guest.reach(device, pasid)
    }

    fn step(&mut self, step: Step) {
        if self.edit(&step) {
            return;
        }
        let mut before = self.before();
        // `None` for everything.
        let looked_at = match step {
            Step::Invalidate(named) => {
                let descriptors: Vec<_> = named.iter().map(|named| named.descriptor()).collect();
                self.guest.submit(&descriptors);
                let looked_at = self.model.invalidate(&self.guest, &named);
                self.check_flushes(&named, &before);
                Some(looked_at)
            }
            Step::Translate(on) => {
                self.guest.translate(on);
                let was = std::mem::replace(&mut self.model.on, on);
                (was == on).then(BTreeSet::new)
            }
            Step::Latch(mode) => {
                self.latch(mode);
                (!self.model.on).then(BTreeSet::new)
            }
            Step::Reset => {
                self.reset();
                before = self.before();
                self.guest.enable();
                None
            }
            Step::Restore => {
                if let Some((saved, on, mode)) = &self.saved {
                    self.guest.restore(saved);
                    (self.model.on, self.model.mode) = (*on, *mode);
                    None
                } else {
                    Some(BTreeSet::new())
                }
            }
            Step::Heal => {
                self.guest.host.heal();
                let all = [CONTEXT_GLOBAL, PASID_CACHE_GLOBAL, IOTLB_GLOBAL];
                self.guest.submit(&all.map(|low| (low, 0)));
                self.unclean = false;
                None
            }
            other => panic!("{other:?} is an edit"),
        };
        let looked_at = looked_at.unwrap_or_else(|| {
            self.model.read_all(&self.guest);
            places().collect()
        });
        self.check(&looked_at, &before);
    }

    /// Does what nobody hears of; whether the step was such a one.
    fn edit(&mut self, step: &Step) -> bool {
        match *step {
            Step::Directory(directory, pasid, table) => {
                let word = table | u64::from(table != 0);
                self.guest.set(directory + pasid / 64 * 8, word);
            }
            Step::Entry(table, pasid, words) => self.guest.entry(table, pasid, words),
            Step::Context(table, device, words) => {
                let size = if table == 2 { 16 } else { 32 };
                let at = CONTEXTS[table] + SOURCES[device].1 * size;
                self.guest.set(at + 8, words[1]);
                self.guest.set(at, words[0]);
            }
            Step::Refuse(kind, error, times) => {
                let always = Injection::always(kind, error);
                self.guest.host.inject(Injection { times, ..always });
            }
            Step::Save => {
                self.saved = Some((self.guest.save(), self.model.on, self.model.mode));
            }
            _ => return false,
        }
        true
    }

    fn latch(&mut self, mode: Mode) {
        let root = match mode {
            Mode::Scalable(number) => ROOTS[number] | 0x400,
            Mode::Legacy => ROOTS[2],
            Mode::Abort => ROOTS[0] | 0xc00,
        };
        self.guest.latch(root, self.model.on);
        self.model.mode = mode;
    }

    /// Resets the unit, after which nothing is translated. It is to be set up as at the beginning.
    fn reset(&mut self) {
        self.guest.unit.reset();
        let log = self.guest.host.take_log();
        if !log.iter().any(|logged| logged.result.is_err()) {
            for (device, pasid) in places() {
                let reach = self.reach((device, pasid));
                let expected = pasid.map_or(Reach::AllRam, |_| Reach::Nothing);
                assert_eq!(reach, expected, "{device} {pasid:x?} after a reset");
            }
        }
        (self.model.on, self.model.mode) = (true, Mode::Scalable(0));
    }

    fn check(&mut self, looked_at: &BTreeSet<Place>, before: &Before) {
        let log = self.guest.host.take_log();
        let failed = |kind: fn(&Call) -> bool| {
            log.iter()
                .any(|logged| logged.result.is_err() && kind(&logged.call))
        };
        self.unclean |= failed(|call| matches!(call, Call::Invalidate(..)));
        let refusing = failed(|call| {
            matches!(
                call,
                Call::Attach(..) | Call::Create(_) | Call::CreateNested(..)
            )
        });
        let mut new = 0;
        for place in places() {
            let (reach, expected) = (self.reach(place), self.expected(place));
            let named = looked_at.contains(&place);
            let was_refused = self.refused.contains(&place);
            if reach == expected {
                self.refused.remove(&place);
            } else {
                let unclean = self.unclean && matches!(expected, Reach::First(_) | Reach::Both(..));
                let may_be = refusing && named || was_refused && !named || unclean;
                assert!(
                    reach == Reach::Nothing && may_be,
                    "{place:x?}: {reach:x?} and not {expected:x?}, named {named}; {log:x?}"
                );
                if !unclean {
                    new += u64::from(!was_refused && !before.unmet.contains(&place));
                    self.refused.insert(place);
                }
            }
            let stays = before.reach[&place] == expected && expected != Reach::Nothing;
            if stays && reach == expected && !was_refused && !self.unclean {
                let calls = calls_for(&log, place);
                assert!(calls.is_empty(), "{place:x?} stays: {calls:x?}");
            }
        }
        let faults = self.guest.unit.counters().follow.faults - before.faults;
        let records = self.model.on && self.model.mode != Mode::Abort;
        assert!(
            !records || faults >= new,
            "{faults} faults for {new} refusals"
        );
        assert_eq!(self.guest.host.leaks(), 0);
    }

    /// Tables that endpoints go through are invalidated when they are named, each once a batch.
    fn check_flushes(&self, named: &[Named], before: &Before) {
        let flushed: Vec<TableId> = self
            .guest
            .host
            .take_flushes()
            .into_iter()
            .map(|(table, _)| table)
            .collect();
        let once: BTreeSet<TableId> = flushed.iter().copied().collect();
        // One that was not dropped before is tried again besides.
        assert!(self.unclean || once.len() == flushed.len(), "{flushed:?}");
        for place in places() {
            let (Reach::First(_) | Reach::Both(..), (_, Some(domain))) =
                (self.reach(place), self.model.expected(place))
            else {
                continue;
            };
            let table = self.guest.host.reaches(endpoint(place.0, place.1));
            let table = table.filter(|table| before.nested.contains(table));
            let pasid = self.model.pasid_of(place).unwrap();
            if let Some(table) = table
                && named.iter().any(|named| named.means_tables(domain, pasid))
            {
                assert!(
                    once.contains(&table),
                    "{place:x?} uses {table:?}, {named:x?}"
                );
            }
        }
    }

    /// Nothing is left when the devices are gone.
    fn end(self) {
        self.guest.host.heal();
        self.guest.unplug(A);
        self.guest.unplug(B);
        let host = &self.guest.host;
        assert!(host.attached().is_empty());
        assert!(host.nested_tables().is_empty());
        assert_eq!(host.tables(), [host.identity().unwrap()]);
    }
}

fn calls_for(log: &[Logged], (device, pasid): Place) -> Vec<&Logged> {
    let at = endpoint(device, pasid);
    let touched = |call: &Call| match call {
        Call::Attach(endpoint, _) | Call::Detach(endpoint) => *endpoint == at,
        _ => false,
    };
    log.iter().filter(|logged| touched(&logged.call)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn host_binds_what_the_guests_structures_say(
        steps in prop::collection::vec(step(), 1..80),
        narrow in any::<bool>(),
    ) {
        let mut bed = Bed::new(narrow);
        for step in steps {
            bed.step(step);
        }
        bed.end();
    }
}
