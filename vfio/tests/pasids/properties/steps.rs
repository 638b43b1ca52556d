// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What guests and hosts do at random.

use super::super::guest::{DIRECTORY, OTHER_DIRECTORY, both, first, pass_through, second};
use super::model::{DEVICES, Mode, Named, PASIDS};
use proptest::prelude::*;
use vfio::backend::HostError;
use vfio::backend::fake::CallKind;

pub const TABLES: [u64; 3] = [0x30_0000, 0x30_1000, 0x30_2000];
pub const GUEST_TABLES: [u64; 3] = [0x38_0000, 0x38_1000, 0x38_2000];
/// Scalable contexts: two directories of all PASIDs, one of 2^13, one without PASIDs, none.
pub const SCALABLE: [u64; 6] = [
    DIRECTORY | 7 << 9 | 9,
    DIRECTORY | 7 << 9 | 9,
    OTHER_DIRECTORY | 7 << 9 | 9,
    OTHER_DIRECTORY | 9,
    DIRECTORY | 7 << 9 | 1,
    0,
];

#[derive(Clone, Debug)]
pub enum Step {
    Directory(u64, u64, u64),
    Entry(u64, u64, [u64; 3]),
    /// Words of the context of a device in one of the tables.
    Context(usize, usize, [u64; 2]),
    Invalidate(Vec<Named>),
    Translate(bool),
    Latch(Mode),
    Reset,
    Save,
    Restore,
    /// The host refuses some calls.
    Refuse(CallKind, HostError, u32),
    Heal,
}

fn pasid() -> impl Strategy<Value = u64> {
    prop::sample::select(PASIDS.to_vec()).prop_map(u64::from)
}

pub fn entry() -> impl Strategy<Value = [u64; 3]> {
    let root = prop::sample::select(GUEST_TABLES.to_vec());
    (0..10, root, 4u64..7).prop_map(|(kind, root, domain)| match kind {
        0 => [0; 3],
        // No such type.
        1 => [0x141, domain, root],
        2..5 => first(root, domain),
        5..8 => second(root, domain),
        8 => pass_through(domain),
        _ => both(root, GUEST_TABLES[0], domain),
    })
}

/// A table, and the words of an entry of it.
fn context() -> impl Strategy<Value = (usize, [u64; 2])> {
    let scalable = (0..2usize, prop::sample::select(SCALABLE.to_vec()), 0..8u64);
    let legacy = (
        prop::sample::select(vec![0, 1, 9]),
        prop::sample::select(GUEST_TABLES.to_vec()),
        4u64..7,
    );
    prop_oneof![
        // RID_PASID is 0, or 1.
        2 => scalable.prop_map(|(table, low, more)| (table, [low, u64::from(more == 0)])),
        1 => legacy.prop_map(|(low, root, domain)| match low {
            1 => (2, [root | 1, domain << 8 | 2]),
            low => (2, [low, domain << 8 | 2]),
        }),
    ]
}

fn named() -> impl Strategy<Value = Named> {
    let domain = || prop::sample::select(vec![0u64, 4, 5, 6]);
    let device = prop::sample::select(DEVICES.to_vec());
    prop_oneof![
        1 => Just(Named::Contexts),
        1 => domain().prop_map(Named::ContextsOf),
        1 => device.prop_map(Named::Context),
        2 => Just(Named::Entries),
        3 => domain().prop_map(Named::EntriesOf),
        8 => (domain(), pasid()).prop_map(|(domain, pasid)| Named::Entry(domain, pasid)),
        1 => Just(Named::Tables),
        1 => domain().prop_map(Named::TablesOf),
        2 => (domain(), pasid()).prop_map(|(domain, pasid)| Named::Table(domain, pasid)),
        2 => (domain(), pasid()).prop_map(|(domain, pasid)| Named::Page(domain, pasid)),
    ]
}

fn refusal() -> impl Strategy<Value = Step> {
    let kind = prop::sample::select(vec![
        CallKind::Attach,
        CallKind::Attach,
        CallKind::Create,
        CallKind::Invalidate,
    ]);
    let error = prop::sample::select(vec![
        HostError::Busy,
        HostError::Invalid,
        HostError::EntryLimit,
        HostError::Unsupported,
    ]);
    (kind, error, 1..4u32).prop_map(|(kind, error, times)| Step::Refuse(kind, error, times))
}

pub fn step() -> impl Strategy<Value = Step> {
    let table = prop::sample::select(vec![0, TABLES[0], TABLES[1], TABLES[2]]);
    let directory = prop::sample::select(vec![DIRECTORY, DIRECTORY, OTHER_DIRECTORY]);
    let mode = prop_oneof![
        2 => (0..2usize).prop_map(Mode::Scalable),
        1 => Just(Mode::Legacy),
        1 => Just(Mode::Abort),
    ];
    prop_oneof![
        6 => (directory, pasid(), table)
            .prop_map(|(directory, pasid, table)| Step::Directory(directory, pasid, table)),
        16 => (0usize..3, pasid(), entry())
            .prop_map(|(table, pasid, words)| Step::Entry(TABLES[table], pasid, words)),
        3 => (0..2usize, context())
            .prop_map(|(device, (table, words))| Step::Context(table, device, words)),
        16 => prop::collection::vec(named(), 1..4).prop_map(Step::Invalidate),
        2 => any::<bool>().prop_map(Step::Translate),
        2 => mode.prop_map(Step::Latch),
        1 => Just(Step::Reset),
        1 => Just(Step::Save),
        1 => Just(Step::Restore),
        2 => refusal(),
        2 => Just(Step::Heal),
    ]
}
