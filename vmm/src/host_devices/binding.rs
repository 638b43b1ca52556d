// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Takes functions from their drivers for vfio-pci, and gives them back.
//!
//! Everything is checked for all functions before anything is changed. What fails in the middle is undone, for all functions
//! of the call.

use super::record::{Binding, Records};
use super::users::{self, User};
use crate::host_files::HostFiles;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use vfio::pci_address::PciAddress;
use vfio::sysfs::{self, HostDevice, Refusal};

const VFIO: &str = "vfio-pci";

/// Writes to the kernel's files.
pub trait Writer: std::fmt::Debug {
    /// Writes `text` in one call to a file that exists.
    ///
    /// # Errors
    /// What the kernel answers.
    fn write(&self, path: &Path, text: &str) -> io::Result<()>;
}

/// The real files.
#[derive(Clone, Copy, Debug)]
pub struct Sysfs;

impl Writer for Sysfs {
    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.write_all(text.as_bytes())
    }
}

/// What became of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// It is bound to vfio-pci now.
    Bound {
        /// The driver that it was taken from.
        from: Option<String>,
    },
    /// It was bound to vfio-pci, or a variant of it, before.
    AlreadyBound,
    /// It is no longer bound to vfio-pci.
    GivenBack {
        /// The driver that has it now.
        to: Option<String>,
    },
    /// It was not bound to vfio-pci.
    NotBound,
}

/// Why a function stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What sysfs says, or does not.
    #[error(transparent)]
    Sysfs(#[from] sysfs::Error),
    /// It can never be passed through.
    #[error("{0} cannot be passed through: {1}")]
    Refused(PciAddress, Refusal),
    /// The host needs it.
    #[error("{0} is in use: {1}")]
    InUse(PciAddress, User),
    /// There is no vfio-pci.
    #[error("the driver vfio-pci is not there: sudo modprobe vfio-pci (see remora doctor)")]
    NoVfio,
    /// The former driver could not be remembered.
    #[error("cannot remember the driver of {0}, so it could not be given back: {1}")]
    Record(PciAddress, io::Error),
    /// The kernel refused a step.
    #[error("{address}: cannot {step}: {source}{}", advice(source))]
    Step {
        /// The function.
        address: PciAddress,
        /// What was tried.
        step: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// The kernel refused, and refused to take it back.
    #[error("{0}; and it could not be put back: {1}")]
    NotUndone(String, Box<Error>),
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => " (only root may: sudo remora devices …)",
        io::ErrorKind::ResourceBusy => " (see who uses it: remora devices)",
        _ => "",
    }
}

/// Binds and unbinds.
#[derive(Debug)]
pub struct Binder<'a> {
    /// The host's files.
    pub files: &'a HostFiles,
    /// How they are written.
    pub writer: &'a dyn Writer,
    /// The former drivers.
    pub records: &'a Records,
}

impl Binder<'_> {
    /// Takes all these functions for vfio-pci.
    ///
    /// # Errors
    /// One of them may not be taken, or the kernel refused a step: then all are as they were.
    pub fn bind(&self, addresses: &[PciAddress]) -> Result<Vec<Done>, Error> {
        let devices = self.read(addresses)?;
        for device in &devices {
            self.may_take(device)?;
        }
        self.each(&devices, |device| self.take(device))
    }

    /// Gives all these functions back to the drivers that they were taken from; where that is not known, to the one that the
    /// kernel chooses.
    ///
    /// # Errors
    /// One of them is being used, or the kernel refused a step: then all are as they were.
    pub fn unbind(&self, addresses: &[PciAddress]) -> Result<Vec<Done>, Error> {
        let devices = self.read(addresses)?;
        for device in devices.iter().filter(|device| device.has_vfio_driver()) {
            self.is_free(device)?;
        }
        self.each(&devices, |device| self.give_back(device))
    }

    fn read(&self, addresses: &[PciAddress]) -> Result<Vec<HostDevice>, Error> {
        let sysfs = self.files.path("sys");
        let read = |address: &PciAddress| Ok(HostDevice::read_below(&sysfs, *address)?);
        addresses.iter().map(read).collect()
    }

    fn may_take(&self, device: &HostDevice) -> Result<(), Error> {
        if let Some(refusal) = device.lasting_refusal() {
            return Err(Error::Refused(device.address, refusal));
        }
        if device.has_vfio_driver() {
            return Ok(());
        }
        if !self.bus(&format!("drivers/{VFIO}")).exists() {
            return Err(Error::NoVfio);
        }
        self.is_free(device)
    }

    fn is_free(&self, device: &HostDevice) -> Result<(), Error> {
        match users::of(self.files, device).into_iter().next() {
            Some(user) => Err(Error::InUse(device.address, user)),
            None => Ok(()),
        }
    }

    fn take(&self, device: &HostDevice) -> Result<Done, Error> {
        let before = self.binding(device);
        if device.has_vfio_driver() {
            return Ok(Done::AlreadyBound);
        }
        let saved = self.records.save(device.address, &before);
        saved.map_err(|error| Error::Record(device.address, error))?;
        let vfio = Binding {
            driver: Some(VFIO.to_owned()),
            only: Some(VFIO.to_owned()),
        };
        self.set(device, &vfio)?;
        Ok(Done::Bound {
            from: before.driver,
        })
    }

    fn give_back(&self, device: &HostDevice) -> Result<Done, Error> {
        let record = self.records.load(device.address);
        if device.has_vfio_driver() {
            self.set(device, record.as_ref().unwrap_or(&Binding::default()))?;
            if record.is_none() {
                let probe = self.bus("drivers_probe");
                self.step(
                    device,
                    "find a driver for it",
                    &probe,
                    &device.address.to_string(),
                )?;
            }
        }
        self.records.forget(device.address);
        Ok(if device.has_vfio_driver() {
            let to = self.binding(device).driver;
            Done::GivenBack { to }
        } else {
            Done::NotBound
        })
    }

    /// Changes one device after the other; when one fails, all are put back to what they were.
    fn each(
        &self,
        devices: &[HostDevice],
        change: impl Fn(&HostDevice) -> Result<Done, Error>,
    ) -> Result<Vec<Done>, Error> {
        let mut done = Vec::new();
        let mut before = Vec::new();
        for device in devices {
            before.push((
                device,
                self.binding(device),
                self.records.load(device.address),
            ));
            match change(device) {
                Ok(outcome) => done.push(outcome),
                Err(error) => {
                    self.undo(before, &error)?;
                    return Err(error);
                }
            }
        }
        Ok(done)
    }

    fn undo(
        &self,
        before: Vec<(&HostDevice, Binding, Option<Binding>)>,
        error: &Error,
    ) -> Result<(), Error> {
        for (device, binding, record) in before.into_iter().rev() {
            let undone = self.set(device, &binding);
            undone.map_err(|second| Error::NotUndone(error.to_string(), Box::new(second)))?;
            match record {
                // It was there before: if it is lost, the kernel chooses the driver.
                Some(record) => drop(self.records.save(device.address, &record)),
                None => self.records.forget(device.address),
            }
        }
        Ok(())
    }

    /// What the function is bound to now.
    fn binding(&self, device: &HostDevice) -> Binding {
        let path = format!("sys/bus/pci/devices/{}", device.address);
        let only = self.files.text(&format!("{path}/driver_override"));
        Binding {
            driver: self.files.link(&format!("{path}/driver")),
            only: only.filter(|only| !only.is_empty() && only != "(null)"),
        }
    }

    /// Makes its binding this one, changing only what differs.
    fn set(&self, device: &HostDevice, wanted: &Binding) -> Result<(), Error> {
        let now = self.binding(device);
        let address = device.address.to_string();
        if now.only != wanted.only {
            let only = wanted.only.as_deref().unwrap_or_default();
            let file = device.path.join("driver_override");
            self.step(
                device,
                "say which driver it may have",
                &file,
                &format!("{only}\n"),
            )?;
        }
        if now.driver == wanted.driver {
            return Ok(());
        }
        if let Some(driver) = now.driver {
            let file = self.bus(&format!("drivers/{driver}/unbind"));
            self.step(device, &format!("take it from {driver}"), &file, &address)?;
        }
        if let Some(driver) = &wanted.driver {
            let file = self.bus(&format!("drivers/{driver}/bind"));
            self.step(device, &format!("bind it to {driver}"), &file, &address)?;
        }
        Ok(())
    }

    fn step(&self, device: &HostDevice, step: &str, file: &Path, text: &str) -> Result<(), Error> {
        let written = self.writer.write(file, text);
        written.map_err(|source| Error::Step {
            address: device.address,
            step: step.to_owned(),
            source,
        })
    }

    fn bus(&self, path: &str) -> PathBuf {
        self.files.path("sys/bus/pci").join(path)
    }
}
