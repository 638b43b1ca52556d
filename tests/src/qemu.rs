// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The QEMU command line of L1: a q35 machine in pure software emulation with AMD's virtualization, an Intel IOMMU
//! and PCI devices to pass through.

use std::path::Path;
use std::process::Command;

use rustix::thread::{CpuSet, sched_getaffinity};

use crate::{process, tsc};

/// How L1 is driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Commands over QEMU's standard input and output.
    Served,
    /// A shell on the terminal of this size (rows, columns).
    Shell(u16, u16),
}

/// An AMD processor, whose virtualization is what QEMU's emulator can do, without the features that it cannot.
const CPU: &str =
    "EPYC,-rdseed,-sha-ni,-xsavec,-3dnowprefetch,-misalignsse,-osvw,-topoext,-fxsr-opt,-nrip-save";

/// Processors of L1. With several, QEMU's emulation of SVM now and then mixes the state of a guest with that of L1: guests hang
/// or crash, under any VMM, and L1 with them. Guests have as many processors as they like.
const CPUS: &str = "1";

/// A command that runs on one of this machine's processors only. QEMU's emulation of SVM changes a processor's word of pending
/// interrupts without the lock under which its other threads do, by one instruction that is not locked. Where these threads run
/// at the same time, an interrupt of L1 gets lost now and then (its timer, and everything stops until another one comes), or one
/// that was meant for a guest comes back in L1.
fn on_one_processor(program: &str, lane: usize) -> Command {
    let mut command = process::bound("taskset");
    command.args(["--cpu-list", &processor(lane).to_string(), program]);
    command
}

/// One of the processors that this process may use. Labs that run side by side get different ones, as far as that goes; the
/// lanes of one do, if there are enough.
fn processor(lane: usize) -> usize {
    let allowed = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    let allowed: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|cpu| allowed.is_set(*cpu))
        .collect();
    let turn = usize::try_from(std::process::id()).unwrap_or(0) + lane;
    allowed
        .get(turn % allowed.len().max(1))
        .copied()
        .unwrap_or(0)
}

/// L1's kernel command line. On a busy machine ticks come late: the timer check at boot and the TSC's watchdog would judge
/// wrongly, and KVM would take a corrected TSC rate for another clock.
const CMDLINE: &str = "console=ttyS0 loglevel=7 panic=-1 intel_iommu=on,sm_on no_timer_check tsc=reliable \
                       kvm.tsc_tolerance_ppm=100000";

/// Size of L1's NVMe disk, a sparse file that holds what is written to it.
pub const NVME_BYTES: u64 = 512 << 20;

/// The address of the card at the other end of the cable of L1's e1000e.
pub const PEER_MAC: &str = "52:54:00:00:00:02";

/// Two cards of L1's on one cable: one to pass through, one to talk to it.
fn add_network(qemu: &mut Command) {
    let peer = format!("virtio-net-pci,mac={PEER_MAC}");
    let cards = [("card", "e1000e,mac=52:54:00:00:00:01"), ("peer", &peer)];
    for (port, card) in cards {
        qemu.args(["-netdev", &format!("hubport,id={port},hubid=0")]);
        // What would boot from the card is not needed, nor is its file on this machine.
        qemu.args(["-device", &format!("{card},netdev={port},romfile=")]);
    }
}

/// Bytes of L1's device that is nothing but memory (1af4:1110, in its BAR 2): a target for other devices' DMA.
const SHARED_BYTES: u64 = 1 << 20;

fn add_memory(qemu: &mut Command) {
    let memory = format!("memory-backend-ram,id=shared,share=on,size={SHARED_BYTES}");
    qemu.args(["-object", &memory]);
    qemu.args(["-device", "ivshmem-plain,memdev=shared"]);
}

/// The command for an L1 whose files (initramfs, console log, disk, scratch share) are in `run`.
pub fn command(bzimage: &Path, run: &Path, mode: Mode, lane: usize) -> Command {
    let run = run.display();
    let mut qemu = on_one_processor("qemu-system-x86_64", lane);
    qemu.args([
        "-accel",
        "tcg,thread=multi",
        "-machine",
        "q35",
        "-cpu",
        CPU,
        "-smp",
        CPUS,
        "-m",
        "4G",
    ]);
    qemu.args(["-nodefaults", "-display", "none", "-no-reboot"]);
    qemu.args([
        "-device",
        "intel-iommu,intremap=on,caching-mode=off,x-scalable-mode=on",
    ]);
    qemu.args(["-device", "edu"]);
    qemu.args([
        "-drive",
        &format!("if=none,id=nvme,file={run}/nvme.img,format=raw,cache=unsafe"),
    ]);
    qemu.args(["-device", "nvme,drive=nvme,serial=lab"]);
    add_network(&mut qemu);
    let root = "local,path=/,mount_tag=hostroot,security_model=none,readonly=on,multidevs=remap";
    qemu.args(["-virtfs", root]);
    qemu.args([
        "-virtfs",
        &format!("local,path={run},mount_tag=scratch,security_model=none,multidevs=remap"),
    ]);
    qemu.args([
        "-chardev",
        &format!("file,id=log,path={run}/l1-kernel.log"),
        "-serial",
        "chardev:log",
    ]);
    qemu.args([
        "-device",
        "virtio-serial-pci",
        "-chardev",
        "stdio,id=command,signal=off",
    ]);
    add_memory(&mut qemu);
    let mut cmdline = format!("{CMDLINE} tsc_early_khz={}", tsc::khz());
    match mode {
        Mode::Served => qemu.args(["-device", "virtserialport,chardev=command,name=lab"]),
        Mode::Shell(rows, columns) => {
            cmdline += &format!(" lab_mode=shell lab_rows={rows} lab_columns={columns}");
            qemu.args(["-device", "virtconsole,chardev=command"])
        }
    };
    qemu.arg("-kernel").arg(bzimage).args([
        "-initrd",
        &format!("{run}/l1.cpio"),
        "-append",
        &cmdline,
    ]);
    qemu
}
