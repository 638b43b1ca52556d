// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The command line: `cargo lab COMMAND`.

use std::fs;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::l1;
use crate::logs::Follower;
use crate::remora::quote;
use crate::runner;
use crate::scenario::{Scenario, Verdict};
use crate::session::Session;
use crate::{demo, kernel, packages, paths, scenarios, stock, suite};

/// A Linux host with KVM, VFIO and an Intel IOMMU under software emulation, and the scenarios that run there.
#[derive(Debug, Parser)]
#[command(name = "cargo lab", bin_name = "cargo lab")]
struct Cli {
    #[command(subcommand)]
    command: Order,
}

#[derive(Debug, Subcommand)]
enum Order {
    /// Name every scenario.
    List {
        /// As a JSON array of {name, about, limit_seconds}.
        #[arg(long)]
        json: bool,
    },
    /// Run scenarios; exit status 0 passed, 77 skipped (of one scenario), 1 failed.
    Run {
        /// Their names.
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        names: Vec<String>,
        /// Every scenario there is.
        #[arg(long)]
        all: bool,
    },
    /// An interactive shell in L1; `remora` and this machine's programs are on PATH, /scratch is writable.
    Shell,
    /// Run one command in L1, in /scratch, with its output here, and end with its exit status.
    Exec {
        /// A command with its arguments; a single word is taken as a shell script.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Provide the kernels and say where they are.
    Kernel,
    /// Boot a guest that uses a disk and a passed-through NVMe behind the unit, and report what was seen.
    Demo,
    /// Run the workspace's tests and every scenario; the last line adds them up.
    Test,
}

/// Does what the command line says.
pub fn run() -> Result<ExitCode> {
    match Cli::parse().command {
        Order::List { json } => list(json),
        Order::Run { names, all } => run_scenarios(&names, all),
        Order::Shell => shell(),
        Order::Exec { command } => exec(&command),
        Order::Kernel => kernels(),
        Order::Demo => demo(),
        Order::Test => test(),
    }
}

fn list(json: bool) -> Result<ExitCode> {
    if json {
        let entry = |s: &&Scenario| serde_json::json!({"name": s.name, "about": s.about, "limit_seconds": s.limit.as_secs()});
        let all: Vec<_> = scenarios::ALL.iter().map(entry).collect();
        println!("{}", serde_json::to_string_pretty(&all)?);
    } else {
        for scenario in scenarios::ALL {
            println!("{:20} {}", scenario.name, scenario.about);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn run_scenarios(names: &[String], all: bool) -> Result<ExitCode> {
    let chosen: Vec<&Scenario> = if all {
        scenarios::ALL.to_vec()
    } else {
        let find = |name: &String| {
            scenarios::ALL
                .iter()
                .find(|scenario| scenario.name == name)
                .copied()
        };
        let found = names.iter().map(|name| {
            find(name).with_context(|| format!("no scenario '{name}'; see cargo lab list"))
        });
        found.collect::<Result<_>>()?
    };
    let sessions = Session::open_side_by_side(chosen.len())?;
    let verdicts = runner::run_side_by_side(sessions, &chosen);
    if let ([verdict], false) = (verdicts.as_slice(), all) {
        return Ok(ExitCode::from(verdict.status()));
    }
    println!("{}", runner::count(&verdicts));
    let failed = verdicts
        .iter()
        .any(|verdict| matches!(verdict, Verdict::Fail(_)));
    Ok(ExitCode::from(u8::from(failed)))
}

fn shell() -> Result<ExitCode> {
    let terminal = std::io::stdin();
    let size = rustix::termios::tcgetwinsize(&terminal)
        .context("the shell needs a terminal on standard input")?;
    let session = Session::open()?;
    eprintln!(
        "lab: L1's kernel log is {}/l1-kernel.log; 'exit' ends L1",
        paths::shown(&session.dir)
    );
    l1::interactive(
        &session.kernel,
        &session.binaries,
        &session.dir,
        (size.ws_row, size.ws_col),
    )?;
    Ok(ExitCode::SUCCESS)
}

fn exec(command: &[String]) -> Result<ExitCode> {
    let mut session = Session::open()?;
    let script = match command {
        [script] => script.clone(),
        words => words
            .iter()
            .map(|word| quote(word))
            .collect::<Vec<_>>()
            .join(" "),
    };
    let dir = session.dir.join("exec");
    fs::create_dir(&dir)?;
    fs::write(dir.join("job"), format!("cd /scratch\n{script}\n"))?;
    session.l1()?.start("exec")?;
    let mut output = Follower::new(dir.join("stdout"));
    let mut errors = Follower::new(dir.join("stderr"));
    let status = loop {
        // Asked for first: what was written before the end is passed on after it is known.
        let status = session.l1()?.status("exec")?;
        output.pass_on(&mut std::io::stdout())?;
        errors.pass_on(&mut std::io::stderr())?;
        if let Some(status) = status {
            break status;
        }
        thread::sleep(Duration::from_millis(50));
    };
    eprintln!(
        "lab: status {status}; L1's kernel log is {}/l1-kernel.log",
        paths::shown(&session.dir)
    );
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX)))
}

fn kernels() -> Result<ExitCode> {
    let lab = kernel::provide()?;
    let stock = stock::provide()?;
    println!("source   {}", lab.source);
    println!("bzImage  {}", lab.bzimage.display());
    println!("vmlinux  {}", lab.vmlinux.display());
    println!("stock    {}", stock.vmlinuz.display());
    Ok(ExitCode::SUCCESS)
}

fn demo() -> Result<ExitCode> {
    let mut session = Session::open()?;
    let verdicts = runner::run(&mut session, &[&demo::SCENARIO]);
    Ok(ExitCode::from(verdicts.first().map_or(1, Verdict::status)))
}

/// Whatever cannot be set up, the rest still runs, and the last line adds up: a scenario without a lab has failed.
fn test() -> Result<ExitCode> {
    for provided in [packages::for_running(), packages::for_looking()] {
        if let Err(error) = provided {
            eprintln!("lab: {error:#}");
        }
    }
    let tests = suite::workspace_tests()?;
    let verdicts = match Session::open_side_by_side(scenarios::ALL.len()) {
        Ok(sessions) => runner::run_side_by_side(sessions, scenarios::ALL),
        Err(error) => runner::without_lab(scenarios::ALL, &error),
    };
    let total = tests.plus(runner::count(&verdicts));
    println!("{total}");
    Ok(ExitCode::from(u8::from(total.failed > 0)))
}
