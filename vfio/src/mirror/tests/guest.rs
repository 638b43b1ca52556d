// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest that edits its tables and moves its devices at random, and invalidates as caching mode asks for.

use super::rig::*;
use crate::backend::TableId;
use crate::backend::fake::FakeOptions;
use crate::mirror::Budget;
use iommu::follow::{Answer, Attachment, DeviceHandle, FollowEvent, Invalidated, Unmet};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Large pages that are edited: two beside each other, and two that meet at the interrupt window, which is the first half of
/// the last.
const REGIONS: [u64; 4] = [0, LARGE, 0xfec0_0000, 0xfee0_0000];

/// A tag by which no tables go.
const NOBODYS: u16 = 9;

/// Pages of a region that are edited.
const SLOTS: [u64; 8] = [0, 1, 2, 3, 255, 256, 257, 511];

/// Where pages lead: into RAM, to its last large page, where there is none, and above 4 GiB.
const TARGETS: [u64; 4] = [0x100_0000, GIB - LARGE, GIB, 4 * GIB];

#[derive(Clone, Copy, Debug)]
pub enum Edit {
    Map(u64, u64, u64),
    Clear(u64),
    Break(u64),
    MapLarge(u64, u64),
    Split(u64),
    ClearLarge(u64),
    ReadOnly(u64),
}

#[derive(Clone, Debug)]
pub enum Step {
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

pub fn step() -> impl Strategy<Value = Step> {
    let device = prop_oneof![Just(A), Just(B)];
    let root = prop_oneof![4 => (0..2usize).prop_map(Some), 1 => Just(None)];
    // A guest that maps a page at a time is the usual one.
    let edits = prop_oneof![
        2 => prop::collection::vec(edit(), 1),
        3 => prop::collection::vec(edit(), 1..8),
    ];
    prop_oneof![
        5 => (0..2usize, edits, 0..4u8)
            .prop_map(|(root, edits, how)| Step::Edit(root, edits, how)),
        1 => (device, root).prop_map(|(device, root)| Step::Move(device, root)),
    ]
}

/// A guest with two domains and two devices.
pub struct Guest {
    pub rig: Rig,
    roots: [u64; 2],
    /// Where each device is meant to be.
    domains: BTreeMap<DeviceHandle, Option<usize>>,
    /// Devices that the guest knows to be in trouble.
    pub told: BTreeSet<DeviceHandle>,
    /// Attachments to be told again.
    refused: BTreeSet<DeviceHandle>,
    /// Each batch has one event more, which names nothing.
    pub padded: bool,
}

impl Guest {
    pub fn new(options: FakeOptions) -> Self {
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
            padded: false,
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
        attachment(device, to)
    }

    fn domain(&self, root: usize) -> Attachment {
        self.rig.domain(tag(root), self.roots[root])
    }

    /// One batch; attachments that were refused are told again first, as the unit does.
    pub fn step(&mut self, step: &Step) -> Answer {
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
        if self.padded {
            events.push(pages_invalidated(NOBODYS, 0, PAGE));
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
    pub fn expected(&self, device: DeviceHandle) -> Pages {
        let pages = REGIONS
            .iter()
            .flat_map(|region| region / PAGE..region / PAGE + 512);
        match self.domains[&device] {
            Some(root) => self.rig.expected(self.roots[root], pages),
            None => Pages::new(),
        }
    }

    /// Pages that are edited, by their numbers.
    pub fn pages() -> impl Iterator<Item = u64> {
        let regions = REGIONS.iter();
        regions.flat_map(|region| SLOTS.map(|slot| region / PAGE + slot))
    }

    pub fn tables(&self) -> BTreeMap<TableId, Pages> {
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
