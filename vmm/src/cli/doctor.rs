// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `remora doctor`.

use crate::doctor::{Host, ThisHost, examine, json, table};
use crate::error::status;
use crate::host_files::HostFiles;
use clap::Args;
use std::io::{Write, stdout};

/// The options of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

pub(super) const EXIT_STATUS: &str = "\
Each row is ok, warning (it works, but less well than it could) or missing; below it stands what to do.

Exit status:
    0  a VM can be run
    3  none can: KVM is missing, may not be used or lacks something";

/// Examines this host and says what was found; the exit status.
#[must_use]
pub fn doctor(args: &DoctorArgs) -> u8 {
    let report = examine(&Host {
        files: HostFiles::here(),
        nodes: &ThisHost,
    });
    let text = if args.json {
        format!("{:#}\n", json(&report))
    } else {
        table(&report)
    };
    // A reader that went away does not want the rest.
    let _ = stdout().write_all(text.as_bytes());
    if report.can_run() { 0 } else { status::HOST }
}
