// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The capabilities that can be switched off: what their registers allow, and what the device says in them.

use super::command::Allowed;
use super::{DmatestOptions, Shared};
use crate::pci::ats::Ats;
use crate::pci::function::FunctionBuilder;
use crate::pci::pasid::PasidRegisters;
use crate::pci::pri::{Pri, PriStatus};
use iommu::address::IovaRange;
use iommu::invalidation::DeviceSpaces;

/// Page requests that may be outstanding; the device makes use of one.
const PAGE_REQUEST_CAPACITY: u32 = 32;

/// Where they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capabilities {
    ats: Option<Ats>,
    pri: Option<Pri>,
    pasid: Option<(PasidRegisters, u8)>,
}

impl Capabilities {
    pub(super) fn install(builder: &mut FunctionBuilder, options: &DmatestOptions) -> Self {
        let config = builder.config();
        let bits = options.pasid_bits;
        Self {
            ats: options.ats.then(|| Ats::install(config)),
            pri: options
                .pri
                .then(|| Pri::install(config, PAGE_REQUEST_CAPACITY)),
            pasid: (bits != 0).then(|| (PasidRegisters::install(config, bits), bits)),
        }
    }
}

impl Shared {
    /// What the control registers allow now.
    pub(super) fn allowed(&self) -> Allowed {
        let Capabilities { ats, pri, pasid } = self.capabilities;
        self.function.with_config(|config| {
            let mut allowed = Allowed {
                ats: ats.is_some_and(|ats| ats.is_enabled(config)),
                page_requests: pri
                    .is_some_and(|pri| pri.is_enabled(config) && pri.allocation(config) != 0),
                ..Allowed::default()
            };
            if let Some((registers, bits)) = pasid {
                let control = registers.control(config);
                allowed.pasid_bits = control.enable().then_some(bits);
                allowed.execute = control.enable() && control.execute();
                allowed.privileged = control.enable() && control.privileged();
            }
            allowed
        })
    }

    /// Whether software has answered that no page can be had, and has not cleared that.
    pub(super) fn has_failed(&self) -> bool {
        let pri = self.capabilities.pri;
        self.function
            .with_config(|config| pri.is_some_and(|pri| pri.status(config).response_failure()))
    }

    /// Changes the PRI status register, in a device that has it.
    pub(super) fn set_pri_status(&self, change: impl FnOnce(PriStatus) -> PriStatus) {
        if let Some(pri) = self.capabilities.pri {
            self.function
                .with_config(|config| pri.set_status(config, change(pri.status(config))));
        }
    }

    /// Brings the Stopped bit up to date.
    pub(super) fn update_stopped(&self) {
        let Some(pri) = self.capabilities.pri else {
            return;
        };
        let registers = self.lock();
        self.function.with_config(|config| {
            let stopped = !pri.is_enabled(config) && !registers.is_asking();
            let status = pri.status(config).with_stopped(stopped);
            pri.set_status(config, status);
        });
    }

    /// Does what a configuration write of `data` at `offset` says to the page request interface.
    pub(super) fn obey_pri(&self, offset: u16, data: &[u8]) {
        let Some(pri) = self.capabilities.pri else {
            return;
        };
        let forget = self
            .function
            .with_config(|config| pri.asks_for_reset(config, offset, data));
        if forget {
            self.lock().forget();
            self.changed.notify_all();
        }
        self.update_stopped();
    }

    /// Drops what the control registers do not allow any more; returns when it is not in use.
    pub(super) fn obey(&self, before: &Allowed) {
        let now = self.allowed();
        let lost_pasid = before.pasid_bits.is_some() && now.pasid_bits.is_none();
        if before.ats && !now.ats {
            self.atc().clear();
        } else if lost_pasid {
            let every = DeviceSpaces::AllPasids;
            self.atc().invalidate(every, IovaRange::ALL);
        } else {
            return;
        }
        self.spaces.quiesce();
    }
}
