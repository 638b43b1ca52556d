// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What KVM has to know of VFIO (Documentation/virt/kvm/devices/vfio.rst), implemented by the machine.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;

/// KVM's VFIO device.
pub trait KvmVfio: fmt::Debug {
    /// `KVM_DEV_VFIO_FILE_ADD`: told of the file of each group or device before it is bound.
    ///
    /// # Errors
    /// KVM refuses.
    fn add(&self, file: BorrowedFd<'_>) -> io::Result<()>;

    /// `KVM_DEV_VFIO_FILE_DEL`: the file will be closed.
    ///
    /// # Errors
    /// KVM does not know it.
    fn remove(&self, file: BorrowedFd<'_>) -> io::Result<()>;
}
