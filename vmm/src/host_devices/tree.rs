// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A host whose files are made up, and a kernel that answers writes to them as the real one does.

use super::binding::{Binder, Writer};
use super::record::Records;
use crate::host_files::HostFiles;
use std::cell::RefCell;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

pub(super) const ENODEV: i32 = 19;

#[derive(Debug)]
pub(super) struct Tree {
    root: tempfile::TempDir,
    pub files: HostFiles,
    pub records: Records,
    /// Writes that fail: how the file's path ends, what is written, how.
    pub refuse: RefCell<Vec<(&'static str, &'static str, i32)>>,
    /// Every write that succeeded: the file's last two parts and the text.
    pub writes: RefCell<Vec<String>>,
}

impl Tree {
    /// A host with these drivers and no devices.
    pub fn new(drivers: &[&str]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let files = HostFiles::below(root.path());
        let tree = Self {
            records: Records::new(&files, None),
            files,
            root,
            refuse: RefCell::default(),
            writes: RefCell::default(),
        };
        tree.write("sys/bus/pci/drivers_probe", "");
        for driver in drivers {
            tree.write(&format!("sys/bus/pci/drivers/{driver}/bind"), "");
            tree.write(&format!("sys/bus/pci/drivers/{driver}/unbind"), "");
        }
        fs::create_dir_all(tree.path("sys/bus/pci/devices")).unwrap();
        tree
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    pub fn link(&self, target: &str, path: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(self.path(target), path).unwrap();
    }

    /// A function alone in a group of the number of its device; its directory.
    pub fn device(&self, address: &str, class: &str, driver: Option<&str>) -> String {
        let path = format!("sys/devices/pci0000:00/{address}");
        let ids = [("vendor", "0x1b36"), ("device", "0x0010"), ("class", class)];
        for (file, text) in ids.into_iter().chain([("driver_override", "(null)")]) {
            self.write(&format!("{path}/{file}"), text);
        }
        self.link(&path, &format!("sys/bus/pci/devices/{address}"));
        if let Some(driver) = driver {
            self.link(
                &format!("sys/bus/pci/drivers/{driver}"),
                &format!("{path}/driver"),
            );
        }
        let group = u8::from_str_radix(&address[8..10], 16).unwrap().to_string();
        let msi = "0x00000000fee00000 0x00000000feefffff msi";
        self.write(
            &format!("sys/kernel/iommu_groups/{group}/reserved_regions"),
            msi,
        );
        self.join(&path, &group);
        path
    }

    /// Puts a function into a group.
    pub fn join(&self, path: &str, group: &str) {
        let link = self.path(&format!("{path}/iommu_group"));
        // It is in none yet, or leaves one.
        drop(fs::remove_file(link));
        self.link(
            &format!("sys/kernel/iommu_groups/{group}"),
            &format!("{path}/iommu_group"),
        );
        let name = path.rsplit('/').next().unwrap();
        self.link(
            path,
            &format!("sys/kernel/iommu_groups/{group}/devices/{name}"),
        );
    }

    /// A disk behind a function, with a number and one partition, `NAME` and `NAMEp1`.
    pub fn disk(&self, path: &str, name: &str) {
        for (place, disk, number) in [
            (
                format!("{path}/nvme/nvme0/{name}"),
                name.to_owned(),
                "259:0",
            ),
            (
                format!("{path}/nvme/nvme0/{name}/{name}p1"),
                format!("{name}p1"),
                "259:1",
            ),
        ] {
            self.write(&format!("{place}/dev"), number);
            self.link(&place, &format!("sys/class/block/{disk}"));
        }
    }

    /// A network interface of a function.
    pub fn interface(&self, path: &str, name: &str) {
        self.write(&format!("{path}/net/{name}/mtu"), "1500");
        self.link(
            &format!("{path}/net/{name}"),
            &format!("sys/class/net/{name}"),
        );
    }

    /// A program that has a node open.
    pub fn program(&self, process: u32, name: &str, node: &str) {
        self.write(&format!("proc/{process}/comm"), name);
        let fd = self.path(&format!("proc/{process}/fd/3"));
        fs::create_dir_all(fd.parent().unwrap()).unwrap();
        symlink(node, fd).unwrap();
    }

    pub fn binder(&self) -> Binder<'_> {
        Binder {
            files: &self.files,
            writer: self,
            records: &self.records,
        }
    }

    /// Driver and driver_override of a function.
    pub fn state(&self, address: &str) -> (Option<String>, String) {
        let path = format!("sys/bus/pci/devices/{address}");
        let only = self.files.text(&format!("{path}/driver_override"));
        (self.files.link(&format!("{path}/driver")), only.unwrap())
    }

    fn attach(&self, driver: &str, address: &str) -> io::Result<()> {
        let (bound, only) = self.state(address);
        let driver_exists = self.path(&format!("sys/bus/pci/drivers/{driver}")).exists();
        if bound.is_some() || (only != "(null)" && only != driver) || !driver_exists {
            return Err(io::Error::from_raw_os_error(ENODEV));
        }
        let link = format!("sys/bus/pci/devices/{address}/driver");
        self.link(&format!("sys/bus/pci/drivers/{driver}"), &link);
        Ok(())
    }

    fn detach(&self, driver: &str, address: &str) -> io::Result<()> {
        if self.state(address).0.as_deref() != Some(driver) {
            return Err(io::Error::from_raw_os_error(ENODEV));
        }
        fs::remove_file(self.path(&format!("sys/bus/pci/devices/{address}/driver")))
    }
}

impl Writer for Tree {
    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        let path = path.to_str().unwrap();
        let text = text.trim_end_matches('\n');
        for (end, refused, errno) in self.refuse.borrow().iter() {
            if path.ends_with(end) && text == *refused {
                return Err(io::Error::from_raw_os_error(*errno));
            }
        }
        let parts: Vec<&str> = path.rsplit('/').collect();
        match parts[0] {
            "driver_override" => {
                let text = if text.is_empty() { "(null)" } else { text };
                fs::write(path, text)?;
            }
            "unbind" => self.detach(parts[1], text)?,
            "bind" => self.attach(parts[1], text)?,
            "drivers_probe" => drop(self.attach("nvme", text)),
            other => panic!("a write to {other}"),
        }
        self.writes
            .borrow_mut()
            .push(format!("{}/{} {text}", parts[1], parts[0]));
        Ok(())
    }
}
