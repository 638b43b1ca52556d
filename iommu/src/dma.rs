// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A device's view of memory.
//!
//! A device reaches guest memory only inside a [`DmaSection`], the read side of its [`DmaSpace`]. An invalidation completes
//! only after every section that could hold the old translation has ended ([`DmaSpace::quiesce`]), so no write of a device
//! lands in a page after the guest was told that the page is free.
//!
//! A fault in the middle of a transfer ends it there: what came before has happened, as on a bus.
//!
//! There is no other way to keep guest memory in use: whoever hands pieces of it to the host (file I/O, sockets) does so
//! within a section and ends the section after the host is done with them.
//!
//! Lock rule: sections of one space do not nest on one thread, and nothing inside a section waits for the guest or for an
//! invalidation.

use crate::address::{Gpa, Iova};
use crate::fault::Fault;
use crate::ids::{Pasid, Requester, SourceId};
use crate::memory::Ram;
use crate::msi::MsiMessage;
use crate::request::{Access, AddressType, Attributes, Request, Translation};
use crate::sync::{RwLock, RwLockReadGuard};
use crate::translate::{identity, in_interrupt_range};
use std::fmt;
use std::sync::{Arc, PoisonError};
use vm_memory::{
    Address, GuestAddress, GuestMemory, GuestMemoryBackend, GuestMemoryError, GuestMemoryRegion,
    Permissions, VolatileSlice, guest_memory::GuestMemorySliceIterator,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Translates the requests of devices.
pub trait Translate: fmt::Debug + Send + Sync {
    /// Translates one request and records the fault if there is one.
    ///
    /// # Errors
    /// The request is blocked; whoever asked must not touch memory.
    fn translate(&self, request: &Request) -> Result<Translation, Fault>;

    /// Takes a write that is an interrupt request. Blocked ones are recorded; where nothing takes interrupts from the bus
    /// they are lost, which is what the default does.
    fn interrupt(&self, source: SourceId, message: MsiMessage) {
        let _ = (source, message);
    }
}

/// A device's DMA failed: the address as the device used it, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DmaError {
    /// The unit blocked the request and has recorded it.
    #[error("DMA to {0} blocked by the IOMMU")]
    Blocked(Iova),
    /// Bus mastering is off, so the request never left the device.
    #[error("DMA to {0} without bus mastering")]
    NotBusMaster(Iova),
    /// The translated address is not RAM.
    #[error("DMA to {0} reaches no RAM")]
    NoRam(Iova),
}

/// One address space of one requester.
#[derive(Debug)]
pub struct DmaSpace {
    ram: Arc<Ram>,
    requester: Arc<Requester>,
    pasid: Option<Pasid>,
    translate: Option<Arc<dyn Translate>>,
    sections: RwLock<()>,
}

impl DmaSpace {
    /// A space behind `translate`.
    #[must_use]
    pub fn translated(
        ram: Arc<Ram>,
        requester: Arc<Requester>,
        pasid: Option<Pasid>,
        translate: Arc<dyn Translate>,
    ) -> Arc<Self> {
        Arc::new(Self {
            ram,
            requester,
            pasid,
            translate: Some(translate),
            sections: RwLock::new(()),
        })
    }

    /// A space without a remapping unit: IOVAs are guest-physical addresses.
    #[must_use]
    pub fn identity(ram: Arc<Ram>, requester: Arc<Requester>) -> Arc<Self> {
        Arc::new(Self {
            ram,
            requester,
            pasid: None,
            translate: None,
            sections: RwLock::new(()),
        })
    }

    /// The requester whose space this is.
    #[must_use]
    pub fn requester(&self) -> &Arc<Requester> {
        &self.requester
    }

    /// Opens a section in which memory may be accessed. Keep it short: invalidations wait for it.
    #[must_use]
    pub fn section(&self) -> DmaSection<'_> {
        let guard = self.sections.read().unwrap_or_else(PoisonError::into_inner);
        DmaSection {
            space: self,
            _guard: guard,
        }
    }

    /// Waits until every section that was open at the call has ended.
    pub fn quiesce(&self) {
        drop(
            self.sections
                .write()
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    fn check_bus_master(&self, address: Iova) -> Result<(), DmaError> {
        if self.requester.is_bus_master() {
            Ok(())
        } else {
            Err(DmaError::NotBusMaster(address))
        }
    }

    /// Sends the four bytes that a device writes into the interrupt range as the interrupt that they are.
    fn interrupt(&self, address: Iova, data: [u8; 4]) -> Result<(), DmaError> {
        self.check_bus_master(address)?;
        if let Some(translate) = &self.translate {
            let message = MsiMessage {
                address: address.0,
                data: u32::from_le_bytes(data),
            };
            translate.interrupt(self.requester.source(), message);
        }
        Ok(())
    }

    fn translate(
        &self,
        address: Iova,
        access: Access,
        attributes: Attributes,
    ) -> Result<Translation, DmaError> {
        self.check_bus_master(address)?;
        let Some(translate) = &self.translate else {
            return Ok(identity(address, None));
        };
        let request = Request {
            pasid: self.pasid,
            address_type: attributes.address_type,
            execute: attributes.execute,
            privileged: attributes.privileged,
            ..Request::untranslated(self.requester.source(), address, access)
        };
        translate
            .translate(&request)
            .map_err(|_| DmaError::Blocked(address))
    }
}

/// The right to access memory through a [`DmaSpace`], until dropped.
///
/// It implements [`vm_memory::GuestMemory`], so rings and buffers of virtio-queue and [`vm_memory::Bytes`] work on it; the
/// addresses are then IOVAs, although their type says otherwise.
#[derive(Debug)]
pub struct DmaSection<'a> {
    space: &'a DmaSpace,
    _guard: RwLockReadGuard<'a, ()>,
}

impl DmaSection<'_> {
    /// Fills `buf` from `iova` on.
    ///
    /// # Errors
    /// The first address that could not be read; `buf` is then unspecified.
    pub fn read(&self, iova: Iova, buf: &mut [u8]) -> Result<(), DmaError> {
        self.read_with(iova, buf, Attributes::default())
    }

    /// [`Self::read`] with attributes.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_with(
        &self,
        iova: Iova,
        buf: &mut [u8],
        attributes: Attributes,
    ) -> Result<(), DmaError> {
        let mut done = 0;
        for piece in self.pieces_with(iova, buf.len(), Access::Read, attributes) {
            let slice = piece?;
            let end = done + slice.len();
            slice.copy_to(&mut buf[done..end]);
            done = end;
        }
        Ok(())
    }

    /// Writes `buf` at `iova`. Four aligned bytes into the interrupt range, without PASID, are an interrupt request.
    ///
    /// # Errors
    /// The first address that could not be written; everything before it has been.
    pub fn write(&self, iova: Iova, buf: &[u8]) -> Result<(), DmaError> {
        self.write_with(iova, buf, Attributes::default())
    }

    /// [`Self::write`] with attributes. An address that is translated already is never an interrupt request.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_with(
        &self,
        iova: Iova,
        buf: &[u8],
        attributes: Attributes,
    ) -> Result<(), DmaError> {
        if let Ok(data) = <[u8; 4]>::try_from(buf)
            && self.space.pasid.is_none()
            && attributes.address_type == AddressType::Untranslated
            && iova.0.is_multiple_of(4)
            && in_interrupt_range(iova)
        {
            return self.space.interrupt(iova, data);
        }
        let mut done = 0;
        for piece in self.pieces_with(iova, buf.len(), Access::Write, attributes) {
            let slice = piece?;
            let end = done + slice.len();
            slice.copy_from(&buf[done..end]);
            done = end;
        }
        Ok(())
    }

    /// Reads a value at `iova`.
    ///
    /// # Errors
    /// The first address that could not be read.
    pub fn read_value<T: FromBytes + IntoBytes>(&self, iova: Iova) -> Result<T, DmaError> {
        let mut value = T::new_zeroed();
        self.read(iova, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Writes `value` at `iova`.
    ///
    /// # Errors
    /// The first address that could not be written; everything before it has been.
    pub fn write_value<T: IntoBytes + Immutable>(
        &self,
        iova: Iova,
        value: &T,
    ) -> Result<(), DmaError> {
        self.write(iova, value.as_bytes())
    }

    /// The pieces of RAM behind `len` bytes from `iova` on, for host I/O. They must not outlive the section.
    pub fn pieces(&self, iova: Iova, len: usize, access: Access) -> Pieces<'_> {
        self.pieces_with(iova, len, access, Attributes::default())
    }

    /// [`Self::pieces`] with attributes.
    pub fn pieces_with(
        &self,
        iova: Iova,
        len: usize,
        access: Access,
        attributes: Attributes,
    ) -> Pieces<'_> {
        Pieces {
            space: self.space,
            next: Some(iova),
            left: len,
            access,
            attributes,
        }
    }
}

/// The contiguous pieces of RAM behind a range of IOVAs. Ends after the first error.
#[derive(Debug)]
pub struct Pieces<'a> {
    space: &'a DmaSpace,
    next: Option<Iova>,
    left: usize,
    access: Access,
    attributes: Attributes,
}

impl<'a> Pieces<'a> {
    fn piece(&mut self, iova: Iova) -> Result<VolatileSlice<'a>, DmaError> {
        let found = self.space.translate(iova, self.access, self.attributes)?;
        let region = RegionSlice::new(&self.space.ram, found.gpa).ok_or(DmaError::NoRam(iova))?;
        let len = usize::try_from(found.len)
            .unwrap_or(usize::MAX)
            .min(self.left)
            .min(region.left);
        let slice = GuestMemoryBackend::get_slice(&*self.space.ram, found.gpa, len)
            .map_err(|_| DmaError::NoRam(iova))?;
        self.left -= len;
        self.next = iova.checked_add(len as u64);
        Ok(slice)
    }
}

/// How far a RAM region reaches from an address on.
struct RegionSlice {
    left: usize,
}

impl RegionSlice {
    fn new(ram: &Ram, gpa: Gpa) -> Option<Self> {
        let (region, offset) = ram.to_region_addr(gpa)?;
        let left = region.len().checked_sub(offset.raw_value())?;
        Some(Self {
            left: usize::try_from(left).ok()?,
        })
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Result<VolatileSlice<'a>, DmaError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let Some(iova) = self.next else {
            self.left = 0;
            return Some(Err(DmaError::NoRam(Iova(u64::MAX))));
        };
        let piece = self.piece(iova);
        if piece.is_err() {
            self.left = 0;
        }
        Some(piece)
    }
}

impl std::iter::FusedIterator for Pieces<'_> {}

/// [`Pieces`] with vm-memory's error type.
#[derive(Debug)]
pub struct GuestSlices<'a>(Pieces<'a>);

impl<'a> Iterator for GuestSlices<'a> {
    type Item = Result<VolatileSlice<'a>, GuestMemoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0
            .next()
            .map(|piece| piece.map_err(|e| GuestMemoryError::IOError(std::io::Error::other(e))))
    }
}

impl std::iter::FusedIterator for GuestSlices<'_> {}

impl<'a> GuestMemorySliceIterator<'a, ()> for GuestSlices<'a> {}

impl GuestMemory for DmaSection<'_> {
    type PhysicalMemory = Ram;
    type Bitmap = ();

    fn check_range(&self, addr: GuestAddress, count: usize, access: Permissions) -> bool {
        self.pieces(Iova(addr.0), count, access_of(access))
            .all(|piece| piece.is_ok())
    }

    fn get_slices<'a>(
        &'a self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Result<impl GuestMemorySliceIterator<'a, ()>, GuestMemoryError> {
        Ok(GuestSlices(self.pieces(
            Iova(addr.0),
            count,
            access_of(access),
        )))
    }
}

fn access_of(permissions: Permissions) -> Access {
    match permissions {
        Permissions::No | Permissions::Read => Access::Read,
        Permissions::Write => Access::Write,
        Permissions::ReadWrite => Access::Atomic,
    }
}

#[cfg(test)]
mod tests;
