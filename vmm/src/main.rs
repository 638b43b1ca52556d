// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The program `remora`: parses the command line and runs one machine.

use clap::Parser;
use clap::error::ErrorKind;
use std::io::{IsTerminal, stderr};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;
use vmm::cli::{Cli, Command, RunArgs, devices, doctor};
use vmm::control::Ending;
use vmm::error::Error;
use vmm::{report, run};

fn main() -> ExitCode {
    report::install_panic_hook();
    match Cli::try_parse() {
        Ok(cli) => match cli.command {
            Command::Run(args) => ExitCode::from(run_machine(&args)),
            Command::Doctor(args) => ExitCode::from(doctor(&args)),
            Command::Devices(args) => ExitCode::from(
                devices(&args).unwrap_or_else(|error| report::tell(&Ending::Error(error), None)),
            ),
            Command::Ctl(args) => ExitCode::from(args.run()),
        },
        Err(error) => ExitCode::from(explain(&error)),
    }
}

fn run_machine(args: &RunArgs) -> u8 {
    let config = open_result(args)
        .and_then(|()| start_log(&args.log))
        .and_then(|()| args.config());
    match config {
        Ok(config) => run::run(config),
        Err(error) => report::tell(&Ending::Error(error), None),
    }
}

/// First of all, so that a file of an earlier run does not pass for the result of this one, whatever else is wrong.
fn open_result(args: &RunArgs) -> Result<(), Error> {
    args.result.as_deref().map_or(Ok(()), report::open_result)
}

fn start_log(filter: &str) -> Result<(), Error> {
    let filter = EnvFilter::try_new(filter).map_err(|e| Error::Option {
        option: "log",
        problem: format!("{filter:?}: {e}"),
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .without_time()
        // Otherwise a stderr that nobody reads any more ends the run by a panic.
        .log_internal_errors(false)
        .init();
    Ok(())
}

/// Help goes to stdout as clap wants it; a complaint becomes one line.
fn explain(error: &clap::Error) -> u8 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A reader that went away does not want the rest.
            let _ = error.print();
            0
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => report::tell_usage(
            "a command is missing: run, ctl, devices, doctor (see remora --help)",
        ),
        _ => {
            let text = error.to_string();
            let complaint: Vec<&str> = text
                .lines()
                .take_while(|line| !line.trim().is_empty())
                .map(str::trim)
                .collect();
            let complaint = complaint.join(" ");
            let complaint = complaint.trim_start_matches("error: ");
            report::tell_usage(&format!("{complaint} (see remora --help)"))
        }
    }
}
