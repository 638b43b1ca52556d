// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `remora devices`.

use crate::error::Error;
use crate::host_devices::binding::{self, Binder, Done, Sysfs};
use crate::host_devices::{Records, json, list, table};
use crate::host_files::HostFiles;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::io::{Write, stdout};
use std::path::PathBuf;
use vfio::pci_address::PciAddress;
use vfio::sysfs::HostDevice;

/// The options of `devices`.
#[derive(Debug, Args)]
pub struct DevicesArgs {
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub json: bool,

    /// What to do; without it, list the devices.
    #[command(subcommand)]
    pub command: Option<DevicesCommand>,
}

/// What to do with devices.
#[derive(Debug, Subcommand)]
pub enum DevicesCommand {
    /// Take devices from their drivers, so that they can be passed through
    Bind(Named),
    /// Give devices back to the drivers that they were taken from
    Unbind(Named),
}

/// Devices by their addresses.
#[derive(Debug, Args)]
pub struct Named {
    /// Addresses of devices as lspci -D writes them, for example 0000:3b:00.1
    #[arg(value_name = "BDF", required = true)]
    pub devices: Vec<PciAddress>,
}

pub(super) const EXIT_STATUS: &str = "\
A device can be passed through: yes; bind: once it (or what is named) is bound to vfio-pci; no, for the reason that is named.
bind and unbind change all named devices or none. bind refuses what the host needs: mounted disks, swap, the default route,
devices that a program has open.

Exit status:
    0  done
    2  wrong usage, or no such device
    3  the host refused something, named in the message";

/// Lists or binds; the error is told by the caller.
///
/// # Errors
/// Sysfs cannot be read, or a device may not or cannot be bound.
pub fn devices(args: &DevicesArgs) -> Result<u8, Error> {
    let files = HostFiles::here();
    let text = match &args.command {
        None => {
            let functions = list(&files).map_err(|error| Error::HostLacks(error.to_string()))?;
            if args.json {
                format!("{:#}\n", json(&functions))
            } else {
                table(&functions)
            }
        }
        Some(command) => change(&files, command, args.json)?,
    };
    // A reader that went away does not want the rest.
    let _ = stdout().write_all(text.as_bytes());
    Ok(0)
}

fn change(files: &HostFiles, command: &DevicesCommand, as_json: bool) -> Result<String, Error> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let records = Records::new(files, runtime);
    let binder = Binder {
        files,
        writer: &Sysfs,
        records: &records,
    };
    let (named, done) = match command {
        DevicesCommand::Bind(named) => (named, binder.bind(&named.devices)),
        DevicesCommand::Unbind(named) => (named, binder.unbind(&named.devices)),
    };
    let done = done.map_err(refused)?;
    let told = named.devices.iter().zip(&done);
    if as_json {
        let told = told.map(|(address, done)| object(*address, done));
        return Ok(format!("{:#}\n", told.collect::<Value>()));
    }
    Ok(told.map(|(address, done)| line(*address, done)).collect())
}

fn refused(error: binding::Error) -> Error {
    match error {
        binding::Error::Sysfs(vfio::sysfs::Error::NoDevice(_)) => Error::Config(error.to_string()),
        error => Error::HostLacks(error.to_string()),
    }
}

fn line(address: PciAddress, done: &Done) -> String {
    let driver = |driver: &Option<String>| driver.clone().unwrap_or_else(|| "no driver".to_owned());
    let text = match done {
        Done::Bound { from } => format!("taken from {}, bound to vfio-pci", driver(from)),
        Done::AlreadyBound => "is bound to vfio-pci already".to_owned(),
        Done::GivenBack { to } => format!("given back to {}", driver(to)),
        Done::NotBound => "is not bound to vfio-pci".to_owned(),
    };
    let still = still_refused(address, done);
    let still = still.map_or_else(String::new, |why| format!("; but {why}"));
    format!("{address}: {text}{still}\n")
}

fn object(address: PciAddress, done: &Done) -> Value {
    let (word, driver) = match done {
        Done::Bound { from } => ("bound", from.clone()),
        Done::AlreadyBound => ("already-bound", None),
        Done::GivenBack { to } => ("given-back", to.clone()),
        Done::NotBound => ("not-bound", None),
    };
    json!({
        "address": address.to_string(),
        "done": word,
        "other_driver": driver,
        "still_refused": still_refused(address, done),
    })
}

/// Why a device that is bound cannot be passed through yet: others of its group.
fn still_refused(address: PciAddress, done: &Done) -> Option<String> {
    if !matches!(done, Done::Bound { .. } | Done::AlreadyBound) {
        return None;
    }
    let refusal = HostDevice::read(address).ok()?.refusal()?;
    Some(refusal.to_string())
}
