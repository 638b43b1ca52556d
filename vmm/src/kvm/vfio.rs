// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! KVM's VFIO device, by which KVM knows the files of passed-through devices (Linux
//! `Documentation/virt/kvm/devices/vfio.rst`): it then keeps caches coherent where the host's IOMMU cannot, and stays loaded as
//! long as they are open.

use super::vm::Vm;
use crate::error::Error;
use kvm_bindings::{
    KVM_DEV_VFIO_FILE, KVM_DEV_VFIO_FILE_ADD, KVM_DEV_VFIO_FILE_DEL, kvm_create_device,
    kvm_device_attr, kvm_device_type_KVM_DEV_TYPE_VFIO,
};
use kvm_ioctls::DeviceFd;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use vfio::kvm::KvmVfio;

/// The VFIO device of a virtual machine, which can have one.
#[derive(Debug)]
pub struct VfioFiles(DeviceFd);

impl VfioFiles {
    /// The device of `vm`, which has none yet.
    ///
    /// # Errors
    /// This host's KVM lacks it, or the machine has it already.
    pub fn new(vm: &Vm) -> Result<Self, Error> {
        let mut wanted = kvm_create_device {
            type_: kvm_device_type_KVM_DEV_TYPE_VFIO,
            ..Default::default()
        };
        match vm.fd().create_device(&mut wanted) {
            Ok(device) => Ok(Self(device)),
            Err(error) => Err(Error::Host {
                what: "create KVM's VFIO device".into(),
                source: io::Error::from_raw_os_error(error.errno()),
                advice: "passing devices through needs a kernel with CONFIG_KVM_VFIO",
            }),
        }
    }

    fn tell(&self, what: u32, file: BorrowedFd<'_>) -> io::Result<()> {
        let number = file.as_raw_fd();
        let attribute = kvm_device_attr {
            group: KVM_DEV_VFIO_FILE,
            attr: u64::from(what),
            addr: (&raw const number) as u64,
            flags: 0,
        };
        self.0
            .set_device_attr(&attribute)
            .map_err(|error| io::Error::from_raw_os_error(error.errno()))
    }
}

impl KvmVfio for VfioFiles {
    fn add(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        self.tell(KVM_DEV_VFIO_FILE_ADD, file)
    }

    fn remove(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        self.tell(KVM_DEV_VFIO_FILE_DEL, file)
    }
}
