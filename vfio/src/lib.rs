// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The host side of passthrough: host I/O page tables that hold what the guest's tables say.
//!
//! A guest domain has a host table. What the guest's tables map is compared with what the host has, and only the
//! differences reach the host, through one of the backends behind [`backend::Backend`].

pub mod backend;
pub mod device;
pub mod diff;
pub mod dump;
pub mod error;
pub mod hardware;
pub mod iommufd;
pub mod kvm;
pub mod ledger;
pub mod mirror;
pub mod nested;
pub mod page_requests;
pub mod pci_address;
pub mod ram;
pub mod run;
pub mod shared;
pub mod sysfs;
pub mod type1;
pub mod uapi;
