// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where guest RAM, and memory of passed-through devices, lies in the process, which is how a host maps it.

use iommu::address::Gpa;
use vm_memory::GuestAddress;

/// An address in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostVa(pub u64);

/// Guest RAM that is contiguous in both spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RamRegion {
    /// Where the guest sees it.
    pub gpa: Gpa,
    /// Bytes, whole pages.
    pub len: u64,
    /// Where the process has it.
    pub host: HostVa,
}

impl RamRegion {
    const fn end(&self) -> u64 {
        self.gpa.0 + self.len
    }
}

/// All guest RAM, and what devices have of memory that can be a target of DMA.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RamMap {
    regions: Vec<RamRegion>,
    /// Parts of BARs, which overlap neither each other nor RAM.
    devices: Vec<RamRegion>,
}

/// What lies at guest-physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// RAM.
    Ram,
    /// Memory of a passed-through device.
    Device,
    /// Nothing that DMA can reach.
    Nothing,
}

/// Contiguous guest-physical addresses that are memory of one region, or none at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The first address.
    pub gpa: Gpa,
    /// Bytes, at least 1.
    pub len: u64,
    /// Where the first byte lies in the process; `None` where there is nothing.
    pub host: Option<HostVa>,
    /// What it is.
    pub kind: Kind,
}

/// Two regions share an address, or one passes the end of the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "guest RAM at guest-physical address {:#x} overlaps other RAM or the end of the address space", .0.0
)]
pub struct RamError(pub Gpa);

impl RamMap {
    /// The RAM of `regions`, empty ones aside.
    ///
    /// # Errors
    /// Two regions overlap, or one passes the end of the address space.
    pub fn new(mut regions: Vec<RamRegion>) -> Result<Self, RamError> {
        sort(&mut regions)?;
        Ok(Self {
            regions,
            devices: Vec::new(),
        })
    }

    /// The same RAM, with memory of devices at `devices` instead of where it was.
    ///
    /// # Errors
    /// A region overlaps another one or RAM, or passes the end of the address space.
    pub fn with_devices(&self, mut devices: Vec<RamRegion>) -> Result<Self, RamError> {
        sort(&mut devices)?;
        let mut all: Vec<RamRegion> = self.regions.iter().chain(&devices).copied().collect();
        sort(&mut all)?;
        Ok(Self {
            regions: self.regions.clone(),
            devices,
        })
    }

    /// Memory of devices, in ascending order.
    #[must_use]
    pub fn devices(&self) -> &[RamRegion] {
        &self.devices
    }

    /// The regions of RAM in ascending order.
    #[must_use]
    pub fn regions(&self) -> &[RamRegion] {
        &self.regions
    }

    /// Bytes of RAM.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.regions.iter().map(|region| region.len).sum()
    }

    /// Whether there is no RAM.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.regions.is_empty()
    }

    /// The piece that begins at `gpa`, of at most `most` bytes.
    #[must_use]
    pub fn piece(&self, gpa: Gpa, most: u64) -> Piece {
        let (ram, ram_len) = at(&self.regions, gpa, most);
        let (device, device_len) = at(&self.devices, gpa, most);
        let (host, kind) = match (ram, device) {
            (Some(host), _) => (Some(host), Kind::Ram),
            (None, Some(host)) => (Some(host), Kind::Device),
            (None, None) => (None, Kind::Nothing),
        };
        Piece {
            gpa,
            len: ram_len.min(device_len),
            host,
            kind,
        }
    }

    /// The pieces of the `len` bytes from `gpa` on, which do not pass the end of the address space.
    pub fn pieces(&self, gpa: Gpa, len: u64) -> impl Iterator<Item = Piece> {
        let mut next = gpa.0;
        let mut left = len;
        std::iter::from_fn(move || {
            let piece = (left != 0).then(|| self.piece(GuestAddress(next), left))?;
            left -= piece.len;
            next = next.wrapping_add(piece.len);
            Some(piece)
        })
    }

    /// Whether RAM at `gpa` and right before it is contiguous in the process.
    #[must_use]
    pub fn is_contiguous_at(&self, gpa: Gpa) -> bool {
        gpa.0
            .checked_sub(1)
            .is_some_and(|before| self.piece(GuestAddress(before), 2).len == 2)
    }
}

/// Orders regions that are not empty.
fn sort(regions: &mut Vec<RamRegion>) -> Result<(), RamError> {
    regions.retain(|region| region.len != 0);
    regions.sort_by_key(|region| region.gpa);
    let mut end = 0;
    for region in regions {
        let next = region.gpa.0.checked_add(region.len);
        match next {
            Some(next) if region.gpa.0 >= end => end = next,
            _ => return Err(RamError(region.gpa)),
        }
    }
    Ok(())
}

/// Where `gpa` lies in the process by `regions`, and for how many bytes from there on, at most `most`, the answer is the same.
fn at(regions: &[RamRegion], gpa: Gpa, most: u64) -> (Option<HostVa>, u64) {
    let after = regions.partition_point(|region| region.gpa <= gpa);
    let before = after.checked_sub(1).map(|at| &regions[at]);
    if let Some(region) = before.filter(|region| gpa.0 < region.end()) {
        let host = HostVa(region.host.0 + (gpa.0 - region.gpa.0));
        return (Some(host), most.min(region.end() - gpa.0));
    }
    let next = regions.get(after).map(|region| region.gpa.0 - gpa.0);
    (None, next.map_or(most, |distance| most.min(distance)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(gpa: u64, len: u64, host: u64) -> RamRegion {
        RamRegion {
            gpa: GuestAddress(gpa),
            len,
            host: HostVa(host),
        }
    }

    #[test]
    fn pieces_split_at_regions_and_holes() {
        let ram = RamMap::new(vec![
            region(0x4000, 0x1000, 0x90_0000),
            region(0, 0x2000, 0x10_0000),
            region(0x2000, 0x1000, 0x50_0000),
        ])
        .unwrap();
        let pieces: Vec<_> = ram
            .pieces(GuestAddress(0x1000), 0x5000)
            .map(|piece| (piece.gpa.0, piece.len, piece.host.map(|host| host.0)))
            .collect();
        assert_eq!(
            pieces,
            [
                (0x1000, 0x1000, Some(0x10_1000)),
                (0x2000, 0x1000, Some(0x50_0000)),
                (0x3000, 0x1000, None),
                (0x4000, 0x1000, Some(0x90_0000)),
                (0x5000, 0x1000, None),
            ]
        );
        assert!(ram.is_contiguous_at(GuestAddress(0x1000)));
        assert!(!ram.is_contiguous_at(GuestAddress(0x2000)));
        assert!(!ram.is_contiguous_at(GuestAddress(0)));
    }

    #[test]
    fn memory_of_devices_is_told_apart_and_overlaps_nothing() {
        let ram = RamMap::new(vec![region(0, 0x2000, 0x10_0000)]).unwrap();
        let with = ram.with_devices(vec![region(0x3000, 0x1000, 0x90_0000)]);
        let with = with.unwrap();
        let pieces: Vec<_> = with
            .pieces(GuestAddress(0x1000), 0x4000)
            .map(|piece| (piece.len, piece.kind, piece.host.map(|host| host.0)))
            .collect();
        assert_eq!(
            pieces,
            [
                (0x1000, Kind::Ram, Some(0x10_1000)),
                (0x1000, Kind::Nothing, None),
                (0x1000, Kind::Device, Some(0x90_0000)),
                (0x1000, Kind::Nothing, None),
            ]
        );
        assert_eq!((with.len(), with.regions().len()), (0x2000, 1));
        let over = ram.with_devices(vec![region(0x1000, 0x1000, 0x90_0000)]);
        assert!(over.is_err());
    }

    #[test]
    fn ram_that_overlaps_is_refused() {
        let overlapping = vec![region(0, 0x2000, 0), region(0x1000, 0x1000, 0x9000)];
        assert_eq!(
            RamMap::new(overlapping),
            Err(RamError(GuestAddress(0x1000)))
        );
        assert!(RamMap::new(vec![region(u64::MAX - 0xfff, 0x1000, 0)]).is_err());
    }
}
