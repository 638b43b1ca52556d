// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which parts of a BAR a guest may touch directly: what VFIO lets be mapped, without what we answer.
//!
//! The MSI-X table is always answered by us, even where the kernel would let it be mapped and even where it shares a page
//! with registers: all accesses to that page come to us then.

use crate::uapi::device::RegionInfo;
use vfio_bindings::bindings::vfio::{
    VFIO_REGION_INFO_FLAG_MMAP, VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE,
};

const PAGE: u64 = 4096;

/// What a region must allow to become memory of the guest, which is both read and written.
const NEEDED: u32 =
    VFIO_REGION_INFO_FLAG_MMAP | VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;

/// Bytes of a BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The first.
    pub start: u64,
    /// The first beyond.
    pub end: u64,
}

impl Part {
    /// The bytes from `start` up to but without `end`.
    #[must_use]
    pub const fn new(start: u64, end: u64) -> Self {
        Self { start, end }
    }
}

/// The parts of `region` that can be given to the guest as memory, whole pages in ascending order, without the pages that
/// hold a byte of `trapped`.
#[must_use]
pub fn direct(region: &RegionInfo, trapped: &[Part]) -> Vec<Part> {
    if region.flags & NEEDED != NEEDED {
        return Vec::new();
    }
    let mut parts: Vec<Part> = match &region.mappable {
        None => vec![Part::new(0, region.size)],
        Some(areas) => {
            let inside = |(start, len): &(u64, u64)| {
                let end = start.saturating_add(*len).min(region.size);
                Part::new(*start, end)
            };
            areas.iter().map(inside).collect()
        }
    };
    for hole in trapped {
        let hole = Part::new(hole.start / PAGE * PAGE, hole.end.next_multiple_of(PAGE));
        parts = parts
            .into_iter()
            .flat_map(|part| without(&part, &hole))
            .collect();
    }
    let whole = |part: Part| Part::new(part.start.next_multiple_of(PAGE), part.end / PAGE * PAGE);
    let mut parts: Vec<_> = parts.into_iter().map(whole).collect();
    parts.retain(|part| part.start < part.end);
    parts.sort_by_key(|part| part.start);
    parts
}

/// What of `part` lies before and after `hole`; a side may be empty.
fn without(part: &Part, hole: &Part) -> [Part; 2] {
    [
        Part::new(part.start, part.end.min(hole.start).max(part.start)),
        Part::new(part.start.max(hole.end).min(part.end), part.end),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(size: u64, mappable: Option<Vec<(u64, u64)>>) -> RegionInfo {
        RegionInfo {
            flags: 0x7,
            size,
            mappable,
            ..RegionInfo::default()
        }
    }

    fn parts(region: &RegionInfo, trapped: &[Part]) -> Vec<(u64, u64)> {
        let parts = direct(region, trapped);
        parts.iter().map(|part| (part.start, part.end)).collect()
    }

    #[test]
    fn page_of_the_table_is_trapped_whole() {
        let region = region(0x4000, None);
        assert_eq!(
            parts(&region, &[Part::new(0x2800, 0x2c10)]),
            [(0, 0x2000), (0x3000, 0x4000)]
        );
        assert_eq!(
            parts(&region, &[Part::new(0x0, 0x10), Part::new(0x3ff0, 0x4000)]),
            [(0x1000, 0x3000)]
        );
        assert_eq!(
            parts(&region, &[Part::new(0x1ff0, 0x2010)]),
            [(0, 0x1000), (0x3000, 0x4000)]
        );
        assert_eq!(parts(&region, &[]), [(0, 0x4000)]);
    }

    #[test]
    fn sparse_region_is_what_the_kernel_says_less_what_is_trapped() {
        let region = region(0x8000, Some(vec![(0x6000, 0x9000), (0, 0x3000)]));
        assert_eq!(
            parts(
                &region,
                &[Part::new(0x2000, 0x2010), Part::new(0x4000, 0x4010)]
            ),
            [(0, 0x2000), (0x6000, 0x8000)]
        );
    }

    #[test]
    fn region_that_cannot_be_mapped_has_no_parts() {
        for flags in [0x3, 0x5, 0x6] {
            let lacking = RegionInfo {
                flags,
                ..region(0x4000, None)
            };
            assert!(direct(&lacking, &[]).is_empty(), "flags {flags:#x}");
        }
        assert!(
            direct(&region(0x100, None), &[]).is_empty(),
            "less than a page"
        );
        assert!(direct(&region(0x1000, None), &[Part::new(0, 0x10)]).is_empty());
    }
}
