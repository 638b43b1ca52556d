// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Devices that come and go while the guest runs: the seam between whoever asks and whoever plugs.
//!
//! The control socket asks, and tells the [`Event`](crate::events::Event) that the answer amounts to. Whoever implements
//! [`Slots`] is put on the board by the wiring, and tells only of what happens later: a guest that lets a device go, or keeps it.

use crate::config::{DiskConfig, DmatestConfig, NetConfig, VfioConfig};
use crate::refusal::Refusal;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A device as an option of `run` describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceOption {
    /// `disk=…`
    Disk(DiskConfig),
    /// `net=…`
    Net(NetConfig),
    /// `dmatest` or `dmatest=…`
    Dmatest(DmatestConfig),
    /// `vfio=…`
    Vfio(VfioConfig),
}

impl DeviceOption {
    /// The name that the user gave, if the option has one.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Disk(disk) => disk.id.as_deref(),
            Self::Vfio(vfio) => vfio.id.as_deref(),
            Self::Net(_) | Self::Dmatest(_) => None,
        }
    }

    /// The root port that the option names.
    #[must_use]
    pub fn bus(&self) -> Option<&str> {
        match self {
            Self::Disk(disk) => disk.bus.as_deref(),
            Self::Net(net) => net.bus.as_deref(),
            Self::Dmatest(dmatest) => dmatest.bus.as_deref(),
            Self::Vfio(vfio) => vfio.bus.as_deref(),
        }
    }

    /// The option's name, which is the kind of device.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Disk(_) => "disk",
            Self::Net(_) => "net",
            Self::Dmatest(_) => "dmatest",
            Self::Vfio(_) => "vfio",
        }
    }
}

/// Where a device was put.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// Its name, by which it can be removed; the machine chooses one where the option gives none.
    pub id: String,
    /// The root port that it is behind.
    pub bus: String,
}

/// How far a removal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Removal {
    /// The device is gone.
    Done,
    /// The guest was asked to let it go. [`Event::DeviceRemoved`](crate::events::Event::DeviceRemoved) or
    /// [`Event::DeviceKept`](crate::events::Event::DeviceKept) tells how that ends.
    Requested,
}

/// One place for a device that can come and go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// The root port.
    pub bus: String,
    /// The device that is there, by its name.
    pub device: Option<String>,
    /// What the guest makes of it, in a word: `on`, `off`, `leaving`.
    pub power: String,
}

/// The machine's slots.
///
/// Called by one thread that is not the event loop's, never while the machine is reset, paused, resumed or ended. May take
/// as long as opening and attaching a device does, but does not wait for the guest.
pub trait Slots: fmt::Debug + Send + Sync {
    /// Puts a device into the slot that it names; without a name, into the first free one.
    ///
    /// # Errors
    /// There is no such slot, it is taken, the name is, or the device cannot be had. Nothing has changed then.
    fn add(&self, device: &DeviceOption) -> Result<Added, Refusal>;

    /// Asks the guest to let the device go, or, with `force`, takes it away at once (surprise removal).
    ///
    /// # Errors
    /// There is no such device, or it cannot be taken away.
    fn remove(&self, id: &str, force: bool) -> Result<Removal, Refusal>;

    /// The slots in the order of the configuration. Never waits for anything that takes long.
    fn slots(&self) -> Vec<Slot>;
}
