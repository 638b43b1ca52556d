// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Whether a processor is a hypervisor's, or inside a guest of the guest (KVM_GET_NESTED_STATE, KVM_SET_NESTED_STATE).
//!
//! Restored before everything else: the registers of a processor inside a guest of the guest are not its own, and KVM refuses
//! power-on values for one that is still in VMX operation.

use super::vm::Vm;
use kvm_ioctls::{Cap, Error, KvmNestedStateBuffer, VcpuFd};
use std::fmt;

/// The state after power-on; nothing on a host whose guests run no guests.
pub struct Nested(Option<Box<KvmNestedStateBuffer>>);

impl fmt::Debug for Nested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = self.0.as_ref().map(|state| state.flags);
        f.debug_struct("Nested")
            .field("flags", &flags)
            .finish_non_exhaustive()
    }
}

impl Nested {
    /// Reads the state of a processor.
    ///
    /// # Errors
    /// KVM refused.
    pub fn read(vm: &Vm, fd: &VcpuFd) -> Result<Self, Error> {
        if !vm.kvm().check_extension(Cap::NestedState) {
            return Ok(Self(None));
        }
        let mut state = Box::new(KvmNestedStateBuffer::empty());
        fd.nested_state(&mut state)?;
        Ok(Self(Some(state)))
    }

    /// Puts a processor into this state.
    ///
    /// # Errors
    /// KVM refused.
    pub fn restore(&self, fd: &VcpuFd) -> Result<(), Error> {
        self.0
            .as_ref()
            .map_or(Ok(()), |state| fd.set_nested_state(state))
    }
}
