// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Why a host device cannot be taken over. What a host table refuses later is a [`HostError`](crate::backend::HostError).

use crate::device::config::ConfigError;
use crate::pci_address::PciAddress;
use crate::sysfs::{self, Refusal};
use crate::uapi::Errno;
use std::io;
use std::path::PathBuf;

/// What was tried, on what, and why it failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// sysfs.
    #[error(transparent)]
    Sysfs(#[from] sysfs::Error),
    /// The device cannot be passed through as things are.
    #[error("{device} cannot be passed through: {refusal}")]
    Refused {
        /// The device.
        device: PciAddress,
        /// The reason.
        refusal: Refusal,
    },
    /// The host's kernel lacks something.
    #[error("the host's kernel cannot do this: {0}")]
    HostLacks(&'static str),
    /// A file that cannot be opened.
    #[error("cannot open {path}: {source}{}", advice(.source))]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A call that the kernel refused.
    #[error("{call} on {on} failed: {source}{}", meaning(.call, *.source))]
    Call {
        /// The kernel's name of the call.
        call: &'static str,
        /// What it was made on.
        on: String,
        /// Why.
        source: Errno,
    },
    /// The device's configuration space cannot be read.
    #[error("the device's configuration space cannot be read: {0}")]
    Image(io::Error),
    /// The device cannot be shown to a guest.
    #[error("the device cannot be shown to a guest: {0}")]
    Config(#[from] ConfigError),
    /// KVM does not take the device's file.
    #[error("KVM does not take the VFIO file of {device}: {source}")]
    Kvm {
        /// The device.
        device: PciAddress,
        /// Why.
        source: io::Error,
    },
}

/// What a failure to open a file of VFIO's usually means.
fn advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOENT) => " (is the module loaded, and the device bound to vfio-pci?)",
        Some(libc::EACCES | libc::EPERM) => " (may this user open it?)",
        Some(libc::EBUSY) => " (another process has it)",
        Some(libc::ENODEV) => " (the host's kernel was built without it)",
        _ => "",
    }
}

/// What the numbers of the calls that take a device over usually mean.
fn meaning(call: &str, error: Errno) -> &'static str {
    match (call, error.errno()) {
        (
            "VFIO_DEVICE_BIND_IOMMUFD" | "VFIO_GROUP_GET_DEVICE_FD" | "VFIO_SET_IOMMU",
            libc::EPERM,
        ) => {
            " (the host remaps no interrupts: a device could send any; see the parameter allow_unsafe_interrupts)"
        }
        ("VFIO_DEVICE_BIND_IOMMUFD" | "VFIO_GROUP_SET_CONTAINER", libc::EBUSY) => {
            " (another process uses its IOMMU group)"
        }
        (_, libc::ENOMEM) => " (raise RLIMIT_MEMLOCK, ulimit -l, above the guest's RAM)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_says_what_was_tried_on_what_and_what_to_do() {
        let error = Error::Call {
            call: "VFIO_DEVICE_BIND_IOMMUFD",
            on: "0000:00:02.0".to_owned(),
            source: Errno::new(libc::EBUSY),
        };
        assert_eq!(
            error.to_string(),
            "VFIO_DEVICE_BIND_IOMMUFD on 0000:00:02.0 failed: Device or resource busy (os error 16) \
             (another process uses its IOMMU group)"
        );
    }
}
