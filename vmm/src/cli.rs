// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The command line: clap's part of it, and the way to a [`Config`](crate::config::Config).

mod convert;
mod ctl;
mod device;
mod devices;
mod doctor;
mod iommu;
#[cfg(test)]
mod tests;
mod vfio;

pub use ctl::{CtlArgs, CtlCommand};
pub use device::device;
pub use devices::{DevicesArgs, DevicesCommand, Named, devices};
pub use doctor::{DoctorArgs, doctor};

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// A KVM virtual machine monitor whose guest sees a complete Intel VT-d unit.
#[derive(Debug, Parser)]
#[command(name = "remora", version, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Boot a guest and stay with it until its run ends
    #[command(after_long_help = EXIT_STATUS)]
    Run(Box<RunArgs>),
    /// Say what this host can do, and how to mend what it cannot
    #[command(after_long_help = doctor::EXIT_STATUS)]
    Doctor(DoctorArgs),
    /// List PCI devices and whether they can be passed through; take them from their drivers and give them back
    #[command(after_long_help = devices::EXIT_STATUS)]
    Devices(DevicesArgs),
    /// Ask a running machine: numbers, events, devices, pause, reset, power
    #[command(after_long_help = ctl::EXIT_STATUS)]
    Ctl(CtlArgs),
}

const EXIT_STATUS: &str = "\
Exit status:
    0  every --expect text was seen or, with none given, the guest powered off (or reset, with --no-reboot)
    1  the guest ended otherwise: --fail-on matched, panic, triple fault
    2  wrong usage or configuration
    3  the host refused something, named in the message
   70  a bug of remora
  124  time ran out
  130  quit by Ctrl-A X
  143  SIGTERM
A guest that writes v to port 0xF4 ends the run with (v << 1) | 1. The last line on stderr names the reason.

On the serial console: Ctrl-A X quits, Ctrl-A C sends a break, Ctrl-A Ctrl-A sends Ctrl-A.";

/// The options of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Kernel: a Linux bzImage, an ELF64 vmlinux with a PVH note, or a multiboot (version 1) ELF32
    #[arg(long, value_name = "FILE", help_heading = "Boot")]
    pub kernel: PathBuf,

    /// Initial RAM disk; the module of a multiboot kernel [default: none]
    #[arg(long, value_name = "FILE", help_heading = "Boot")]
    pub initrd: Option<PathBuf>,

    /// Kernel command line; console=ttyS0 is put before it unless it chooses a console, or the kernel is multiboot
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true,
        help_heading = "Boot"
    )]
    pub cmdline: String,

    /// Number of processors; more than 255 need interrupt remapping
    #[arg(long, value_name = "N", default_value = "1", help_heading = "Machine")]
    pub cpus: String,

    /// Guest RAM, in MiB or with a suffix K, M, G or T; hugepages= backs it by reserved huge pages of the host instead of
    /// transparent ones
    #[arg(
        long,
        value_name = "SIZE[,hugepages=2M|1G]",
        default_value = "512M",
        help_heading = "Machine"
    )]
    pub memory: String,

    /// Processor model: the host's, minus features by their names in /proc/cpuinfo and what depends on them
    #[arg(
        long,
        value_name = "host[,-FEATURE...]",
        default_value = "host",
        help_heading = "Machine"
    )]
    pub cpu: String,

    /// A PCI Express root port that devices can name by bus=ID, with a hotplug slot if asked; repeatable
    #[arg(long, value_name = "id=ID[,hotplug]", help_heading = "Machine")]
    pub root_port: Vec<String>,

    /// The VT-d unit, or none
    ///
    /// What is left open is derived: as much as the machine can honour.
    ///   mode          legacy, or scalable beside it [default: scalable where another part needs it]
    ///   stages        tables of scalable mode: first stage, second stage or both [default: auto, both; with --vfio
    ///                 second, as what changes in first-stage tables need not be reported]
    ///   nesting       first-stage tables on second-stage ones; needs both [default: on where both are]
    ///   caching-mode  report that changes to present need invalidation [default: auto, on with --vfio or a hotplug port]
    ///   aw            width of device addresses in bits; 57 adds five-level tables, whatever the processor has
    ///                 [default: auto, 48; with --vfio at most what the host's IOMMU has]
    ///   intremap      interrupt remapping [default: on]
    ///   pasid-bits    width of PASIDs in scalable mode, 0 for none [default: 20]
    ///   pri           page requests [default: on where a device makes them]
    ///   dirty         accessed and dirty bits in second-stage tables; not with --vfio [default: on where those are]
    ///   posted        interrupts posted to memory; not with --vfio, nor with a hotplug port, where a passed-through
    ///                 device may come [default: off]
    ///   units         number of units; the first is for the root bus and the IOAPIC, the others share out the root
    ///                 ports in their order, at least one each [default: 1]
    ///   records       fault recording registers of a unit, 1 to 222 [default: 8]
    /// Device-TLBs are offered in scalable mode where a device has ATS.
    #[arg(
        long,
        value_name = "off|mode=legacy|scalable,PART=VALUE...",
        default_value = "mode=legacy",
        verbatim_doc_comment,
        help_heading = "Machine"
    )]
    pub iommu: String,

    /// Where the serial console leads
    #[arg(
        long,
        value_name = "stdio|file:PATH|null",
        default_value = "stdio",
        help_heading = "Devices"
    )]
    pub serial: String,

    /// A virtio entropy device [default: none]
    #[arg(long, help_heading = "Devices")]
    pub rng: bool,

    /// The edu test device, 1234:11e8 [default: none]
    #[arg(long, help_heading = "Devices")]
    pub edu: bool,

    /// The dmatest device, 1234:d7a7, which makes every kind of DMA request: bus is the root port that it sits behind (default:
    /// the root bus), pasid-bits the width of its PASIDs (0 to 20, default 20, 0 for none), ats lets it cache translations and
    /// pri ask for pages (both on by default; pri needs ats); repeatable
    #[arg(
        long,
        value_name = "bus=ID,pasid-bits=N,pri=on|off,ats=on|off",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "",
        help_heading = "Devices"
    )]
    pub dmatest: Vec<String>,

    /// A virtio block device on an image: direct bypasses the host's page cache, queues is the number of virtqueues (1 to
    /// 16, default 1), id names it, bus is the root port that it sits behind (default: the root bus); repeatable
    #[arg(
        long,
        value_name = "PATH[,readonly][,direct][,queues=N][,id=ID][,bus=ID]",
        help_heading = "Devices"
    )]
    pub disk: Vec<String>,

    /// A virtio network device on a tap interface (default mac: made from the interface's name); repeatable
    #[arg(
        long,
        value_name = "tap=NAME[,mac=MAC][,bus=ID]",
        help_heading = "Devices"
    )]
    pub net: Vec<String>,

    /// A directory of the host that the guest mounts by its tag; repeatable
    #[arg(long, value_name = "DIR,tag=NAME[,readonly]", help_heading = "Devices")]
    pub share: Vec<String>,

    /// A PCI device of the host (as lspci -D writes it, the segment optional), which must be bound to vfio-pci: backend is how
    /// the host's kernel is asked for it (default: auto, iommufd where there is one), id names it, bus is the root port that
    /// it sits behind (default: the root bus); mmap=off serves every access to its BARs here instead of giving the guest its
    /// memory, which is slow; repeatable
    #[arg(
        long,
        value_name = "BDF[,backend=auto|iommufd|type1][,id=ID][,bus=ID][,mmap=on|off]",
        help_heading = "Devices"
    )]
    pub vfio: Vec<String>,
    /// Serve `remora ctl` on this Unix socket, which is made with mode 0600 and removed at the end [default: none]
    #[arg(long, value_name = "PATH", help_heading = "Control")]
    pub api_socket: Option<PathBuf>,

    /// End the run with status 124 after so many seconds [default: no limit]
    #[arg(long, value_name = "SECS", help_heading = "Ending")]
    pub timeout: Option<String>,

    /// A text that the serial console must show; when all were seen, the run ends with status 0; repeatable
    #[arg(
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        help_heading = "Ending"
    )]
    pub expect: Vec<String>,

    /// A text on the serial console that ends the run with status 1; repeatable; "Kernel panic - not syncing" is one by
    /// itself
    #[arg(
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        help_heading = "Ending"
    )]
    pub fail_on: Vec<String>,

    /// Do not end the run at "Kernel panic - not syncing"
    #[arg(long, help_heading = "Ending")]
    pub no_default_fail_on: bool,

    /// A guest reset ends the run instead of restarting the machine in place
    #[arg(long, help_heading = "Ending")]
    pub no_reboot: bool,

    /// Write the reason, the status and the VT-d unit's counters there as JSON when the run ends
    #[arg(long, value_name = "FILE", help_heading = "Ending")]
    pub result: Option<PathBuf>,

    /// What to log to stderr: a level (error, warn, info, debug, trace) or a list of TARGET=LEVEL
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "warn",
        help_heading = "Ending"
    )]
    pub log: String,
}
