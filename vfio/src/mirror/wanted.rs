// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From what the guest's tables map to what the host can be asked to map.
//!
//! Never mapped: the interrupt window, in which no request is DMA and which hosts reserve. Dropped: what leads where there is
//! no RAM; a DMA there ends in nothing on any machine. Refused: addresses that the host cannot map, and what is finer than
//! its smallest page. A run ends where RAM that is contiguous in this process does.

use super::content::Content;
use super::stats::Dropped;
use crate::backend::{HostError, Limits};
use crate::ram::{Kind, Piece, RamMap};
use crate::run::{Rights, Run, around, bytes, intersection};
use iommu::address::{Iova, IovaRange};
use iommu::walk::range::Run as GuestRun;

/// The addresses at which a request is no DMA (Interrupt Address Range).
pub const INTERRUPT_WINDOW: (Iova, Iova) = (Iova(0xfee0_0000), Iova(0xfeef_ffff));

/// What a host table shall hold in a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Runs, ascending.
    pub runs: Vec<Run>,
    /// What of the guest's mappings was left out, in no particular order.
    pub left: Vec<Left>,
}

/// A part of a guest mapping that the host does not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Its addresses.
    pub iova: IovaRange,
    /// Why.
    pub why: Why,
}

/// Why a part of a guest mapping is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// At addresses of the interrupt window, where a request is no DMA.
    InterruptWindow,
    /// It leads where there is no RAM.
    NothingThere,
    /// It leads into memory of a device, which this host cannot map for another one.
    DeviceMemory,
    /// At addresses that the host cannot map. The guest is told.
    Aperture,
    /// Finer than the host's smallest page. The guest is told.
    Granularity,
    /// It may only be read, which this host maps nowhere beneath a first-stage table. The guest is told.
    ReadOnly,
}

impl Why {
    /// The error that stands for it; `None` where a request would come to nothing on any machine, so that nobody is told.
    #[must_use]
    pub const fn refusal(self) -> Option<HostError> {
        match self {
            Self::InterruptWindow | Self::NothingThere | Self::DeviceMemory => None,
            Self::Aperture => Some(HostError::Aperture),
            Self::Granularity => Some(HostError::Granularity),
            Self::ReadOnly => Some(HostError::ReadOnly),
        }
    }
}

impl Wanted {
    /// What of `guest`, which is ascending, a table with `limits` shall hold.
    #[must_use]
    pub fn of(guest: &[GuestRun], limits: &Limits, reach: Reach<'_>) -> Self {
        let mut wanted = Self::default();
        let mut filter = Filter {
            limits,
            reach,
            usable: 0,
            wanted: &mut wanted,
        };
        for run in guest {
            if let Some(run) = Run::of_guest(run) {
                filter.beside_window(&run);
            }
        }
        wanted
    }

    /// The same of a table that is a copy of second-stage tables: one that others stand on holds nothing for reading only.
    #[must_use]
    pub fn of_copy(
        content: &Content,
        guest: &[GuestRun],
        limits: &Limits,
        reach: Reach<'_>,
    ) -> Self {
        let wanted = Self::of(guest, limits, reach);
        match content {
            Content::Parent(_) => wanted.but_for_read_only(),
            _ => wanted,
        }
    }

    /// All RAM one to one, as far as a table with `limits` can hold it.
    #[must_use]
    pub fn identity(limits: &Limits, ram: &RamMap) -> Self {
        let mut wanted = Self::default();
        let mut filter = Filter {
            limits,
            reach: Reach {
                ram,
                devices: false,
            },
            usable: 0,
            wanted: &mut wanted,
        };
        for region in ram.regions() {
            if let Some(iova) = IovaRange::from_len(Iova(region.gpa.0), region.len) {
                filter.beside_window(&Run {
                    iova,
                    gpa: region.gpa,
                    rights: Rights::ReadWrite,
                });
            }
        }
        wanted
    }

    /// What the host cannot have although the guest is entitled to it.
    pub fn refused(&self) -> impl Iterator<Item = (IovaRange, HostError)> {
        let refusal = |left: &Left| Some((left.iova, left.why.refusal()?));
        self.left.iter().filter_map(refusal)
    }

    /// Without what may only be read.
    fn but_for_read_only(mut self) -> Self {
        let read_only = self.runs.extract_if(.., |run| !run.rights.write());
        self.left.extend(read_only.map(|run| Left {
            iova: run.iova,
            why: Why::ReadOnly,
        }));
        self
    }

    /// How much was left out, by the reason.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        let mut dropped = Dropped::default();
        for left in &self.left {
            *dropped.of(left.why) += 1;
        }
        dropped
    }

    /// What of it lies in `range`.
    #[must_use]
    pub fn within(mut self, range: IovaRange) -> Self {
        self.runs = self.runs.iter().filter_map(|run| run.clip(range)).collect();
        self.left = (self.left.iter())
            .filter_map(|left| {
                let iova = intersection(left.iova, range)?;
                Some(Left { iova, ..*left })
            })
            .collect();
        self
    }
}

/// What mappings may lead to.
#[derive(Clone, Copy, Debug)]
pub struct Reach<'a> {
    /// Where memory is.
    pub ram: &'a RamMap,
    /// Memory of devices may be a target, too.
    pub devices: bool,
}

/// One pass over ascending runs.
struct Filter<'a> {
    limits: &'a Limits,
    reach: Reach<'a>,
    /// Usable ranges before this one end before the runs to come.
    usable: usize,
    wanted: &'a mut Wanted,
}

impl Filter<'_> {
    /// Leaves out the interrupt window.
    fn beside_window(&mut self, run: &Run) {
        let window = IovaRange::new(INTERRUPT_WINDOW.0, INTERRUPT_WINDOW.1);
        let Some(window) = window.filter(|window| window.overlaps(&run.iova)) else {
            self.usable(run);
            return;
        };
        if let Some(inside) = intersection(run.iova, window) {
            self.leave(inside, Why::InterruptWindow);
        }
        let (before, after) = around(run.iova, window);
        for part in [before, after].into_iter().flatten() {
            if let Some(part) = run.clip(part) {
                self.usable(&part);
            }
        }
    }

    /// Refuses what lies outside the usable ranges.
    fn usable(&mut self, run: &Run) {
        let mut left = Some(run.iova);
        while let (Some(rest), Some(range)) = (left, self.limits.ranges.get(self.usable)) {
            if range.last() < rest.start() {
                self.usable += 1;
                continue;
            }
            let Some(inside) = intersection(rest, *range) else {
                break;
            };
            let (before, after) = around(rest, inside);
            if let Some(before) = before {
                self.leave(before, Why::Aperture);
            }
            if let Some(part) = run.clip(inside) {
                self.backed(&part);
            }
            left = after;
        }
        if let Some(rest) = left {
            self.leave(rest, Why::Aperture);
        }
    }

    /// Drops what is not RAM, and splits at its borders.
    fn backed(&mut self, run: &Run) {
        let mut at = run.iova.start();
        for piece in self.reach.ram.pieces(run.gpa, run.len()) {
            let iova = IovaRange::from_len(at, piece.len);
            at = Iova(at.0.wrapping_add(piece.len));
            match (piece.host, iova.and_then(|iova| run.clip(iova))) {
                (Some(_), Some(part)) if piece.kind == Kind::Device && !self.reach.devices => {
                    self.leave(part.iova, Why::DeviceMemory);
                }
                (Some(_), Some(part)) => self.coarse(&part, &piece),
                (None, Some(part)) => self.leave(part.iova, Why::NothingThere),
                (_, None) => {}
            }
        }
    }

    /// Refuses what is finer than the host's smallest page.
    fn coarse(&mut self, run: &Run, piece: &Piece) {
        let granule = self.limits.granule();
        let host = piece.host.map_or(0, |host| host.0);
        let offset = run.iova.start().0 % granule;
        let even = run.gpa.0 % granule == offset && host % granule == offset;
        let skip = (granule - offset) % granule;
        let whole = run.len().saturating_sub(skip) / granule * granule;
        let inside = run
            .iova
            .start()
            .checked_add(skip)
            .filter(|_| even)
            .and_then(|start| IovaRange::from_len(start, whole));
        let Some(inside) = inside else {
            self.leave(run.iova, Why::Granularity);
            return;
        };
        let (before, after) = around(run.iova, inside);
        for part in [before, after].into_iter().flatten() {
            self.leave(part, Why::Granularity);
        }
        self.wanted.runs.extend(run.clip(inside));
    }

    fn leave(&mut self, iova: IovaRange, why: Why) {
        debug_assert!(bytes(iova) != 0);
        self.wanted.left.push(Left { iova, why });
    }
}

#[cfg(test)]
mod tests;
