// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the guest's tables say beside what the host has, address by address, in as few parts as there are.

use crate::mirror::{Left, Why};
use crate::run::{Rights, Run};
use iommu::address::{Gpa, Iova, IovaRange};

/// How a part of the addresses stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The host has what the guest says.
    Same,
    /// The guest says it, and the host does not have it.
    Missing,
    /// The host has it, and the guest does not say it.
    Extra,
    /// The host has something else there.
    Different,
    /// The guest says it, and the host is not to have it.
    LeftOut(Why),
}

/// What addresses reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaches {
    /// What the first of them reaches.
    pub gpa: Gpa,
    pub rights: Rights,
}

/// Addresses that stand alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub iova: IovaRange,
    pub state: State,
    /// By the guest's tables.
    pub guest: Option<Reaches>,
    /// By the host's.
    pub host: Option<Reaches>,
}

/// A range among others that ascend.
trait Ranged {
    fn range(&self) -> IovaRange;
}

impl Ranged for Run {
    fn range(&self) -> IovaRange {
        self.iova
    }
}

impl Ranged for Left {
    fn range(&self) -> IovaRange {
        self.iova
    }
}

/// Ascending ranges, looked at from the first address on.
struct Cursor<'a, T> {
    rest: &'a [T],
}

impl<'a, T: Ranged> Cursor<'a, T> {
    /// What `at` lies in, and the last address for which the answer is the same.
    fn look(&mut self, at: Iova) -> (Option<&'a T>, Iova) {
        let passed = self
            .rest
            .iter()
            .take_while(|range| range.range().last() < at);
        self.rest = &self.rest[passed.count()..];
        match self.rest.first() {
            Some(here) if here.range().start() <= at => (Some(here), here.range().last()),
            Some(next) => (None, Iova(next.range().start().0 - 1)),
            None => (None, Iova(u64::MAX)),
        }
    }
}

/// The parts of `range` that the guest maps (`guest`), that the host shall have of it (`wanted`) or not (`left`), and that it
/// has (`held`). All ascend without overlaps.
pub fn compare(
    range: IovaRange,
    guest: &[Run],
    wanted: &[Run],
    left: &[Left],
    held: &[Run],
) -> Vec<Part> {
    let mut cursors = (
        Cursor { rest: guest },
        Cursor { rest: wanted },
        Cursor { rest: left },
        Cursor { rest: held },
    );
    let mut parts = Vec::new();
    let mut at = Some(range.start());
    while let Some(start) = at.filter(|at| *at <= range.last()) {
        let (guest, a) = cursors.0.look(start);
        let (wanted, b) = cursors.1.look(start);
        let (left, c) = cursors.2.look(start);
        let (held, d) = cursors.3.look(start);
        let last = a.min(b).min(c).min(d).min(range.last());
        at = last.checked_add(1);
        let state = match (wanted, held, left) {
            (Some(wanted), Some(held), _) if wanted.agrees_with(held) => State::Same,
            (Some(_), Some(_), _) => State::Different,
            (Some(_), None, _) => State::Missing,
            (None, Some(_), _) => State::Extra,
            (None, None, Some(left)) => State::LeftOut(left.why),
            (None, None, None) => continue,
        };
        let reaches = |run: &Run| Reaches {
            gpa: run.translate(start),
            rights: run.rights,
        };
        if let Some(iova) = IovaRange::new(start, last) {
            parts.push(Part {
                iova,
                state,
                guest: guest.or(wanted).map(reaches),
                host: held.map(reaches),
            });
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::GuestAddress;

    fn range(start: u64, last: u64) -> IovaRange {
        IovaRange::new(Iova(start), Iova(last)).unwrap()
    }

    fn run(start: u64, last: u64, gpa: u64, rights: Rights) -> Run {
        Run {
            iova: range(start, last),
            gpa: GuestAddress(gpa),
            rights,
        }
    }

    #[test]
    fn every_way_to_differ_is_a_part_of_its_own() {
        let both = Rights::ReadWrite;
        let guest = [
            run(0x1000, 0x3fff, 0x9000, both),
            run(0x6000, 0x6fff, 0x2000, both),
            run(0xf000, u64::MAX, 0, both),
        ];
        let wanted = [guest[0], guest[1]];
        let left = [Left {
            iova: range(0xf000, u64::MAX),
            why: Why::Aperture,
        }];
        let held = [
            run(0, 0x1fff, 0x8000, both),
            run(0x3000, 0x3fff, 0xb000, Rights::Read),
            run(0x6000, 0x6fff, 0x7000, both),
        ];
        let parts = compare(IovaRange::ALL, &guest, &wanted, &left, &held);
        let told: Vec<_> = parts
            .iter()
            .map(|part| (part.iova.start().0, part.iova.last().0, part.state))
            .collect();
        assert_eq!(
            told,
            [
                (0, 0xfff, State::Extra),
                (0x1000, 0x1fff, State::Same),
                (0x2000, 0x2fff, State::Missing),
                (0x3000, 0x3fff, State::Different),
                (0x6000, 0x6fff, State::Different),
                (0xf000, u64::MAX, State::LeftOut(Why::Aperture)),
            ]
        );
        let target = |reaches: Option<Reaches>| reaches.map(|reaches| reaches.gpa.0);
        assert_eq!(
            (target(parts[2].guest), target(parts[2].host)),
            (Some(0xa000), None)
        );
        assert_eq!(
            (target(parts[0].guest), target(parts[0].host)),
            (None, Some(0x8000))
        );
    }

    #[test]
    fn parts_lie_within_the_range_that_is_asked_for() {
        let runs = [run(0, 0xffff, 0, Rights::Read)];
        let parts = compare(range(0x4000, 0x4fff), &runs, &runs, &[], &runs);
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0].iova, range(0x4000, 0x4fff));
        assert_eq!(parts[0].host.unwrap().gpa, GuestAddress(0x4000));
    }
}
