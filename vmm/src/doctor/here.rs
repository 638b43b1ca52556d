// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The device nodes of this machine.

use super::host::{KvmFacts, Node, Nodes};
use crate::kvm::vm;
use kvm_ioctls::Kvm;
use std::arch::x86_64::__cpuid;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;

/// The device nodes of this machine.
#[derive(Clone, Copy, Debug)]
pub struct ThisHost;

impl Nodes for ThisHost {
    fn open(&self, path: &str) -> io::Result<()> {
        let node = OpenOptions::new().read(true).write(true).open(path);
        node.map(drop)
    }

    fn node(&self, path: &str) -> Option<Node> {
        let metadata = fs::metadata(path).ok()?;
        Some(Node {
            group: metadata.gid(),
            mode: metadata.mode() & 0o777,
        })
    }

    fn kvm(&self) -> io::Result<KvmFacts> {
        let kvm = Kvm::new().map_err(|error| io::Error::from_raw_os_error(error.errno()))?;
        Ok(KvmFacts {
            version: kvm.get_api_version(),
            lacks: vm::lacking(&kvm),
            vcpus: kvm.get_max_vcpus(),
            hypervisor: hypervisor(),
        })
    }
}

/// The signature in CPUID leaf 0x4000_0000, where leaf 1 says that there is a hypervisor.
fn hypervisor() -> Option<String> {
    const PRESENT: u32 = 1 << 31;
    if __cpuid(1).ecx & PRESENT == 0 {
        return None;
    }
    let leaf = __cpuid(0x4000_0000);
    let bytes: Vec<u8> = [leaf.ebx, leaf.ecx, leaf.edx]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    let text = String::from_utf8_lossy(&bytes);
    Some(text.trim_end_matches('\0').to_owned())
}
