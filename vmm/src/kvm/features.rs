// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! CPU features by the names that Linux prints in /proc/cpuinfo: where each stands in CPUID, and what needs what.
//!
//! Sources: Intel SDM volume 2A, CPUID; AMD APM volume 3, appendix E; Linux arch/x86/include/asm/cpufeatures.h for names.

use std::fmt;

/// A register of a CPUID leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// EAX.
    Eax,
    /// EBX.
    Ebx,
    /// ECX.
    Ecx,
    /// EDX.
    Edx,
}

use Register::{Eax, Ebx, Ecx, Edx};

/// A CPU feature that can be taken away from the guest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Feature(&'static Row);

/// One row of the table.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    name: &'static str,
    leaf: u32,
    subleaf: u32,
    register: Register,
    bit: u8,
}

impl fmt::Debug for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Feature({})", self.0.name)
    }
}

impl Feature {
    /// The feature of this name; `_` and `-` are alike.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase().replace('-', "_");
        FEATURES.iter().find(|row| row.name == name).map(Self)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Leaf and subleaf.
    #[must_use]
    pub fn leaf(self) -> (u32, u32) {
        (self.0.leaf, self.0.subleaf)
    }

    /// Register and mask.
    #[must_use]
    pub fn mask(self) -> (Register, u32) {
        (self.0.register, 1 << self.0.bit)
    }

    /// The features that cannot be without this one, directly.
    pub fn dependents(self) -> impl Iterator<Item = Self> {
        NEEDS
            .iter()
            .filter(move |(_, needed)| *needed == self.0.name)
            .filter_map(|(name, _)| Self::parse(name))
    }
}

const fn row(name: &'static str, leaf: u32, subleaf: u32, register: Register, bit: u8) -> Row {
    Row {
        name,
        leaf,
        subleaf,
        register,
        bit,
    }
}

/// What needs what: the first cannot be without the second.
const NEEDS: &[(&str, &str)] = &[
    ("osxsave", "xsave"),
    ("xsaveopt", "xsave"),
    ("xsavec", "xsave"),
    ("xgetbv1", "xsave"),
    ("xsaves", "xsavec"),
    ("avx", "xsave"),
    ("pku", "xsave"),
    ("ospke", "pku"),
    ("mpx", "xsave"),
    ("amx_tile", "xsave"),
    ("lwp", "xsave"),
    ("shstk", "xsaves"),
    ("ibt", "xsaves"),
    ("amx_bf16", "amx_tile"),
    ("amx_int8", "amx_tile"),
    ("amx_fp16", "amx_tile"),
    ("amx_complex", "amx_tile"),
    ("fma", "avx"),
    ("f16c", "avx"),
    ("xop", "avx"),
    ("fma4", "avx"),
    ("vaes", "avx"),
    ("vpclmulqdq", "avx"),
    ("avx2", "avx"),
    ("avx_vnni", "avx2"),
    ("avx_ifma", "avx2"),
    ("avx_vnni_int8", "avx2"),
    ("avx_vnni_int16", "avx2"),
    ("avx_ne_convert", "avx2"),
    ("sha512", "avx2"),
    ("sm3", "avx"),
    ("sm4", "avx2"),
    ("avx512f", "avx2"),
    ("avx10", "avx512f"),
    ("avx512dq", "avx512f"),
    ("avx512ifma", "avx512f"),
    ("avx512pf", "avx512f"),
    ("avx512er", "avx512f"),
    ("avx512cd", "avx512f"),
    ("avx512bw", "avx512f"),
    ("avx512vl", "avx512f"),
    ("avx512vbmi", "avx512f"),
    ("avx512_vbmi2", "avx512f"),
    ("avx512_vnni", "avx512f"),
    ("avx512_bitalg", "avx512f"),
    ("avx512_vpopcntdq", "avx512f"),
    ("avx512_4vnniw", "avx512f"),
    ("avx512_4fmaps", "avx512f"),
    ("avx512_vp2intersect", "avx512f"),
    ("avx512_fp16", "avx512bw"),
    ("avx512_bf16", "avx512f"),
    ("rtm", "hle"),
    ("rdtscp", "tsc"),
    ("tsc_deadline_timer", "tsc"),
    ("nonstop_tsc", "tsc"),
];

const FEATURES: &[Row] = &[
    // Leaf 1.
    row("tsc", 1, 0, Edx, 4),
    row("mtrr", 1, 0, Edx, 12),
    row("pat", 1, 0, Edx, 16),
    row("clflush", 1, 0, Edx, 19),
    row("pni", 1, 0, Ecx, 0),
    row("pclmulqdq", 1, 0, Ecx, 1),
    row("vmx", 1, 0, Ecx, 5),
    row("ssse3", 1, 0, Ecx, 9),
    row("fma", 1, 0, Ecx, 12),
    row("cx16", 1, 0, Ecx, 13),
    row("pcid", 1, 0, Ecx, 17),
    row("sse4_1", 1, 0, Ecx, 19),
    row("sse4_2", 1, 0, Ecx, 20),
    row("movbe", 1, 0, Ecx, 22),
    row("popcnt", 1, 0, Ecx, 23),
    row("tsc_deadline_timer", 1, 0, Ecx, 24),
    row("aes", 1, 0, Ecx, 25),
    row("xsave", 1, 0, Ecx, 26),
    row("osxsave", 1, 0, Ecx, 27),
    row("avx", 1, 0, Ecx, 28),
    row("f16c", 1, 0, Ecx, 29),
    row("rdrand", 1, 0, Ecx, 30),
    // Leaf 7, subleaf 0.
    row("fsgsbase", 7, 0, Ebx, 0),
    row("tsc_adjust", 7, 0, Ebx, 1),
    row("sgx", 7, 0, Ebx, 2),
    row("bmi1", 7, 0, Ebx, 3),
    row("hle", 7, 0, Ebx, 4),
    row("avx2", 7, 0, Ebx, 5),
    row("smep", 7, 0, Ebx, 7),
    row("bmi2", 7, 0, Ebx, 8),
    row("erms", 7, 0, Ebx, 9),
    row("invpcid", 7, 0, Ebx, 10),
    row("rtm", 7, 0, Ebx, 11),
    row("mpx", 7, 0, Ebx, 14),
    row("avx512f", 7, 0, Ebx, 16),
    row("avx512dq", 7, 0, Ebx, 17),
    row("rdseed", 7, 0, Ebx, 18),
    row("adx", 7, 0, Ebx, 19),
    row("smap", 7, 0, Ebx, 20),
    row("avx512ifma", 7, 0, Ebx, 21),
    row("clflushopt", 7, 0, Ebx, 23),
    row("clwb", 7, 0, Ebx, 24),
    row("avx512pf", 7, 0, Ebx, 26),
    row("avx512er", 7, 0, Ebx, 27),
    row("avx512cd", 7, 0, Ebx, 28),
    row("sha_ni", 7, 0, Ebx, 29),
    row("avx512bw", 7, 0, Ebx, 30),
    row("avx512vl", 7, 0, Ebx, 31),
    row("avx512vbmi", 7, 0, Ecx, 1),
    row("umip", 7, 0, Ecx, 2),
    row("pku", 7, 0, Ecx, 3),
    row("ospke", 7, 0, Ecx, 4),
    row("waitpkg", 7, 0, Ecx, 5),
    row("avx512_vbmi2", 7, 0, Ecx, 6),
    row("shstk", 7, 0, Ecx, 7),
    row("gfni", 7, 0, Ecx, 8),
    row("vaes", 7, 0, Ecx, 9),
    row("vpclmulqdq", 7, 0, Ecx, 10),
    row("avx512_vnni", 7, 0, Ecx, 11),
    row("avx512_bitalg", 7, 0, Ecx, 12),
    row("avx512_vpopcntdq", 7, 0, Ecx, 14),
    row("la57", 7, 0, Ecx, 16),
    row("rdpid", 7, 0, Ecx, 22),
    row("bus_lock_detect", 7, 0, Ecx, 24),
    row("movdiri", 7, 0, Ecx, 27),
    row("movdir64b", 7, 0, Ecx, 28),
    row("sgx_lc", 7, 0, Ecx, 30),
    row("avx512_4vnniw", 7, 0, Edx, 2),
    row("avx512_4fmaps", 7, 0, Edx, 3),
    row("fsrm", 7, 0, Edx, 4),
    row("avx512_vp2intersect", 7, 0, Edx, 8),
    row("md_clear", 7, 0, Edx, 10),
    row("serialize", 7, 0, Edx, 14),
    row("tsxldtrk", 7, 0, Edx, 16),
    row("ibt", 7, 0, Edx, 20),
    row("amx_bf16", 7, 0, Edx, 22),
    row("avx512_fp16", 7, 0, Edx, 23),
    row("amx_tile", 7, 0, Edx, 24),
    row("amx_int8", 7, 0, Edx, 25),
    row("spec_ctrl", 7, 0, Edx, 26),
    row("stibp", 7, 0, Edx, 27),
    row("flush_l1d", 7, 0, Edx, 28),
    row("arch_capabilities", 7, 0, Edx, 29),
    row("ssbd", 7, 0, Edx, 31),
    // Leaf 7, subleaf 1.
    row("sha512", 7, 1, Eax, 0),
    row("sm3", 7, 1, Eax, 1),
    row("sm4", 7, 1, Eax, 2),
    row("avx_vnni", 7, 1, Eax, 4),
    row("avx512_bf16", 7, 1, Eax, 5),
    row("fred", 7, 1, Eax, 17),
    row("amx_fp16", 7, 1, Eax, 21),
    row("avx_ifma", 7, 1, Eax, 23),
    row("lam", 7, 1, Eax, 26),
    row("avx_vnni_int8", 7, 1, Edx, 4),
    row("avx_ne_convert", 7, 1, Edx, 5),
    row("amx_complex", 7, 1, Edx, 8),
    row("avx_vnni_int16", 7, 1, Edx, 10),
    row("avx10", 7, 1, Edx, 19),
    // Leaf 0xD, subleaf 1.
    row("xsaveopt", 0xd, 1, Eax, 0),
    row("xsavec", 0xd, 1, Eax, 1),
    row("xgetbv1", 0xd, 1, Eax, 2),
    row("xsaves", 0xd, 1, Eax, 3),
    // Leaf 0x4000_0001: KVM.
    row("kvmclock", 0x4000_0001, 0, Eax, 3),
    row("kvm_asyncpf", 0x4000_0001, 0, Eax, 4),
    row("kvm_steal_time", 0x4000_0001, 0, Eax, 5),
    row("kvm_pv_eoi", 0x4000_0001, 0, Eax, 6),
    row("kvm_pv_unhalt", 0x4000_0001, 0, Eax, 7),
    row("kvm_pv_tlb_flush", 0x4000_0001, 0, Eax, 9),
    row("kvm_pv_ipi", 0x4000_0001, 0, Eax, 11),
    row("kvmclock_stable_bit", 0x4000_0001, 0, Eax, 24),
    // Leaf 0x8000_0001.
    row("svm", 0x8000_0001, 0, Ecx, 2),
    row("abm", 0x8000_0001, 0, Ecx, 5),
    row("sse4a", 0x8000_0001, 0, Ecx, 6),
    row("misalignsse", 0x8000_0001, 0, Ecx, 7),
    row("3dnowprefetch", 0x8000_0001, 0, Ecx, 8),
    row("osvw", 0x8000_0001, 0, Ecx, 9),
    row("xop", 0x8000_0001, 0, Ecx, 11),
    row("lwp", 0x8000_0001, 0, Ecx, 15),
    row("fma4", 0x8000_0001, 0, Ecx, 16),
    row("tbm", 0x8000_0001, 0, Ecx, 21),
    row("topoext", 0x8000_0001, 0, Ecx, 22),
    row("perfctr_core", 0x8000_0001, 0, Ecx, 23),
    row("nx", 0x8000_0001, 0, Edx, 20),
    row("pdpe1gb", 0x8000_0001, 0, Edx, 26),
    row("rdtscp", 0x8000_0001, 0, Edx, 27),
    // Leaf 0x8000_0007 and 0x8000_0008.
    row("nonstop_tsc", 0x8000_0007, 0, Edx, 8),
    row("clzero", 0x8000_0008, 0, Ebx, 0),
    row("xsaveerptr", 0x8000_0008, 0, Ebx, 2),
    row("wbnoinvd", 0x8000_0008, 0, Ebx, 9),
    row("ibpb", 0x8000_0008, 0, Ebx, 12),
    row("ibrs", 0x8000_0008, 0, Ebx, 14),
    row("amd_ssbd", 0x8000_0008, 0, Ebx, 24),
    row("virt_ssbd", 0x8000_0008, 0, Ebx, 25),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_takes_dashes_and_refuses_the_unknown() {
        assert_eq!(
            Feature::parse("AVX512-VNNI").map(Feature::name),
            Some("avx512_vnni")
        );
        assert_eq!(Feature::parse("warp_drive"), None);
        assert_eq!(Feature::parse(""), None);
    }

    #[test]
    fn table_has_each_name_and_each_bit_once_and_no_dangling_need() {
        for (index, row) in FEATURES.iter().enumerate() {
            for other in &FEATURES[index + 1..] {
                assert_ne!(row.name, other.name);
                assert!(
                    (row.leaf, row.subleaf, row.register, row.bit)
                        != (other.leaf, other.subleaf, other.register, other.bit),
                    "{} and {}",
                    row.name,
                    other.name
                );
            }
        }
        for (name, needed) in NEEDS {
            assert!(Feature::parse(name).is_some(), "{name}");
            assert!(Feature::parse(needed).is_some(), "{needed}");
        }
    }
}
