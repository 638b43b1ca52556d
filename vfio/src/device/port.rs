// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is done to a device through its VFIO file, one method for each kind of access, so that a test can stand in for the
//! file.

use super::config::HostFunction;
use super::reset::{self, Functions, Owner, ResetError};
use crate::pci_address::PciAddress;
use crate::uapi::{self, Errno, device::RegionInfo};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_FLAGS_RESET, VFIO_IRQ_INFO_NORESIZE, VFIO_IRQ_SET_ACTION_MASK,
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_ACTION_UNMASK, VFIO_IRQ_SET_DATA_EVENTFD,
    VFIO_IRQ_SET_DATA_NONE, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_ERR_IRQ_INDEX,
    VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX,
    VFIO_PCI_REQ_IRQ_INDEX,
};

/// A kind of interrupt of a device. It uses one of the first three at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IrqKind {
    /// The pin.
    Intx,
    /// MSI.
    Msi,
    /// MSI-X.
    Msix,
    /// Not the device's: the host's kernel reports that it has failed.
    Error,
    /// Not the device's: the host's kernel wants it back.
    Request,
}

impl IrqKind {
    const fn index(self) -> u32 {
        match self {
            Self::Intx => VFIO_PCI_INTX_IRQ_INDEX,
            Self::Msi => VFIO_PCI_MSI_IRQ_INDEX,
            Self::Msix => VFIO_PCI_MSIX_IRQ_INDEX,
            Self::Error => VFIO_PCI_ERR_IRQ_INDEX,
            Self::Request => VFIO_PCI_REQ_IRQ_INDEX,
        }
    }
}

/// Access to a device.
pub trait Port: fmt::Debug + Send + Sync {
    /// Reads configuration space.
    ///
    /// # Errors
    /// The device does not answer.
    fn config_read(&self, at: u16, data: &mut [u8]) -> io::Result<()>;

    /// Writes configuration space.
    ///
    /// # Errors
    /// The device does not answer.
    fn config_write(&self, at: u16, data: &[u8]) -> io::Result<()>;

    /// Reads `data.len()` bytes at `offset` of a BAR.
    ///
    /// # Errors
    /// The device does not answer, or its memory is disabled.
    fn bar_read(&self, bar: u8, offset: u64, data: &mut [u8]) -> io::Result<()>;

    /// Writes `data` at `offset` of a BAR.
    ///
    /// # Errors
    /// The device does not answer, or its memory is disabled.
    fn bar_write(&self, bar: u8, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Has the vectors of `kind` from `first` on signal `events`; `None` leaves a vector without. Enables the kind.
    ///
    /// # Errors
    /// As the kernel says: ENOSPC when the host has no vector left.
    fn arm(
        &self,
        kind: IrqKind,
        first: u32,
        events: &[Option<BorrowedFd<'_>>],
    ) -> Result<(), Errno>;

    /// Disables `kind`; nothing is signalled any more when it returns.
    ///
    /// # Errors
    /// As the kernel says.
    fn disarm(&self, kind: IrqKind) -> Result<(), Errno>;

    /// Masks the pin, or lets it signal again: each signal masks it.
    ///
    /// # Errors
    /// As the kernel says.
    fn mask_intx(&self, masked: bool) -> Result<(), Errno>;

    /// Resets the device.
    ///
    /// # Errors
    /// It cannot be reset, or not now.
    fn reset(&self) -> Result<(), ResetError>;
}

/// A device through its file.
#[derive(Debug)]
pub struct DeviceFile {
    file: Arc<File>,
    config: RegionInfo,
    bars: [RegionInfo; 6],
    vectors: Vectors,
    /// MSI-X vectors can be added while others are in use.
    grows: bool,
    resettable: bool,
    owner: Owner,
    /// Where the host has it, and who is on its bus with it; `None` when nobody said.
    place: Option<(PciAddress, Functions)>,
}

#[derive(Clone, Copy, Debug)]
struct Vectors {
    intx: u32,
    msi: u32,
    msix: u32,
}

impl DeviceFile {
    /// Asks the kernel what the device has. `iommufd`: the file was opened by that backend, so that a reset of the bus needs no
    /// files of groups.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn new(file: Arc<File>, iommufd: bool) -> Result<Self, Errno> {
        let info = uapi::device::info(&file)?;
        let mut bars: [RegionInfo; 6] = Default::default();
        for (index, bar) in (0..).zip(&mut bars) {
            *bar = uapi::device::region(&file, index)?;
        }
        let irq = |kind: IrqKind| uapi::device::irq(&file, kind.index());
        let msix = irq(IrqKind::Msix)?;
        Ok(Self {
            config: uapi::device::region(&file, VFIO_PCI_CONFIG_REGION_INDEX)?,
            bars,
            vectors: Vectors {
                intx: irq(IrqKind::Intx)?.count,
                msi: irq(IrqKind::Msi)?.count,
                msix: msix.count,
            },
            grows: msix.flags & VFIO_IRQ_INFO_NORESIZE == 0,
            resettable: info.flags & VFIO_DEVICE_FLAGS_RESET != 0,
            owner: if iommufd {
                Owner::Iommufd
            } else {
                Owner::Unknown
            },
            place: None,
            file,
        })
    }

    /// The same, at `address` of the host and among `functions`, and opened by `owner`: it can then be reset by its bus.
    #[must_use]
    pub fn among(mut self, address: PciAddress, functions: &Functions, owner: Owner) -> Self {
        self.place = Some((address, functions.clone()));
        self.owner = owner;
        self
    }

    /// The device's configuration space as it is now.
    ///
    /// # Errors
    /// It does not answer.
    pub fn image(&self) -> io::Result<Vec<u8>> {
        let size = self.config.size.min(4096);
        let mut image = vec![0; usize::try_from(size).unwrap_or_default()];
        // By dwords: the kernel may stop anywhere else.
        for (at, dword) in (0..).step_by(4).zip(image.chunks_mut(4)) {
            self.file.read_exact_at(dword, self.config.offset + at)?;
        }
        Ok(image)
    }

    /// What the guest's view is made of; `image` is [`Self::image`].
    #[must_use]
    pub fn describe<'a>(&self, image: &'a [u8]) -> HostFunction<'a> {
        HostFunction {
            image,
            bars: self.bars.each_ref().map(|bar| bar.size),
            intx: self.vectors.intx > 0,
            msi: self.vectors.msi,
            msix: self.vectors.msix,
            resettable: self.resettable,
        }
    }

    /// The region of a BAR.
    #[must_use]
    pub fn bar(&self, bar: u8) -> Option<&RegionInfo> {
        self.bars.get(usize::from(bar))
    }

    /// Whether MSI-X vectors can be added while others are in use.
    #[must_use]
    pub const fn can_add_vectors(&self) -> bool {
        self.grows
    }

    /// The file.
    #[must_use]
    pub const fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Where an access lies in the file; beyond the region it lies nowhere.
    fn place(region: &RegionInfo, offset: u64, len: usize) -> io::Result<u64> {
        let end = offset.checked_add(len as u64);
        if end.is_some_and(|end| end <= region.size) {
            Ok(region.offset + offset)
        } else {
            Err(io::ErrorKind::InvalidInput.into())
        }
    }

    fn bar_place(&self, bar: u8, offset: u64, len: usize) -> io::Result<u64> {
        let region = self.bar(bar).ok_or(io::ErrorKind::InvalidInput)?;
        Self::place(region, offset, len)
    }
}

impl Port for DeviceFile {
    fn config_read(&self, at: u16, data: &mut [u8]) -> io::Result<()> {
        let place = Self::place(&self.config, u64::from(at), data.len())?;
        self.file.read_exact_at(data, place)
    }

    fn config_write(&self, at: u16, data: &[u8]) -> io::Result<()> {
        let place = Self::place(&self.config, u64::from(at), data.len())?;
        self.file.write_all_at(data, place)
    }

    fn bar_read(&self, bar: u8, offset: u64, data: &mut [u8]) -> io::Result<()> {
        let place = self.bar_place(bar, offset, data.len())?;
        self.file.read_exact_at(data, place)
    }

    fn bar_write(&self, bar: u8, offset: u64, data: &[u8]) -> io::Result<()> {
        let place = self.bar_place(bar, offset, data.len())?;
        self.file.write_all_at(data, place)
    }

    fn arm(
        &self,
        kind: IrqKind,
        first: u32,
        events: &[Option<BorrowedFd<'_>>],
    ) -> Result<(), Errno> {
        let flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
        uapi::device::set_irq_files(&self.file, flags, (kind.index(), first), events)
    }

    fn disarm(&self, kind: IrqKind) -> Result<(), Errno> {
        let flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
        uapi::device::set_irqs(&self.file, flags, whole(kind, 0))
    }

    fn mask_intx(&self, masked: bool) -> Result<(), Errno> {
        let action = if masked {
            VFIO_IRQ_SET_ACTION_MASK
        } else {
            VFIO_IRQ_SET_ACTION_UNMASK
        };
        let flags = VFIO_IRQ_SET_DATA_NONE | action;
        uapi::device::set_irqs(&self.file, flags, whole(IrqKind::Intx, 1))
    }

    fn reset(&self) -> Result<(), ResetError> {
        if self.resettable {
            return Ok(uapi::device::reset(&self.file)?);
        }
        let Some((address, functions)) = &self.place else {
            return Err(Errno::new(libc::ENOTTY).into());
        };
        let hit = uapi::device::hot_reset_info(&self.file)?;
        if let Some(obstacle) = reset::obstacle(*address, &hit, &self.owner, functions) {
            return Err(obstacle);
        }
        let groups = match &self.owner {
            Owner::Group(_, file) => vec![file.as_fd()],
            Owner::Iommufd | Owner::Unknown => Vec::new(),
        };
        Ok(uapi::device::hot_reset(&self.file, &groups)?)
    }
}

const fn whole(kind: IrqKind, count: u32) -> uapi::device::Irqs {
    uapi::device::Irqs {
        index: kind.index(),
        start: 0,
        count,
    }
}
