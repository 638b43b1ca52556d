// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the guest's processors say that they can do (Intel SDM volume 2A, CPUID; AMD APM volume 3, appendix E).
//!
//! The guest sees what the host's KVM supports, minus what the user took away, with the topology of this machine: one
//! package, one thread a core, APIC ids equal to vCPU numbers. Pure functions over tables.

use super::features::{Feature, Register};
use crate::error::Error;
use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2 as Leaf};

/// What a processor's tables depend on besides the host.
#[derive(Clone, Copy, Debug)]
pub struct Topology {
    /// The processor's APIC id.
    pub apic_id: u32,
    /// Number of processors.
    pub cpus: u32,
}

/// The tables of one processor, from those that KVM `supported`.
///
/// # Errors
/// There are more leaves than KVM takes.
pub fn guest(
    supported: &[Leaf],
    removed: &[Feature],
    tsc_deadline: bool,
    topology: Topology,
) -> Result<CpuId, Error> {
    let mut leaves = supported.to_vec();
    set_timers(&mut leaves, tsc_deadline);
    remove_features(&mut leaves, removed);
    set_topology(&mut leaves, topology);
    CpuId::from_entries(&leaves)
        .map_err(|e| Error::Bug(format!("{} CPUID leaves: {e:?}", leaves.len())))
}

/// Physical address bits of a guest on this host.
#[must_use]
pub fn phys_bits(supported: &[Leaf]) -> u8 {
    let [all, _, guest, _] = find(supported, 0x8000_0008, 0)
        .map_or(36, |leaf| leaf.eax)
        .to_le_bytes();
    if guest == 0 { all } else { all.min(guest) }
}

fn find(leaves: &[Leaf], function: u32, index: u32) -> Option<&Leaf> {
    leaves
        .iter()
        .find(|leaf| leaf.function == function && leaf.index == index)
}

fn entry(leaves: &mut Vec<Leaf>, function: u32, index: u32) -> &mut Leaf {
    let position = leaves
        .iter()
        .position(|leaf| leaf.function == function && leaf.index == index)
        .unwrap_or_else(|| {
            leaves.push(Leaf {
                function,
                index,
                ..Leaf::default()
            });
            leaves.len() - 1
        });
    &mut leaves[position]
}

/// What a guest without a PIT needs to find its clocks, and a guest that is one needs to know it.
fn set_timers(leaves: &mut Vec<Leaf>, tsc_deadline: bool) {
    const X2APIC: u32 = 1 << 21;
    const TSC_DEADLINE: u32 = 1 << 24;
    const HYPERVISOR: u32 = 1 << 31;
    const ARAT: u32 = 1 << 2;
    // Extended destination ids of messages without remapping: the IOAPIC and the devices here do without.
    const MSI_EXT_DEST_ID: u32 = 1 << 15;
    let features = entry(leaves, 1, 0);
    features.ecx |= X2APIC | HYPERVISOR;
    if tsc_deadline {
        features.ecx |= TSC_DEADLINE;
    }
    entry(leaves, 6, 0).eax |= ARAT;
    if let Some(kvm) = leaves.iter_mut().find(|leaf| leaf.function == 0x4000_0001) {
        kvm.eax &= !MSI_EXT_DEST_ID;
    }
}

fn remove_features(leaves: &mut Vec<Leaf>, removed: &[Feature]) {
    // Enclaves need memory that no machine here has.
    let mut gone: Vec<Feature> = removed.to_vec();
    gone.extend(["sgx", "sgx_lc"].into_iter().filter_map(Feature::parse));
    let mut next = 0;
    while let Some(&feature) = gone.get(next) {
        let more: Vec<Feature> = feature
            .dependents()
            .filter(|dependent| !gone.contains(dependent))
            .collect();
        gone.extend(more);
        next += 1;
    }
    for feature in &gone {
        let (function, index) = feature.leaf();
        if let Some(leaf) = leaves
            .iter_mut()
            .find(|leaf| leaf.function == function && leaf.index == index)
        {
            let (register, mask) = feature.mask();
            *register_of(leaf, register) &= !mask;
        }
    }
    // Leaves that only describe a feature go with it.
    let describes = [
        ("xsave", &[0xd][..]),
        ("sgx", &[0x12]),
        ("amx_tile", &[0x1d, 0x1e]),
        ("avx10", &[0x24]),
    ];
    for (name, functions) in describes {
        if gone.iter().any(|feature| feature.name() == name) {
            leaves.retain(|leaf| !functions.contains(&leaf.function));
        }
    }
}

fn register_of(leaf: &mut Leaf, register: Register) -> &mut u32 {
    match register {
        Register::Eax => &mut leaf.eax,
        Register::Ebx => &mut leaf.ebx,
        Register::Ecx => &mut leaf.ecx,
        Register::Edx => &mut leaf.edx,
    }
}

/// Bits that hold the numbers below `count`.
fn id_bits(count: u32) -> u32 {
    u32::BITS - count.saturating_sub(1).leading_zeros()
}

/// Replaces the bits `last..=first` of `word`; a value that is too large becomes the largest.
fn replace(word: &mut u32, first: u32, last: u32, value: u32) {
    let max = u32::MAX >> (31 - (first - last));
    *word = (*word & !(max << last)) | (value.min(max) << last);
}

fn set_topology(leaves: &mut Vec<Leaf>, topology: Topology) {
    const HTT: u32 = 1 << 28;
    let Topology { apic_id, cpus } = topology;
    let features = entry(leaves, 1, 0);
    // The eight bits hold the id's low part; the full one stands in leaf 0xB.
    replace(&mut features.ebx, 31, 24, apic_id & 0xff);
    replace(&mut features.ebx, 23, 16, cpus);
    if cpus > 1 {
        features.edx |= HTT;
    } else {
        features.edx &= !HTT;
    }
    set_caches(leaves, cpus);
    set_extended_topology(leaves, topology);
    if is_amd(leaves) {
        set_amd_topology(leaves, topology);
    }
}

/// Leaves 4 and 0x8000_001D: the first two levels belong to one processor, the others to all.
fn set_caches(leaves: &mut [Leaf], cpus: u32) {
    for leaf in leaves
        .iter_mut()
        .filter(|leaf| matches!(leaf.function, 4 | 0x8000_001d) && leaf.eax & 0x1f != 0)
    {
        let level = (leaf.eax >> 5) & 7;
        let sharing = if level <= 2 { 1 } else { 1 << id_bits(cpus) };
        replace(&mut leaf.eax, 25, 14, sharing - 1);
        if leaf.function == 4 {
            replace(&mut leaf.eax, 31, 26, (1 << id_bits(cpus)) - 1);
        }
    }
}

/// Leaves 0xB and, where the host has it, 0x1F: threads, then cores, then the end.
fn set_extended_topology(leaves: &mut Vec<Leaf>, topology: Topology) {
    const THREAD: u32 = 1 << 8;
    const CORE: u32 = 2 << 8;
    let highest = entry(leaves, 0, 0);
    highest.eax = highest.eax.max(0xb);
    let functions: &[u32] = if highest.eax >= 0x1f {
        &[0xb, 0x1f]
    } else {
        &[0xb]
    };
    leaves.retain(|leaf| !matches!(leaf.function, 0xb | 0x1f | 0x8000_0026));
    let levels = [
        (0, 1, THREAD),
        (id_bits(topology.cpus), topology.cpus, CORE),
        (0, 0, 0),
    ];
    for &function in functions {
        for (index, (shift, count, level)) in (0u32..).zip(levels) {
            leaves.push(Leaf {
                function,
                index,
                flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
                eax: shift,
                ebx: count,
                ecx: level | index,
                edx: topology.apic_id,
                ..Leaf::default()
            });
        }
    }
}

fn is_amd(leaves: &[Leaf]) -> bool {
    let vendors = [*b"Auth", *b"Hygo"].map(u32::from_le_bytes);
    find(leaves, 0, 0).is_some_and(|leaf| vendors.contains(&leaf.ebx))
}

fn set_amd_topology(leaves: &mut Vec<Leaf>, topology: Topology) {
    const CMP_LEGACY: u32 = 1 << 1;
    let sizes = entry(leaves, 0x8000_0008, 0);
    replace(&mut sizes.ecx, 7, 0, topology.cpus - 1);
    replace(&mut sizes.ecx, 15, 12, id_bits(topology.cpus));
    let features = entry(leaves, 0x8000_0001, 0);
    if topology.cpus > 1 {
        features.ecx |= CMP_LEGACY;
    } else {
        features.ecx &= !CMP_LEGACY;
    }
    if let Some(ids) = leaves.iter_mut().find(|leaf| leaf.function == 0x8000_001e) {
        ids.eax = topology.apic_id;
        ids.ebx = topology.apic_id & 0xff;
        ids.ecx = 0;
        ids.edx = 0;
    }
}

#[cfg(test)]
mod tests;
