// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! VFIO: its PCI driver, its two interfaces, the nodes of devices that are bound to it, its limits.

use super::host::Host;
use super::nodes;
use super::{Level, Need, Row};
use std::io;

const DRIVER: &str = "sys/bus/pci/drivers/vfio-pci";
const CONTAINER: &str = "/dev/vfio/vfio";
const IOMMUFD: &str = "/dev/iommu";
const ENTRY_LIMIT: &str = "sys/module/vfio_iommu_type1/parameters/dma_entry_limit";

/// The kernel's own default, and so what guests can rely on.
const USUAL_ENTRIES: u64 = 65_535;

pub(super) fn rows(host: &Host<'_>) -> Vec<Row> {
    let (iommufd, type1) = interfaces(host);
    let mut rows = vec![driver(host), iommufd, type1];
    rows.extend(devices(host));
    rows.extend(entry_limit(host));
    rows
}

fn driver(host: &Host<'_>) -> Row {
    if host.files.exists(DRIVER) {
        return Row::ok("vfio-pci", "the driver vfio-pci is there");
    }
    if host.has_module("vfio-pci") {
        return Row::warning("vfio-pci", "the driver vfio-pci is not loaded")
            .advise("sudo modprobe vfio-pci");
    }
    Row::missing(
        "vfio-pci",
        Need::Passthrough,
        "the kernel has no driver vfio-pci",
    )
    .advise("use a kernel with CONFIG_VFIO_PCI, or install the package with its modules")
}

/// What is wrong with one of the interfaces.
struct Trouble {
    finding: String,
    advice: String,
}

/// Either of them is enough: only when both are missing, no device can be passed through.
fn interfaces(host: &Host<'_>) -> (Row, Row) {
    let (iommufd, type1) = (iommufd(host), type1(host));
    let neither = iommufd.is_err() && type1.is_err();
    let row = |id, found: Result<String, Trouble>| match found {
        Ok(finding) => Row::ok(id, finding),
        Err(trouble) if neither => {
            Row::missing(id, Need::Passthrough, trouble.finding).advise(trouble.advice)
        }
        Err(trouble) => Row::warning(id, trouble.finding).advise(trouble.advice),
    };
    (row("iommufd", iommufd), row("vfio-type1", type1))
}

/// iommufd, and character devices for it to attach.
fn iommufd(host: &Host<'_>) -> Result<String, Trouble> {
    openable(
        host,
        IOMMUFD,
        "iommufd",
        "use a kernel of version 6.6 or later with CONFIG_IOMMUFD; without it mappings cannot be cut without a gap, and there are no PASIDs",
    )?;
    let version = host.kernel_version();
    if version.is_some_and(|version| version < (6, 6)) || !cdevs(host) {
        return Err(Trouble {
            finding: format!("{IOMMUFD} is there, but VFIO's devices cannot be attached to it"),
            advice: "use a kernel of version 6.6 or later with CONFIG_VFIO_DEVICE_CDEV".to_owned(),
        });
    }
    let pasids = version.is_some_and(|version| version >= (6, 15));
    let pasids = if pasids {
        ", PASIDs can be attached"
    } else {
        "; PASIDs can be attached from Linux 6.15 on"
    };
    Ok(format!("{IOMMUFD} can be used{pasids}"))
}

/// Whether VFIO makes character devices. Their class exists from the time on when VFIO is loaded, which it need not be yet.
fn cdevs(host: &Host<'_>) -> bool {
    let loaded = host.files.exists("sys/class/vfio") || host.files.exists("sys/module/vfio");
    host.files.exists("sys/class/vfio-dev") || !loaded
}

fn type1(host: &Host<'_>) -> Result<String, Trouble> {
    openable(
        host,
        CONTAINER,
        "vfio-iommu-type1",
        "use a kernel with CONFIG_VFIO_CONTAINER and CONFIG_VFIO_IOMMU_TYPE1",
    )?;
    Ok(format!("{CONTAINER} can be used (groups and containers)"))
}

/// Fails where the node is not there or cannot be opened.
fn openable(host: &Host<'_>, path: &str, module: &str, otherwise: &str) -> Result<(), Trouble> {
    match host.nodes.open(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Trouble {
            finding: format!("there is no {path}"),
            advice: if host.has_module(module) {
                format!("sudo modprobe {module}")
            } else {
                otherwise.to_owned()
            },
        }),
        Err(error) => Err(Trouble {
            finding: format!("{path} cannot be opened: {error}"),
            advice: nodes::advice(host, path, &error),
        }),
    }
}

/// A row for the devices that are bound to vfio-pci, if there are any: whether this user may open them.
fn devices(host: &Host<'_>) -> Option<Row> {
    let names = host.files.names(DRIVER);
    let bound: Vec<&String> = names.iter().filter(|name| name.contains(':')).collect();
    if bound.is_empty() {
        return None;
    }
    let closed = |device: &&String| {
        let node = node(host, device)?;
        let error = host.nodes.open(&node).err()?;
        // Whoever uses a device already may open it.
        (error.kind() != io::ErrorKind::ResourceBusy).then_some((node, error))
    };
    let count = bound.len();
    let Some((node, error)) = bound.iter().find_map(closed) else {
        let text = format!("devices bound to vfio-pci: {count}, all can be opened");
        return Some(Row::ok("vfio-devices", text));
    };
    let text = format!("devices bound to vfio-pci: {count}, but {node} cannot be opened: {error}");
    Some(Row::warning("vfio-devices", text).advise(nodes::advice(host, &node, &error)))
}

/// The node by which a device is opened: its own, or its group's.
fn node(host: &Host<'_>, device: &str) -> Option<String> {
    let path = format!("sys/bus/pci/devices/{device}");
    let cdevs = host.files.names(&format!("{path}/vfio-dev"));
    if let Some(cdev) = cdevs.first() {
        return Some(format!("/dev/vfio/devices/{cdev}"));
    }
    let group = host.files.link(&format!("{path}/iommu_group"))?;
    Some(format!("/dev/vfio/{group}"))
}

/// How many mappings a container can have.
fn entry_limit(host: &Host<'_>) -> Option<Row> {
    let limit = host.files.number(ENTRY_LIMIT)?;
    let level = if limit < USUAL_ENTRIES {
        Level::Warning
    } else {
        Level::Ok
    };
    let text = format!("a type1 container can have {limit} mappings; iommufd has no limit");
    let row = Row::new("entry-limit", level, text);
    Some(if level == Level::Ok {
        row
    } else {
        row.advise(format!(
            "raise it for containers made from now on: echo {USUAL_ENTRIES} | sudo tee /{ENTRY_LIMIT}"
        ))
    })
}
