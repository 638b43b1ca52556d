// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Hosts that are made up: a good one, and what is taken away from it.

mod iommu;
mod kvm;
mod vfio;

use super::*;
use crate::host_files::HostFiles;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;

/// CAP of a unit with 39 and 48 bits, 2 MiB and 1 GiB pages; ECAP with QI, IR, EIM, SC, DT.
const CAP: &str = "d2008c40660462";
const ECAP_LEGACY: &str = "f0209e";
/// The same with NEST (26), PASID (40) of 20 bits (PSS 19 at 35), SMTS (43), SSADS (45), SSTS (46), PRS (29).
const ECAP_SCALABLE: &str = "699824f0209e";

#[derive(Debug)]
struct MadeUp {
    errors: BTreeMap<&'static str, i32>,
    owners: BTreeMap<&'static str, Node>,
    kvm: Result<KvmFacts, i32>,
}

impl Nodes for MadeUp {
    fn open(&self, path: &str) -> io::Result<()> {
        match self.errors.get(path) {
            Some(errno) => Err(io::Error::from_raw_os_error(*errno)),
            None => Ok(()),
        }
    }

    fn node(&self, path: &str) -> Option<Node> {
        self.owners.get(path).copied()
    }

    fn kvm(&self) -> io::Result<KvmFacts> {
        self.kvm.clone().map_err(io::Error::from_raw_os_error)
    }
}

struct World {
    root: tempfile::TempDir,
    nodes: MadeUp,
}

impl World {
    /// A host on which everything is as it should be.
    fn good() -> Self {
        let world = Self {
            root: tempfile::tempdir().unwrap(),
            nodes: MadeUp {
                errors: BTreeMap::new(),
                owners: BTreeMap::new(),
                kvm: Ok(KvmFacts {
                    version: 12,
                    lacks: Vec::new(),
                    vcpus: 1024,
                    hypervisor: None,
                }),
            },
        };
        for (path, text) in [
            ("proc/cmdline", "root=/dev/sda1 intel_iommu=on,sm_on"),
            ("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu vmx sse2\n"),
            (
                "proc/interrupts",
                " 16:  1  IR-PCI-MSIX-0000:00:02.0  0-edge  nvme0q0\n",
            ),
            (
                "proc/meminfo",
                "MemTotal:       16777216 kB\nMemFree: 1 kB\n",
            ),
            (
                "proc/self/status",
                "Name:\tremora\nCapEff:\t0000000000000000\n",
            ),
            (
                "proc/self/limits",
                "Limit  Soft Limit  Hard Limit  Units\nMax locked memory  unlimited  unlimited  bytes\n",
            ),
            ("proc/sys/kernel/osrelease", "6.17.3-amd64"),
            ("sys/module/kvm_intel/parameters/nested", "Y"),
            ("sys/class/iommu/dmar0/intel-iommu/cap", CAP),
            ("sys/class/iommu/dmar0/intel-iommu/ecap", ECAP_SCALABLE),
            ("sys/kernel/iommu_groups/0/type", "DMA-FQ"),
            ("sys/kernel/iommu_groups/0/reserved_regions", MSI),
            ("sys/kernel/iommu_groups/1/type", "identity"),
            ("sys/kernel/iommu_groups/1/reserved_regions", MSI),
            ("sys/bus/pci/drivers/vfio-pci/bind", ""),
            ("sys/class/vfio-dev/x", ""),
            (
                "sys/module/vfio_iommu_type1/parameters/dma_entry_limit",
                "65535",
            ),
            (
                "sys/kernel/mm/transparent_hugepage/enabled",
                "always [madvise] never",
            ),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "8"),
            (
                "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages",
                "6",
            ),
            ("etc/group", "root:x:0:\nkvm:x:104:alice\n"),
        ] {
            world.write(path, text);
        }
        world
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    fn remove(&self, path: &str) {
        fs::remove_dir_all(self.root.path().join(path)).unwrap();
    }

    /// A device of group 1 that is bound to vfio-pci.
    fn bind(&self, address: &str) {
        let device = self.root.path().join("sys/bus/pci/devices").join(address);
        fs::create_dir_all(&device).unwrap();
        symlink("../../../kernel/iommu_groups/1", device.join("iommu_group")).unwrap();
        let driver = self.root.path().join("sys/bus/pci/drivers/vfio-pci");
        symlink(&device, driver.join(address)).unwrap();
    }

    fn report(&self) -> Report {
        examine(&Host {
            files: HostFiles::below(self.root.path()),
            nodes: &self.nodes,
        })
    }

    /// Level, finding and advice of one row.
    fn row(&self, id: &str) -> (Level, String, String) {
        let rows = self.report().rows;
        let row = rows.into_iter().find(|row| row.id == id);
        let row = row.unwrap_or_else(|| panic!("no row {id}"));
        (row.level, row.finding, row.advice.unwrap_or_default())
    }

    fn expect(&self, id: &str, level: Level, finding: &str, advice: &str) {
        let row = self.row(id);
        assert_eq!(row.0, level, "{row:?}");
        assert!(row.1.contains(finding), "{row:?}");
        assert!(row.2.contains(advice), "{row:?}");
    }
}

const MSI: &str = "0x00000000fee00000 0x00000000feefffff msi";
const EACCES: i32 = 13;
const ENOENT: i32 = 2;
const EBUSY: i32 = 16;

#[test]
fn good_host_has_only_rows_that_are_ok() {
    let report = World::good().report();
    let bad: Vec<&Row> = report
        .rows
        .iter()
        .filter(|row| row.level != Level::Ok)
        .collect();
    assert!(bad.is_empty(), "{bad:?}");
    assert!(report.can_run() && report.can_pass_through());
    let ids: Vec<&str> = report.rows.iter().map(|row| row.id).collect();
    assert_eq!(
        ids,
        [
            "kvm",
            "kvm-kind",
            "kvm-features",
            "iommu",
            "iommu-mode",
            "iommu-offer",
            "interrupt-remapping",
            "reserved-regions",
            "vfio-pci",
            "iommufd",
            "vfio-type1",
            "entry-limit",
            "memlock",
            "hugepages",
        ]
    );
}

#[test]
fn limits_that_are_low_say_how_to_raise_them() {
    let world = World::good();
    world.write(
        "sys/module/vfio_iommu_type1/parameters/dma_entry_limit",
        "512",
    );
    world.expect("entry-limit", Level::Warning, "512 mappings", "echo 65535");
    let limits = |limit: &str| {
        world.write(
            "proc/self/limits",
            &format!("Max locked memory  {limit}  {limit}  bytes"),
        )
    };
    limits("8388608");
    world.expect(
        "memlock",
        Level::Warning,
        "only 8 MiB",
        "LimitMEMLOCK=infinity",
    );
    limits("17179869184");
    world.expect("memlock", Level::Ok, "16 GiB may be locked: all of RAM", "");
    limits("65536");
    world.write("proc/self/status", "CapEff:\t000001ffffffffff");
    world.expect("memlock", Level::Ok, "CAP_IPC_LOCK", "");
}

#[test]
fn huge_pages_are_counted() {
    let world = World::good();
    world.expect(
        "hugepages",
        Level::Ok,
        "(madvise); 8 of 2 MiB reserved, 6 free",
        "",
    );
    world.write(
        "sys/kernel/mm/transparent_hugepage/enabled",
        "always madvise [never]",
    );
    world.expect(
        "hugepages",
        Level::Warning,
        "no transparent huge pages; 8 of",
        "echo madvise",
    );
    world.remove("sys/kernel/mm/hugepages");
    world.remove("sys/kernel/mm/transparent_hugepage");
    world.expect("hugepages", Level::Warning, "none reserved", "");
}

#[test]
fn report_is_shown_for_people_and_for_programs() {
    let mut world = World::good();
    world.nodes.kvm = Err(ENOENT);
    let report = world.report();
    let text = table(&report);
    assert!(text.contains("\nIOMMU\n  ok       iommu "), "{text}");
    assert!(
        text.contains("  missing  kvm                  there is no /dev/kvm: "),
        "{text}"
    );
    assert!(
        text.contains("                                -> use a kernel"),
        "{text}"
    );
    assert!(text.contains("A VM can be run: no.\n"), "{text}");
    let value = json(&report);
    assert_eq!(
        (&value["vm"], &value["passthrough"]),
        (&false.into(), &false.into())
    );
    assert_eq!(value["rows"][0]["id"], "kvm");
    assert_eq!(value["rows"][0]["level"], "missing");
    assert_eq!(value["rows"][1]["advice"], serde_json::Value::Null);
}
