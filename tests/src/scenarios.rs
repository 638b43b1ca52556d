// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Every scenario, in the order of `run --all`: first the lab itself, on which the others stand.

use crate::scenario::Scenario;

mod bad_input;
mod below_a_port;
mod boot;
mod boot_manycpu;
mod boot_smp;
mod boot_stock;
mod control;
mod debug_exit;
mod devices_bind;
mod dirty_tracking;
mod dma_blk;
mod dma_net;
mod doctor;
mod edu_fault;
mod entry_limit;
mod expect;
mod faults;
mod guest_hypervisor;
mod guest_nested;
mod guest_pasid;
mod guest_pri;
mod guest_reset;
mod guest_vfio;
mod host_refuses;
mod hostile_tables;
mod hotplug_blk;
mod intremap;
mod kexec_reenable;
mod kill;
mod lab_qemu_l2;
mod lab_self;
mod panic;
mod pasid;
mod pasid_churn;
mod pasid_direct;
mod pasid_life;
mod pasid_payload;
mod pasid_qemu_unit;
mod pasid_refused;
mod pasid_shared;
mod payload;
mod poweroff;
mod qemu_reference;
mod reboot;
mod scalable;
mod share;
mod timeout;
mod two_units;
mod unplug;
mod unplug_by_host;
mod vfio_backends;
mod vfio_domains;
mod vfio_e1000e;
mod vfio_edu_intx;
mod vfio_function;
mod vfio_hotplug;
mod vfio_nvme;
mod vfio_pasids;
mod vfio_peer;

/// All scenarios.
pub const ALL: &[&Scenario] = &[
    &lab_self::SCENARIO,
    &lab_qemu_l2::SCENARIO,
    &boot::BZIMAGE,
    &boot::PVH,
    &boot_stock::SCENARIO,
    &boot_smp::SCENARIO,
    &dma_blk::SCENARIO,
    &dma_net::SCENARIO,
    &share::SCENARIO,
    &intremap::SCENARIO,
    &edu_fault::SCENARIO,
    &payload::VTD,
    &payload::SCALABLE,
    &faults::SCENARIO,
    &guest_vfio::TYPE1,
    &guest_vfio::IOMMUFD,
    &guest_pasid::SCENARIO,
    &guest_nested::SCENARIO,
    &dirty_tracking::SCENARIO,
    &guest_pri::SCENARIO,
    &scalable::SECOND_STAGE,
    &scalable::FIRST_STAGE,
    &scalable::FIVE_LEVEL,
    &two_units::SCENARIO,
    &below_a_port::SCENARIO,
    &hotplug_blk::SCENARIO,
    &unplug::SCENARIO,
    &boot_manycpu::SCENARIO,
    &kexec_reenable::SCENARIO,
    &guest_hypervisor::SCENARIO,
    &poweroff::SCENARIO,
    &expect::SCENARIO,
    &reboot::SCENARIO,
    &panic::SCENARIO,
    &timeout::SCENARIO,
    &debug_exit::SCENARIO,
    &control::SCENARIO,
    &bad_input::SCENARIO,
    &doctor::SCENARIO,
    &devices_bind::SCENARIO,
    &vfio_backends::SCENARIO,
    &vfio_function::SCENARIO,
    &vfio_nvme::IOMMUFD,
    &vfio_nvme::TYPE1,
    &vfio_domains::PAIR,
    &vfio_domains::SWITCH,
    &vfio_domains::SPLIT,
    &vfio_domains::REMAP,
    &vfio_domains::PAGES,
    &vfio_peer::SCENARIO,
    &entry_limit::SCENARIO,
    &qemu_reference::SCENARIO,
    &host_refuses::SCENARIO,
    &hostile_tables::SCENARIO,
    &vfio_pasids::SCENARIO,
    &vfio_hotplug::REPLAY,
    &unplug_by_host::SCENARIO,
    &vfio_edu_intx::SCENARIO,
    &vfio_e1000e::SCENARIO,
    &guest_reset::SCENARIO,
    &kexec_reenable::WITH_DEVICE,
    &pasid::RID,
    &pasid::MANY,
    &pasid::SECOND_STAGE,
    &pasid::TWO_STAGES,
    &pasid::NO_NESTING,
    &pasid::PRI,
    &pasid_direct::SCENARIO,
    &pasid_life::UNBIND,
    &pasid_payload::REBIND,
    &pasid_payload::GLOBAL,
    &pasid_payload::DOMAINS,
    &pasid_payload::ARRIVAL,
    &pasid_payload::REPLAY,
    &pasid_refused::SCENARIO,
    &pasid_qemu_unit::SCENARIO,
    &pasid_churn::FIRST_STAGE,
    &pasid_churn::SECOND_STAGE,
    &pasid_life::RESET,
    &pasid_life::HOTPLUG,
    &pasid_shared::SCENARIO,
    &kill::SCENARIO,
];
