// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Rules over the dependency graph and the source files that no compiler checks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The rooms from top to bottom: each may depend on those after it and on no other member of the workspace.
const ROOMS: &[&str] = &["vmm", "vfio", "devices", "iommu"];

/// What the IOMMU's crate must not know: prefixes and names of crates.
const NOT_IN_IOMMU: &[&str] = &[
    "kvm-",
    "vfio-",
    "iommufd-",
    "libc",
    "rustix",
    "event-manager",
    "vmm-sys-util",
];

/// Lines of code, without blank lines, comments and tests, that a source file may have.
const MOST_LINES: usize = 480;

/// Files that may be longer, because they only transcribe tables of a specification.
const TABLES: &[&str] = &[];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package is in the workspace")
}

/// Normal dependencies of every member, by name.
fn members() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        cargo.status.success(),
        "{}",
        String::from_utf8_lossy(&cargo.stderr)
    );
    let metadata: serde_json::Value =
        serde_json::from_slice(&cargo.stdout).expect("metadata is JSON");
    let name = |value: &serde_json::Value| value["name"].as_str().expect("a name").to_owned();
    let packages = metadata["packages"].as_array().expect("packages");
    let normal = |package: &serde_json::Value| {
        let all = package["dependencies"].as_array().expect("dependencies");
        all.iter()
            .filter(|dependency| dependency["kind"].is_null())
            .map(name)
            .collect()
    };
    packages
        .iter()
        .map(|package| (name(package), normal(package)))
        .collect()
}

/// Every Rust source file of the workspace, in place of the git index so that new files count too.
fn sources() -> Vec<PathBuf> {
    fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("a readable directory") {
            let path = entry.expect("a readable entry").path();
            let name = path
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                collect(&path, found);
            } else if name.ends_with(".rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    collect(root(), &mut found);
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root())
        .expect("a path in the workspace")
        .display()
        .to_string()
}

/// Lines that are neither blank nor comment, up to the inline tests.
fn code_lines(text: &str) -> usize {
    let code = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default();
    code.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
        .count()
}

#[test]
fn rooms_depend_only_on_rooms_below_them() {
    let members = members();
    for (above, room) in ROOMS.iter().enumerate() {
        let Some(dependencies) = members.get(*room) else {
            continue;
        };
        let allowed: BTreeSet<&str> = ROOMS[above + 1..].iter().copied().collect();
        let wrong: Vec<_> = dependencies
            .iter()
            .filter(|name| members.contains_key(*name) && !allowed.contains(name.as_str()))
            .collect();
        assert!(wrong.is_empty(), "{room} must not depend on {wrong:?}");
    }
    assert!(
        members.contains_key("iommu") && members.contains_key("vmm"),
        "the rooms are members"
    );
}

#[test]
fn iommu_knows_nothing_of_kvm_vfio_threads_or_file_descriptors() {
    let dependencies = members().remove("iommu").unwrap();
    let wrong: Vec<_> = dependencies
        .iter()
        .filter(|name| NOT_IN_IOMMU.iter().any(|banned| name.starts_with(banned)))
        .collect();
    assert!(wrong.is_empty(), "iommu must not depend on {wrong:?}");
}

#[test]
fn iommu_and_devices_forbid_unsafe_code() {
    for room in ["iommu", "devices"] {
        let text = fs::read_to_string(root().join(room).join("src/lib.rs")).unwrap();
        assert!(
            text.lines().any(|line| line == "#![forbid(unsafe_code)]"),
            "{room} must forbid unsafe code"
        );
    }
}

#[test]
fn source_files_begin_with_the_licence_and_say_what_they_are() {
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        let mut lines = text.lines();
        let licence = "// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause";
        assert_eq!(
            lines.next(),
            Some(licence),
            "first line of {}",
            shown(&path)
        );
        assert!(
            lines.any(|line| line.starts_with("//!")),
            "{} has no module documentation",
            shown(&path)
        );
    }
}

#[test]
fn source_files_are_small() {
    let too_long: Vec<String> = sources()
        .iter()
        .filter(|path| !TABLES.contains(&shown(path).as_str()))
        .map(|path| (shown(path), code_lines(&fs::read_to_string(path).unwrap())))
        .filter(|(_, lines)| *lines > MOST_LINES)
        .map(|(path, lines)| format!("{path}: {lines} lines of code"))
        .collect();
    assert!(too_long.is_empty(), "split these files: {too_long:#?}");
}

#[test]
fn code_lines_leaves_out_blank_lines_comments_and_inline_tests() {
    let text =
        "// a\n\nfn x() {\n    // b\n    1\n}\n\n#[cfg(test)]\nmod tests {\n    fn y() {}\n}\n";
    assert_eq!(code_lines(text), 3);
}
