// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a host says of VFIO and iommufd.

use super::*;

#[test]
fn vfio_driver_is_there_or_can_be_loaded_or_is_missing() {
    let world = World::good();
    world.remove("sys/bus/pci/drivers/vfio-pci");
    world.expect("vfio-pci", Level::Missing, "no driver", "CONFIG_VFIO_PCI");
    assert!(!world.report().can_pass_through());
    world.write(
        "lib/modules/6.17.3-amd64/modules.dep",
        "kernel/drivers/vfio/pci/vfio-pci-core.ko:\nkernel/drivers/vfio/pci/vfio-pci.ko:",
    );
    world.expect(
        "vfio-pci",
        Level::Warning,
        "not loaded",
        "modprobe vfio-pci",
    );
    assert!(world.report().can_pass_through());
}

#[test]
fn one_interface_of_vfio_is_enough() {
    let mut world = World::good();
    world.nodes.errors.insert("/dev/iommu", ENOENT);
    world.expect("iommufd", Level::Warning, "no /dev/iommu", "CONFIG_IOMMUFD");
    world.expect("vfio-type1", Level::Ok, "/dev/vfio/vfio can be used", "");
    assert!(world.report().can_pass_through());
    world.nodes.errors.insert("/dev/vfio/vfio", EACCES);
    world.nodes.owners.insert(
        "/dev/vfio/vfio",
        Node {
            group: 0,
            mode: 0o600,
        },
    );
    world.expect(
        "vfio-type1",
        Level::Missing,
        "Permission denied",
        "chgrp GROUP /dev/vfio/vfio",
    );
    world.expect("iommufd", Level::Missing, "no /dev/iommu", "CONFIG_IOMMUFD");
    assert!(!world.report().can_pass_through());
}

#[test]
fn iommufd_needs_character_devices_and_tells_of_pasids() {
    let world = World::good();
    world.expect("iommufd", Level::Ok, "PASIDs can be attached", "");
    world.write("proc/sys/kernel/osrelease", "6.12.94");
    world.expect("iommufd", Level::Ok, "from Linux 6.15 on", "");
    world.write("proc/sys/kernel/osrelease", "6.5.0");
    world.expect(
        "iommufd",
        Level::Warning,
        "cannot be attached",
        "6.6 or later",
    );
    world.write("proc/sys/kernel/osrelease", "6.12.94");
    world.remove("sys/class/vfio-dev");
    world.write("sys/class/vfio/x", "");
    world.expect(
        "iommufd",
        Level::Warning,
        "cannot be attached",
        "CONFIG_VFIO_DEVICE_CDEV",
    );
}

#[test]
fn node_of_a_bound_device_that_cannot_be_opened_is_named() {
    let mut world = World::good();
    world.bind("0000:00:02.0");
    world.expect(
        "vfio-devices",
        Level::Ok,
        "bound to vfio-pci: 1, all can be opened",
        "",
    );
    world.nodes.errors.insert("/dev/vfio/1", EBUSY);
    world.expect("vfio-devices", Level::Ok, "all can be opened", "");
    world.nodes.errors.insert("/dev/vfio/1", EACCES);
    world.nodes.owners.insert(
        "/dev/vfio/1",
        Node {
            group: 0,
            mode: 0o600,
        },
    );
    world.expect(
        "vfio-devices",
        Level::Warning,
        "/dev/vfio/1 cannot be opened",
        "chgrp GROUP /dev/vfio/1",
    );
    world.write("sys/bus/pci/devices/0000:00:02.0/vfio-dev/vfio7/dev", "");
    world.expect("vfio-devices", Level::Ok, "all can be opened", "");
    world.nodes.errors.insert("/dev/vfio/devices/vfio7", EACCES);
    world.expect(
        "vfio-devices",
        Level::Warning,
        "/dev/vfio/devices/vfio7 cannot",
        "",
    );
}
