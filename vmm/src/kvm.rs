// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The host's KVM: the virtual machine and its processors.

pub mod cpuid;
pub mod exit;
pub mod features;
mod nested;
pub mod slots;
pub mod vcpu;
pub mod vfio;
pub mod vm;
