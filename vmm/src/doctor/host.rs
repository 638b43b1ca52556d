// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A host as it is examined: its small files, and what its device nodes answer.

use crate::host_files::HostFiles;
use std::io;

/// A host.
#[derive(Debug)]
pub struct Host<'a> {
    /// Its files.
    pub files: HostFiles,
    /// Its device nodes.
    pub nodes: &'a dyn Nodes,
}

/// Device nodes. Paths are absolute.
pub trait Nodes: std::fmt::Debug {
    /// Opens a node for reading and writing, and closes it again.
    ///
    /// # Errors
    /// Why it cannot be opened.
    fn open(&self, path: &str) -> io::Result<()>;

    /// Whom a node belongs to; `None` when there is none.
    fn node(&self, path: &str) -> Option<Node>;

    /// What KVM says of itself.
    ///
    /// # Errors
    /// Why `/dev/kvm` cannot be opened.
    fn kvm(&self) -> io::Result<KvmFacts>;
}

/// Owner and permissions of a device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its group's id.
    pub group: u32,
    /// Its permissions, the lowest nine bits.
    pub mode: u32,
}

/// What KVM says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvmFacts {
    /// The version of its interface.
    pub version: i32,
    /// What a machine needs and it lacks.
    pub lacks: Vec<&'static str>,
    /// The most processors of a guest.
    pub vcpus: usize,
    /// The hypervisor under this host, as it signs itself in CPUID; `None` on bare metal.
    pub hypervisor: Option<String>,
}

impl Host<'_> {
    /// Parameters of the kernel's command line.
    pub(super) fn kernel_parameters(&self) -> Vec<String> {
        let line = self.files.text("proc/cmdline").unwrap_or_default();
        line.split_whitespace().map(str::to_owned).collect()
    }

    /// Whether a parameter of the command line names `value` in its list: `intel_iommu=on,sm_on` names `on` and `sm_on`.
    pub(super) fn told(&self, parameter: &str, value: &str) -> bool {
        let parameters = self.kernel_parameters();
        let mut lists = parameters
            .iter()
            .filter_map(|text| text.strip_prefix(parameter)?.strip_prefix('='));
        lists.any(|list| list.split(',').any(|part| part == value))
    }

    /// Version and subversion of the kernel.
    pub(super) fn kernel_version(&self) -> Option<(u32, u32)> {
        let release = self.files.text("proc/sys/kernel/osrelease")?;
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }

    /// Whether a module of this name (with dashes, as its file has it) could be loaded.
    pub(super) fn has_module(&self, name: &str) -> bool {
        let Some(release) = self.files.text("proc/sys/kernel/osrelease") else {
            return false;
        };
        let file = format!("/{name}.ko");
        ["modules.dep", "modules.builtin"].iter().any(|list| {
            let list = self.files.text(&format!("lib/modules/{release}/{list}"));
            list.is_some_and(|list| list.lines().any(|line| names_module(line, &file)))
        })
    }

    /// Whether this process may lock any amount of memory.
    pub(super) fn may_lock(&self) -> bool {
        const CAP_IPC_LOCK: u64 = 1 << 14;
        let effective = self.files.field("proc/self/status", "CapEff:");
        let effective = effective.and_then(|set| u64::from_str_radix(&set, 16).ok());
        effective.is_some_and(|set| set & CAP_IPC_LOCK != 0)
    }

    /// Bytes of RAM.
    pub(super) fn ram(&self) -> Option<u64> {
        let kib = self.files.field("proc/meminfo", "MemTotal:")?;
        kib.split_whitespace()
            .next()?
            .parse::<u64>()
            .ok()?
            .checked_mul(1024)
    }
}

/// Whether a line of `modules.dep` or `modules.builtin` begins with this file, compressed or not.
fn names_module(line: &str, file: &str) -> bool {
    let path = line.split(':').next().unwrap_or_default();
    path.rfind(file)
        .and_then(|at| path.get(at + file.len()..))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
