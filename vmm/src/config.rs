// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a run is made of: the command line after parsing and checking.

use crate::kvm::features::Feature;
use std::path::PathBuf;
use std::time::Duration;
use vfio::hardware::Support;
use vfio::pci_address::PciAddress;

/// A whole machine and how its run ends.
#[derive(Clone, Debug)]
pub struct Config {
    /// Kernel image: bzImage, PVH ELF or multiboot.
    pub kernel: PathBuf,
    /// Initial RAM disk, or the module of a multiboot image.
    pub initrd: Option<PathBuf>,
    /// The kernel's command line as the user gave it.
    pub cmdline: String,
    /// Number of vCPUs, at least 1.
    pub cpus: u32,
    /// Guest RAM.
    pub memory: MemoryConfig,
    /// CPU features taken away from the guest.
    pub removed_features: Vec<Feature>,
    /// PCI Express root ports in the order given.
    pub root_ports: Vec<RootPortConfig>,
    /// Where the serial console leads.
    pub serial: SerialConfig,
    /// An entropy device.
    pub rng: bool,
    /// The `edu` test device.
    pub edu: bool,
    /// The `dmatest` devices in the order given.
    pub dmatests: Vec<DmatestConfig>,
    /// Block devices in the order given.
    pub disks: Vec<DiskConfig>,
    /// Network devices in the order given.
    pub nets: Vec<NetConfig>,
    /// Shared directories in the order given.
    pub shares: Vec<ShareConfig>,
    /// Devices of the host that the guest gets, in the order given.
    pub vfios: Vec<VfioConfig>,
    /// The VT-d unit; `None` for a machine without.
    pub iommu: Option<IommuConfig>,
    /// What the DMAR table says beyond units and ports.
    pub dmar: DmarConfig,
    /// Where the control socket is; none without.
    pub api_socket: Option<PathBuf>,
    /// How the run ends.
    pub ending: EndingConfig,
}

/// Guest RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryConfig {
    /// Bytes, a multiple of 4096 (of the huge page size with huge pages).
    pub size: u64,
    /// Back the RAM by huge pages of this many bytes.
    pub hugepages: Option<HugePages>,
}

/// The sizes of reserved huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugePages {
    /// 2 MiB.
    Size2M,
    /// 1 GiB.
    Size1G,
}

impl HugePages {
    /// Bytes of a page.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Size2M => 1 << 21,
            Self::Size1G => 1 << 30,
        }
    }
}

/// A root port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootPortConfig {
    /// The name by which devices choose it.
    pub id: String,
    /// The port has a hotplug slot.
    pub hotplug: bool,
}

/// Where the serial console leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SerialConfig {
    /// The terminal, or whatever stdin and stdout are.
    Stdio,
    /// A file, created or truncated.
    File(PathBuf),
    /// Nowhere; expectations are still matched.
    Null,
}

/// A `dmatest` device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DmatestConfig {
    /// Root port; the root bus without.
    pub bus: Option<String>,
    /// Bits of a PASID, up to 20; 0 for no PASID capability.
    pub pasid_bits: u8,
    /// It can cache translations.
    pub ats: bool,
    /// It can ask for pages; only with `ats`.
    pub pri: bool,
}

/// A block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskConfig {
    /// Image.
    pub path: PathBuf,
    /// The guest cannot write.
    pub readonly: bool,
    /// Bypass the host's page cache.
    pub direct: bool,
    /// Number of virtqueues, at least 1.
    pub queues: u16,
    /// Name of the device; also its serial number.
    pub id: Option<String>,
    /// Root port; the root bus without.
    pub bus: Option<String>,
}

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetConfig {
    /// Name of the tap interface, 1 to 15 bytes.
    pub tap: String,
    /// Address; chosen from the interface's name without.
    pub mac: Option<[u8; 6]>,
    /// Root port; the root bus without.
    pub bus: Option<String>,
}

/// A shared directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareConfig {
    /// Directory of the host.
    pub dir: PathBuf,
    /// The name by which the guest mounts it.
    pub tag: String,
    /// The guest cannot write.
    pub readonly: bool,
}

/// A device of the host that the guest gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VfioConfig {
    /// Where the host has it.
    pub address: PciAddress,
    /// How it is taken over.
    pub backend: VfioBackend,
    /// Name of the device.
    pub id: Option<String>,
    /// Root port; the root bus without.
    pub bus: Option<String>,
    /// The guest touches the device's memory directly.
    pub map: bool,
}

/// How a device of the host is taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VfioBackend {
    /// By iommufd where the host has it.
    #[default]
    Auto,
    /// By iommufd.
    Iommufd,
    /// By a VFIO group and container.
    Type1,
}

/// A setting that may be left to the program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Switch {
    /// Chosen by what the machine needs.
    #[default]
    Auto,
    /// On.
    On,
    /// Off.
    Off,
}

impl Switch {
    /// The setting, `derived` where it is left open.
    #[must_use]
    pub const fn or(self, derived: bool) -> bool {
        match self {
            Self::Auto => derived,
            Self::On => true,
            Self::Off => false,
        }
    }
}

/// The unit's address width.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressWidth {
    /// The widest that every guest can use, 48 bits.
    #[default]
    Auto,
    /// 39 bits, in tables of three or four levels.
    Bits39,
    /// 48 bits, four-level tables.
    Bits48,
    /// 57 bits, five-level tables. Whether the processor has five levels does not matter.
    Bits57,
}

/// How the unit can be asked to translate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TableMode {
    /// Scalable mode where another option needs it, legacy mode otherwise.
    #[default]
    Auto,
    /// Legacy mode alone.
    Legacy,
    /// Scalable mode beside legacy mode.
    Scalable,
}

/// The tables of scalable mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stages {
    /// All that the unit can walk.
    #[default]
    Auto,
    /// First-stage tables alone.
    First,
    /// Second-stage tables alone.
    Second,
    /// Either.
    Both,
}

/// The VT-d unit as it was asked for; [`crate::offer`] makes capabilities of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IommuConfig {
    /// Table mode.
    pub mode: TableMode,
    /// Tables of scalable mode.
    pub stages: Stages,
    /// First-stage tables on second-stage ones.
    pub nesting: Switch,
    /// Report caching mode.
    pub caching_mode: Switch,
    /// Address width.
    pub address_width: AddressWidth,
    /// Offer interrupt remapping.
    pub intremap: bool,
    /// Bits of a PASID, up to 20; 0 for no requests with PASID.
    pub pasid_bits: Option<u8>,
    /// Page requests.
    pub pri: Switch,
    /// Accessed and dirty bits in second-stage tables.
    pub dirty: Switch,
    /// Interrupts may be posted to memory.
    pub posted: bool,
    /// Paging entries may force snooping. No option: hosts of passed-through devices may not be able to.
    pub snoop_control: bool,
    /// What hosts of passed-through devices can do for PASIDs and first-stage tables. No option either.
    pub host: Support,
    /// Remapping units, at least 1.
    pub units: u16,
    /// Fault recording registers, 1 to [`iommu::capabilities::MAX_FAULT_RECORDS`].
    pub records: u16,
}

impl Default for IommuConfig {
    fn default() -> Self {
        Self {
            mode: TableMode::Auto,
            stages: Stages::Auto,
            nesting: Switch::Auto,
            caching_mode: Switch::Auto,
            address_width: AddressWidth::Auto,
            intremap: true,
            pasid_bits: None,
            pri: Switch::Auto,
            dirty: Switch::Auto,
            posted: false,
            snoop_control: true,
            host: Support::EVERYTHING,
            units: 1,
            records: 8,
        }
    }
}

/// What the DMAR table says beyond units and ports. Nothing that an option adds needs any of it: no device of ours uses memory
/// before its driver does, all are PCI devices, and the machine has one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DmarConfig {
    /// Memory that devices use before software takes over (RMRR).
    pub reserved: Vec<ReservedMemory>,
    /// Requesters that are in the ACPI namespace only (ANDD).
    pub namespace: Vec<NamespaceDevice>,
    /// Where units are near to (RHSA).
    pub affinities: Vec<Affinity>,
}

/// A device on the root bus or, over bridges, below it: device and function numbers.
pub type DevicePath = Vec<(u8, u8)>;

/// Memory that devices use before software takes over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReservedMemory {
    /// First byte. The whole range must be memory that the guest is told to leave alone, in whole pages.
    pub base: u64,
    /// Last byte.
    pub last: u64,
    /// The devices.
    pub devices: Vec<DevicePath>,
}

/// A requester that is in the ACPI namespace only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceDevice {
    /// Its path in the namespace.
    pub path: String,
    /// The unit that translates for it.
    pub unit: u16,
    /// The bus of its source id.
    pub bus: u8,
    /// Device and function of its source id.
    pub devfn: (u8, u8),
}

/// Where a unit is near to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Affinity {
    /// Number of the unit.
    pub unit: u16,
    /// Proximity domain.
    pub proximity: u32,
}

/// How a run ends.
#[derive(Clone, Debug, Default)]
pub struct EndingConfig {
    /// Time limit.
    pub timeout: Option<Duration>,
    /// Texts that must all appear on the serial console; the run ends when they have.
    pub expect: Vec<String>,
    /// Texts that end the run with status 1, the default one included.
    pub fail_on: Vec<String>,
    /// A guest reset ends the run.
    pub no_reboot: bool,
}
