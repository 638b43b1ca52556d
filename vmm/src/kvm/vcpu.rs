// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One virtual processor: creation, the state after power-on, the first vCPU's entry.
//!
//! A reset is a restore of what KVM had made: the state is read once after creation and written back. The time-stamp
//! counters run on, so that they stay in step.

use super::cpuid::{self, Topology};
use super::features::Feature;
use super::nested::Nested;
use super::vm::Vm;
use crate::boot::{Entry, Mode, Segment};
use crate::error::Error;
use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_UNINITIALIZED, Msrs,
    kvm_debugregs, kvm_fpu, kvm_lapic_state, kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_segment,
    kvm_sregs, kvm_vcpu_events, kvm_xcrs,
};
use kvm_ioctls::{Cap, VcpuFd};
use std::sync::Arc;

/// MSR numbers (Intel SDM volume 4).
mod msr {
    pub const TSC: u32 = 0x10;
    pub const APIC_BASE: u32 = 0x1b;
    pub const TSC_ADJUST: u32 = 0x3b;
    pub const MISC_ENABLE: u32 = 0x1a0;
    pub const MTRR_DEF_TYPE: u32 = 0x2ff;

    /// The ranges of the memory type registers: variable ones (base and mask of eight), then fixed ones.
    pub fn mtrr_ranges() -> impl Iterator<Item = u32> {
        (0x200..=0x20f)
            .chain([0x250, 0x258, 0x259])
            .chain(0x268..=0x26f)
    }
}

/// IA32_APIC_BASE bit 10: x2APIC mode.
const APIC_BASE_X2APIC: u64 = 1 << 10;
/// Processors whose ids an APIC in xAPIC mode can tell apart; 255 is its broadcast.
const MAX_XAPIC_CPUS: u32 = 255;

/// Fast string operations.
const MISC_ENABLE_FAST_STRING: u64 = 1;
/// MTRRs on, write-back memory unless one says otherwise: what firmware leaves.
const MTRR_WRITE_BACK: u64 = 0x806;

const CR0_PROTECTED: u64 = 0x11;
const CR0_PAGING: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LONG: u64 = 0x500;
const RFLAGS_FIXED: u64 = 2;

/// What all processors of a machine share.
#[derive(Debug)]
pub struct Model {
    supported: CpuId,
    removed: Vec<Feature>,
    tsc_deadline: bool,
    cpus: u32,
}

impl Model {
    /// The processors of a machine with `cpus` of them, without the features `removed`.
    ///
    /// # Errors
    /// KVM does not say what it supports.
    pub fn new(vm: &Vm, removed: &[Feature], cpus: u32) -> Result<Self, Error> {
        Ok(Self {
            supported: vm
                .kvm()
                .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
                .map_err(|e| Error::kvm("say which CPU features it supports", e))?,
            removed: removed.to_vec(),
            tsc_deadline: vm.kvm().check_extension(Cap::TscDeadlineTimer),
            cpus,
        })
    }

    /// Physical address bits.
    #[must_use]
    pub fn phys_bits(&self) -> u8 {
        cpuid::phys_bits(self.supported.as_slice())
    }

    fn cpuid(&self, apic_id: u32) -> Result<CpuId, Error> {
        let topology = Topology {
            apic_id,
            cpus: self.cpus,
        };
        cpuid::guest(
            self.supported.as_slice(),
            &self.removed,
            self.tsc_deadline,
            topology,
        )
    }
}

/// A virtual processor.
#[derive(Debug)]
pub struct Vcpu {
    /// KVM's handle.
    pub fd: VcpuFd,
    index: u32,
    power_on: State,
    /// Exits in a row over an event that was not there.
    pub(super) phantom_events: u32,
}

/// What KVM keeps of a processor that a guest can change.
#[derive(Debug)]
struct State {
    regs: kvm_regs,
    sregs: kvm_sregs,
    fpu: kvm_fpu,
    lapic: kvm_lapic_state,
    events: kvm_vcpu_events,
    debug: Option<kvm_debugregs>,
    xcrs: Option<kvm_xcrs>,
    nested: Nested,
    msrs: Arc<Vec<kvm_msr_entry>>,
}

impl Vcpu {
    /// Creates processor `index`, whose APIC id is the same. `msrs` is filled by the first one for the others.
    ///
    /// # Errors
    /// KVM refused something.
    pub fn new(
        vm: &Vm,
        model: &Model,
        index: u32,
        msrs: &mut Option<Arc<Vec<kvm_msr_entry>>>,
    ) -> Result<Self, Error> {
        let refused =
            |what: &'static str| move |e| Error::kvm(format!("{what} of vCPU {index}"), e);
        let fd = vm
            .fd()
            .create_vcpu(u64::from(index))
            .map_err(|e| Error::kvm(format!("create vCPU {index}"), e))?;
        fd.set_cpuid2(&model.cpuid(index)?)
            .map_err(refused("set the CPUID tables"))?;
        if model.cpus > MAX_XAPIC_CPUS {
            start_in_x2apic_mode(&fd).map_err(refused("set the x2APIC mode"))?;
        }
        let msrs = match msrs {
            Some(msrs) => Arc::clone(msrs),
            None => Arc::clone(msrs.insert(Arc::new(readable_msrs(vm, &fd)))),
        };
        let power_on = State {
            regs: fd.get_regs().map_err(refused("read the registers"))?,
            sregs: fd.get_sregs().map_err(refused("read the segments"))?,
            fpu: fd.get_fpu().map_err(refused("read the FPU"))?,
            lapic: fd.get_lapic().map_err(refused("read the local APIC"))?,
            events: fd
                .get_vcpu_events()
                .map_err(refused("read the pending events"))?,
            debug: fd.get_debug_regs().ok(),
            // A host without XSAVE reads as no register at all, and refuses to set that.
            xcrs: fd.get_xcrs().ok().filter(|xcrs| xcrs.nr_xcrs > 0),
            nested: Nested::read(vm, &fd).map_err(refused("read the nested state"))?,
            msrs,
        };
        Ok(Self {
            fd,
            index,
            power_on,
            phantom_events: 0,
        })
    }

    /// The processor's number, which is its APIC id.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Puts the processor into the state after power-on; the first one at `entry`, the others waiting to be started.
    ///
    /// # Errors
    /// KVM refused something.
    pub fn reset(&self, entry: &Entry) -> Result<(), Error> {
        let first = self.index == 0;
        let (regs, sregs) = if first {
            (registers(entry), segments(entry, self.power_on.sregs))
        } else {
            (self.power_on.regs, self.power_on.sregs)
        };
        let mp_state = kvm_mp_state {
            mp_state: if first {
                KVM_MP_STATE_RUNNABLE
            } else {
                KVM_MP_STATE_UNINITIALIZED
            },
        };
        let index = self.index;
        let refused =
            |what: &'static str| move |e| Error::kvm(format!("{what} of vCPU {index}"), e);
        let (fd, state) = (&self.fd, &self.power_on);
        state
            .nested
            .restore(fd)
            .map_err(refused("clear the nested state"))?;
        fd.set_mp_state(mp_state)
            .map_err(refused("set the run state"))?;
        fd.set_sregs(&sregs).map_err(refused("set the segments"))?;
        self.restore_msrs()?;
        fd.set_regs(&regs).map_err(refused("set the registers"))?;
        fd.set_fpu(&state.fpu).map_err(refused("set the FPU"))?;
        if let Some(xcrs) = &state.xcrs {
            fd.set_xcrs(xcrs).map_err(refused("set XCR0"))?;
        }
        if let Some(debug) = &state.debug {
            fd.set_debug_regs(debug)
                .map_err(refused("set the debug registers"))?;
        }
        fd.set_vcpu_events(&state.events)
            .map_err(refused("clear the pending events"))?;
        fd.set_lapic(&state.lapic)
            .map_err(refused("set the local APIC"))
    }

    /// Marks in the guest's clock page that its host had stopped it (KVM_KVMCLOCK_CTRL). A guest without kvm-clock has none,
    /// and KVM says so.
    pub fn tell_stopped(&self) {
        if let Err(error) = self.fd.kvmclock_ctrl() {
            tracing::debug!("vCPU {} has no clock to be told by: {error}", self.index);
        }
    }

    /// Writes back what has changed, then what firmware would have set. A register that KVM lets be read but not written keeps
    /// its value.
    fn restore_msrs(&self) -> Result<(), Error> {
        let changed = self.changed_msrs()?;
        let mut rest = &changed[..];
        while !rest.is_empty() {
            let written = self.write_msrs(rest)?;
            rest = rest.get(written + 1..).unwrap_or_default();
        }
        let firmware = [
            (msr::MISC_ENABLE, MISC_ENABLE_FAST_STRING),
            (msr::MTRR_DEF_TYPE, MTRR_WRITE_BACK),
        ];
        for (index, data) in firmware {
            self.write_msrs(&[kvm_msr_entry {
                index,
                data,
                ..Default::default()
            }])?;
        }
        Ok(())
    }

    /// The power-on values of registers that hold others now. Writing the rest too would do no harm, but make KVM log the
    /// registers that it only knows how to read.
    fn changed_msrs(&self) -> Result<Vec<kvm_msr_entry>, Error> {
        let power_on = &self.power_on.msrs;
        let mut now = Msrs::from_entries(power_on)
            .map_err(|e| Error::Bug(format!("{} MSRs: {e:?}", power_on.len())))?;
        let read = self
            .fd
            .get_msrs(&mut now)
            .map_err(|e| Error::kvm(format!("read the MSRs of vCPU {}", self.index), e))?;
        let known = now.as_slice().iter().take(read).map(|msr| Some(msr.data));
        Ok(power_on
            .iter()
            .zip(known.chain(std::iter::repeat(None)))
            .filter(|(wanted, now)| *now != Some(wanted.data))
            .map(|(wanted, _)| *wanted)
            .collect())
    }

    /// How many were written before one was refused.
    fn write_msrs(&self, entries: &[kvm_msr_entry]) -> Result<usize, Error> {
        let msrs = Msrs::from_entries(entries)
            .map_err(|e| Error::Bug(format!("{} MSRs: {e:?}", entries.len())))?;
        self.fd
            .set_msrs(&msrs)
            .map_err(|e| Error::kvm(format!("set the MSRs of vCPU {}", self.index), e))
    }
}

/// Does what firmware does where an APIC id passes 254: it hands over processors in x2APIC mode (Intel SDM volume 3A, "x2APIC
/// state transitions"; ACPI 5.2.12.12). Linux ignores such ids otherwise.
fn start_in_x2apic_mode(fd: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    let mut sregs = fd.get_sregs()?;
    sregs.apic_base |= APIC_BASE_X2APIC;
    fd.set_sregs(&sregs)
}

/// The MSRs that KVM keeps and their values, but for those that other state has and the clocks. KVM's list leaves the memory
/// types out.
fn readable_msrs(vm: &Vm, fd: &VcpuFd) -> Vec<kvm_msr_entry> {
    let Ok(list) = vm.kvm().get_msr_index_list() else {
        return Vec::new();
    };
    list.as_slice()
        .iter()
        .copied()
        .chain(msr::mtrr_ranges())
        .filter(|index| !matches!(*index, msr::TSC | msr::TSC_ADJUST | msr::APIC_BASE))
        .filter_map(|index| {
            let entry = kvm_msr_entry {
                index,
                ..Default::default()
            };
            let mut one = Msrs::from_entries(&[entry]).ok()?;
            let read = fd.get_msrs(&mut one).ok()?;
            (read == 1).then(|| one.as_slice()[0])
        })
        .collect()
}

fn registers(entry: &Entry) -> kvm_regs {
    kvm_regs {
        rip: entry.rip,
        rax: entry.rax,
        rbx: entry.rbx,
        rsi: entry.rsi,
        rflags: RFLAGS_FIXED,
        ..Default::default()
    }
}

fn segments(entry: &Entry, power_on: kvm_sregs) -> kvm_sregs {
    let mut sregs = power_on;
    let data = segment(entry.data());
    sregs.cs = segment(entry.code());
    sregs.ds = data;
    sregs.es = data;
    sregs.fs = data;
    sregs.gs = data;
    sregs.ss = data;
    sregs.tr = segment(entry.task());
    sregs.gdt.base = Entry::GDT.0;
    sregs.gdt.limit = Entry::GDT_LIMIT;
    sregs.idt.base = 0;
    sregs.idt.limit = 0;
    sregs.cr0 = CR0_PROTECTED;
    if let Mode::Long64 { pml4 } = entry.mode {
        sregs.cr0 |= CR0_PAGING;
        sregs.cr3 = pml4.0;
        sregs.cr4 = CR4_PAE;
        sregs.efer = EFER_LONG;
    }
    sregs
}

fn segment(segment: Segment) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: segment.limit,
        selector: segment.selector,
        type_: segment.kind,
        present: 1,
        dpl: 0,
        db: u8::from(segment.big),
        s: u8::from(segment.code_or_data),
        l: u8::from(segment.long),
        g: u8::from(segment.pages),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::GuestAddress;

    fn entry(mode: Mode) -> Entry {
        Entry {
            mode,
            rip: 0x100_0200,
            rax: 1,
            rbx: 2,
            rsi: 3,
        }
    }

    /// APIC mode (IA32_APIC_BASE bits 11:10) and the register at 0x20, the APIC id.
    fn apic(vcpu: &Vcpu) -> (u64, u32) {
        let lapic = vcpu.fd.get_lapic().unwrap();
        let id = [0x20, 0x21, 0x22, 0x23].map(|at: usize| lapic.regs[at].to_ne_bytes()[0]);
        let mode = vcpu.fd.get_sregs().unwrap().apic_base >> 10 & 3;
        (mode, u32::from_le_bytes(id))
    }

    #[test]
    #[cfg_attr(not(has_kvm), ignore = "no usable /dev/kvm on this machine")]
    fn processors_start_in_x2apic_mode_where_an_id_needs_it() {
        for (cpus, index, expected) in
            [(2, 1, (2, 1 << 24)), (256, 0, (3, 0)), (256, 255, (3, 255))]
        {
            let vm = Vm::new().unwrap();
            let model = Model::new(&vm, &[], cpus).unwrap();
            let vcpu = Vcpu::new(&vm, &model, index, &mut None).unwrap();
            vcpu.reset(&entry(Mode::Protected32)).unwrap();
            assert_eq!(apic(&vcpu), expected, "{index} of {cpus}");
            // The other mode, as a guest may leave it.
            let mut sregs = vcpu.fd.get_sregs().unwrap();
            sregs.apic_base ^= 1 << 10;
            vcpu.fd.set_sregs(&sregs).unwrap();
            vcpu.reset(&entry(Mode::Protected32)).unwrap();
            assert_eq!(apic(&vcpu), expected, "{index} of {cpus} after a reset");
        }
    }

    #[test]
    fn segments_of_protected_mode_are_flat_and_32_bit() {
        let sregs = segments(&entry(Mode::Protected32), kvm_sregs::default());
        assert_eq!(sregs.cr0, 0x11);
        assert_eq!((sregs.efer, sregs.cr4), (0, 0));
        assert_eq!((sregs.cs.selector, sregs.cs.type_), (0x10, 0xb));
        assert_eq!((sregs.cs.l, sregs.cs.db, sregs.cs.g), (0, 1, 1));
        assert_eq!((sregs.cs.base, sregs.cs.limit), (0, 0xffff_ffff));
        assert_eq!((sregs.ss.selector, sregs.ss.type_), (0x18, 3));
        assert_eq!((sregs.tr.selector, sregs.tr.s), (0x20, 0));
        assert_eq!((sregs.gdt.base, sregs.gdt.limit), (0x500, 39));
    }

    #[test]
    fn segments_of_long_mode_have_paging_and_64_bit_code() {
        let mode = Mode::Long64 {
            pml4: GuestAddress(0x9000),
        };
        let sregs = segments(&entry(mode), kvm_sregs::default());
        assert_eq!(sregs.cr0, 0x8000_0011);
        assert_eq!((sregs.cr3, sregs.cr4, sregs.efer), (0x9000, 0x20, 0x500));
        assert_eq!((sregs.cs.l, sregs.cs.db), (1, 0));
    }
}
