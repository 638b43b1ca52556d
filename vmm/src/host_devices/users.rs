// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Who on this host uses a function in a way that taking it away would break: mounted disks, swap, parts of other disks, the
//! default route, programs that have it open.

use crate::host_files::HostFiles;
use std::path::{Path, PathBuf};
use vfio::sysfs::HostDevice;

/// A use of a function.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum User {
    /// A mounted file system.
    #[error("/dev/{disk} is mounted at {place}")]
    Mount {
        /// The disk or partition.
        disk: String,
        /// Where.
        place: String,
    },
    /// Swap space.
    #[error("/dev/{0} is swap space")]
    Swap(String),
    /// A disk made of several (device mapper, RAID).
    #[error("/dev/{disk} is part of /dev/{holder}")]
    Holder {
        /// The disk or partition.
        disk: String,
        /// What it is part of.
        holder: String,
    },
    /// This host's way to the network.
    #[error("{interface} carries this host's default route")]
    DefaultRoute {
        /// The network interface.
        interface: String,
    },
    /// A running program.
    #[error("process {process} ({name}) has {node} open")]
    Process {
        /// Its number.
        process: u32,
        /// Its name.
        name: String,
        /// The device node.
        node: String,
    },
}

/// All uses that the host tells of.
pub(super) fn of(files: &HostFiles, device: &HostDevice) -> Vec<User> {
    let Ok(path) = device.path.canonicalize() else {
        return Vec::new();
    };
    let disks = disks(files, &path);
    let mut users: Vec<User> = disks.iter().flat_map(|disk| of_disk(files, disk)).collect();
    users.extend(default_route(files, &path));
    let mut nodes: Vec<String> = disks.iter().map(|disk| format!("/dev/{disk}")).collect();
    nodes.extend(vfio_nodes(device));
    users.extend(processes(files, &nodes));
    users
}

/// Names of the disks and partitions behind a function.
fn disks(files: &HostFiles, function: &Path) -> Vec<String> {
    let all = files.names("sys/class/block");
    let behind = |disk: &String| {
        let path = files
            .path(&format!("sys/class/block/{disk}"))
            .canonicalize();
        path.is_ok_and(|path| path.starts_with(function) || nvme_leads_to(&path, function))
    };
    all.into_iter().filter(behind).collect()
}

/// Whether a disk of an NVMe subsystem, which belongs to no controller alone, has the function as a controller.
fn nvme_leads_to(disk: &Path, function: &Path) -> bool {
    let is_subsystem = |path: &&Path| {
        let parent = path.parent().and_then(Path::file_name);
        parent.is_some_and(|name| name == "nvme-subsystem")
    };
    let Some(subsystem) = disk.ancestors().find(is_subsystem) else {
        return false;
    };
    let Ok(entries) = subsystem.read_dir() else {
        return false;
    };
    let mut controllers = entries.filter_map(|entry| entry.ok()?.path().canonicalize().ok());
    controllers.any(|controller: PathBuf| controller.starts_with(function))
}

fn of_disk(files: &HostFiles, disk: &str) -> Vec<User> {
    let mut users = mounts(files, disk);
    let swaps = files.text("proc/swaps").unwrap_or_default();
    let node = format!("/dev/{disk}");
    if swaps
        .lines()
        .any(|line| line.split_whitespace().next() == Some(node.as_str()))
    {
        users.push(User::Swap(disk.to_owned()));
    }
    let holders = files.names(&format!("sys/class/block/{disk}/holders"));
    users.extend(holders.into_iter().map(|holder| User::Holder {
        disk: disk.to_owned(),
        holder,
    }));
    users
}

/// Mounts of a disk, by its number or, where the file system has a number of its own, by its name.
fn mounts(files: &HostFiles, disk: &str) -> Vec<User> {
    let number = files.text(&format!("sys/class/block/{disk}/dev"));
    let node = format!("/dev/{disk}");
    let mounts = files.text("proc/self/mountinfo").unwrap_or_default();
    let mount = |line: &str| {
        let (place, source) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(2);
        let is_ours =
            place.next() == number.as_deref() || source.split(' ').nth(1) == Some(node.as_str());
        let place = place.nth(1)?.replace("\\040", " ");
        is_ours.then(|| User::Mount {
            disk: disk.to_owned(),
            place,
        })
    };
    mounts.lines().filter_map(mount).collect()
}

/// The function's interface that carries the default route, by itself or below a bridge, bond or VLAN that does.
fn default_route(files: &HostFiles, function: &Path) -> Option<User> {
    let routed = routed(files);
    let ours = |interface: &String| {
        let path = files
            .path(&format!("sys/class/net/{interface}"))
            .canonicalize();
        path.is_ok_and(|path| path.starts_with(function)) && carries(files, interface, &routed, 8)
    };
    let mut interfaces = files.names("sys/class/net").into_iter();
    let interface = interfaces.find(ours)?;
    Some(User::DefaultRoute { interface })
}

/// Whether an interface or one above it, up to so many steps, is among `routed`.
fn carries(files: &HostFiles, interface: &str, routed: &[String], steps: u32) -> bool {
    if routed.iter().any(|name| name == interface) {
        return true;
    }
    let Some(left) = steps.checked_sub(1) else {
        return false;
    };
    let names = files.names(&format!("sys/class/net/{interface}"));
    let mut above = names.iter().filter_map(|name| name.strip_prefix("upper_"));
    above.any(|upper| carries(files, upper, routed, left))
}

/// Interfaces with a default route, of either family.
fn routed(files: &HostFiles) -> Vec<String> {
    let table = files.text("proc/net/route").unwrap_or_default();
    let four = table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let default = fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000");
        default.then(|| fields[0].to_owned())
    });
    let mut routed: Vec<String> = four.collect();
    let table = files.text("proc/net/ipv6_route").unwrap_or_default();
    routed.extend(table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let interface = fields.get(9).filter(|name| **name != "lo")?;
        let default = fields[0].bytes().all(|digit| digit == b'0') && fields[1] == "00";
        default.then(|| (*interface).to_owned())
    }));
    routed
}

/// The nodes by which VFIO gives a function to a program.
fn vfio_nodes(device: &HostDevice) -> Vec<String> {
    let group = device.group.as_ref();
    let group = group.map(|group| format!("/dev/vfio/{}", group.number));
    let own = device
        .cdev()
        .map(|cdev| cdev.to_string_lossy().into_owned());
    group.into_iter().chain(own).collect()
}

/// Other programs that have one of the nodes open, as far as this user may know.
fn processes(files: &HostFiles, nodes: &[String]) -> Vec<User> {
    // This one may have been born with whatever its parent has open.
    let own = files.link("proc/self");
    let numbers = files.names("proc").into_iter();
    let numbers = numbers.filter(|number| Some(number) != own.as_ref());
    let user = |process: u32| {
        let fds = files.names(&format!("proc/{process}/fd"));
        let target = |fd: &String| {
            let link = files.path(&format!("proc/{process}/fd/{fd}"));
            Some(
                std::fs::read_link(link)
                    .ok()?
                    .to_string_lossy()
                    .into_owned(),
            )
        };
        let node = fds
            .iter()
            .filter_map(target)
            .find(|target| nodes.contains(target))?;
        let name = files.text(&format!("proc/{process}/comm"))?;
        Some(User::Process {
            process,
            name,
            node,
        })
    };
    numbers
        .filter_map(|number| user(number.parse().ok()?))
        .collect()
}
