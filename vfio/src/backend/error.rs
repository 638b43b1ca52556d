// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Why a host refuses, as its error numbers say it (drivers/vfio/vfio_iommu_type1.c, drivers/iommu/iommufd).

/// A call that the host refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum HostError {
    /// ENOSPC: the table has no entry left.
    #[error(
        "the host's limit of DMA mappings is reached (ENOSPC): raise the parameter dma_entry_limit of the module \
         vfio_iommu_type1, or use iommufd"
    )]
    EntryLimit,
    /// ENOMEM: memory that may be locked, or memory at all, is used up.
    #[error(
        "the host may not lock more memory (ENOMEM): raise RLIMIT_MEMLOCK (ulimit -l) above the guest's RAM"
    )]
    LockedMemory,
    /// EEXIST: something is mapped there already.
    #[error("the host has a mapping at these addresses already (EEXIST)")]
    Overlap,
    /// EINVAL for addresses outside what the table can hold: the host's width is smaller, or it reserves them.
    #[error(
        "the host cannot map these addresses (EINVAL): they lie beyond its width or in a range that it reserves"
    )]
    Aperture,
    /// EINVAL for a mapping that is finer than the host's smallest page.
    #[error("the mapping is finer than the host's smallest page (EINVAL)")]
    Granularity,
    /// EINVAL for a mapping for reading only beneath first-stage tables.
    #[error(
        "the host maps nothing for reading only beneath a first-stage table (EINVAL, erratum 772415 of its hardware)"
    )]
    ReadOnly,
    /// EINVAL for anything else.
    #[error("the host takes the request for malformed (EINVAL)")]
    Invalid,
    /// EFAULT: the memory cannot be pinned.
    #[error("the host cannot pin the memory behind these addresses (EFAULT)")]
    Unpinnable,
    /// EIO: the hardware or its driver failed.
    #[error("the host's IOMMU failed (EIO)")]
    Io,
    /// EBUSY: something else is being done with the object.
    #[error("the host is busy with the object (EBUSY)")]
    Busy,
    /// ENOENT: no such object.
    #[error("the host does not know the object (ENOENT)")]
    NotFound,
    /// EADDRINUSE: the device reserves addresses that the table maps.
    #[error("the device reserves addresses that the table maps (EADDRINUSE)")]
    AddressInUse,
    /// EOPNOTSUPP: this host cannot do that.
    #[error("the host does not support this (EOPNOTSUPP)")]
    Unsupported,
    /// The host removed something else than what it had been given.
    #[error("the host's mappings are not those that it was given")]
    Mismatch,
    /// Any other error number.
    #[error("the host refused with error {0}")]
    Other(i32),
}

impl HostError {
    /// What the error number of a host call means. EINVAL is [`HostError::Invalid`]: whether addresses lie outside what a table
    /// can hold, or are too fine, is checked before the call.
    #[must_use]
    pub const fn from_errno(errno: i32) -> Self {
        match errno {
            2 => Self::NotFound,
            5 => Self::Io,
            12 => Self::LockedMemory,
            14 => Self::Unpinnable,
            16 => Self::Busy,
            17 => Self::Overlap,
            22 => Self::Invalid,
            28 => Self::EntryLimit,
            95 => Self::Unsupported,
            98 => Self::AddressInUse,
            other => Self::Other(other),
        }
    }

    /// The error number; 0 where the host did not report one.
    #[must_use]
    pub const fn errno(self) -> i32 {
        match self {
            Self::NotFound => 2,
            Self::Io => 5,
            Self::LockedMemory => 12,
            Self::Unpinnable => 14,
            Self::Busy => 16,
            Self::Overlap => 17,
            Self::Aperture | Self::Granularity | Self::ReadOnly | Self::Invalid => 22,
            Self::EntryLimit => 28,
            Self::Unsupported => 95,
            Self::AddressInUse => 98,
            Self::Mismatch => 0,
            Self::Other(errno) => errno,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_of_every_number_is_that_number() {
        for errno in 1..134 {
            assert_eq!(HostError::from_errno(errno).errno(), errno);
        }
    }
}
