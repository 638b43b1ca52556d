// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Listing, taking and giving back on hosts that are made up.

use super::binding::{Done, Error};
use super::tree::{ENODEV, Tree};
use super::*;
use std::fs;
use vfio::pci_address::PciAddress;

const NVME: &str = "0000:00:02.0";
const NIC: &str = "0000:00:03.0";
const DRIVERS: &[&str] = &["nvme", "e1000e", "vfio-pci"];

fn address(text: &str) -> PciAddress {
    text.parse().unwrap()
}

fn bind(tree: &Tree, devices: &[&str]) -> Result<Vec<Done>, Error> {
    let devices: Vec<PciAddress> = devices.iter().map(|text| address(text)).collect();
    tree.binder().bind(&devices)
}

fn unbind(tree: &Tree, devices: &[&str]) -> Result<Vec<Done>, Error> {
    let devices: Vec<PciAddress> = devices.iter().map(|text| address(text)).collect();
    tree.binder().unbind(&devices)
}

fn bound(driver: &str) -> (Option<String>, String) {
    let only = if driver == "vfio-pci" {
        driver
    } else {
        "(null)"
    };
    (Some(driver.to_owned()), only.to_owned())
}

/// A host with an NVMe and a network card, each bound to its driver; their directories.
fn host() -> (Tree, String, String) {
    let tree = Tree::new(DRIVERS);
    let nvme = tree.device(NVME, "0x010802", Some("nvme"));
    let nic = tree.device(NIC, "0x020000", Some("e1000e"));
    (tree, nvme, nic)
}

#[test]
fn list_tells_of_each_function_whether_and_why_not() {
    let (tree, nvme, _) = host();
    tree.write(
        "usr/share/misc/pci.ids",
        "1b36  Red Hat, Inc.\n\t0010  QEMU NVMe",
    );
    tree.device("0000:00:1c.0", "0x060400", Some("pcieport"));
    tree.device("0000:00:14.0", "0x0c0330", Some("vfio-pci"));
    tree.disk(&nvme, "nvme0n1");
    tree.write(
        "proc/self/mountinfo",
        "22 1 259:1 / /home\\040all rw - ext4 /dev/root rw",
    );
    let functions = list(&tree.files).unwrap();
    let text = table(&functions);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 5);
    assert!(
        lines[0].starts_with("ADDRESS       GROUP  DRIVER    ID         DEVICE "),
        "{text}"
    );
    assert!(
        lines[1].starts_with(
            "0000:00:02.0  2      nvme      1b36:0010  NVMe controller: Red Hat, Inc. QEMU NVMe "
        ),
        "{text}"
    );
    assert!(
        lines[1].ends_with("no: in use: /dev/nvme0n1p1 is mounted at /home all"),
        "{text}"
    );
    assert!(
        lines[2].contains("bind: the host's driver e1000e uses it"),
        "{text}"
    );
    assert!(lines[3].ends_with("  yes"), "{text}");
    assert!(lines[4].contains("no: it is a bridge"), "{text}");
    let value = json(&functions);
    assert_eq!(value[0]["group"], 2);
    assert_eq!(value[0]["class"], "NVMe controller");
    assert_eq!(value[1]["passthrough"], "bind");
    assert_eq!(
        (&value[2]["passthrough"], &value[2]["reason"]),
        (&"yes".into(), &serde_json::Value::Null)
    );
}

#[test]
fn function_goes_to_vfio_and_back_to_its_driver() {
    let (tree, ..) = host();
    let taken = bind(&tree, &[NVME]).unwrap();
    assert_eq!(
        taken,
        [Done::Bound {
            from: Some("nvme".to_owned())
        }]
    );
    assert_eq!(tree.state(NVME), bound("vfio-pci"));
    let writes = tree.writes.take();
    assert_eq!(
        writes,
        [
            "0000:00:02.0/driver_override vfio-pci",
            "nvme/unbind 0000:00:02.0",
            "vfio-pci/bind 0000:00:02.0"
        ]
    );
    assert_eq!(bind(&tree, &[NVME]).unwrap(), [Done::AlreadyBound]);
    assert!(tree.writes.take().is_empty());
    let given = unbind(&tree, &[NVME]).unwrap();
    assert_eq!(
        given,
        [Done::GivenBack {
            to: Some("nvme".to_owned())
        }]
    );
    assert_eq!(tree.state(NVME), bound("nvme"));
    assert_eq!(unbind(&tree, &[NVME]).unwrap(), [Done::NotBound]);
    assert_eq!(tree.state(NIC), bound("e1000e"));
    assert!(
        fs::read_dir(tree.path("run/remora/bound"))
            .unwrap()
            .next()
            .is_none()
    );
}

#[test]
fn function_without_driver_and_with_an_override_comes_back_as_it_was() {
    let tree = Tree::new(DRIVERS);
    let path = tree.device(NVME, "0x010802", None);
    tree.write(&format!("{path}/driver_override"), "none");
    assert_eq!(bind(&tree, &[NVME]).unwrap(), [Done::Bound { from: None }]);
    assert_eq!(tree.state(NVME), bound("vfio-pci"));
    assert_eq!(
        unbind(&tree, &[NVME]).unwrap(),
        [Done::GivenBack { to: None }]
    );
    assert_eq!(tree.state(NVME), (None, "none".to_owned()));
}

#[test]
fn function_that_somebody_else_bound_is_left_to_the_kernel() {
    let tree = Tree::new(DRIVERS);
    let path = tree.device(NVME, "0x010802", Some("vfio-pci"));
    tree.write(&format!("{path}/driver_override"), "vfio-pci");
    let given = unbind(&tree, &[NVME]).unwrap();
    assert_eq!(
        given,
        [Done::GivenBack {
            to: Some("nvme".to_owned())
        }]
    );
    assert_eq!(tree.state(NVME), bound("nvme"));
}

#[test]
fn refusal_of_the_kernel_leaves_all_functions_as_they_were() {
    let (tree, ..) = host();
    for (file, text, step) in [
        (
            "03.0/driver_override",
            "vfio-pci",
            "cannot say which driver it may have",
        ),
        ("e1000e/unbind", NIC, "cannot take it from e1000e"),
        ("vfio-pci/bind", NIC, "cannot bind it to vfio-pci"),
    ] {
        tree.refuse.replace(vec![(file, text, ENODEV)]);
        let error = bind(&tree, &[NVME, NIC]).unwrap_err().to_string();
        assert!(error.contains(NIC) && error.contains(step), "{error}");
        assert!(error.contains("No such device"), "{error}");
        assert_eq!(tree.state(NVME), bound("nvme"), "{step}");
        assert_eq!(tree.state(NIC), bound("e1000e"), "{step}");
        assert!(tree.records.load(address(NVME)).is_none());
    }
    tree.refuse.take();
    bind(&tree, &[NVME, NIC]).unwrap();
    tree.refuse.replace(vec![("e1000e/bind", NIC, ENODEV)]);
    let error = unbind(&tree, &[NVME, NIC]).unwrap_err().to_string();
    assert!(error.contains("cannot bind it to e1000e"), "{error}");
    assert_eq!(tree.state(NVME), bound("vfio-pci"));
    assert_eq!(tree.state(NIC), bound("vfio-pci"));
    tree.refuse.take();
    unbind(&tree, &[NVME, NIC]).unwrap();
    assert_eq!(tree.state(NVME), bound("nvme"));
    assert_eq!(tree.state(NIC), bound("e1000e"));
}

#[test]
fn refusal_that_cannot_be_undone_says_both() {
    let (tree, ..) = host();
    tree.refuse.replace(vec![
        ("vfio-pci/bind", NVME, 13),
        ("nvme/bind", NVME, ENODEV),
    ]);
    let error = bind(&tree, &[NVME]).unwrap_err().to_string();
    assert!(
        error.contains("cannot bind it to vfio-pci: Permission denied"),
        "{error}"
    );
    assert!(error.contains("sudo remora devices"), "{error}");
    assert!(
        error.contains("could not be put back: 0000:00:02.0: cannot bind it to nvme"),
        "{error}"
    );
}

/// Binding fails with this text, and nothing is written.
fn refuses(tree: &Tree, device: &str, text: &str) {
    let error = bind(tree, &[NIC, device]).unwrap_err().to_string();
    assert!(error.contains(device) && error.contains(text), "{error}");
    assert!(tree.writes.borrow().is_empty());
}

#[test]
fn disk_that_the_host_uses_is_not_taken() {
    let (tree, nvme, _) = host();
    tree.disk(&nvme, "nvme0n1");
    tree.write("proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw");
    assert!(matches!(
        list(&tree.files).unwrap()[0].passthrough,
        Passthrough::AfterBind(_)
    ));
    tree.write(
        "proc/self/mountinfo",
        "22 1 0:30 / /data rw shared:1 - btrfs /dev/nvme0n1 rw",
    );
    refuses(&tree, NVME, "is in use: /dev/nvme0n1 is mounted at /data");
    tree.write("proc/self/mountinfo", "");
    tree.write(
        "proc/swaps",
        "Filename Type Size\n/dev/nvme0n1p1 partition 1",
    );
    refuses(&tree, NVME, "/dev/nvme0n1p1 is swap space");
    tree.write("proc/swaps", "");
    tree.write("sys/class/block/nvme0n1/holders/dm-0/x", "");
    refuses(&tree, NVME, "/dev/nvme0n1 is part of /dev/dm-0");
    fs::remove_dir_all(tree.path("sys/class/block/nvme0n1/holders")).unwrap();
    tree.program(77, "qemu", "/dev/nvme0n1");
    refuses(&tree, NVME, "process 77 (qemu) has /dev/nvme0n1 open");
}

#[test]
fn disk_of_an_nvme_subsystem_counts_for_its_controllers() {
    let (tree, nvme, _) = host();
    let disk = "sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1";
    tree.write(&format!("{disk}/dev"), "259:0");
    tree.link(disk, "sys/class/block/nvme0n1");
    tree.write(
        "proc/self/mountinfo",
        "22 1 259:0 / /srv rw - ext4 /dev/root rw",
    );
    assert!(bind(&tree, &[NVME]).is_ok());
    unbind(&tree, &[NVME]).unwrap();
    tree.writes.take();
    tree.write(&format!("{nvme}/nvme/nvme0/state"), "live");
    let controller = "sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0";
    tree.link(&format!("{nvme}/nvme/nvme0"), controller);
    refuses(&tree, NVME, "/dev/nvme0n1 is mounted at /srv");
}

#[test]
fn network_card_with_the_default_route_is_not_taken() {
    let (tree, _, nic) = host();
    tree.interface(&nic, "eth0");
    let route = |interface: &str, to: &str| {
        let line = format!("Iface Destination\n{interface} {to} 0102A8C0 0003 0 0 0 {to} 0 0 0");
        tree.write("proc/net/route", &line);
    };
    route("eth0", "0000A8C0");
    assert!(matches!(
        list(&tree.files).unwrap()[1].passthrough,
        Passthrough::AfterBind(_)
    ));
    route("eth0", "00000000");
    refuses(&tree, NIC, "eth0 carries this host's default route");
    route("br0", "00000000");
    assert!(bind(&tree, &[NIC]).is_ok());
    unbind(&tree, &[NIC]).unwrap();
    tree.writes.take();
    tree.write("sys/class/net/bond0/upper_br0/x", "");
    tree.write("sys/class/net/eth0/upper_bond0/x", "");
    refuses(&tree, NIC, "eth0 carries this host's default route");
    let zeros = "0".repeat(32);
    let six = format!("{zeros} 00 {zeros} 00 fe800000000000000000000000000001 400 1 0 3 eth0");
    tree.write("proc/net/ipv6_route", &six);
    route("eth0", "0000A8C0");
    refuses(&tree, NIC, "eth0 carries this host's default route");
}

#[test]
fn function_that_a_vm_uses_is_not_given_back() {
    let (tree, nvme, _) = host();
    bind(&tree, &[NVME]).unwrap();
    tree.writes.take();
    for node in ["/dev/vfio/2", "/dev/vfio/devices/vfio0"] {
        fs::create_dir_all(tree.path(&format!("{nvme}/vfio-dev/vfio0"))).unwrap();
        tree.program(4711, "remora", node);
        let error = unbind(&tree, &[NVME]).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("0000:00:02.0 is in use: process 4711 (remora) has {node} open")
        );
        fs::remove_dir_all(tree.path("proc/4711")).unwrap();
    }
    assert!(tree.writes.borrow().is_empty());
    tree.program(5000, "remora", "/dev/vfio/2");
    tree.link("proc/5000", "proc/self");
    assert!(unbind(&tree, &[NVME]).is_ok());
}

#[test]
fn function_that_can_never_be_passed_through_is_refused_by_name() {
    let (tree, nvme, _) = host();
    tree.device("0000:00:1c.0", "0x060400", Some("pcieport"));
    refuses(
        &tree,
        "0000:00:1c.0",
        "cannot be passed through: it is a bridge",
    );
    let error = bind(&tree, &["0000:00:09.0"]).unwrap_err();
    assert!(matches!(error, Error::Sysfs(sysfs::Error::NoDevice(_))));
    tree.write(
        "sys/kernel/iommu_groups/2/reserved_regions",
        "0x1000 0x1fff direct",
    );
    refuses(&tree, NVME, "(RMRR)");
    fs::remove_file(tree.path(&format!("{nvme}/iommu_group"))).unwrap();
    refuses(&tree, NVME, "it is behind no IOMMU");
}

#[test]
fn bind_without_the_driver_or_a_place_to_remember_changes_nothing() {
    let tree = Tree::new(&["nvme"]);
    tree.device(NVME, "0x010802", Some("nvme"));
    assert!(matches!(bind(&tree, &[NVME]).unwrap_err(), Error::NoVfio));
    let (tree, ..) = host();
    tree.write("run", "a file where a directory should be");
    let error = bind(&tree, &[NVME]).unwrap_err().to_string();
    assert!(
        error.contains("cannot remember the driver of 0000:00:02.0"),
        "{error}"
    );
    assert_eq!(tree.state(NVME), bound("nvme"));
    let own = tree.path("user");
    let records = Records::new(&tree.files, Some(own.clone()));
    let binder = super::binding::Binder {
        records: &records,
        ..tree.binder()
    };
    binder.bind(&[address(NVME)]).unwrap();
    assert!(own.join("remora/bound/0000:00:02.0").exists());
    binder.unbind(&[address(NVME)]).unwrap();
    assert_eq!(tree.state(NVME), bound("nvme"));
}

#[test]
fn group_shared_with_a_driver_of_the_host_is_told_before_and_after() {
    let (tree, _, nic) = host();
    tree.join(&nic, "2");
    bind(&tree, &[NVME]).unwrap();
    let functions = list(&tree.files).unwrap();
    let Passthrough::AfterBind(refusal) = &functions[0].passthrough else {
        panic!("{functions:?}");
    };
    assert!(
        refusal
            .to_string()
            .contains("driver e1000e uses 0000:00:03.0"),
        "{refusal}"
    );
    assert_eq!(json(&functions)[0]["group_shared_with"][0], NIC);
    bind(&tree, &[NIC]).unwrap();
    assert_eq!(list(&tree.files).unwrap()[0].passthrough, Passthrough::Yes);
}
