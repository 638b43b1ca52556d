// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Placing BARs and bridge windows: the largest alignment first, so that powers of two leave no holes.

use super::sizing::{Request, Space};
use super::{FirmwareError, HotplugReserve};
use crate::pci::PciFunction;
use crate::pci::bridge::{self, WindowKind};
use crate::pci::root_port::RootPort;
use iommu::ids::SourceId;
use std::ops::Range;
use std::sync::Arc;

/// Granularity of a bridge's memory windows, bytes.
const MEMORY_GRAIN: u64 = 1 << 20;
/// Granularity of a bridge's I/O window, ports.
const IO_GRAIN: u64 = 1 << 12;

/// Something on bus 0 that wants an address.
#[derive(Debug)]
pub(super) struct Item {
    owner: SourceId,
    pub(super) space: Space,
    size: u64,
    align: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Bar(Request),
    /// A bridge's window with the BARs in it, by their offsets. Empty windows are closed.
    Window(Arc<RootPort>, Vec<(u64, Request)>),
}

impl Item {
    pub(super) fn bar(owner: SourceId, request: Request) -> Self {
        Self {
            owner,
            space: request.space,
            size: request.size,
            align: request.size,
            what: What::Bar(request),
        }
    }

    fn program(&self, base: u64) {
        match &self.what {
            What::Bar(request) => request.program(base),
            What::Window(port, inside) => {
                for (at, bytes) in bridge::window_writes(self.space.into(), base, self.size) {
                    port.config_write(at, &bytes);
                }
                for (offset, request) in inside {
                    request.program(base + offset);
                }
            }
        }
    }
}

/// The three windows of a port, for what is below it and, at a hot-plug port, for what may come.
pub(super) fn windows(
    owner: SourceId,
    port: &Arc<RootPort>,
    requests: Vec<Request>,
    reserve: HotplugReserve,
) -> Vec<Item> {
    let mut rest = requests;
    [
        (Space::Io, IO_GRAIN, 0),
        (Space::Memory, MEMORY_GRAIN, reserve.memory),
        (Space::Prefetchable, MEMORY_GRAIN, reserve.prefetchable),
    ]
    .into_iter()
    .map(|(space, grain, reserved)| {
        let (mine, others) = std::mem::take(&mut rest)
            .into_iter()
            .partition::<Vec<_>, _>(|r| r.space == space);
        rest = others;
        let largest = mine.iter().map(|r| r.size).max().unwrap_or(grain);
        let (inside, used) = pack(mine);
        let reserved = if port.is_hotplug() { reserved } else { 0 };
        let size = used.max(reserved).next_multiple_of(grain);
        // A device that fills the reserve must find it aligned to its own size.
        let align = largest.max(grain).max(power_of_two_below(reserved));
        Item {
            owner,
            space,
            size,
            align,
            what: What::Window(Arc::clone(port), inside),
        }
    })
    .collect()
}

fn power_of_two_below(value: u64) -> u64 {
    value.checked_ilog2().map_or(0, |log2| 1 << log2)
}

/// Offsets for `requests` in a window, and its size.
fn pack(mut requests: Vec<Request>) -> (Vec<(u64, Request)>, u64) {
    requests.sort_by_key(|request| std::cmp::Reverse(request.size));
    let mut next = 0u64;
    let mut inside = Vec::new();
    for request in requests {
        // Sizes fall, so every offset is a multiple of the size. A sum beyond 64 bits fits into no range: see `place`.
        let offset = next;
        next = next.saturating_add(request.size);
        inside.push((offset, request));
    }
    (inside, next.min(1 << 63))
}

/// A range that is handed out from below.
#[derive(Debug)]
pub(super) struct Area<'a> {
    name: &'static str,
    range: &'a Range<u64>,
    next: u64,
}

impl<'a> Area<'a> {
    pub(super) fn new(name: &'static str, range: &'a Range<u64>) -> Self {
        Self {
            name,
            range,
            next: range.start,
        }
    }

    /// Gives every item its address and writes it into the registers.
    pub(super) fn place(mut self, mut items: Vec<&Item>) -> Result<(), FirmwareError> {
        items.sort_by_key(|item| std::cmp::Reverse(item.align));
        for item in items {
            let base = self.take(item)?;
            item.program(base);
        }
        Ok(())
    }

    fn take(&mut self, item: &Item) -> Result<u64, FirmwareError> {
        let base = self.next.checked_next_multiple_of(item.align);
        let end = base.and_then(|base| base.checked_add(item.size));
        match (base, end) {
            (_, _) if item.size == 0 => Ok(0),
            (Some(base), Some(end)) if end <= self.range.end => {
                self.next = end;
                Ok(base)
            }
            _ => Err(FirmwareError::NoRoom {
                space: self.name,
                size: item.size,
                owner: item.owner,
                range: self.range.clone(),
                left: self.range.end.saturating_sub(self.next),
            }),
        }
    }
}

impl From<Space> for WindowKind {
    fn from(space: Space) -> Self {
        match space {
            Space::Io => Self::Io,
            Space::Memory => Self::Memory,
            Space::Prefetchable => Self::Prefetchable,
        }
    }
}
