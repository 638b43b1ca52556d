// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Random entries of all kinds, random edits of the second-stage tables beneath and beside, and refusals of the host. After each
//! wait an endpoint goes through the tables that its entry says; what the host has mapped beneath is what a reading of the
//! second stage word by word says, or, while the host refuses things, no more than that. At the end nothing is left.

use super::tables::{IOTLB_GLOBAL, iotlb_domain, iotlb_page, map, naive, root};
use crate::guest::{
    A, B, CONTEXT_GLOBAL, Guest, PASID_CACHE_GLOBAL, Reach, both, first, pass_through, second,
};
use iommu::follow::DeviceHandle;
use proptest::prelude::*;
use vfio::backend::HostError;
use vfio::backend::fake::{CallKind, FakeOptions, Injection};

const TABLE: u64 = 0x30_0000;
const DEVICES: [DeviceHandle; 2] = [A, B];
const PASIDS: u32 = 5;
/// Where nothing of the first stage is ever read.
const FIRST: [u64; 2] = [0x3e_0000, 0x3e_1000];
/// Of each second-stage table; entries say others, too.
const DOMAINS: [u64; 3] = [4, 5, 6];
/// Two neighbours, two that are not, and one that is no RAM.
const TARGETS: [u64; 5] = [0x100_0000, 0x100_1000, 0x200_0000, 0x3ff_f000, 0x400_0000];

#[derive(Clone, Debug)]
enum Step {
    /// Entries, and PASID-cache invalidation.
    Bind(Vec<(u64, [u64; 3])>),
    /// Pages of one of the second-stage tables, and how they are invalidated.
    Edit(u64, Vec<Edit>, u8),
    Refuse(CallKind, HostError),
    Heal,
}

type Edit = (u64, Option<(u64, bool)>);

fn entry() -> impl Strategy<Value = [u64; 3]> {
    let first_stage = prop::sample::select(FIRST.to_vec());
    (0..8, first_stage, 0usize..3).prop_map(|(kind, above, number)| {
        let (below, domain) = (root(number as u64), DOMAINS[number]);
        match kind {
            0 => [0; 3],
            1 => pass_through(9),
            2 => first(above, 8),
            3 => second(below, domain),
            _ => both(above, below, domain),
        }
    })
}

fn edit() -> impl Strategy<Value = Edit> {
    let target = prop::sample::select(TARGETS.to_vec());
    let write = prop::bool::weighted(0.8);
    (0u64..8, prop::option::weighted(0.7, (target, write)))
}

fn step() -> impl Strategy<Value = Step> {
    let kinds = [
        CallKind::Attach,
        CallKind::Create,
        CallKind::Map,
        CallKind::Remove,
        CallKind::Invalidate,
        CallKind::Destroy,
    ];
    let kind = prop::sample::select(kinds.to_vec());
    let error = prop::sample::select(vec![HostError::Io, HostError::LockedMemory]);
    prop_oneof![
        5 => prop::collection::vec((0..u64::from(PASIDS), entry()), 1..4).prop_map(Step::Bind),
        8 => (0u64..3, prop::collection::vec(edit(), 1..5), 0u8..3)
            .prop_map(|(number, edits, how)| Step::Edit(number, edits, how)),
        1 => (kind, error).prop_map(|(kind, error)| Step::Refuse(kind, error)),
        1 => Just(Step::Heal),
    ]
}

fn pasid_of(number: u32) -> Option<u32> {
    (number != 0).then_some(number)
}

fn expected(guest: &Guest, pasid: u32) -> Reach {
    let at = TABLE + u64::from(pasid) * 64;
    let (low, high) = (guest.word(at), guest.word(at + 16));
    match (low & 1, low >> 6 & 7) {
        (0, _) => Reach::Nothing,
        (_, 1) => Reach::First(high & !0xfff),
        (_, 2) => Reach::Second(low & !0xfff),
        (_, 3) => Reach::Both(high & !0xfff, low & !0xfff),
        _ => Reach::AllRam,
    }
}

fn check(guest: &Guest, refusing: bool) {
    for device in DEVICES {
        for pasid in 0..PASIDS {
            let at = pasid_of(pasid);
            let (reach, expected) = (guest.reach(device, at), expected(guest, pasid));
            let blocked = refusing && reach == Reach::Nothing;
            assert!(
                reach == expected || blocked,
                "{device} {pasid}: {reach:?} and not {expected:?}"
            );
            let (below, beneath) = match reach {
                Reach::Second(below) => (below, false),
                Reach::Both(_, below) => (below, true),
                _ => continue,
            };
            let number = (0..3).find(|number| root(*number) == below).unwrap();
            let naive = naive(guest, number, beneath);
            let mapped = guest.mapped(device, at);
            let right =
                mapped == naive || refusing && mapped.iter().all(|mapping| naive.contains(mapping));
            assert!(right, "{device} {pasid}: {mapped:x?} and not {naive:x?}");
        }
    }
    assert_eq!(guest.host.leaks(), 0);
    assert!(guest.mirror.still_reachable().is_empty());
}

fn edited(guest: &mut Guest, number: u64, edits: &[Edit], how: u8) {
    for (page, to) in edits {
        map(guest, number, *page, *to);
    }
    let domain = DOMAINS[usize::try_from(number).unwrap()];
    let descriptors: Vec<_> = match how {
        0 => vec![IOTLB_GLOBAL],
        1 => vec![iotlb_domain(domain)],
        _ => (edits.iter())
            .map(|(page, _)| iotlb_page(domain, *page))
            .collect(),
    };
    guest.submit(&descriptors);
}

fn run(steps: Vec<Step>) {
    let mut guest = Guest::boot(FakeOptions::nesting());
    guest.directory(0, TABLE);
    // The tables on the way are there from the start: only pages change without everything being invalidated.
    for number in 0..3 {
        map(&guest, number, 0, None);
    }
    for device in DEVICES {
        guest.plug(device);
    }
    let mut refusing = false;
    for step in steps {
        match step {
            Step::Bind(entries) => {
                for (pasid, words) in entries {
                    guest.entry(TABLE, pasid, words);
                }
                guest.submit(&[(PASID_CACHE_GLOBAL, 0)]);
            }
            Step::Edit(number, edits, how) => edited(&mut guest, number, &edits, how),
            Step::Refuse(kind, error) => {
                guest.host.inject(Injection::once(kind, error));
                refusing = true;
            }
            Step::Heal => {
                guest.host.heal();
                guest.submit(&[(CONTEXT_GLOBAL, 0), IOTLB_GLOBAL]);
                refusing = false;
            }
        }
        check(&guest, refusing);
    }
    guest.host.heal();
    for device in DEVICES {
        guest.unplug(device);
    }
    assert!(guest.host.attached().is_empty());
    assert!(guest.host.nested_tables().is_empty());
    assert_eq!(guest.host.tables(), [guest.host.identity().unwrap()]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn host_holds_both_stages_as_the_guest_says(steps in prop::collection::vec(step(), 1..60)) {
        run(steps);
    }
}
