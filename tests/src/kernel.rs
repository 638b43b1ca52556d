// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The lab kernel: built once from Debian's newest kernel source and `resources/kernel/lab.config`, then cached.
//!
//! The cache's key is the source's version and a hash of the recipe (fragment and steps). A kernel that is there for
//! the present recipe is used as it is, without asking the mirror whether a newer source has come out since; removing
//! the cache directory fetches the newest. `REMORA_KERNEL_SRC=DIR` builds from a tree of the user's instead, in an
//! object directory of its own, where make decides what is stale.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::apt::{self, Suite};
use crate::progress::Progress;
use crate::{packages, paths, process};

/// Suites in the order of how new their kernels are.
const SUITES: &[&str] = &["sid", "forky", "bookworm-backports"];

/// Part of the key: change it when the steps below change what they make.
const RECIPE: &str = "tinyconfig+fragment 1";

/// Lines that make prints for one build, for the progress bar only.
const BUILD_STEPS: u64 = 2500;

/// A kernel in both of its forms.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// The compressed image with the Linux boot protocol.
    pub bzimage: PathBuf,
    /// The ELF file, which has a PVH entry.
    pub vmlinux: PathBuf,
    /// What it was built from.
    pub source: String,
}

impl Kernel {
    fn at(dir: &Path, source: &str) -> Self {
        Self {
            bzimage: dir.join("bzImage"),
            vmlinux: dir.join("vmlinux"),
            source: source.to_owned(),
        }
    }
}

/// The lab kernel, built if it is not there yet.
pub fn provide() -> Result<Kernel> {
    if let Some(tree) = env::var_os("REMORA_KERNEL_SRC") {
        return from_tree(Path::new(&tree));
    }
    let cache = paths::cache("kernel")?;
    let key = recipe_key()?;
    if let Some(kernel) = cached(&cache, &key)? {
        return Ok(kernel);
    }
    let lock = File::create(cache.join("lock"))?;
    lock.lock()
        .context("waiting for another lab that builds the kernel")?;
    if let Some(kernel) = cached(&cache, &key)? {
        return Ok(kernel);
    }
    packages::for_building()?;
    let (version, archive) = fetch_source()?;
    let dir = cache.join(format!("{version}-{key}"));
    let work = cache.join("building");
    if work.exists() {
        fs::remove_dir_all(&work).context("removing a build that was broken off")?;
    }
    fs::create_dir_all(&work)?;
    // What cannot be unpacked was not wholly downloaded; the next try fetches it again.
    let tree = unpack_source(&archive, &work).inspect_err(|_| drop(fs::remove_file(&archive)))?;
    let object = work.join("object");
    build(&tree, &object)?;
    publish(&object, &work.join("result"), &dir)?;
    fs::remove_dir_all(&work).context("removing the kernel's source tree")?;
    Ok(Kernel::at(&dir, &format!("linux-source {version}")))
}

/// The first 12 hexadecimal digits of a hash over the recipe's inputs.
fn recipe_key() -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(fragment()?);
    hash.update(RECIPE);
    Ok(hash
        .finalize()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

fn fragment() -> Result<String> {
    let path = paths::resource("kernel/lab.config");
    fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

/// The newest finished build of this recipe.
fn cached(cache: &Path, key: &str) -> Result<Option<Kernel>> {
    let suffix = format!("-{key}");
    let entries =
        fs::read_dir(cache)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let versions = entries.filter_map(|name| Some(name.strip_suffix(&suffix)?.to_owned()));
    let newest = versions.max_by_key(|version| numbers(version));
    Ok(newest.map(|version| {
        Kernel::at(
            &cache.join(format!("{version}{suffix}")),
            &format!("linux-source {version}"),
        )
    }))
}

/// The numbers in a version, for comparing.
fn numbers(version: &str) -> Vec<u64> {
    version
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect()
}

/// Downloads the newest `linux-source-*` of the first suite that has one: its version and the package file.
fn fetch_source() -> Result<(String, PathBuf)> {
    let mut reasons = Vec::new();
    for suite in SUITES {
        match fetch_from(suite) {
            Ok(found) => return Ok(found),
            Err(error) => reasons.push(format!("{suite}: {error:#}")),
        }
    }
    bail!(
        "no kernel source could be fetched ({}); REMORA_KERNEL_SRC=DIR builds from a kernel tree of your own",
        reasons.join("; ")
    )
}

fn fetch_from(suite: &str) -> Result<(String, PathBuf)> {
    let _progress = Progress::start(
        &format!("fetching the newest kernel source from {suite}"),
        0,
    );
    let suite = Suite::open(suite)?;
    let newest = suite
        .names("^linux-source-[0-9.]+$")?
        .into_iter()
        .max_by_key(|name| numbers(name));
    let package =
        newest.with_context(|| format!("{} has no linux-source package", suite.name()))?;
    let version = suite.version(&package)?;
    let store = paths::cache("packages")?;
    let kept = store.join(format!("{package}_{version}_all.deb"));
    let file = if kept.exists() {
        kept
    } else {
        suite.download(&package, &store)?
    };
    Ok((version, file))
}

/// Unpacks the package and the archive in it; the source tree.
fn unpack_source(package: &Path, work: &Path) -> Result<PathBuf> {
    let _progress = Progress::start("unpacking the kernel source", 0);
    let unpacked = work.join("package");
    apt::unpack(package, &unpacked)?;
    let archive = only_entry(&unpacked.join("usr/src"), |name| name.ends_with(".tar.xz"))?;
    let source = work.join("source");
    fs::create_dir_all(&source)?;
    let log = paths::cache("logs")?.join("kernel.log");
    process::logged(
        process::bound("tar")
            .arg("-xf")
            .arg(&archive)
            .arg("-C")
            .arg(&source),
        &log,
        |_| {},
    )?;
    fs::remove_dir_all(&unpacked)?;
    only_entry(&source, |_| true)
}

fn only_entry(dir: &Path, wanted: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let mut entries = fs::read_dir(dir)?.filter_map(|entry| Some(entry.ok()?.path()));
    let found = entries.find(|path| {
        path.file_name()
            .is_some_and(|name| wanted(&name.to_string_lossy()))
    });
    found.with_context(|| format!("nothing suitable in {}", dir.display()))
}

/// Configures and builds `tree` into `object`.
fn build(tree: &Path, object: &Path) -> Result<()> {
    fs::create_dir_all(object)?;
    let log = paths::cache("logs")?.join("kernel.log");
    fs::write(&log, "")?;
    configure(tree, object, &log)?;
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut progress = Progress::start("building the lab kernel (once)", BUILD_STEPS);
    let mut make = make(tree, object);
    process::logged(
        make.arg(format!("-j{jobs}")).args(["bzImage", "vmlinux"]),
        &log,
        |_| progress.step(),
    )
}

/// Writes the configuration, unless what is there came from the same fragment, and checks that it holds every option.
fn configure(tree: &Path, object: &Path, log: &Path) -> Result<()> {
    let fragment = fragment()?;
    let stamp = object.join("lab.config");
    let config = object.join(".config");
    if fs::read_to_string(&stamp).ok().as_deref() != Some(&fragment) {
        process::logged(make(tree, object).arg("tinyconfig"), log, |_| {})?;
        let tiny = fs::read_to_string(&config)?;
        fs::write(&config, format!("{tiny}\n{fragment}"))?;
        process::logged(make(tree, object).arg("olddefconfig"), log, |_| {})?;
        let lost = unmet(&fragment, &fs::read_to_string(&config)?);
        if !lost.is_empty() {
            bail!(
                "this kernel does not take these options of resources/kernel/lab.config: {}",
                lost.join(", ")
            );
        }
        fs::write(&stamp, fragment)?;
    }
    Ok(())
}

/// The fragment's options that the configuration does not hold as asked.
fn unmet(fragment: &str, config: &str) -> Vec<String> {
    let has = |wanted: &str| config.lines().any(|line| line == wanted);
    let lost = fragment
        .lines()
        .filter(|line| match line.strip_prefix("# ") {
            // An option that is off may also be missing altogether.
            Some(off) => off.strip_suffix(" is not set").is_some_and(|name| {
                config
                    .lines()
                    .any(|line| line.starts_with(&format!("{name}=")))
            }),
            None => !line.is_empty() && !has(line),
        });
    lost.map(str::to_owned).collect()
}

fn make(tree: &Path, object: &Path) -> Command {
    let mut make = process::bound("make");
    make.arg("-C")
        .arg(tree)
        .arg(format!("O={}", object.display()));
    // A kernel is the same whoever builds it: nothing of the surrounding cargo or make run gets in.
    for name in [
        "MAKEFLAGS",
        "MFLAGS",
        "CARGO_MAKEFLAGS",
        "RUSTFLAGS",
        "CC",
        "CFLAGS",
        "LDFLAGS",
        "ARCH",
    ] {
        make.env_remove(name);
    }
    make
}

/// Collects the results and puts them in their place in one step.
fn publish(object: &Path, result: &Path, place: &Path) -> Result<()> {
    fs::create_dir_all(result)?;
    fs::copy(object.join("arch/x86/boot/bzImage"), result.join("bzImage"))
        .context("taking bzImage")?;
    fs::copy(object.join("vmlinux"), result.join("vmlinux")).context("taking vmlinux")?;
    fs::copy(object.join(".config"), result.join("config")).context("taking the configuration")?;
    fs::rename(result, place).with_context(|| format!("publishing {}", place.display()))
}

/// Builds from a tree of the user's, incrementally.
fn from_tree(tree: &Path) -> Result<Kernel> {
    let tree =
        fs::canonicalize(tree).with_context(|| format!("REMORA_KERNEL_SRC={}", tree.display()))?;
    packages::for_building()?;
    let name: String = Sha256::digest(tree.as_os_str().as_encoded_bytes())
        .iter()
        .take(6)
        .map(|b| format!("{b:02x}"))
        .collect();
    let object = paths::cache("kernel-trees")?.join(name);
    fs::create_dir_all(&object)?;
    let lock = File::create(object.join("lab.lock"))?;
    lock.lock()
        .context("waiting for another lab that builds this tree")?;
    build(&tree, &object)?;
    let source = tree.display().to_string();
    Ok(Kernel {
        bzimage: object.join("arch/x86/boot/bzImage"),
        vmlinux: object.join("vmlinux"),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAGMENT: &str = "# A comment\nCONFIG_A=y\n\n# CONFIG_OFF is not set\nCONFIG_N=512\n";

    #[test]
    fn unmet_with_every_option_as_asked_is_empty() {
        assert!(
            unmet(
                FRAGMENT,
                "CONFIG_A=y\nCONFIG_N=512\n# CONFIG_OFF is not set\n"
            )
            .is_empty()
        );
        assert!(unmet(FRAGMENT, "CONFIG_N=512\nCONFIG_A=y\n").is_empty());
    }

    #[test]
    fn unmet_with_lost_changed_and_forced_options_names_each() {
        let config = "CONFIG_N=64\nCONFIG_OFF=y\nCONFIG_AB=y\n";
        assert_eq!(
            unmet(FRAGMENT, config),
            ["CONFIG_A=y", "# CONFIG_OFF is not set", "CONFIG_N=512"]
        );
    }

    #[test]
    fn numbers_of_versions_compare_by_value() {
        assert!(numbers("linux-source-6.12") > numbers("linux-source-6.9"));
        assert!(numbers("7.2.13-1") > numbers("7.2.9-2"));
    }

    #[test]
    fn cached_prefers_the_newest_build_of_the_recipe() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["7.2.9-1-abc", "7.2.13-1-abc", "8.0-1-other", "building"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let kernel = cached(dir.path(), "abc").unwrap().unwrap();
        assert_eq!(kernel.bzimage, dir.path().join("7.2.13-1-abc/bzImage"));
        assert!(cached(dir.path(), "none").unwrap().is_none());
    }

    #[test]
    fn publish_puts_a_whole_build_where_cached_finds_it() {
        let cache = tempfile::tempdir().unwrap();
        let object = cache.path().join("building/object");
        fs::create_dir_all(object.join("arch/x86/boot")).unwrap();
        for name in ["arch/x86/boot/bzImage", "vmlinux"] {
            fs::write(object.join(name), name).unwrap();
        }
        let (result, place) = (
            cache.path().join("building/result"),
            cache.path().join("7.2-1-abc"),
        );
        // Without its configuration the build is not whole, so nothing may appear.
        assert!(publish(&object, &result, &place).is_err());
        assert!(cached(cache.path(), "abc").unwrap().is_none());
        fs::write(object.join(".config"), "").unwrap();
        publish(&object, &result, &place).unwrap();
        let kernel = cached(cache.path(), "abc").unwrap().unwrap();
        assert_eq!(fs::read_to_string(kernel.vmlinux).unwrap(), "vmlinux");
        assert_eq!(
            fs::read_to_string(kernel.bzimage).unwrap(),
            "arch/x86/boot/bzImage"
        );
    }
}
