// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the worker makes of calls, with parts and slots that are made up.

use super::*;
use crate::api::call::{Mail, Ticket};
use crate::api::protocol::Outcome;
use crate::cli::{Cli, Command as Words};
use crate::slots::{Added, Slot};
use clap::Parser;
use serde_json::json;
use std::time::{Duration, Instant};

#[derive(Debug)]
struct Part;

impl Inspect for Part {
    fn stats(&self) -> Value {
        json!({ "calls": 3 })
    }

    fn dump(&self) -> Value {
        json!({ "register": "0x10" })
    }
}

#[derive(Debug)]
struct Silent;

impl Inspect for Silent {
    fn stats(&self) -> Value {
        json!({ "calls": 0 })
    }
}

/// One port that takes disks, and a device that leaves when it likes.
#[derive(Debug)]
struct OnePort;

impl Slots for OnePort {
    fn add(&self, device: &DeviceOption) -> Result<Added, Refusal> {
        match device {
            DeviceOption::Disk(_) => Ok(Added {
                id: device.id().unwrap_or("disk0").to_owned(),
                bus: "p0".into(),
            }),
            _ => Err(Refusal::new("add it", "the port takes disks")),
        }
    }

    fn remove(&self, id: &str, force: bool) -> Result<Removal, Refusal> {
        match (id, force) {
            ("d0", false) => Ok(Removal::Requested),
            ("d0", true) => Ok(Removal::Done),
            _ => Err(Refusal::new(
                format!("remove {id}"),
                "there is no such device",
            )),
        }
    }

    fn slots(&self) -> Vec<Slot> {
        Vec::new()
    }
}

fn parts(slots: Option<Arc<dyn Slots>>) -> Parts {
    let cli = Cli::try_parse_from(["remora", "run", "--kernel", "k", "--cpus", "3"]).unwrap();
    let Words::Run(args) = cli.command else {
        unreachable!("the command is run");
    };
    Parts {
        config: Arc::new(args.config().unwrap()),
        events: Events::new().unwrap(),
        status: Arc::default(),
        inspected: vec![
            ("unit".into(), Arc::new(Part)),
            ("quiet".into(), Arc::new(Silent)),
        ],
        slots,
        gate: Gate::default(),
    }
}

/// Has the worker carry out each command; the outcomes, and the events that were told.
fn outcomes(slots: Option<Arc<dyn Slots>>, commands: &[Command]) -> (Vec<Outcome>, Vec<Event>) {
    let parts = parts(slots);
    let (events, mail) = (Arc::clone(&parts.events), Mail::new().unwrap());
    let worker = Worker::start(parts).unwrap();
    for command in commands {
        worker.take(Call {
            command: command.clone(),
            ticket: Ticket::new(0, None, &mail),
        });
    }
    drop(worker);
    let outcomes = mail.take().into_iter().map(|(_, answer)| answer.outcome);
    let told = events.after(0, 100).into_iter().map(|told| told.event);
    (outcomes.collect(), told.collect())
}

fn add(option: &str) -> Command {
    Command::AddDevice {
        option: option.into(),
    }
}

fn remove(device: &str, force: bool) -> Command {
    Command::RemoveDevice {
        device: device.into(),
        force,
    }
}

#[test]
fn stats_and_dump_show_each_part_by_its_name() {
    let one = |part: &str| Command::Dump {
        part: Some(part.into()),
    };
    let commands = [
        Command::Stats {},
        Command::Dump { part: None },
        one("unit"),
        one("none"),
    ];
    let (outcomes, _) = outcomes(None, &commands);
    let Outcome::Result(stats) = &outcomes[0] else {
        panic!("{outcomes:?}");
    };
    assert_eq!(
        stats["parts"],
        json!({"unit": {"calls": 3}, "quiet": {"calls": 0}})
    );
    assert_eq!(
        (&stats["machine"]["cpus"], &stats["machine"]["state"]),
        (&3.into(), &"running".into())
    );
    for outcome in &outcomes[1..3] {
        let Outcome::Result(dump) = outcome else {
            panic!("{outcomes:?}");
        };
        assert_eq!(dump["parts"], json!({"unit": {"register": "0x10"}}));
    }
    let Outcome::Error(refusal) = &outcomes[3] else {
        panic!("{outcomes:?}");
    };
    assert!(refusal.mend.contains("unit, quiet"), "{refusal}");
}

#[test]
fn machine_without_passed_through_devices_has_nothing_to_draw_or_to_explain() {
    let question = "device=1,iova=0".to_owned();
    let (outcomes, _) = outcomes(None, &[Command::Page {}, Command::Explain { question }]);
    for outcome in outcomes {
        let Outcome::Error(refusal) = outcome else {
            panic!("{outcome:?}");
        };
        assert!(refusal.mend.contains("--vfio"), "{refusal}");
    }
}

#[test]
fn devices_come_and_go_and_events_tell() {
    let commands = [
        add("disk=/a,id=d0,bus=p0"),
        remove("d0", false),
        remove("d0", true),
        add("dmatest"),
        add("disk"),
        remove("d1", false),
    ];
    let (outcomes, told) = outcomes(Some(Arc::new(OnePort)), &commands);
    let done = |value: Value| Outcome::Result(value);
    assert_eq!(outcomes[0], done(json!({"id": "d0", "bus": "p0"})));
    assert_eq!(
        outcomes[1],
        done(json!({"device": "d0", "removal": "requested"}))
    );
    assert_eq!(
        outcomes[2],
        done(json!({"device": "d0", "removal": "done"}))
    );
    assert!(outcomes[3..].iter().all(|o| matches!(o, Outcome::Error(_))));
    let (id, by) = (|| "d0".to_owned(), By::Control);
    let added = Event::DeviceAdded {
        id: id(),
        kind: "disk".into(),
        bus: "p0".into(),
    };
    assert_eq!(
        told[..3],
        [
            added,
            Event::UnplugRequested { id: id(), by },
            Event::DeviceRemoved { id: id(), by }
        ]
    );
    assert_eq!(told.len(), 6);
    assert!(
        told[3..]
            .iter()
            .all(|e| matches!(e, Event::DeviceRefused { .. }))
    );
}

#[test]
fn machine_without_slots_says_how_to_get_one() {
    let (outcomes, _) = outcomes(None, &[add("dmatest"), remove("d0", false)]);
    for outcome in outcomes {
        let Outcome::Error(refusal) = outcome else {
            panic!("{outcome:?}");
        };
        assert!(
            refusal.mend.contains("--root-port id=ID,hotplug"),
            "{refusal}"
        );
    }
}

/// A part that is busy until told otherwise.
#[derive(Debug, Default)]
struct Busy(Mutex<()>);

impl Inspect for Busy {
    fn stats(&self) -> Value {
        let _busy = self.0.lock().unwrap();
        Value::Null
    }
}

#[test]
fn calls_that_wait_are_bounded() {
    let busy = Arc::<Busy>::default();
    let parts = Parts {
        inspected: vec![("busy".into(), busy.clone())],
        ..parts(None)
    };
    let mail = Mail::new().unwrap();
    let held = busy.0.lock().unwrap();
    let worker = Worker::start(parts).unwrap();
    let call = || Call {
        command: Command::Stats {},
        ticket: Ticket::new(0, None, &mail),
    };
    // One is under way and so many wait; some of the rest have been refused by then.
    for _ in 0..QUEUE + 10 {
        worker.take(call());
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut refused = 0;
    while refused < 9 {
        assert!(Instant::now() < deadline, "{refused} were refused");
        let answers = mail.take();
        let errors = answers
            .iter()
            .filter(|(_, a)| matches!(a.outcome, Outcome::Error(_)));
        refused += errors.count();
    }
    drop(held);
    drop(worker);
    assert_eq!(mail.take().len(), QUEUE + 10 - refused);
}
