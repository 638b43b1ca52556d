// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How a device is put back to its state after power-on: by itself where it can be, or by its bus, which hits every function
//! on it (`VFIO_DEVICE_RESET`, `VFIO_DEVICE_PCI_HOT_RESET`).
//!
//! The kernel resets a bus for whoever owns all that is on it. That is not enough here: another of our functions on it may be
//! at work for the guest. So a bus is reset only while all others on it are ours and may not send. When the machine is reset
//! its functions are stopped one after the other, and the last one's turn resets them all.

use crate::pci_address::PciAddress;
use crate::uapi::Errno;
use crate::uapi::device::Dependent;
use iommu::ids::Requester;
use std::collections::BTreeMap;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// `VFIO_PCI_DEVID_NOT_OWNED`.
const NOT_OWNED: u32 = u32::MAX;

/// The functions of this process, by where the host has them.
#[derive(Clone, Debug, Default)]
pub struct Functions(Arc<Mutex<BTreeMap<PciAddress, Weak<Requester>>>>);

impl Functions {
    /// The function at `address` sends as `requester`, until it is dropped.
    pub fn add(&self, address: PciAddress, requester: &Arc<Requester>) {
        let mut all = self.lock();
        all.retain(|_, known| known.strong_count() > 0);
        all.insert(address, Arc::downgrade(requester));
    }

    /// What the function at `address` is doing.
    fn state(&self, address: PciAddress) -> Neighbour {
        match self.lock().get(&address).and_then(Weak::upgrade) {
            None => Neighbour::Unknown,
            Some(requester) if requester.is_bus_master() => Neighbour::AtWork,
            Some(_) => Neighbour::Stopped,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PciAddress, Weak<Requester>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Neighbour {
    /// Open in this process and not the guest's, or not open.
    Unknown,
    Stopped,
    AtWork,
}

/// Who has a device open, by which the kernel knows whether all of a bus is ours.
#[derive(Clone, Debug)]
pub enum Owner {
    /// An iommufd.
    Iommufd,
    /// The group of this number, by its file.
    Group(u32, Arc<File>),
    /// Not known: then it is reset by itself or not at all.
    Unknown,
}

/// Why a device was not reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResetError {
    /// The kernel refuses: ENOTTY or ENODEV where neither the device nor its bus can be reset.
    #[error(transparent)]
    Kernel(#[from] Errno),
    /// Its bus cannot be reset: a function on it is not ours.
    #[error("it cannot be reset alone, and {0} on the same bus is not passed through")]
    NotOurs(PciAddress),
    /// Its bus cannot be reset: a function on it is at work.
    #[error("it cannot be reset alone, and {0} on the same bus is in use")]
    AtWork(PciAddress),
}

/// What keeps the bus of the function at `this` from being reset, which hits `hit`.
pub(super) fn obstacle(
    this: PciAddress,
    hit: &[Dependent],
    owner: &Owner,
    functions: &Functions,
) -> Option<ResetError> {
    let address = |hit: &Dependent| PciAddress::new(hit.segment, hit.bus, hit.devfn);
    let ours = |dependent: &Dependent| match owner {
        Owner::Iommufd => dependent.owner != NOT_OWNED,
        Owner::Group(group, _) => dependent.owner == *group,
        Owner::Unknown => false,
    };
    let mut others = hit.iter().filter(|dependent| address(dependent) != this);
    others.find_map(|other| {
        let at = address(other);
        match functions.state(at) {
            _ if !ours(other) => Some(ResetError::NotOurs(at)),
            Neighbour::AtWork => Some(ResetError::AtWork(at)),
            Neighbour::Unknown | Neighbour::Stopped => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> PciAddress {
        text.parse().unwrap()
    }

    fn dependent(owner: u32, devfn: u8) -> Dependent {
        Dependent {
            owner,
            segment: 0,
            bus: 3,
            devfn,
        }
    }

    fn with(hit: &[Dependent], owner: Owner, functions: &Functions) -> Option<ResetError> {
        obstacle(address("0000:03:00.0"), hit, &owner, functions)
    }

    fn group() -> Owner {
        Owner::Group(7, Arc::new(File::open("/dev/null").unwrap()))
    }

    #[test]
    fn bus_is_reset_where_nobody_else_is_on_it() {
        let functions = Functions::default();
        for owner in [Owner::Iommufd, group(), Owner::Unknown] {
            assert_eq!(with(&[dependent(7, 0)], owner, &functions), None);
        }
    }

    #[test]
    fn bus_with_a_function_of_somebody_else_is_left_alone() {
        let functions = Functions::default();
        let other = Some(ResetError::NotOurs(address("0000:03:00.1")));
        let hit = [dependent(7, 0), dependent(8, 1)];
        assert_eq!(with(&hit, group(), &functions), other);
        let hit = [dependent(1, 0), dependent(u32::MAX, 1)];
        assert_eq!(with(&hit, Owner::Iommufd, &functions), other);
        let hit = [dependent(1, 0), dependent(0, 1)];
        assert_eq!(with(&hit, Owner::Iommufd, &functions), None);
    }

    #[test]
    fn bus_with_a_function_at_work_waits_until_it_is_stopped() {
        let functions = Functions::default();
        let (one, two) = (
            Arc::new(Requester::default()),
            Arc::new(Requester::default()),
        );
        functions.add(address("0000:03:00.0"), &one);
        functions.add(address("0000:03:00.1"), &two);
        one.set_bus_master(true);
        two.set_bus_master(true);
        let hit = [dependent(1, 0), dependent(2, 1)];
        let at_work = with(&hit, Owner::Iommufd, &functions);
        assert_eq!(at_work, Some(ResetError::AtWork(address("0000:03:00.1"))));
        two.set_bus_master(false);
        assert_eq!(with(&hit, Owner::Iommufd, &functions), None);
        drop(two);
        assert_eq!(with(&hit, Owner::Iommufd, &functions), None);
    }
}
