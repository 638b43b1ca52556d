// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Runs scenarios, in one L1 after one another or in several at once, and says how each ended.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Error, Result, bail};

use crate::complaints::complaints;
use crate::lab::Lab;
use crate::logs;
use crate::paths;
use crate::scenario::{Scenario, Verdict};
use crate::session::Session;
use crate::soak;
use crate::suite::Count;

/// Runs `scenarios` and prints, for each, time and log directory, then the verdict.
///
/// One that failed runs once more in a fresh L1, and says so. QEMU's emulation of SVM spoils a guest now and then, whichever
/// VMM it runs under (it hangs, or finds its page tables or its stack broken); a fault of Remora's fails both times.
pub fn run(session: &mut Session, scenarios: &[&Scenario]) -> Vec<Verdict> {
    let run = |scenario: &&Scenario| {
        let verdict = run_one(session, scenario);
        if !matches!(verdict, Verdict::Fail(_)) {
            return verdict;
        }
        println!("{}: once more, in a fresh L1", scenario.name);
        session.drop_l1(scenario.name);
        let first = format!("{}-first", scenario.name);
        // Only a convenience for the reader: without it the logs of both runs mix.
        drop(fs::rename(
            session.dir.join(scenario.name),
            session.dir.join(first),
        ));
        run_one(session, scenario)
    };
    scenarios.iter().map(run).collect()
}

/// As [`run`], in as many L1s at once as there are sessions: each takes the next scenario that nobody has begun. The verdicts are
/// in no order.
pub fn run_side_by_side(sessions: Vec<Session>, scenarios: &[&Scenario]) -> Vec<Verdict> {
    let rest = Mutex::new(scenarios.iter());
    let next = || rest.lock().unwrap_or_else(PoisonError::into_inner).next();
    let lane = |mut session: Session| {
        let mut verdicts = Vec::new();
        while let Some(scenario) = next() {
            verdicts.extend(run(&mut session, &[scenario]));
        }
        verdicts
    };
    let mut verdicts: Vec<Verdict> = thread::scope(|scope| {
        let lanes: Vec<_> = sessions
            .into_iter()
            .map(|session| scope.spawn(|| lane(session)))
            .collect();
        let ended = lanes.into_iter().filter_map(|lane| lane.join().ok());
        ended.flatten().collect()
    });
    // Those of a lane that panicked.
    verdicts.resize(
        scenarios.len(),
        Verdict::Fail("the lab panicked".to_owned()),
    );
    verdicts
}

/// The verdicts on `scenarios` where the lab cannot be set up, printed like any others.
pub fn without_lab(scenarios: &[&Scenario], why: &Error) -> Vec<Verdict> {
    let verdict = Verdict::Fail(format!("the lab cannot run: {why:#}"));
    print!("{}", verdict.details());
    for scenario in scenarios {
        println!("{}", verdict.line(scenario.name));
    }
    vec![verdict; scenarios.len()]
}

/// How many ended in which way.
pub fn count(verdicts: &[Verdict]) -> Count {
    let mut count = Count::default();
    for verdict in verdicts {
        match verdict {
            Verdict::Pass => count.passed += 1,
            Verdict::Skip(_) => count.skipped += 1,
            Verdict::Fail(_) => count.failed += 1,
        }
    }
    count
}

fn run_one(session: &mut Session, scenario: &Scenario) -> Verdict {
    let began = Instant::now();
    let dir = session.dir.join(scenario.name);
    let verdict = attempt(session, scenario, &dir).unwrap_or_else(|error| {
        // Whatever state this L1 is in, nobody else shall meet it.
        session.drop_l1(scenario.name);
        Verdict::Fail(format!("{error:#}"))
    });
    print!("{}", verdict.details());
    println!(
        "{}: {:.1} s, logs in {}",
        scenario.name,
        began.elapsed().as_secs_f64(),
        paths::shown(&dir)
    );
    println!("{}", verdict.line(scenario.name));
    verdict
}

/// One scenario from a marked place in L1's kernel log to another. Errors are those that spoil L1.
fn attempt(session: &mut Session, scenario: &Scenario, dir: &Path) -> Result<Verdict> {
    fs::create_dir_all(dir)?;
    let from = session.l1()?.mark(&format!("begin {}", scenario.name))?;
    let limit = soak::limit(scenario.limit);
    let deadline = Instant::now() + limit;
    let mut lab = Lab::new(session, scenario.name, dir.to_owned(), deadline);
    let result = (scenario.run)(&mut lab);
    let allowed = lab.host_allowed();
    let late = Instant::now() >= deadline;
    let l1 = session.l1()?;
    if late {
        l1.blame()?;
    }
    let left = l1.sweep()?;
    let end = l1.mark(&format!("end {}", scenario.name))?;
    let log = logs::read(&l1.kernel_log())
        .get(from..end)
        .unwrap_or_default()
        .to_owned();
    fs::write(dir.join("l1-kernel.log"), &log)?;
    if late {
        bail!(
            "time limit of {} s reached\n{}",
            limit.as_secs(),
            reason(result)
        );
    }
    Ok(judge(result, &left, &log, &allowed))
}

fn reason(result: Result<Verdict>) -> String {
    result.map_or_else(|error| format!("{error:#}"), |_| String::new())
}

/// A scenario that passed by its own account may still have left something behind or upset L1's kernel.
fn judge(result: Result<Verdict>, left: &str, log: &str, allowed: &[String]) -> Verdict {
    let allowed: Vec<&str> = allowed.iter().map(String::as_str).collect();
    let found = complaints(log, &allowed);
    match result {
        Err(error) => Verdict::Fail(format!("{error:#}")),
        Ok(Verdict::Pass) if !left.is_empty() => {
            Verdict::Fail(format!("processes were left behind in L1: {left}"))
        }
        Ok(Verdict::Pass) if !found.is_empty() => Verdict::Fail(format!(
            "L1's kernel complains: {}\n{}",
            found[0],
            found.join("\n")
        )),
        Ok(verdict) => verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judge_of_a_pass_with_a_clean_log_and_nothing_left_is_a_pass() {
        assert_eq!(
            judge(Ok(Verdict::Pass), "", "all well\n", &[]),
            Verdict::Pass
        );
    }

    #[test]
    fn judge_of_a_pass_with_a_complaint_in_the_log_is_a_failure() {
        let verdict = judge(Ok(Verdict::Pass), "", "WARNING: CPU: 0\n", &[]);
        assert!(matches!(verdict, Verdict::Fail(_)));
        assert_eq!(
            judge(
                Ok(Verdict::Pass),
                "",
                "WARNING: CPU: 0\n",
                &["CPU: 0".to_owned()]
            ),
            Verdict::Pass
        );
    }

    #[test]
    fn judge_of_a_pass_with_processes_left_is_a_failure() {
        assert!(matches!(
            judge(Ok(Verdict::Pass), "remora", "", &[]),
            Verdict::Fail(_)
        ));
    }

    #[test]
    fn scenarios_without_a_lab_have_failed() {
        let verdicts = without_lab(crate::scenarios::ALL, &anyhow::anyhow!("no QEMU"));
        assert_eq!(verdicts.len(), crate::scenarios::ALL.len());
        assert!(verdicts.iter().all(|verdict| verdict.status() == 1));
        assert!(verdicts[0].line("x").contains("no QEMU"));
    }

    #[test]
    fn judge_of_an_error_is_a_failure_with_its_reason() {
        let verdict = judge(Err(anyhow::anyhow!("no marker")), "", "", &[]);
        assert_eq!(verdict, Verdict::Fail("no marker".to_owned()));
    }
}
