// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Parts of a device's BARs that the guest touches without us: mapped into this process, and by the machine into the guest.

use super::port::DeviceFile;
use super::regions::{self, Part};
use crate::ram::HostVa;
use devices::pci::BarWindow;
use iommu::address::Gpa;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::ffi::c_void;
use std::fmt;
use std::fs::File;
use std::io;
use std::ptr;

/// The machine, which shows memory of this process to the guest (`KVM_SET_USER_MEMORY_REGION`).
pub trait MemorySlots: fmt::Debug + Send + Sync {
    /// The guest sees `direct` at `gpa` from now on.
    ///
    /// # Errors
    /// The machine refuses; accesses then come to the function, which serves them too.
    fn map(&self, gpa: Gpa, direct: &Direct) -> io::Result<()>;

    /// The guest no longer sees `direct`, which it saw at `gpa`; when it returns, no processor uses it.
    ///
    /// # Errors
    /// The machine refuses; the guest may see the part where it did, and the call can be made again.
    fn unmap(&self, gpa: Gpa, direct: &Direct) -> io::Result<()>;
}

/// A part of a BAR in this process.
#[derive(Debug)]
pub struct Direct {
    bar: u8,
    part: Part,
    host: HostVa,
    /// Unmapped with the part; none in most tests.
    _mapping: Option<Mapping>,
}

impl Direct {
    /// Every part of the device's BARs that the guest may touch, without the bytes that `trapped` names for each BAR. A part
    /// that cannot be mapped is left out, with a message: it works through the function, only slower.
    #[must_use]
    pub fn all(device: &DeviceFile, trapped: impl Fn(u8) -> Vec<Part>) -> Vec<Self> {
        let mut all = Vec::new();
        for bar in 0..6 {
            let Some(region) = device.bar(bar) else {
                continue;
            };
            for part in regions::direct(region, &trapped(bar)) {
                match Self::new(device, bar, part) {
                    Ok(direct) => all.push(direct),
                    Err(error) => {
                        tracing::warn!("BAR {bar} at {:#x} cannot be mapped: {error}", part.start);
                    }
                }
            }
        }
        all
    }

    fn new(device: &DeviceFile, bar: u8, part: Part) -> io::Result<Self> {
        let region = device.bar(bar).ok_or(io::ErrorKind::NotFound)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let len = usize::try_from(part.end - part.start).map_err(io::Error::other)?;
        let mapping = Mapping::new(device.file(), region.offset + part.start, len, access)?;
        Ok(Self {
            bar,
            part,
            host: HostVa(mapping.address as u64),
            _mapping: Some(mapping),
        })
    }

    /// A part that lies nowhere.
    #[cfg(test)]
    pub(super) const fn fake(bar: u8, part: Part) -> Self {
        Self {
            bar,
            part,
            host: HostVa(0),
            _mapping: None,
        }
    }

    /// A part of a BAR that is the beginning of `file`.
    #[cfg(test)]
    pub(super) fn of_file(bar: u8, part: Part, file: &File) -> io::Result<Self> {
        let len = usize::try_from(part.end - part.start).map_err(io::Error::other)?;
        let mapping = Mapping::new(file, 0, len, ProtFlags::READ)?;
        Ok(Self {
            bar,
            part,
            host: HostVa(mapping.address as u64),
            _mapping: Some(mapping),
        })
    }

    /// Keeps the part mapped for as long as the process lives, for a guest that may still reach it.
    pub(super) fn leak(self) {
        std::mem::forget(self);
    }

    /// Which BAR.
    #[must_use]
    pub const fn bar(&self) -> u8 {
        self.bar
    }

    /// Which bytes of the BAR, whole pages.
    #[must_use]
    pub const fn part(&self) -> Part {
        self.part
    }

    /// Where they lie in this process.
    #[must_use]
    pub const fn host(&self) -> HostVa {
        self.host
    }

    /// Where the guest sees the part while the function decodes `windows`; `None` when it does not, or not at a page.
    pub(super) fn place(&self, windows: &[BarWindow]) -> Option<Gpa> {
        let window = windows
            .iter()
            .find(|window| window.bar == self.bar && !window.io)?;
        let gpa = window.base.checked_add(self.part.start)?;
        gpa.is_multiple_of(4096)
            .then_some(vm_memory::GuestAddress(gpa))
    }
}

/// Device memory in this process.
#[derive(Debug)]
struct Mapping {
    address: *mut c_void,
    len: usize,
}

#[expect(unsafe_code, reason = "the address is never dereferenced here")]
// SAFETY: the mapping belongs to the process and not to a thread; whoever touches it does so through the guest.
unsafe impl Send for Mapping {}
#[expect(unsafe_code, reason = "the address is never dereferenced here")]
// SAFETY: as for `Send`; shared references only tell the address.
unsafe impl Sync for Mapping {}

impl Mapping {
    #[expect(unsafe_code, reason = "mmap returns an address")]
    fn new(file: &File, offset: u64, len: usize, access: ProtFlags) -> io::Result<Self> {
        // SAFETY: the kernel chooses fresh addresses, so no other memory is touched.
        let address = unsafe { mmap(ptr::null_mut(), len, access, MapFlags::SHARED, file, offset) };
        Ok(Self {
            address: address?,
            len,
        })
    }
}

impl Drop for Mapping {
    #[expect(unsafe_code, reason = "munmap takes an address")]
    fn drop(&mut self) {
        // SAFETY: the mapping is ours; the function took it out of the guest before it let go of the part, or leaked it.
        let unmapped = unsafe { munmap(self.address, self.len) };
        if let Err(error) = unmapped {
            tracing::warn!("memory of a device stays mapped: {error}");
        }
    }
}
