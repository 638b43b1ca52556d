// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `remora ctl` and the machine that it asks.

use super::{guest, remora};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Says "B" once, and then "H" again and again.
const HEARTBEAT: &[u8] = &[
    0xba, 0xf8, 0x03, 0, 0, // mov edx, 0x3f8
    0xb0, b'B', // mov al, 'B'
    0xee, // out dx, al
    0xb0, b'H', // mov al, 'H'
    0xb9, 0, 0, 2, 0, // mov ecx, 0x20000
    0xe2, 0xfe, // loop to itself
    0xee, // out dx, al
    0xeb, 0xf6, // jmp to mov ecx
];

const PATIENCE: Duration = Duration::from_secs(60);

struct Machine {
    process: Child,
    socket: PathBuf,
    serial: PathBuf,
    _dir: tempfile::TempDir,
}

impl Machine {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let (kernel, socket, serial) = (path("kernel"), path("socket"), path("serial"));
        fs::write(&kernel, guest::image(HEARTBEAT)).unwrap();
        let process = remora(&["run", "--memory", "16M", "--serial"])
            .arg(format!("file:{}", serial.display()))
            .arg("--kernel")
            .arg(&kernel)
            .arg("--api-socket")
            .arg(&socket)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let this = Self {
            process,
            socket,
            serial,
            _dir: dir,
        };
        this.wait_for(|said| said.len() > 10);
        this
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.serial).unwrap_or_default()
    }

    fn wait_for(&self, condition: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(&self.said()) {
            assert!(
                Instant::now() < deadline,
                "the guest says nothing of the kind"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the guest says nothing for a while, and gives how much it said.
    fn wait_for_silence(&self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let before = self.said().len();
            std::thread::sleep(Duration::from_millis(100));
            if self.said().len() == before {
                return before;
            }
            assert!(Instant::now() < deadline, "the guest goes on");
        }
    }

    fn ctl(&self, words: &[&str]) -> Output {
        ctl(&self.socket, words)
    }

    /// What `ctl --json` says of a request that succeeds.
    fn ask(&self, words: &[&str]) -> Value {
        let output = self.ctl(&[words, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(0), "{words:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn ctl(socket: &Path, words: &[&str]) -> Output {
    let mut command = remora(&["ctl", "--api-socket"]);
    command.arg(socket).args(words).output().unwrap()
}

/// The last line on stderr.
fn complaint(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn request_to_no_machine_ends_with_status_3_and_advice() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let output = ctl(&socket, &["stats"]);
    assert_eq!(output.status.code(), Some(3));
    let told = complaint(&output);
    assert!(told.starts_with("remora: unreachable: "), "{told}");
    assert!(told.contains("no such socket"), "{told}");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let output = ctl(&socket, &["pause", "--json"]);
    assert_eq!(output.status.code(), Some(3));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(told["error"]["why"].as_str().unwrap().contains("is gone"));
}

#[test]
fn wrong_usage_of_ctl_ends_with_status_2() {
    for words in [&["halt"][..], &["add-device"], &["remove-device"], &[]] {
        let output = ctl(Path::new("/nonexistent"), words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(
            complaint(&output).starts_with("remora: usage: "),
            "{words:?}"
        );
    }
}

#[test]
#[cfg_attr(not(has_kvm), ignore = "no usable /dev/kvm on this machine")]
fn paused_guest_stands_still_until_it_is_resumed() {
    let machine = Machine::start();
    assert_eq!(machine.ask(&["pause"])["changed"], true);
    let said = machine.wait_for_silence();
    let again = machine.ask(&["pause"]);
    assert_eq!(
        (&again["changed"], &again["state"]),
        (&false.into(), &"paused".into())
    );
    assert_eq!(machine.ask(&["stats"])["machine"]["state"], "paused");
    assert_eq!(machine.said().len(), said);
    assert_eq!(machine.ask(&["resume"])["state"], "running");
    machine.wait_for(|text| text.len() > said + 10);
    assert_eq!(machine.ask(&["resume"])["changed"], false);
}

#[test]
#[cfg_attr(not(has_kvm), ignore = "no usable /dev/kvm on this machine")]
fn reset_starts_the_guest_again_and_keeps_a_pause() {
    let machine = Machine::start();
    assert_eq!(machine.ask(&["reset"])["state"], "running");
    machine.wait_for(|text| text.matches('B').count() == 2);
    machine.ask(&["pause"]);
    machine.wait_for_silence();
    assert_eq!(machine.ask(&["reset"])["state"], "paused");
    machine.wait_for_silence();
    assert_eq!(machine.said().matches('B').count(), 2);
    machine.ask(&["resume"]);
    machine.wait_for(|text| text.matches('B').count() == 3);
    assert_eq!(machine.ask(&["stats"])["machine"]["resets"], 2);
}

#[test]
#[cfg_attr(not(has_kvm), ignore = "no usable /dev/kvm on this machine")]
fn refusal_ends_with_status_1_and_says_what_to_do() {
    let machine = Machine::start();
    let table: &[(&[&str], &str)] = &[
        (&["shutdown"], "nothing in the guest listens"),
        (
            &["add-device", "disk=/x,bus=p"],
            "--root-port id=ID,hotplug",
        ),
        (&["add-device", "kernel=/x"], "allowed are disk="),
        (&["remove-device", "x"], "--root-port id=ID,hotplug"),
        (&["dump", "x"], "has no such part"),
    ];
    for (words, expected) in table {
        let output = machine.ctl(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        let told = complaint(&output);
        assert!(told.starts_with("remora: refused: "), "{told}");
        assert!(told.contains(expected), "{words:?}: {told}");
    }
}

#[test]
#[cfg_attr(not(has_kvm), ignore = "no usable /dev/kvm on this machine")]
fn second_machine_does_not_take_the_socket_of_the_first() {
    let machine = Machine::start();
    let output = remora(&["run", "--kernel", "/nonexistent", "--api-socket"])
        .arg(&machine.socket)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(complaint(&output).contains("another machine serves it"));
    machine.ask(&["stats"]);
}

#[test]
#[cfg_attr(not(has_kvm), ignore = "no usable /dev/kvm on this machine")]
fn events_end_with_the_run_and_the_socket_goes() {
    let mut machine = Machine::start();
    let mut listener = remora(&["ctl", "--api-socket"])
        .arg(&machine.socket)
        .arg("events")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = listener.stdout.take().unwrap();
    let (sender, events) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let event: Value = serde_json::from_str(&line).unwrap();
            let _ = sender.send(event);
        }
    });
    // It says nothing of when it begins to listen.
    let deadline = Instant::now() + PATIENCE;
    let first: Value = loop {
        machine.ask(&["pause"]);
        machine.ask(&["resume"]);
        if let Ok(event) = events.try_recv() {
            break event;
        }
        assert!(Instant::now() < deadline, "no event came");
    };
    assert!(first["seq"].as_u64().unwrap() > 1, "{first}");
    let pid = machine.process.id().to_string();
    assert!(Command::new("kill").arg(&pid).status().unwrap().success());
    let last = loop {
        let event = events.recv_timeout(PATIENCE).unwrap();
        if event["event"] == "stopped" {
            break event;
        }
    };
    assert_eq!(
        (&last["reason"], &last["status"]),
        (&"terminated".into(), &143.into())
    );
    assert_eq!(listener.wait().unwrap().code(), Some(0));
    assert_eq!(machine.process.wait().unwrap().code(), Some(143));
    assert!(!machine.socket.exists());
}

#[test]
#[cfg_attr(not(has_kvm), ignore = "no usable /dev/kvm on this machine")]
fn stats_for_people_are_tables() {
    let machine = Machine::start();
    let output = machine.ctl(&["stats"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("machine\n  cpus "), "{text}");
    assert!(text.contains("  state    running\n"), "{text}");
}
