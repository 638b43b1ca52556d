// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The machine: KVM, memory, vCPUs, boot, ACPI, the wiring of devices, the command line.
//!
//! A parsed [`config::Config`] becomes a [`board::Board`], which the wiring fills with devices.

pub mod acpi;
pub mod api;
pub mod board;
pub mod boot;
pub mod cli;
pub mod config;
pub mod console;
pub mod control;
pub mod doctor;
pub mod error;
pub mod events;
pub mod host_devices;
pub mod host_files;
pub mod hotplug;
pub mod interrupts;
pub mod kvm;
pub mod layout;
pub mod machine;
pub mod memory;
pub mod net;
pub mod offer;
pub mod options;
pub mod refusal;
pub mod report;
pub mod run;
pub mod signals;
pub mod slots;
pub mod vcpus;
pub mod wiring;
