// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `remora ctl` in L1, for scenarios that ask something of a running machine.

use anyhow::{Result, bail};

use crate::lab::{Ended, Lab};
use crate::remora::quote;
use crate::session::in_l1;

/// The control socket of the machine of a scenario, below L1's /tmp.
#[derive(Debug, Clone, Copy)]
pub struct Ctl(pub &'static str);

impl Ctl {
    /// Runs `remora ctl ARGS…` to its end; `name` is the job's.
    pub fn ask(self, lab: &mut Lab<'_>, name: &str, args: &[&str]) -> Result<Ended> {
        lab.sh(name, &self.command(lab, args))
    }

    /// As [`Ctl::ask`], of something that is done.
    pub fn done(self, lab: &mut Lab<'_>, name: &str, args: &[&str]) -> Result<Ended> {
        let ended = self.ask(lab, name, args)?;
        if ended.status != 0 {
            bail!("ctl {}: {}", args.join(" "), ended.stderr.trim_end());
        }
        Ok(ended)
    }

    /// As [`Ctl::ask`], of something that is refused for this reason.
    pub fn refused(self, lab: &mut Lab<'_>, name: &str, args: &[&str], why: &str) -> Result<Ended> {
        let ended = self.ask(lab, name, args)?;
        if ended.status != 1 {
            bail!("ctl {} ended with status {}", args.join(" "), ended.status);
        }
        ended.expect_error(why)?;
        Ok(ended)
    }

    /// The shell command of `remora ctl ARGS…`.
    pub fn command(self, lab: &Lab<'_>, args: &[&str]) -> String {
        let program = in_l1(&lab.binaries().remora);
        let words = [program.as_str(), "ctl", "--api-socket", self.0];
        let words = words.iter().chain(args).map(|word| quote(word));
        words.collect::<Vec<_>>().join(" ")
    }
}
