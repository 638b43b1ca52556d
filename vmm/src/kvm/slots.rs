// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory slots: which memory of this process the guest sees where (`KVM_SET_USER_MEMORY_REGION`).
//!
//! Guest RAM is mapped once. Parts of devices' BARs come and go with the guest's writes to BARs and command registers, anywhere
//! within the windows of the PCI root: a BAR that the guest programs elsewhere is decoded by nobody, and must not hide what
//! lies there. Numbers of slots are used again, the lowest first, as KVM has tables of them.
//!
//! Lock rule: one lock over the numbers and KVM's call, so that a number is not given out before its slot is gone; nothing
//! else is taken under it.

use super::vm::Vm;
use iommu::address::Gpa;
use kvm_bindings::kvm_userspace_memory_region;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use vfio::device::direct::{Direct, MemorySlots};
use vfio::ram::HostVa;

/// What KVM maps is made of whole pages.
const PAGE: u64 = 4096;

/// The numbers of the slots.
#[derive(Debug)]
pub(super) struct Numbers {
    used: BTreeSet<u32>,
    limit: u32,
}

impl Numbers {
    /// No slot of `limit` is used.
    pub(super) const fn new(limit: u32) -> Self {
        Self {
            used: BTreeSet::new(),
            limit,
        }
    }

    /// The lowest that is free.
    pub(super) fn take(&mut self) -> Option<u32> {
        let gap = (0..).zip(&self.used).find(|(free, used)| free != *used);
        let free = match gap {
            Some((free, _)) => free,
            None => u32::try_from(self.used.len()).ok()?,
        };
        if free >= self.limit {
            return None;
        }
        self.used.insert(free);
        Some(free)
    }

    pub(super) fn give_back(&mut self, number: u32) {
        self.used.remove(&number);
    }
}

/// Memory of this process, and where the guest sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Mapped {
    gpa: u64,
    len: u64,
    host: u64,
}

impl Mapped {
    fn region(self, slot: u32) -> kvm_userspace_memory_region {
        kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: self.gpa,
            memory_size: self.len,
            userspace_addr: self.host,
        }
    }
}

/// Devices' memory in the guest.
#[derive(Debug)]
pub struct DeviceMemory {
    vm: Arc<Vm>,
    windows: [Range<u64>; 2],
    mapped: Mutex<HashMap<Mapped, u32>>,
}

impl DeviceMemory {
    /// Memory of devices in `vm`, within the guest-physical addresses of `windows`, of which one may be empty.
    #[must_use]
    pub fn new(vm: Arc<Vm>, windows: [Range<u64>; 2]) -> Arc<Self> {
        Arc::new(Self {
            vm,
            windows,
            mapped: Mutex::default(),
        })
    }

    fn add(&self, wanted: Mapped) -> io::Result<()> {
        let aligned = [wanted.gpa, wanted.len, wanted.host]
            .iter()
            .all(|value| value.is_multiple_of(PAGE));
        let end = wanted.gpa.checked_add(wanted.len);
        let inside = end.is_some_and(|end| {
            let mut windows = self.windows.iter();
            windows.any(|window| window.start <= wanted.gpa && end <= window.end)
        });
        if !aligned || !inside || wanted.len == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "{:#x} bytes at guest-physical address {:#x} are not within a window of the PCI root",
                    wanted.len, wanted.gpa
                ),
            ));
        }
        let mut mapped = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = self.vm.take_slot(|slot| wanted.region(slot))?;
        mapped.insert(wanted, slot);
        Ok(())
    }

    fn remove(&self, old: Mapped) -> io::Result<()> {
        let mut mapped = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = *mapped.get(&old).ok_or(io::ErrorKind::NotFound)?;
        self.vm.drop_slot(Mapped { len: 0, ..old }.region(slot))?;
        mapped.remove(&old);
        Ok(())
    }
}

fn mapped(gpa: Gpa, direct: &Direct) -> Mapped {
    let (part, HostVa(host)) = (direct.part(), direct.host());
    Mapped {
        gpa: gpa.0,
        len: part.end - part.start,
        host,
    }
}

impl MemorySlots for DeviceMemory {
    fn map(&self, gpa: Gpa, direct: &Direct) -> io::Result<()> {
        self.add(mapped(gpa, direct))
    }

    fn unmap(&self, gpa: Gpa, direct: &Direct) -> io::Result<()> {
        self.remove(mapped(gpa, direct))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

    #[test]
    fn numbers_are_used_again_the_lowest_first_and_end_at_the_limit() {
        let mut numbers = Numbers::new(3);
        assert_eq!(
            [(); 4].map(|()| numbers.take()),
            [Some(0), Some(1), Some(2), None]
        );
        numbers.give_back(1);
        assert_eq!([(); 2].map(|()| numbers.take()), [Some(1), None]);
        numbers.give_back(2);
        numbers.give_back(0);
        assert_eq!([(); 2].map(|()| numbers.take()), [Some(0), Some(2)]);
    }

    /// Two pages of this process, which KVM is shown and no guest touches.
    fn memory() -> (GuestMemoryMmap, u64) {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x2000)]).unwrap();
        let host = memory.iter().next().unwrap().as_ptr() as u64;
        (memory, host)
    }

    #[test]
    #[cfg_attr(not(has_kvm), ignore = "no usable /dev/kvm on this machine")]
    fn part_outside_the_windows_or_not_of_pages_is_refused() {
        let (_memory, host) = memory();
        let vm = Arc::new(Vm::new().unwrap());
        let slots = DeviceMemory::new(vm, [0xc000_0000..0xc000_2000, 0..0]);
        for (gpa, len, host) in [
            (0xbfff_f000, 0x1000, host),
            (0xc000_1000, 0x2000, host),
            (0xffff_ffff_ffff_f000, 0x2000, host),
            (0xc000_0800, 0x1000, host),
            (0xc000_0000, 0x800, host),
            (0xc000_0000, 0x1000, host + 8),
            (0xc000_0000, 0, host),
        ] {
            let refused = slots.add(Mapped { gpa, len, host }).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{gpa:#x}");
        }
    }

    #[test]
    #[cfg_attr(not(has_kvm), ignore = "no usable /dev/kvm on this machine")]
    fn part_that_was_removed_leaves_its_place_and_its_number() {
        let (_memory, host) = memory();
        let vm = Arc::new(Vm::new().unwrap());
        let slots = DeviceMemory::new(vm.clone(), [0xc000_0000..0xd000_0000, 0..0]);
        let part = |gpa| Mapped {
            gpa,
            len: 0x2000,
            host,
        };
        slots.add(part(0xc000_0000)).unwrap();
        let overlaps = slots.add(part(0xc000_1000)).unwrap_err();
        assert_eq!(overlaps.kind(), io::ErrorKind::AlreadyExists);
        slots.add(part(0xc800_0000)).unwrap();
        slots.remove(part(0xc000_0000)).unwrap();
        let gone = slots.remove(part(0xc000_0000)).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        slots.add(part(0xc000_1000)).unwrap();
        let numbers: BTreeSet<u32> = slots.mapped.lock().unwrap().values().copied().collect();
        assert_eq!(numbers, BTreeSet::from([0, 1]));
    }
}
