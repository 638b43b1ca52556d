// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a device asks of the unit, and what it is told.

use crate::address::{Gpa, Iova};
use crate::ids::{Pasid, SourceId};

/// What a request does to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Reads memory.
    Read,
    /// Writes memory.
    Write,
    /// Reads and writes memory in one operation.
    Atomic,
}

impl Access {
    /// Whether the access needs the right to read.
    #[must_use]
    pub const fn reads(self) -> bool {
        matches!(self, Self::Read | Self::Atomic)
    }

    /// Whether the access needs the right to write.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Atomic)
    }
}

/// The address type field of a transaction (PCIe AT, fault record bits 125:124).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AddressType {
    /// The address is an IOVA and the unit translates it.
    #[default]
    Untranslated,
    /// The device asks for a translation to cache (ATS).
    TranslationRequest,
    /// The address is the outcome of an earlier translation request.
    Translated,
}

/// Rights to a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Perms {
    /// Reads are allowed.
    pub read: bool,
    /// Writes are allowed.
    pub write: bool,
    /// Instruction fetches are allowed. Only where requests may ask for them.
    pub execute: bool,
}

impl Perms {
    /// Reads and writes.
    pub const READ_WRITE: Self = Self {
        read: true,
        write: true,
        execute: false,
    };

    /// Every right.
    pub const ALL: Self = Self {
        execute: true,
        ..Self::READ_WRITE
    };

    /// The rights that both have: how rights stack down a walk.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            read: self.read && other.read,
            write: self.write && other.write,
            execute: self.execute && other.execute,
        }
    }

    /// Whether there is no right at all.
    #[must_use]
    pub const fn is_none(self) -> bool {
        !self.read && !self.write && !self.execute
    }

    /// Whether `access` is within the rights.
    #[must_use]
    pub const fn allow(self, access: Access) -> bool {
        (self.read || !access.reads()) && (self.write || !access.writes())
    }
}

/// One request of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who asks.
    pub source: SourceId,
    /// The address space it asks in; `None` for a request without PASID.
    pub pasid: Option<Pasid>,
    /// Where to.
    pub address: Iova,
    /// What for.
    pub access: Access,
    /// How the address is to be understood.
    pub address_type: AddressType,
    /// The request asks for instruction fetch (only with a PASID).
    pub execute: bool,
    /// The request has supervisor privilege (only with a PASID).
    pub privileged: bool,
}

/// What a device says of a request besides address and access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// How the address is to be understood.
    pub address_type: AddressType,
    /// The request asks for instruction fetch (only with a PASID).
    pub execute: bool,
    /// The request has supervisor privilege (only with a PASID).
    pub privileged: bool,
}

impl Request {
    /// An untranslated request without PASID.
    #[must_use]
    pub const fn untranslated(source: SourceId, address: Iova, access: Access) -> Self {
        Self {
            source,
            pasid: None,
            address,
            access,
            address_type: AddressType::Untranslated,
            execute: false,
            privileged: false,
        }
    }
}

/// The unit's answer to a request that is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// What the requested address translates to.
    pub gpa: Gpa,
    /// Bytes from the requested address on that the same page covers, at least 1. The page may end exactly at 2^64, where
    /// the number saturates.
    pub len: u64,
    /// All rights to that page under the request's privilege, at least those asked for.
    pub perms: Perms,
}
