// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Why a run could not begin, or could not go on: one line for people, and an exit status.

use crate::boot::BootError;
use std::io;
use std::path::PathBuf;
use vfio::pci_address::PciAddress;

/// Exit statuses of `remora run` that stand for errors.
pub mod status {
    /// Wrong usage or configuration.
    pub const USAGE: u8 = 2;
    /// The host refused something.
    pub const HOST: u8 = 3;
    /// A bug of ours.
    pub const BUG: u8 = 70;
}

/// An error of the machine monitor.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option's text is wrong.
    #[error("--{option}: {problem}")]
    Option {
        /// The option's name without dashes.
        option: &'static str,
        /// The bad part, and what is allowed.
        problem: String,
    },
    /// Options that are right each but cannot be had together.
    #[error("{0}")]
    Config(String),
    /// A file that the user named cannot be used.
    #[error("cannot {action} {what} {}: {source}", path.display())]
    File {
        /// What was tried: open, read, create.
        action: &'static str,
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The kernel or the initrd cannot be booted.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The host refused something.
    #[error("the host refused to {what}: {source}{}", advice_text(advice))]
    Host {
        /// What was tried.
        what: String,
        /// Why not.
        source: io::Error,
        /// What to do about it; may be empty.
        advice: &'static str,
    },
    /// The host lacks something that a machine needs.
    #[error("{0}")]
    HostLacks(String),
    /// A device of the host cannot be passed through.
    #[error("--vfio {}", about(*device, source))]
    Vfio {
        /// The device.
        device: PciAddress,
        /// Why not.
        source: vfio::error::Error,
    },
    /// An invariant of ours does not hold.
    #[error("bug: {0}")]
    Bug(String),
}

/// Names the device once.
fn about(device: PciAddress, source: &vfio::error::Error) -> String {
    let (device, source) = (device.to_string(), source.to_string());
    match source.strip_prefix(&device) {
        Some(rest) => format!("{device}: it{rest}"),
        None => format!("{device}: {source}"),
    }
}

fn advice_text(advice: &str) -> String {
    if advice.is_empty() {
        String::new()
    } else {
        format!(" ({advice})")
    }
}

impl Error {
    /// A refusal of the host without advice.
    pub fn host(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Host {
            what: what.into(),
            source: source.into(),
            advice: "",
        }
    }

    /// A refusal of a KVM ioctl.
    pub fn kvm(what: impl Into<String>, source: kvm_ioctls::Error) -> Self {
        Self::host(what, io::Error::from_raw_os_error(source.errno()))
    }

    /// The exit status that the contract gives this error.
    #[must_use]
    pub fn status(&self) -> u8 {
        match self {
            Self::Option { .. } | Self::Config(_) | Self::File { .. } | Self::Boot(_) => {
                status::USAGE
            }
            Self::Host { .. } | Self::HostLacks(_) | Self::Vfio { .. } => status::HOST,
            Self::Bug(_) => status::BUG,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_follows_the_contract() {
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let file = Error::File {
            action: "open",
            what: "kernel",
            path: PathBuf::from("k"),
            source: denied(),
        };
        assert_eq!(file.status(), 2);
        assert_eq!(Error::Config(String::new()).status(), 2);
        assert_eq!(Error::host("map memory", denied()).status(), 3);
        assert_eq!(Error::HostLacks(String::new()).status(), 3);
        assert_eq!(Error::Bug(String::new()).status(), 70);
    }

    #[test]
    fn host_error_names_what_why_and_advice() {
        let error = Error::Host {
            what: "open /dev/kvm".into(),
            source: io::Error::from_raw_os_error(13),
            advice: "join the group kvm",
        };
        assert_eq!(
            error.to_string(),
            "the host refused to open /dev/kvm: Permission denied (os error 13) (join the group kvm)"
        );
    }
}
