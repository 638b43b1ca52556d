// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Random edits of the directory and of PASID entries, random invalidations and refusals of the host. After each wait every
//! endpoint reaches what a model says that reads the words itself: of what was named, what stands there now. Endpoints that
//! stay saw no call. At the end nothing of the host's is left.

use super::guest::{
    A, B, CONTEXT_GLOBAL, DIRECTORY, Guest, PASID_CACHE_GLOBAL, Reach, both, endpoint, first,
    pasid_cache_domain, pasid_cache_one, pasid_iotlb_all, pass_through, second,
};
use iommu::follow::DeviceHandle;
use proptest::prelude::*;
use std::collections::BTreeMap;
use vfio::backend::HostError;
use vfio::backend::fake::{Call, CallKind, FakeOptions, Injection};

const TABLES: [u64; 3] = [0x30_0000, 0x30_1000, 0x30_2000];
const ROOTS: [u64; 3] = [0x38_0000, 0x38_1000, 0x38_2000];
/// Some of four directory entries, which may name one table. 0 is RID_PASID.
const PASIDS: [u32; 9] = [0, 1, 2, 63, 64, 65, 0x8_0001, 0xf_ffc0, 0xf_ffff];
const DEVICES: [DeviceHandle; 2] = [A, B];

#[derive(Clone, Debug)]
enum Step {
    Directory(u64, u64),
    Entry(u64, u64, [u64; 3]),
    Invalidate(Vec<Named>),
    Translate(bool),
    /// The host refuses one attachment, or to make one table.
    Refuse(CallKind, HostError),
    Heal,
}

/// Which entries an invalidation names.
#[derive(Clone, Copy, Debug)]
enum Named {
    All,
    Domain(u64),
    One(u64, u64),
    /// Tables only.
    None(u64, u64),
}

impl Named {
    fn descriptor(self) -> (u64, u64) {
        let low = match self {
            Self::All => PASID_CACHE_GLOBAL,
            Self::Domain(domain) => pasid_cache_domain(domain),
            Self::One(domain, pasid) => pasid_cache_one(domain, pasid),
            Self::None(domain, pasid) => pasid_iotlb_all(domain, pasid),
        };
        (low, 0)
    }

    /// Whether the entry of `pasid` is meant, which said `old` and says `new`.
    fn means(self, pasid: u32, old: Option<u64>, new: Option<u64>) -> bool {
        match self {
            Self::All => true,
            Self::Domain(domain) => [old, new].contains(&Some(domain)),
            Self::One(domain, named) => {
                let absent = domain == 0 && old.is_none();
                named == u64::from(pasid) && (absent || [old, new].contains(&Some(domain)))
            }
            Self::None(..) => false,
        }
    }
}

fn pasid() -> impl Strategy<Value = u64> {
    prop::sample::select(PASIDS.to_vec()).prop_map(u64::from)
}

fn entry() -> impl Strategy<Value = [u64; 3]> {
    let root = prop::sample::select(ROOTS.to_vec());
    (0..9, root, 4u64..7).prop_map(|(kind, root, domain)| match kind {
        0 => [0; 3],
        1..4 => first(root, domain),
        4..7 => second(root, domain),
        7 => pass_through(domain),
        _ => both(root, ROOTS[0], domain),
    })
}

fn named() -> impl Strategy<Value = Named> {
    let domain = || prop::sample::select(vec![0u64, 4, 5, 6]);
    prop_oneof![
        2 => Just(Named::All),
        2 => domain().prop_map(Named::Domain),
        6 => (domain(), pasid()).prop_map(|(domain, pasid)| Named::One(domain, pasid)),
        2 => (domain(), pasid()).prop_map(|(domain, pasid)| Named::None(domain, pasid)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let table = prop::sample::select(vec![0, TABLES[0], TABLES[1], TABLES[2]]);
    let kind = prop::sample::select(vec![CallKind::Attach, CallKind::Create]);
    let error = prop::sample::select(vec![
        HostError::Busy,
        HostError::Invalid,
        HostError::EntryLimit,
    ]);
    prop_oneof![
        3 => (pasid(), table).prop_map(|(pasid, table)| Step::Directory(pasid, table)),
        8 => (0usize..3, pasid(), entry())
            .prop_map(|(table, pasid, words)| Step::Entry(TABLES[table], pasid, words)),
        8 => prop::collection::vec(named(), 1..4).prop_map(Step::Invalidate),
        1 => any::<bool>().prop_map(Step::Translate),
        1 => (kind, error).prop_map(|(kind, error)| Step::Refuse(kind, error)),
        1 => Just(Step::Heal),
    ]
}

/// What the entry of `pasid` says, word by word, and its domain; `None` for one that is not present or not valid.
fn naive(guest: &Guest, pasid: u32) -> Option<(Reach, u64)> {
    let pasid = u64::from(pasid);
    let directory = guest.word(DIRECTORY + pasid / 64 * 8);
    if directory & 1 == 0 {
        return None;
    }
    let at = (directory & !0xfff) + pasid % 64 * 64;
    let (low, high) = (guest.word(at), guest.word(at + 16));
    if low & 1 == 0 {
        return None;
    }
    let reach = match low >> 6 & 7 {
        1 => Reach::First(high & !0xfff),
        2 => Reach::Second(low & !0xfff),
        3 => Reach::Both(high & !0xfff, low & !0xfff),
        _ => Reach::AllRam,
    };
    Some((reach, guest.word(at + 8) & 0xffff))
}

#[derive(Debug, Default)]
struct Model {
    on: bool,
    known: BTreeMap<u32, (Reach, u64)>,
    /// The host was told to refuse since everything was last read: what was to change may be blocked.
    refusing: bool,
}

impl Model {
    fn read(&mut self, guest: &Guest, named: &[Named]) {
        for pasid in PASIDS {
            let old = self.known.get(&pasid).map(|(_, domain)| *domain);
            let new = naive(guest, pasid);
            let domain = new.map(|(_, domain)| domain);
            if !named.iter().any(|named| named.means(pasid, old, domain)) {
                continue;
            }
            match new {
                Some(entry) => self.known.insert(pasid, entry),
                None => self.known.remove(&pasid),
            };
        }
    }

    fn expected(&self, pasid: u32) -> Reach {
        match (self.on, pasid) {
            (false, 0) => Reach::AllRam,
            (false, _) => Reach::Nothing,
            (true, _) => self
                .known
                .get(&pasid)
                .map_or(Reach::Nothing, |(reach, _)| *reach),
        }
    }
}

fn pasid_of(number: u32) -> Option<u32> {
    (number != 0).then_some(number)
}

fn check(guest: &Guest, model: &Model, before: &[Reach]) {
    let log = guest.host.take_log();
    let mut before = before.iter();
    for device in DEVICES {
        for pasid in PASIDS {
            let reach = guest.reach(device, pasid_of(pasid));
            let expected = model.expected(pasid);
            let blocked = model.refusing && reach == Reach::Nothing;
            assert!(
                reach == expected || blocked,
                "{device} {pasid:#x}: {reach:?} and not {expected:?}"
            );
            let was = before.next();
            if was == Some(&expected) && expected != Reach::Nothing && !model.refusing {
                let at = endpoint(device, pasid_of(pasid));
                let touched = |call: &Call| match call {
                    Call::Attach(endpoint, _) | Call::Detach(endpoint) => *endpoint == at,
                    _ => false,
                };
                let calls: Vec<_> = log.iter().filter(|logged| touched(&logged.call)).collect();
                assert!(calls.is_empty(), "{device} {pasid:#x} stays: {calls:?}");
            }
        }
    }
    assert_eq!(guest.host.leaks(), 0);
}

fn reaches(guest: &Guest) -> Vec<Reach> {
    let of = |device| PASIDS.map(|pasid| guest.reach(device, pasid_of(pasid)));
    DEVICES.into_iter().flat_map(of).collect()
}

fn run(steps: Vec<Step>) {
    let mut guest = Guest::boot(FakeOptions::nesting());
    guest.plug(A);
    guest.plug(B);
    let mut model = Model {
        on: true,
        ..Model::default()
    };
    for step in steps {
        let before = reaches(&guest);
        let _ = guest.host.take_log();
        match step {
            Step::Directory(pasid, table) => {
                guest.directory(pasid, table);
                continue;
            }
            Step::Entry(table, pasid, words) => {
                guest.entry(table, pasid, words);
                continue;
            }
            Step::Refuse(kind, error) => {
                guest.host.inject(Injection::once(kind, error));
                model.refusing = true;
                continue;
            }
            Step::Heal => {
                guest.host.heal();
                // What was refused is told again.
                guest.submit(&[(CONTEXT_GLOBAL, 0)]);
                if model.on {
                    model.read(&guest, &[Named::All]);
                }
                model.refusing = false;
                check(&guest, &model, &[]);
                continue;
            }
            Step::Invalidate(named) => {
                let descriptors: Vec<_> = named.iter().map(|named| named.descriptor()).collect();
                guest.submit(&descriptors);
                if model.on {
                    model.read(&guest, &named);
                }
            }
            Step::Translate(on) => {
                let replays = on && !model.on;
                guest.translate(on);
                model.on = on;
                if replays {
                    model.known.clear();
                    model.read(&guest, &[Named::All]);
                }
            }
        }
        check(&guest, &model, &before);
    }
    guest.host.heal();
    guest.unplug(A);
    guest.unplug(B);
    assert!(guest.host.attached().is_empty());
    assert!(guest.host.nested_tables().is_empty());
    assert_eq!(guest.host.tables(), [guest.host.identity().unwrap()]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn host_binds_what_the_guests_entries_say(steps in prop::collection::vec(step(), 1..60)) {
        run(steps);
    }
}
