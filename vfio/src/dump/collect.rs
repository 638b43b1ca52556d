// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From slices of a walk and of a ledger to the dump of one host table.

use super::blocks::{Block, Picture};
use super::compare::{Part, Reaches, State, compare};
use super::explain::Mapping;
use super::{Difference, Differs, Line, Listed, Options};
use crate::mirror::{Address, Wanted};
use crate::run::{Run, bytes};
use iommu::address::IovaRange;

/// Takes slices, which ascend without gaps.
#[derive(Debug)]
pub struct Collector {
    lines: usize,
    guest: Listed<Line>,
    host: Listed<Line>,
    differences: Listed<Difference>,
    picture: Picture,
    /// The last part, which may go on.
    open: Option<Part>,
}

impl Collector {
    pub fn new(options: &Options) -> Self {
        Self {
            lines: options.lines,
            guest: Listed::default(),
            host: Listed::default(),
            differences: Listed::default(),
            picture: Picture::new(options.blocks),
            open: None,
        }
    }

    /// Takes the slice `range`: what the guest maps in it, what the host is to have of that, and what it has, whole runs.
    /// Returns where nothing is mapped by the guest.
    pub fn add(
        &mut self,
        range: IovaRange,
        guest: &[Run],
        mut wanted: Wanted,
        held: &[Run],
    ) -> Vec<IovaRange> {
        wanted.left.sort_by_key(|left| left.iova.start());
        for run in guest {
            push(&mut self.guest, self.lines, bytes(run.iova), line(run));
        }
        for run in held.iter().filter(|run| range.contains(run.iova.start())) {
            push(&mut self.host, self.lines, bytes(run.iova), line(run));
        }
        for part in compare(range, guest, &wanted.runs, &wanted.left, held) {
            match &mut self.open {
                Some(open) if continues(open, &part) => {
                    open.iova =
                        IovaRange::new(open.iova.start(), part.iova.last()).unwrap_or(open.iova);
                }
                open => {
                    if let Some(done) = open.replace(part) {
                        self.close(&done);
                    }
                }
            }
        }
        holes(range, guest)
    }

    /// The lists of guest, host and differences, and the picture.
    pub fn finish(mut self) -> (Listed<Line>, Listed<Line>, Listed<Difference>, Vec<Block>) {
        if let Some(part) = self.open.take() {
            self.close(&part);
        }
        (
            self.guest,
            self.host,
            self.differences,
            self.picture.finish(),
        )
    }

    fn close(&mut self, part: &Part) {
        self.picture.add(part);
        let what = match part.state {
            State::Same => return,
            State::Missing => Differs::Missing,
            State::Extra => Differs::Extra,
            State::Different => Differs::Different,
            State::LeftOut(why) => Differs::LeftOut(why),
        };
        let difference = Difference {
            first: part.iova.start().into(),
            last: part.iova.last().into(),
            what,
            guest: part.guest.map(Into::into),
            host: part.host.map(Into::into),
        };
        push(
            &mut self.differences,
            self.lines,
            bytes(part.iova),
            difference,
        );
    }
}

impl From<Reaches> for Mapping {
    fn from(reaches: Reaches) -> Self {
        Self {
            gpa: Address(reaches.gpa.0),
            rights: reaches.rights,
        }
    }
}

fn line(run: &Run) -> Line {
    Line {
        first: run.iova.start().into(),
        last: run.iova.last().into(),
        gpa: Address(run.gpa.0),
        rights: run.rights,
    }
}

fn push<T>(list: &mut Listed<T>, most: usize, bytes: u64, line: T) {
    list.total += 1;
    list.bytes = list.bytes.saturating_add(bytes);
    if list.lines.len() < most {
        list.lines.push(line);
    }
}

/// Whether `next` says of the addresses behind `part` what that says of its own, as the two halves of what a slice cut do.
fn continues(part: &Part, next: &Part) -> bool {
    let follows = |a: Option<Reaches>, b: Option<Reaches>| match (a, b) {
        (Some(a), Some(b)) => {
            a.rights == b.rights && a.gpa.0.checked_add(bytes(part.iova)) == Some(b.gpa.0)
        }
        (None, None) => true,
        _ => false,
    };
    part.state == next.state
        && part.iova.last().checked_add(1) == Some(next.iova.start())
        && follows(part.guest, next.guest)
        && follows(part.host, next.host)
}

/// What of `range` is in none of `runs`.
fn holes(range: IovaRange, runs: &[Run]) -> Vec<IovaRange> {
    let mut holes = Vec::new();
    let mut left = Some(range);
    for run in runs {
        let Some(rest) = left else { break };
        let (before, after) = crate::run::around(rest, run.iova);
        holes.extend(before.filter(|hole| hole.start() < run.iova.start()));
        left = after;
    }
    holes.extend(left);
    holes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Rights;
    use iommu::address::Iova;
    use vm_memory::GuestAddress;

    #[test]
    fn what_a_slice_cuts_is_put_together() {
        let range = |start, last| IovaRange::new(Iova(start), Iova(last)).unwrap();
        let run = |iova: IovaRange, gpa| Run {
            iova,
            gpa: GuestAddress(gpa),
            rights: Rights::ReadWrite,
        };
        let mut collector = Collector::new(&Options::default());
        let held = [run(range(0, 0x7fff), 0x10_0000)];
        for slice in [range(0, 0x2fff), range(0x3000, u64::MAX)] {
            let empty = collector.add(slice, &[], Wanted::default(), &held);
            assert_eq!(empty, [slice]);
        }
        let (_, host, differences, blocks) = collector.finish();
        assert_eq!((host.total, host.bytes), (1, 0x8000));
        assert_eq!((differences.total, blocks.len()), (1, 1));
        assert_eq!(
            (blocks[0].extra, differences.lines[0].last.0),
            (0x8000, 0x7fff)
        );
    }
}
