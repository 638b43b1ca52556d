// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Packages from other Debian suites, fetched and verified by apt without touching the machine's own apt state.
//!
//! Lists, archives and the sources file are private to the lab's cache. The mirror and its keyring are those of the
//! machine's own sources, in either of the formats of sources.list(5).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{packages, paths, process};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The Debian archive that the machine itself uses.
#[derive(Debug, PartialEq, Eq)]
struct Mirror {
    uri: String,
    keyring: String,
}

/// One suite of the machine's mirror, with its lists refreshed.
#[derive(Debug)]
pub struct Suite {
    dir: PathBuf,
    name: String,
}

impl Suite {
    /// Refreshes the lists of `name` (such as `sid`).
    pub fn open(name: &str) -> Result<Self> {
        let mirror = machine_mirror()?;
        let dir = paths::cache("apt")?.join(name);
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(part))?;
        }
        let entry = format!(
            "deb [signed-by={}] {} {name} main\n",
            mirror.keyring, mirror.uri
        );
        fs::write(dir.join("sources.list"), entry)?;
        let suite = Self {
            dir,
            name: name.to_owned(),
        };
        let log = paths::cache("logs")?.join("apt.log");
        let mut update = suite.apt("apt-get");
        // Only the package index: descriptions, icons and the like are megabytes that nobody reads here.
        update.args([
            "-o",
            "Acquire::Languages=none",
            "-o",
            "APT::Update::Error-Mode=any",
            "update",
        ]);
        process::logged(&mut update, &log, |_| {})
            .with_context(|| format!("reading Debian's suite {name}"))?;
        Ok(suite)
    }

    /// The suite's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Names of the packages that match `pattern` (an apt regular expression over names).
    pub fn names(&self, pattern: &str) -> Result<Vec<String>> {
        let text =
            process::output(
                self.apt("apt-cache")
                    .args(["search", "--names-only", pattern]),
            )?;
        Ok(text
            .lines()
            .filter_map(|line| line.split(' ').next())
            .map(str::to_owned)
            .collect())
    }

    /// The newest version of a package in this suite.
    pub fn version(&self, package: &str) -> Result<String> {
        Ok(self.field(package, "Version")?.unwrap_or_default())
    }

    /// What `package` depends on, as its control file says it.
    pub fn depends(&self, package: &str) -> Result<String> {
        Ok(self.field(package, "Depends")?.unwrap_or_default())
    }

    /// Downloads a package into `into` and returns the file.
    pub fn download(&self, package: &str, into: &Path) -> Result<PathBuf> {
        let log = paths::cache("logs")?.join("apt.log");
        let before = packages_in(into)?;
        let mut download = self.apt("apt-get");
        process::logged(
            download.args(["download", package]).current_dir(into),
            &log,
            |_| {},
        )
        .with_context(|| format!("downloading {package} from {}", self.name))?;
        let new = packages_in(into)?
            .into_iter()
            .find(|file| !before.contains(file));
        new.with_context(|| format!("apt-get left no file for {package} in {}", into.display()))
    }

    fn field(&self, package: &str, name: &str) -> Result<Option<String>> {
        let text =
            process::output(
                self.apt("apt-cache")
                    .args(["show", "--no-all-versions", package]),
            )?;
        Ok(text
            .lines()
            .find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned())))
    }

    fn apt(&self, program: &str) -> Command {
        let dir = self.dir.display();
        let mut command = process::bound(program);
        for option in [
            format!("Dir::Etc::sourcelist={dir}/sources.list"),
            "Dir::Etc::sourceparts=-".to_owned(),
            format!("Dir::State::lists={dir}/lists"),
            format!("Dir::Cache={dir}/cache"),
            // Without the machine's own status file nothing installed here shows up among the suite's packages.
            "Dir::State::status=/dev/null".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        command
    }
}

/// Unpacks the files of a Debian package below `into`.
pub fn unpack(package: &Path, into: &Path) -> Result<()> {
    fs::create_dir_all(into)?;
    let log = paths::cache("logs")?.join("apt.log");
    process::logged(
        process::bound("dpkg-deb").arg("-x").arg(package).arg(into),
        &log,
        |_| {},
    )
    .with_context(|| format!("unpacking {}", package.display()))
}

fn packages_in(dir: &Path) -> Result<Vec<PathBuf>> {
    let paths = fs::read_dir(dir)?.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect())
}

fn machine_mirror() -> Result<Mirror> {
    let (id, codename) = packages::distribution();
    if id != "debian" {
        bail!(
            "this machine is not a Debian (os-release says '{id}'), so Debian's kernels cannot be fetched by its apt"
        );
    }
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(parts) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(parts.filter_map(|entry| Some(entry.ok()?.path())));
    }
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let deb822 = file
            .extension()
            .is_some_and(|extension| extension == "sources");
        let found = if deb822 {
            from_deb822(&text, &codename)
        } else {
            from_one_line(&text, &codename)
        };
        if let Some(mirror) = found {
            return Ok(mirror);
        }
    }
    bail!(
        "no entry for Debian's suite '{codename}' in the machine's apt sources, so no mirror is known"
    )
}

/// The first stanza of type deb whose suites include `codename`.
fn from_deb822(text: &str, codename: &str) -> Option<Mirror> {
    text.split("\n\n").find_map(|stanza| {
        let field = |name: &str| {
            let line = stanza
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(str::trim)
        };
        let wanted = field("Types")?.split_whitespace().any(|kind| kind == "deb")
            && field("Suites")?
                .split_whitespace()
                .any(|suite| suite == codename)
            && field("Enabled") != Some("no");
        let uri = field("URIs")?.split_whitespace().next()?.to_owned();
        let keyring = field("Signed-By")
            .filter(|key| key.starts_with('/'))
            .unwrap_or(KEYRING)
            .to_owned();
        wanted.then_some(Mirror { uri, keyring })
    })
}

/// The first `deb [options] URI codename component…` line.
fn from_one_line(text: &str, codename: &str) -> Option<Mirror> {
    text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("deb ")?.trim();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", rest),
        };
        let mut words = rest.split_whitespace();
        let uri = words.next()?.to_owned();
        let keyring = options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="));
        let keyring = keyring.unwrap_or(KEYRING).to_owned();
        (words.next()? == codename).then_some(Mirror { uri, keyring })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirror(uri: &str, keyring: &str) -> Option<Mirror> {
        Some(Mirror {
            uri: uri.to_owned(),
            keyring: keyring.to_owned(),
        })
    }

    #[test]
    fn deb822_stanza_of_the_suite_gives_uri_and_keyring() {
        let text = "Types: deb\nURIs: http://a.example/security\nSuites: bookworm-security\nComponents: main\n\n\
                    Types: deb deb-src\nURIs: http://a.example/debian\nSuites: bookworm bookworm-updates\n\
                    Components: main\nSigned-By: /k.gpg\n";
        assert_eq!(
            from_deb822(text, "bookworm"),
            mirror("http://a.example/debian", "/k.gpg")
        );
        assert_eq!(from_deb822(text, "trixie"), None);
    }

    #[test]
    fn one_line_entry_with_options_gives_uri_and_keyring() {
        let text = "# deb http://no.example/debian bookworm main\ndeb-src http://no.example/debian bookworm main\n\
                    deb http://b.example/other stable main\n\
                    deb [arch=amd64 signed-by=/b.gpg] http://b.example/debian bookworm main contrib\n";
        assert_eq!(
            from_one_line(text, "bookworm"),
            mirror("http://b.example/debian", "/b.gpg")
        );
    }

    #[test]
    fn one_line_entry_without_options_uses_the_archive_keyring() {
        let text = "deb http://b.example/debian bookworm main\n";
        assert_eq!(
            from_one_line(text, "bookworm"),
            mirror("http://b.example/debian", KEYRING)
        );
    }
}
