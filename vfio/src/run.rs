// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Runs: contiguous I/O virtual addresses that reach contiguous guest-physical ones with the same rights.

use iommu::address::{Gpa, Iova, IovaRange};
use iommu::request::Perms;
use iommu::walk::range::Run as GuestRun;
use std::fmt;
use vm_memory::GuestAddress;

/// What a device may do through a host mapping (`IOMMU_READ`, `IOMMU_WRITE`); a mapping without any right does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rights {
    /// Reads only.
    Read,
    /// Writes only.
    Write,
    /// Reads and writes.
    ReadWrite,
}

impl Rights {
    /// The rights of a guest mapping; `None` where there is neither. Hosts know no right to execute.
    #[must_use]
    pub const fn of(perms: Perms) -> Option<Self> {
        match (perms.read, perms.write) {
            (true, true) => Some(Self::ReadWrite),
            (true, false) => Some(Self::Read),
            (false, true) => Some(Self::Write),
            (false, false) => None,
        }
    }

    /// Whether a device may read.
    #[must_use]
    pub const fn read(self) -> bool {
        matches!(self, Self::Read | Self::ReadWrite)
    }

    /// Whether a device may write.
    #[must_use]
    pub const fn write(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }

    /// Whether some right is in both.
    #[must_use]
    pub const fn share(self, other: Self) -> bool {
        self.read() && other.read() || self.write() && other.write()
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::ReadWrite => "read and write",
        })
    }
}

/// The bytes of `range`; saturates for the whole space.
#[must_use]
pub const fn bytes(range: IovaRange) -> u64 {
    (range.last().0 - range.start().0).saturating_add(1)
}

/// What two ranges share.
#[must_use]
pub fn intersection(a: IovaRange, b: IovaRange) -> Option<IovaRange> {
    IovaRange::new(a.start().max(b.start()), a.last().min(b.last()))
}

/// The parts of `whole` before and after `hole`.
#[must_use]
pub fn around(whole: IovaRange, hole: IovaRange) -> (Option<IovaRange>, Option<IovaRange>) {
    let before = match hole.start().0.checked_sub(1) {
        Some(last) => IovaRange::new(whole.start(), Iova(last).min(whole.last())),
        None => None,
    };
    let after = match hole.last().checked_add(1) {
        Some(start) => IovaRange::new(start.max(whole.start()), whole.last()),
        None => None,
    };
    (before, after)
}

/// Contiguous addresses that reach contiguous guest memory with the same rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The I/O virtual addresses, whole 4 KiB pages.
    pub iova: IovaRange,
    /// What the first of them reaches, 4 KiB aligned.
    pub gpa: Gpa,
    /// What a device may do there.
    pub rights: Rights,
}

impl Run {
    /// A run of a guest's tables, as hosts know it; `None` where there is nothing that a host could allow.
    #[must_use]
    pub fn of_guest(run: &GuestRun) -> Option<Self> {
        Some(Self {
            iova: IovaRange::new(run.iova, run.last())?,
            gpa: run.gpa,
            rights: Rights::of(run.perms)?,
        })
    }

    /// Bytes of the run.
    #[must_use]
    pub const fn len(&self) -> u64 {
        bytes(self.iova)
    }

    /// Never: a run has at least a page.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// What `iova`, which lies in the run, reaches.
    #[must_use]
    pub const fn translate(&self, iova: Iova) -> Gpa {
        GuestAddress(self.gpa.0.wrapping_add(iova.0 - self.iova.start().0))
    }

    /// The part of the run that lies in `range`.
    #[must_use]
    pub fn clip(&self, range: IovaRange) -> Option<Self> {
        let iova = intersection(self.iova, range)?;
        Some(Self {
            iova,
            gpa: self.translate(iova.start()),
            rights: self.rights,
        })
    }

    /// Whether `next` goes on exactly where this run ends.
    #[must_use]
    pub fn continues_in(&self, next: &Self) -> bool {
        self.iova.last().checked_add(1) == Some(next.iova.start())
            && self.gpa.0.checked_add(self.len()) == Some(next.gpa.0)
            && self.rights == next.rights
    }

    /// This run and `next`, which continues it, as one.
    #[must_use]
    pub fn joined(&self, next: &Self) -> Self {
        Self {
            iova: IovaRange::new(self.iova.start(), next.iova.last()).unwrap_or(self.iova),
            ..*self
        }
    }

    /// Whether both reach the same bytes with the same rights wherever they overlap, which they do.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.rights == other.rights && self.reaches_as(other)
    }

    /// Whether both reach the same bytes wherever they overlap, which they do.
    #[must_use]
    pub const fn reaches_as(&self, other: &Self) -> bool {
        self.gpa.0.wrapping_sub(self.iova.start().0)
            == other.gpa.0.wrapping_sub(other.iova.start().0)
    }
}

/// Adds `run` after the others, as a part of the last where it continues that.
pub fn push_joined(runs: &mut Vec<Run>, run: Run) {
    match runs.last_mut() {
        Some(last) if last.continues_in(&run) => *last = last.joined(&run),
        _ => runs.push(run),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, last: u64) -> IovaRange {
        IovaRange::new(Iova(start), Iova(last)).unwrap()
    }

    #[test]
    fn around_a_hole_at_either_end_of_the_space_has_one_part() {
        assert_eq!(
            around(IovaRange::ALL, range(0, 0xfff)),
            (None, Some(range(0x1000, u64::MAX)))
        );
        assert_eq!(
            around(IovaRange::ALL, range(0x1000, u64::MAX)),
            (Some(range(0, 0xfff)), None)
        );
    }

    #[test]
    fn around_a_hole_elsewhere_is_the_whole() {
        let whole = range(0x3000, 0x4fff);
        assert_eq!(around(whole, range(0, 0xfff)), (None, Some(whole)));
        assert_eq!(around(whole, range(0x8000, 0x8fff)), (Some(whole), None));
    }

    #[test]
    fn clip_keeps_what_each_address_reaches() {
        let run = Run {
            iova: range(0x1000, 0x4fff),
            gpa: GuestAddress(0x9000),
            rights: Rights::Read,
        };
        let clipped = run.clip(range(0x2000, 0x2fff)).unwrap();
        assert_eq!(clipped.gpa, GuestAddress(0xa000));
        assert!(clipped.agrees_with(&run));
        assert_eq!(run.clip(range(0x5000, 0x5fff)), None);
    }

    #[test]
    fn rights_of_execute_only_are_none() {
        let perms = Perms {
            execute: true,
            ..Perms::default()
        };
        assert_eq!(Rights::of(perms), None);
    }
}
