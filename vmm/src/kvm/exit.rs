// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What makes a processor leave the guest, and what becomes of it.

use super::vcpu::Vcpu;
use crate::board::EoiSink;
use crate::control::{Control, Ending, Request};
use crate::error::Error;
use devices::bus::Bus;
use iommu::memory::Ram;
use kvm_bindings::{
    KVM_INTERNAL_ERROR_DELIVERY_EV, KVM_INTERNAL_ERROR_EMULATION,
    KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES, KVM_SYSTEM_EVENT_RESET,
    KVM_SYSTEM_EVENT_SHUTDOWN,
};
use kvm_ioctls::VcpuExit;
use std::sync::Arc;
use vm_memory::{Bytes, GuestAddress};

/// Times in a row that a processor is run again after KVM gave up over an event that is not there. One is enough where
/// that happens; a KVM that never gets past it must end the run.
const MOST_PHANTOM_EVENTS: u32 = 16;

/// What a processor needs outside the guest.
#[derive(Clone, Debug)]
pub struct Outside {
    /// Guest-physical addresses that are not RAM.
    pub mmio: Arc<Bus>,
    /// Ports.
    pub ports: Arc<Bus>,
    /// Guest RAM, to show instructions that could not be run.
    pub ram: Arc<Ram>,
    /// The IOAPIC's ear.
    pub eoi: Option<Arc<dyn EoiSink>>,
    /// Ends or resets the run.
    pub control: Arc<Control>,
}

/// Why the processor is out, once the borrow of its run page is over.
enum Exit {
    Served,
    PortIn {
        port: u16,
        data: *mut u8,
        len: usize,
    },
    PortOut {
        port: u16,
        data: *const u8,
        len: usize,
    },
    InternalError,
    Ask(Request),
}

impl Vcpu {
    /// Runs guest code until the next exit and serves it. Interruptions by signals return as well.
    pub fn step(&mut self, outside: &Outside) {
        let exit = match self.fd.run() {
            Ok(exit) => dispatch(exit, outside),
            Err(e) if matches!(e.errno(), libc::EINTR | libc::EAGAIN) => Exit::Served,
            Err(e) => Exit::Ask(end(Error::kvm("run guest code", e))),
        };
        if !matches!(exit, Exit::InternalError) {
            self.phantom_events = 0;
        }
        match exit {
            Exit::Served => {}
            Exit::PortIn { port, data, len } => self.port_in(outside, port, data, len),
            Exit::PortOut { port, data, len } => self.port_out(outside, port, data, len),
            Exit::InternalError => {
                if let Some(error) = self.internal_error(&outside.ram) {
                    outside.control.request(end(error));
                }
            }
            Exit::Ask(request) => outside.control.request(request),
        }
    }

    /// Lets KVM finish the instruction of the last exit, without running another one. To be called before the processor's
    /// state is replaced: KVM would otherwise finish it then.
    pub fn finish_instruction(&mut self, outside: &Outside) {
        // An access that KVM cut in pieces exits once a piece; none has more than a page of bytes.
        const PIECES: usize = 4096;
        self.fd.set_kvm_immediate_exit(1);
        for _ in 0..PIECES {
            match self.fd.run() {
                Ok(VcpuExit::MmioRead(address, data)) => outside.mmio.read(address, data),
                Ok(VcpuExit::MmioWrite(address, data)) => outside.mmio.write(address, data),
                _ => break,
            }
        }
        self.fd.set_kvm_immediate_exit(0);
    }

    /// Bytes of one access of a string instruction.
    #[expect(unsafe_code, reason = "a union that the kernel fills")]
    fn port_width(&mut self) -> usize {
        let run = self.fd.get_kvm_run();
        // SAFETY: called only after an exit of reason KVM_EXIT_IO, for which the kernel filled this member.
        let io = unsafe { run.__bindgen_anon_1.io };
        usize::from(io.size).max(1)
    }

    #[expect(unsafe_code, reason = "the kernel's buffer is behind the run page")]
    fn port_in(&mut self, outside: &Outside, port: u16, data: *mut u8, len: usize) {
        let width = self.port_width();
        // SAFETY: kvm-ioctls gave these bytes of the run page's mapping, which lives as long as `self`; nothing else
        // refers to them until the next run.
        let data = unsafe { std::slice::from_raw_parts_mut(data, len) };
        for item in data.chunks_mut(width) {
            outside.ports.read(u64::from(port), item);
        }
    }

    #[expect(unsafe_code, reason = "the kernel's buffer is behind the run page")]
    fn port_out(&mut self, outside: &Outside, port: u16, data: *const u8, len: usize) {
        let width = self.port_width();
        // SAFETY: as in `port_in`.
        let data = unsafe { std::slice::from_raw_parts(data, len) };
        for item in data.chunks(width) {
            outside.ports.write(u64::from(port), item);
        }
    }

    /// What KVM could not do; `None` when trying again is the cure.
    #[expect(unsafe_code, reason = "unions that the kernel fills")]
    fn internal_error(&mut self, ram: &Ram) -> Option<Error> {
        let run = self.fd.get_kvm_run();
        // SAFETY: called only after KVM_EXIT_INTERNAL_ERROR, for which the kernel filled this member.
        let internal = unsafe { run.__bindgen_anon_1.internal };
        if internal.suberror == KVM_INTERNAL_ERROR_DELIVERY_EV
            && self.phantom_events < MOST_PHANTOM_EVENTS
            && !self.delivers_event()
        {
            self.phantom_events += 1;
            tracing::debug!(
                "vCPU {}: KVM stopped over an event that is not there; trying again",
                self.index()
            );
            return None;
        }
        if internal.suberror != KVM_INTERNAL_ERROR_EMULATION {
            let known = usize::try_from(internal.ndata).unwrap_or(usize::MAX);
            let data = &internal.data[..known.min(internal.data.len())];
            return Some(Error::HostLacks(format!(
                "KVM gave up on vCPU {} with internal error {} (data {data:x?}) at RIP {:#x}",
                self.index(),
                internal.suberror,
                self.rip()
            )));
        }
        let run = self.fd.get_kvm_run();
        // SAFETY: for this suberror the kernel filled the same memory as this member.
        let failure = unsafe { run.__bindgen_anon_1.emulation_failure };
        let said = failure.ndata >= 1
            && failure.flags & u64::from(KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) != 0;
        let bytes = if said {
            // SAFETY: the flag says that this variant is filled.
            let insn = unsafe { failure.__bindgen_anon_1.__bindgen_anon_1 };
            let len = usize::from(insn.insn_size).min(insn.insn_bytes.len());
            insn.insn_bytes[..len].to_vec()
        } else {
            self.bytes_at_rip(ram)
        };
        Some(emulation_failure(self.index(), self.rip(), &bytes))
    }

    /// Whether KVM was about to deliver an event when it gave up.
    ///
    /// KVM's SVM code refuses to emulate an instruction if EXITINTINFO holds the type of an event, even when its valid bit says
    /// that there is none. QEMU's emulation of SVM leaves the type of the last exception there that the guest took since it was
    /// entered, so the first access to a page of MMIO often meets one. The exit has cleared it: at the next entry the
    /// instruction succeeds.
    fn delivers_event(&self) -> bool {
        self.fd.get_vcpu_events().map_or(true, |events| {
            events.exception.injected != 0
                || events.interrupt.injected != 0
                || events.nmi.injected != 0
        })
    }

    fn rip(&self) -> u64 {
        self.fd.get_regs().map_or(0, |regs| regs.rip)
    }

    /// The bytes at the instruction pointer, as far as they can be read.
    fn bytes_at_rip(&self, ram: &Ram) -> Vec<u8> {
        let Ok(found) = self.fd.translate_gva(self.rip()) else {
            return Vec::new();
        };
        if found.valid == 0 {
            return Vec::new();
        }
        let mut bytes = vec![0; 15];
        let read = ram
            .read(&mut bytes, GuestAddress(found.physical_address))
            .unwrap_or(0);
        bytes.truncate(read);
        bytes
    }
}

fn end(error: Error) -> Request {
    Request::End(Ending::Error(error))
}

fn emulation_failure(index: u32, rip: u64, bytes: &[u8]) -> Error {
    let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let shown = if bytes.is_empty() {
        "unreadable".to_owned()
    } else {
        bytes.join(" ")
    };
    Error::HostLacks(format!(
        "KVM could not emulate the instruction of vCPU {index} at RIP {rip:#x} (bytes: {shown}); a KVM that interprets guest \
         code in software stops at instructions that it does not know, one on a processor with VMX or SVM only where the \
         guest runs code outside its RAM"
    ))
}

/// Serves what can be served while the run page is borrowed.
fn dispatch(exit: VcpuExit<'_>, outside: &Outside) -> Exit {
    match exit {
        VcpuExit::IoIn(port, data) => Exit::PortIn {
            port,
            data: data.as_mut_ptr(),
            len: data.len(),
        },
        VcpuExit::IoOut(port, data) => Exit::PortOut {
            port,
            data: data.as_ptr(),
            len: data.len(),
        },
        VcpuExit::MmioRead(address, data) => {
            outside.mmio.read(address, data);
            Exit::Served
        }
        VcpuExit::MmioWrite(address, data) => {
            outside.mmio.write(address, data);
            Exit::Served
        }
        VcpuExit::IoapicEoi(vector) => {
            if let Some(eoi) = &outside.eoi {
                eoi.eoi(vector);
            }
            Exit::Served
        }
        VcpuExit::Intr | VcpuExit::IrqWindowOpen | VcpuExit::Hlt => Exit::Served,
        VcpuExit::InternalError => Exit::InternalError,
        other => Exit::Ask(final_exit(&other)),
    }
}

/// The exits that end a run.
fn final_exit(exit: &VcpuExit<'_>) -> Request {
    match exit {
        VcpuExit::Shutdown => Request::End(Ending::TripleFault),
        VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN, _) => Request::PowerOff,
        VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET, _) => Request::Reset,
        VcpuExit::FailEntry(reason, cpu) => end(Error::HostLacks(format!(
            "the processor refused to enter the guest: hardware reason {reason:#x} on host CPU {cpu}"
        ))),
        other => end(Error::Bug(format!(
            "an exit of KVM is not handled: {other:?}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(exit: &VcpuExit<'_>) -> (u8, String) {
        match final_exit(exit) {
            Request::End(ending) => (ending.status(), ending.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn shutdown_is_a_triple_fault() {
        assert_eq!(ending(&VcpuExit::Shutdown).0, 1);
    }

    #[test]
    fn fail_entry_names_the_reason() {
        let (status, text) = ending(&VcpuExit::FailEntry(0x8000_0021, 3));
        assert_eq!(status, 3);
        assert!(
            text.contains("0x80000021") && text.contains("CPU 3"),
            "{text}"
        );
    }

    #[test]
    fn unknown_exit_is_a_bug_with_a_message() {
        let (status, text) = ending(&VcpuExit::Unsupported(99));
        assert_eq!(status, 70);
        assert!(text.contains("Unsupported(99)"), "{text}");
    }

    #[test]
    fn system_events_are_power_off_and_reset() {
        assert!(matches!(
            final_exit(&VcpuExit::SystemEvent(1, &[])),
            Request::PowerOff
        ));
        assert!(matches!(
            final_exit(&VcpuExit::SystemEvent(2, &[])),
            Request::Reset
        ));
    }

    #[test]
    fn emulation_failure_shows_rip_and_bytes() {
        let text = emulation_failure(1, 0xffff_8000, &[0xcc, 0x0f]).to_string();
        assert!(text.contains("RIP 0xffff8000 (bytes: cc 0f)"), "{text}");
        assert!(text.contains("in software"), "{text}");
        assert!(
            emulation_failure(0, 0, &[])
                .to_string()
                .contains("(bytes: unreadable)")
        );
    }
}
