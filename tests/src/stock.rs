// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Debian 12's own cloud kernel, downloaded and unpacked, never installed: a guest kernel that nobody tuned for us.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::apt::{self, Suite};
use crate::paths;
use crate::progress::Progress;

const SUITE: &str = "bookworm";
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// An unpacked kernel package.
#[derive(Debug, Clone)]
pub struct Stock {
    /// The kernel image.
    pub vmlinuz: PathBuf,
    modules: PathBuf,
}

impl Stock {
    /// The files of `names` and of all they depend on, in an order in which they can be loaded.
    /// A name that has no file is built into this kernel or unknown to it: an error.
    pub fn modules(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let mut order = Vec::new();
        for name in names {
            self.add(name, &mut order)?;
        }
        Ok(order)
    }

    fn add(&self, name: &str, order: &mut Vec<PathBuf>) -> Result<()> {
        let file = find(&self.modules, name)
            .with_context(|| format!("no module {name} in {}", self.modules.display()))?;
        if order.contains(&file) {
            return Ok(());
        }
        let bytes = fs::read(&file)?;
        for dependency in dependencies(&bytes) {
            self.add(&dependency, order)?;
        }
        order.push(file);
        Ok(())
    }
}

/// The stock kernel, downloaded if it is not there yet.
pub fn provide() -> Result<Stock> {
    let cache = paths::cache("stock")?;
    let lock = File::create(cache.join("lock"))?;
    lock.lock()
        .context("waiting for another lab that fetches the stock kernel")?;
    let place = cache.join(SUITE);
    if !place.exists() {
        fetch(&cache, &place)?;
    }
    let image = |prefix: &'static str| {
        move |path: &Path| {
            path.file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with(prefix))
        }
    };
    let vmlinuz = entries(&place.join("boot"))
        .into_iter()
        .find(|path| image("vmlinuz-")(path));
    let modules = entries(&place.join("lib/modules")).into_iter().next();
    let broken = || {
        format!(
            "{} holds no kernel; remove it and try again",
            place.display()
        )
    };
    Ok(Stock {
        vmlinuz: vmlinuz.with_context(broken)?,
        modules: modules.with_context(broken)?,
    })
}

fn fetch(cache: &Path, place: &Path) -> Result<()> {
    let _progress = Progress::start("fetching Debian 12's cloud kernel", 0);
    let suite = Suite::open(SUITE)?;
    let depends = suite.depends(META_PACKAGE)?;
    let package = depends
        .split([' ', ','])
        .find(|word| word.starts_with("linux-image-"));
    let package =
        package.with_context(|| format!("{META_PACKAGE} depends on no kernel ('{depends}')"))?;
    let work = cache.join("unpacking");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    fs::create_dir_all(&work)?;
    let file = suite.download(package, &work)?;
    apt::unpack(&file, &work.join("root"))?;
    fs::rename(work.join("root"), place)?;
    fs::remove_dir_all(&work)?;
    Ok(())
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect()
}

/// The file of a module below `dir`; `-` and `_` are the same in module names.
fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    let canonical = |name: &str| name.replace('-', "_");
    let wanted = format!("{}.ko", canonical(name));
    entries(dir).into_iter().find_map(|path| {
        if path.is_dir() {
            return find(&path, name);
        }
        let matches = path
            .file_name()
            .is_some_and(|file| canonical(&file.to_string_lossy()) == wanted);
        matches.then_some(path)
    })
}

/// The `depends=` entry of a module's information section (a list of NUL-terminated `key=value`).
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|bytes| bytes == KEY) else {
        return Vec::new();
    };
    let value = &module[at + KEY.len()..];
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(0);
    let list = String::from_utf8_lossy(&value[..end]);
    list.split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(depends: &str) -> Vec<u8> {
        format!("\x7fELF\0license=GPL\0depends={depends}\0retpoline=Y\0").into_bytes()
    }

    #[test]
    fn modules_come_after_what_they_depend_on_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let kernel = dir.path().join("kernel/drivers");
        fs::create_dir_all(&kernel).unwrap();
        fs::write(kernel.join("virtio_pci.ko"), module("virtio,virtio_ring")).unwrap();
        fs::write(kernel.join("virtio_ring.ko"), module("virtio")).unwrap();
        fs::write(kernel.join("virtio.ko"), module("")).unwrap();
        let stock = Stock {
            vmlinuz: PathBuf::new(),
            modules: dir.path().to_owned(),
        };
        let files = stock.modules(&["virtio-pci", "virtio_ring"]).unwrap();
        let names: Vec<_> = files
            .iter()
            .map(|file| file.file_name().unwrap().to_str().unwrap())
            .collect();
        assert_eq!(names, ["virtio.ko", "virtio_ring.ko", "virtio_pci.ko"]);
    }

    #[test]
    fn modules_with_an_unknown_name_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let stock = Stock {
            vmlinuz: PathBuf::new(),
            modules: dir.path().to_owned(),
        };
        assert!(stock.modules(&["absent"]).is_err());
    }
}
