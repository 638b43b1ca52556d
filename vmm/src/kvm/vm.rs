// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The virtual machine: a split interrupt controller (local APICs in the kernel, the IOAPIC ours), 32-bit APIC ids, RAM slots.
//!
//! Not supported: an in-kernel PIC, IOAPIC or PIT; hosts whose KVM cannot split the interrupt controller.

use super::slots::Numbers;
use crate::error::Error;
use crate::layout;
use iommu::memory::Ram;
use kvm_bindings::{
    KVM_API_VERSION, KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_X2APIC_API,
    KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK, KVM_X2APIC_API_USE_32BIT_IDS, kvm_enable_cap,
    kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, Kvm, VmFd};
use std::io;
use std::sync::{Mutex, PoisonError};
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion};

/// A virtual machine.
#[derive(Debug)]
pub struct Vm {
    kvm: Kvm,
    fd: VmFd,
    slots: Mutex<Numbers>,
}

impl Vm {
    /// An empty machine with a split interrupt controller of [`layout::IOAPIC_PINS`] reserved GSIs.
    ///
    /// # Errors
    /// There is no KVM, it may not be used, or it lacks something.
    pub fn new() -> Result<Self, Error> {
        let kvm = open_kvm()?;
        require(&kvm)?;
        let fd = kvm
            .create_vm()
            .map_err(|e| Error::kvm("create a virtual machine", e))?;
        let slots = u32::try_from(kvm.get_nr_memslots()).unwrap_or(u32::MAX);
        let vm = Self {
            kvm,
            fd,
            slots: Mutex::new(Numbers::new(slots)),
        };
        vm.set_intel_pages()?;
        vm.split_irqchip()?;
        Ok(vm)
    }

    /// The system handle.
    #[must_use]
    pub fn kvm(&self) -> &Kvm {
        &self.kvm
    }

    /// The virtual machine's handle: irqfds, routes, messages.
    #[must_use]
    pub fn fd(&self) -> &VmFd {
        &self.fd
    }

    /// The most vCPUs that can be had, counting from APIC id 0.
    #[must_use]
    pub fn max_vcpus(&self) -> usize {
        self.kvm.get_max_vcpus().min(self.kvm.get_max_vcpu_id())
    }

    /// Lets the guest see `ram`, one slot a region. `ram` must outlive the machine: the caller keeps both.
    ///
    /// # Errors
    /// KVM refused a slot.
    pub fn map_ram(&self, ram: &Ram) -> Result<(), Error> {
        for region in ram.iter() {
            let (gpa, len) = (region.start_addr().raw_value(), region.len());
            self.take_slot(|slot| kvm_userspace_memory_region {
                slot,
                flags: 0,
                guest_phys_addr: gpa,
                memory_size: len,
                userspace_addr: region.as_ptr() as u64,
            })
            .map_err(|e| Error::host(format!("map {len} bytes of guest RAM at {gpa:#x}"), e))?;
        }
        Ok(())
    }

    /// Lets the guest see what `region` makes of the number of a free slot, and returns the number.
    ///
    /// # Errors
    /// KVM refused it, or there is no slot left.
    pub(super) fn take_slot(
        &self,
        region: impl FnOnce(u32) -> kvm_userspace_memory_region,
    ) -> io::Result<u32> {
        let mut numbers = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(number) = numbers.take() else {
            return Err(io::Error::other(
                "this host's KVM has no memory slot left for the guest",
            ));
        };
        let taken = self.set_slot(region(number));
        if taken.is_err() {
            numbers.give_back(number);
        }
        taken.map(|()| number)
    }

    /// Takes the slot of `region`, whose size is 0, out of the guest: when it returns, no processor uses it.
    ///
    /// # Errors
    /// KVM refused, and the guest sees it as before.
    pub(super) fn drop_slot(&self, region: kvm_userspace_memory_region) -> io::Result<()> {
        let mut numbers = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        self.set_slot(region)?;
        numbers.give_back(region.slot);
        Ok(())
    }

    #[expect(unsafe_code, reason = "KVM takes an address of ours")]
    fn set_slot(&self, slot: kvm_userspace_memory_region) -> io::Result<()> {
        // SAFETY: the slot describes live memory of this process, which the caller keeps mapped until the slot is dropped or
        // the machine is gone; or it has no size and describes none.
        let set = unsafe { self.fd.set_user_memory_region(slot) };
        set.map_err(|error| io::Error::from_raw_os_error(error.errno()))
    }

    /// Pages that KVM uses on Intel processors without unrestricted guests; others ignore them.
    fn set_intel_pages(&self) -> Result<(), Error> {
        if self.fd.check_extension(Cap::SetIdentityMapAddr) {
            self.fd
                .set_identity_map_address(layout::KVM_IDENTITY_MAP.raw_value())
                .map_err(|e| Error::kvm("set the identity map page", e))?;
        }
        if self.fd.check_extension(Cap::SetTssAddr) {
            let tss = usize::try_from(layout::KVM_TSS.raw_value())
                .map_err(|_| Error::Bug("the TSS lies beyond this process".into()))?;
            self.fd
                .set_tss_address(tss)
                .map_err(|e| Error::kvm("set the task state segment", e))?;
        }
        Ok(())
    }

    fn split_irqchip(&self) -> Result<(), Error> {
        self.enable(KVM_CAP_SPLIT_IRQCHIP, u64::from(layout::IOAPIC_PINS))
            .map_err(|e| Error::kvm("split the interrupt controller", e))?;
        self.enable(
            KVM_CAP_X2APIC_API,
            u64::from(KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK),
        )
        .map_err(|e| Error::kvm("use 32-bit APIC ids", e))
    }

    fn enable(&self, cap: u32, arg: u64) -> Result<(), kvm_ioctls::Error> {
        let mut request = kvm_enable_cap {
            cap,
            ..Default::default()
        };
        request.args[0] = arg;
        self.fd.enable_cap(&request)
    }
}

fn open_kvm() -> Result<Kvm, Error> {
    Kvm::new().map_err(|e| {
        let source = io::Error::from_raw_os_error(e.errno());
        let advice = match source.kind() {
            io::ErrorKind::NotFound => {
                "load the module kvm_intel or kvm_amd, or enable virtualization in the firmware"
            }
            io::ErrorKind::PermissionDenied => "join the group that owns it, usually kvm",
            _ => "",
        };
        Error::Host {
            what: "open /dev/kvm".into(),
            source,
            advice,
        }
    })
}

fn require(kvm: &Kvm) -> Result<(), Error> {
    if u32::try_from(kvm.get_api_version()) != Ok(KVM_API_VERSION) {
        return Err(Error::HostLacks(format!(
            "this KVM speaks API version {}, not {KVM_API_VERSION}",
            kvm.get_api_version()
        )));
    }
    match lacking(kvm).first() {
        Some(name) => Err(Error::HostLacks(format!("this host's KVM lacks {name}"))),
        None => Ok(()),
    }
}

/// What a machine needs and `kvm` does not have.
#[must_use]
pub fn lacking(kvm: &Kvm) -> Vec<&'static str> {
    let needed = [
        (Cap::SplitIrqchip, "a split interrupt controller"),
        (Cap::X2ApicApi, "32-bit APIC ids"),
        (Cap::SignalMsi, "KVM_SIGNAL_MSI"),
        (Cap::Irqfd, "irqfds"),
        (Cap::UserMemory, "user memory slots"),
        (Cap::ExtCpuid, "CPUID tables"),
        (Cap::ImmediateExit, "immediate exits"),
    ];
    let lacking = needed
        .into_iter()
        .filter(|(cap, _)| !kvm.check_extension(*cap));
    lacking.map(|(_, name)| name).collect()
}
