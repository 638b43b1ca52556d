// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where the lab keeps things: the cache outside the tree, and one directory for each run inside `target/`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

/// How many runs' logs are kept.
const KEPT_RUNS: usize = 20;

/// The workspace's root.
pub fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// A file below `resources/`.
pub fn resource(name: &str) -> PathBuf {
    workspace().join("resources").join(name)
}

/// The workspace's target directory: what `CARGO_TARGET_DIR` names, or `target/`.
pub fn target() -> PathBuf {
    let named = env::var_os("CARGO_TARGET_DIR").filter(|name| !name.is_empty());
    named.map_or_else(|| workspace().join("target"), |name| workspace().join(name))
}

/// A directory below `$XDG_CACHE_HOME/remora` (`~/.cache/remora`), made if missing.
pub fn cache(name: &str) -> Result<PathBuf> {
    let base = match (env::var_os("XDG_CACHE_HOME"), env::var_os("HOME")) {
        (Some(cache), _) if !cache.is_empty() => PathBuf::from(cache),
        (_, Some(home)) if !home.is_empty() => Path::new(&home).join(".cache"),
        _ => anyhow::bail!("no place for the lab's cache: set HOME or XDG_CACHE_HOME"),
    };
    let dir = base.join("remora").join(name);
    fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    Ok(dir)
}

/// A new directory for this run's logs and scratch files, in one of the L1s that it has at once, counted from 0; the oldest
/// runs beyond the latest 20 are removed.
pub fn new_run(lane: usize) -> Result<PathBuf> {
    let all = target().join("lab").join("runs");
    fs::create_dir_all(&all).with_context(|| format!("making {}", all.display()))?;
    let mut runs: Vec<PathBuf> = fs::read_dir(&all)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    runs.sort();
    let surplus = (runs.len() + 1).saturating_sub(KEPT_RUNS);
    for old in runs.iter().take(surplus) {
        fs::remove_dir_all(old)
            .with_context(|| format!("removing the old run {}", old.display()))?;
    }
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| age.as_secs());
    let number = std::process::id();
    let run = all.join(match lane {
        0 => format!("{seconds}-{number}"),
        lane => format!("{seconds}-{number}-{lane}"),
    });
    fs::create_dir(&run).with_context(|| format!("making {}", run.display()))?;
    Ok(run)
}

/// `path` as a person standing in the current directory would write it.
pub fn shown(path: &Path) -> String {
    let here = env::current_dir().unwrap_or_default();
    path.strip_prefix(&here)
        .unwrap_or(path)
        .display()
        .to_string()
}
