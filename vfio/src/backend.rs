// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A host that translates the DMA of passed-through devices: iommufd, or the type1 driver of VFIO containers.
//!
//! A *host table* is an IOAS with its page tables (iommufd) or a container (type1). An *endpoint* is a device, or one PASID of
//! it. What differs between the two and matters to the mirror is said by [`Features`]:
//!
//! | | iommufd | type1 |
//! |---|---|---|
//! | a mapping can be cut ([`Backend::cut_out`]) | yes, without touching the table | no |
//! | an endpoint can move between tables | yes | no: the table of its group is its table |
//! | all RAM one to one | a table that is always there | a content like any other |
//! | PASIDs | where the host has them | no |
//! | number of mappings | not limited | limited |
//!
//! Calls are synchronous: when one returns, the host's IOTLB and the device's hold nothing of what was removed. An
//! implementation is told of one thing at a time; it needs no lock of its own for that.

pub mod error;
#[cfg(any(test, feature = "testing"))]
pub mod fake;

pub use error::HostError;

use crate::nested::{Flush, NestedTable};
use crate::ram::HostVa;
use crate::run::Run;
use iommu::address::IovaRange;
use iommu::follow::DeviceHandle;
use iommu::ids::Pasid;
use std::fmt;

/// A host table, named by the backend that made it and never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u32);

/// What an empty table is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Endpoints are attached to it.
    Plain,
    /// Guests' first-stage tables stand on it ([`Backend::create_nested`]), and endpoints go through those. It maps nothing
    /// that may only be read.
    Parent,
}

/// What is attached to a table: the requests of a device without PASID, or those with one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The device, by the name that it has in the unit's events. It is one device's in all units; the guest's bus numbers have
    /// no part in it.
    pub device: DeviceHandle,
    /// The PASID; `None` for requests without one.
    pub pasid: Option<Pasid>,
}

/// What a backend can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// [`Backend::cut_out`] works: a part of a mapping goes and the rest is never absent.
    pub can_cut: bool,
    /// [`Backend::attach`] works: endpoints move between tables. Otherwise [`Backend::fixed_table`] names each device's.
    pub can_move: bool,
    /// Endpoints with a PASID can be attached.
    pub pasid: bool,
    /// Memory of other devices that is mapped in this process can be mapped for a device (peer to peer).
    pub device_memory: bool,
    /// Guest first-stage tables can be used by the host as they are, where the device's unit can do that.
    pub nesting: bool,
}

/// What a table can hold now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Page sizes in bytes, one bit each. IOVA, address and length of a mapping are multiples of the smallest.
    pub page_sizes: u64,
    /// The addresses that may be mapped, ascending: the aperture without what the host reserves. A table that gets
    /// another device may lose some.
    pub ranges: Vec<IovaRange>,
}

impl Limits {
    /// The granularity of mappings in bytes, at least 4 KiB.
    #[must_use]
    pub const fn granule(&self) -> u64 {
        let smallest = self.page_sizes & self.page_sizes.wrapping_neg();
        if smallest < iommu::address::PAGE_SIZE {
            iommu::address::PAGE_SIZE
        } else {
            smallest
        }
    }
}

/// A host that translates DMA.
pub trait Backend: fmt::Debug + Send {
    /// What the backend can do; it does not change.
    fn features(&self) -> Features;

    /// The table that holds all guest RAM one to one and never changes, where the backend keeps one. Its content is no
    /// business of the mirror.
    fn identity_table(&self) -> Option<TableId>;

    /// The table that a device is bound to for as long as it is open; `None` where endpoints can move.
    fn fixed_table(&self, device: DeviceHandle) -> Option<TableId>;

    /// Makes an empty table. Only where endpoints can move.
    ///
    /// # Errors
    /// The host refuses.
    fn create_table(&mut self, role: Role) -> Result<TableId, HostError>;

    /// Makes a table of a guest's own first-stage table, which the host walks on top of `parent`: the identity table, or one
    /// made for that. It maps nothing of its own: of the calls on tables only those for endpoints, [`Backend::invalidate`] and
    /// [`Backend::destroy_table`] are for it. What changes in the parent the host drops by itself of what is cached here.
    ///
    /// # Errors
    /// The host refuses; by default it cannot do that.
    fn create_nested(&mut self, parent: TableId, table: NestedTable) -> Result<TableId, HostError> {
        let _ = (parent, table);
        Err(HostError::Unsupported)
    }

    /// Drops what the host's units and the devices have cached through a nested table. One call of the host, as a rule.
    ///
    /// # Errors
    /// The host refuses; what it has cached is not known then.
    fn invalidate(&mut self, table: TableId, flushes: &[Flush]) -> Result<(), HostError> {
        let _ = (table, flushes);
        Err(HostError::Unsupported)
    }

    /// Whether the device's page requests can be had: then its nested tables ask for them.
    fn page_requests(&self, device: DeviceHandle) -> bool {
        let _ = device;
        false
    }

    /// Gives up a table, to which nothing is attached any more and on which nothing stands, with all that it maps.
    ///
    /// # Errors
    /// The host refuses; the table stays.
    fn destroy_table(&mut self, table: TableId) -> Result<(), HostError>;

    /// What `table` can hold now. Read again after each attachment.
    ///
    /// # Errors
    /// The host refuses.
    fn limits(&mut self, table: TableId) -> Result<Limits, HostError>;

    /// How many more mappings `table` can hold; `None` where the host sets no limit.
    ///
    /// # Errors
    /// The host refuses.
    fn entries_left(&mut self, table: TableId) -> Result<Option<u32>, HostError>;

    /// Maps `run`, whose guest RAM lies at `host` in this process. The addresses are not mapped yet. Afterwards the run is
    /// one mapping.
    ///
    /// # Errors
    /// The host refuses; nothing of the run is mapped.
    fn map(&mut self, table: TableId, run: &Run, host: HostVa) -> Result<(), HostError>;

    /// Removes every mapping in `range`, which cuts none; returns the bytes removed. An empty range is no error.
    ///
    /// A mapping that sticks out of the range is an error on type1. iommufd reports the same as for an empty range, and has
    /// removed the mappings before that one. So the caller compares the bytes with what it knows to be there, and where they
    /// differ it knows nothing of the table any more.
    ///
    /// # Errors
    /// The host refuses; nothing is removed, except for [`HostError::Io`] and [`HostError::Busy`], which may come halfway.
    fn unmap(&mut self, table: TableId, range: IovaRange) -> Result<u64, HostError>;

    /// Removes `range` from the table, cutting mappings that stick out of it: what is left of them was never absent. Returns
    /// the bytes removed.
    ///
    /// On iommufd this is `VFIO_IOMMU_UNMAP_DMA` on an IOAS whose option for huge pages was switched off when it was made.
    ///
    /// # Errors
    /// As [`Backend::unmap`]; [`HostError::Unsupported`] where the backend cannot cut.
    fn cut_out(&mut self, table: TableId, range: IovaRange) -> Result<u64, HostError>;

    /// Removes every mapping of `table`.
    ///
    /// # Errors
    /// The host refuses; some mappings may be left.
    fn unmap_all(&mut self, table: TableId) -> Result<(), HostError>;

    /// Readies `table` for an endpoint that is to be attached to it, and changes nothing for the endpoint yet. Afterwards
    /// [`Backend::limits`] tells what the table can hold with it, as far as the host says so before the attachment: on iommufd
    /// the page table for the device's unit exists then, which has the unit's width and pins what is mapped.
    ///
    /// # Errors
    /// The host refuses: the table may map what the device's unit cannot have.
    fn prepare(&mut self, table: TableId, endpoint: Endpoint) -> Result<(), HostError>;

    /// Attaches an endpoint to `table`, in place of the one that it is attached to. Where devices behind another unit of
    /// the host need page tables of their own for the same content, that is the backend's affair.
    ///
    /// Replacing is not free of a gap, and a replacement that fails leaves the endpoint blocked although the host remembers
    /// the old table and would take attaching that again for nothing to do: after an error the caller detaches first.
    ///
    /// # Errors
    /// The host refuses; the endpoint reaches nothing.
    fn attach(&mut self, endpoint: Endpoint, table: TableId) -> Result<(), HostError>;

    /// Detaches an endpoint, which then reaches nothing. One that is not attached is no error.
    ///
    /// # Errors
    /// The host refuses.
    fn detach(&mut self, endpoint: Endpoint) -> Result<(), HostError>;
}
