// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Trees as a host's sysfs has them.

use super::*;
use std::os::unix::fs::symlink;

struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn device(&self, address: &str, class: &str, driver: Option<&str>) -> PathBuf {
        let path = self.0.path().join("bus/pci/devices").join(address);
        fs::create_dir_all(&path).unwrap();
        for (file, text) in [("vendor", "0x1b36"), ("device", "0x0010"), ("class", class)] {
            fs::write(path.join(file), format!("{text}\n")).unwrap();
        }
        if let Some(driver) = driver {
            symlink(
                format!("../../../../bus/pci/drivers/{driver}"),
                path.join("driver"),
            )
            .unwrap();
        }
        path
    }

    fn group(&self, number: &str, reserved: &str, devices: &[&Path]) {
        let group = self.0.path().join("kernel/iommu_groups").join(number);
        fs::create_dir_all(group.join("devices")).unwrap();
        fs::write(group.join("reserved_regions"), reserved).unwrap();
        for device in devices {
            symlink(&group, device.join("iommu_group")).unwrap();
            symlink(
                device,
                group.join("devices").join(device.file_name().unwrap()),
            )
            .unwrap();
        }
    }

    fn read(&self, address: &str) -> Result<HostDevice, Error> {
        HostDevice::read_below(self.0.path(), address.parse().unwrap())
    }

    fn refusal(&self, address: &str) -> Option<Refusal> {
        self.read(address).unwrap().refusal()
    }
}

const MSI: &str = "0x00000000fee00000 0x00000000feefffff msi\n";

#[test]
fn device_alone_in_its_group_and_bound_to_vfio_can_be_passed_through() {
    let tree = Tree::new();
    let path = tree.device("0000:00:02.0", "0x010802", Some("vfio-pci"));
    tree.group("3", MSI, &[&path]);
    symlink("../../virtual/iommu/dmar0", path.join("iommu")).unwrap();
    fs::create_dir_all(path.join("vfio-dev/vfio7")).unwrap();
    let device = tree.read("00:02.0").unwrap();
    assert_eq!((device.vendor, device.device), (0x1b36, 0x0010));
    assert_eq!(device.class, 0x01_0802);
    assert_eq!(device.unit.as_deref(), Some("dmar0"));
    assert_eq!(device.group.as_ref().unwrap().number, 3);
    assert_eq!(device.refusal(), None);
    assert_eq!(
        device.cdev(),
        Some(PathBuf::from("/dev/vfio/devices/vfio7"))
    );
}

#[test]
fn device_is_refused_by_name_for_each_reason() {
    let tree = Tree::new();
    let nvme = tree.device("0000:00:02.0", "0x010802", Some("nvme"));
    let free = tree.device("0000:00:03.0", "0x020000", None);
    let usb = tree.device("0000:00:14.0", "0x0c0330", Some("vfio-pci"));
    tree.device("0000:00:05.0", "0x020000", Some("vfio-pci"));
    tree.device("0000:00:1c.0", "0x060400", Some("pcieport"));
    tree.group("1", MSI, &[&nvme]);
    tree.group("2", MSI, &[&free]);
    let rmrr = "0x000000003e2e0000 0x000000003e2fffff direct\n";
    tree.group("3", rmrr, &[&usb]);
    assert_eq!(
        tree.refusal("00:02.0"),
        Some(Refusal::InUse("nvme".to_owned()))
    );
    assert_eq!(tree.refusal("00:03.0"), Some(Refusal::NotBound));
    assert_eq!(
        tree.refusal("00:14.0"),
        Some(Refusal::MandatoryReserved {
            first: 0x3e2e_0000,
            last: 0x3e2f_ffff
        })
    );
    assert_eq!(tree.refusal("00:05.0"), Some(Refusal::NoIommu));
    assert_eq!(tree.refusal("00:1c.0"), Some(Refusal::Bridge));
    assert!(matches!(tree.read("00:06.0"), Err(Error::NoDevice(_))));
}

#[test]
fn device_whose_group_the_host_uses_is_refused_with_the_user() {
    let tree = Tree::new();
    let first = tree.device("0000:01:00.0", "0x030000", Some("vfio-pci"));
    let second = tree.device("0000:01:00.1", "0x040300", Some("snd_hda_intel"));
    let port = tree.device("0000:00:01.0", "0x060400", Some("pcieport"));
    tree.group("9", MSI, &[&first, &second, &port]);
    let refusal = tree.refusal("01:00.0").unwrap();
    assert_eq!(
        refusal,
        Refusal::GroupNotViable {
            group: 9,
            other: "0000:01:00.1".parse().unwrap(),
            driver: "snd_hda_intel".to_owned()
        }
    );
    assert!(refusal.to_string().contains("0000:01:00.1"));
}

#[test]
fn functions_are_listed_in_order() {
    let tree = Tree::new();
    for address in ["0000:10:00.0", "0000:00:1f.3", "0000:00:02.0"] {
        tree.device(address, "0x020000", None);
    }
    fs::create_dir_all(tree.0.path().join("bus/pci/devices/no-address")).unwrap();
    let addresses = addresses_below(tree.0.path()).unwrap();
    let shown: Vec<String> = addresses.iter().map(PciAddress::to_string).collect();
    assert_eq!(shown, ["0000:00:02.0", "0000:00:1f.3", "0000:10:00.0"]);
    assert!(addresses_below(Path::new("/nowhere")).is_err());
}
