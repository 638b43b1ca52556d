// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The lab: a Linux host with KVM, VFIO and an Intel IOMMU on any x86-64 machine, and the scenarios that run there.
//!
//! Three levels: L0 is the machine at hand, L1 a Linux under QEMU's software emulation that really has the hardware
//! interfaces Remora needs, L2 what Remora boots inside L1. One L1 serves many scenarios one after another.
//!
//! Everything started here dies with the lab (parent-death signal), so no path needs a handler for Ctrl-C.

pub mod apt;
pub mod binaries;
pub mod browser;
pub mod cli;
pub mod complaints;
pub mod cpio;
pub mod ctl;
pub mod demo;
pub mod dmatest;
pub mod ending;
pub mod evidence;
pub mod host_device;
pub mod images;
pub mod kernel;
pub mod l1;
pub mod lab;
pub mod logs;
pub mod mirrored;
pub mod packages;
pub mod paths;
pub mod process;
pub mod progress;
pub mod qemu;
pub mod remora;
pub mod runner;
pub mod scenario;
pub mod scenarios;
pub mod session;
pub mod soak;
pub mod stock;
pub mod strict_reads;
pub mod suite;
pub mod three_levels;
mod traffic;
pub mod tsc;
