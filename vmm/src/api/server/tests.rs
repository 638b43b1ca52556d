// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A server in an event loop of its own, and clients that behave or do not.

use super::*;
use crate::events::Event;
use event_manager::{EventManager, SubscriberOps};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Answers at once with the command's name, but keeps whatever would pause the machine.
#[derive(Default)]
struct Echo {
    kept: Arc<Mutex<Vec<Call>>>,
}

impl Desk for Echo {
    fn take(&mut self, call: Call) {
        if call.command == (Command::Pause {}) {
            self.kept.lock().unwrap().push(call);
        } else {
            let told = value(&call.command);
            call.ticket.answer(Ok(told));
        }
    }

    fn state(&self) -> RunState {
        RunState::Running
    }
}

/// A server and the thread that is its event loop.
struct Rig {
    path: PathBuf,
    events: Arc<Events>,
    kept: Arc<Mutex<Vec<Call>>>,
    server: Arc<Mutex<Server>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let events = Events::new().unwrap();
        let (desk, socket) = (Echo::default(), Socket::bind(&path).unwrap());
        let kept = Arc::clone(&desk.kept);
        let server = Server::new(socket, Arc::clone(&events), Box::new(desk)).unwrap();
        let server = Arc::new(Mutex::new(server));
        let end = Arc::<AtomicBool>::default();
        let (theirs, ends) = (Arc::clone(&server), Arc::clone(&end));
        let thread = std::thread::spawn(move || {
            let mut manager = EventManager::<Box<dyn MutEventSubscriber + Send>>::new().unwrap();
            manager.add_subscriber(Box::new(theirs));
            while !ends.load(Ordering::Acquire) {
                manager.run_with_timeout(5).unwrap();
            }
        });
        Self {
            path,
            events,
            kept,
            server,
            end,
            thread: Some(thread),
            _dir: dir,
        }
    }

    fn client(&self) -> Peer {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        Peer(BufReader::new(stream))
    }

    /// Waits until the server has so many clients.
    fn wait_for_clients(&self, count: usize) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.server.lock().unwrap().clients.len() != count {
            assert!(Instant::now() < deadline, "not {count} clients");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

struct Peer(BufReader<UnixStream>);

impl Peer {
    fn say(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// The next line; `None` when the server closed the connection.
    fn hear(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap()),
            Err(e) if e.kind() == ErrorKind::ConnectionReset => None,
            Err(e) => panic!("{e}"),
        }
    }
}

#[test]
fn requests_of_two_clients_are_answered_each_in_its_order() {
    let rig = Rig::new();
    let (mut one, mut two) = (rig.client(), rig.client());
    one.say("{\"command\":\"stats\",\"id\":1}\n{\"command\":\"reset\",\"id\":2}\n");
    two.say("{\"command\":\"dump\",\"id\":1}\n");
    assert_eq!(two.hear().unwrap()["result"]["command"], "dump");
    assert_eq!(one.hear().unwrap()["result"]["command"], "stats");
    let second = one.hear().unwrap();
    assert_eq!(
        (&second["id"], &second["result"]["command"]),
        (&2.into(), &"reset".into())
    );
}

#[test]
fn bad_request_is_answered_and_the_next_one_is_served() {
    let rig = Rig::new();
    let mut client = rig.client();
    client.say("{\"command\":\"halt\",\"id\":4}\n{\"command\":\"stats\"}\n");
    let bad = client.hear().unwrap();
    assert_eq!(bad["id"], 4);
    assert!(bad["error"]["why"].as_str().unwrap().contains("halt"));
    assert_eq!(client.hear().unwrap()["result"]["command"], "stats");
}

#[test]
fn client_that_speaks_something_else_is_told_so_and_let_go() {
    let rig = Rig::new();
    let mut client = rig.client();
    client.say("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(
        client.hear().unwrap()["error"]["mend"]
            .as_str()
            .unwrap()
            .contains("JSON")
    );
    assert_eq!(client.hear(), None);
}

#[test]
fn request_that_is_too_long_is_refused_before_its_end() {
    let rig = Rig::new();
    let mut client = rig.client();
    let long = "a".repeat(super::super::protocol::MAX_REQUEST + 1);
    client.say(&long);
    assert!(
        client.hear().unwrap()["error"]["why"]
            .as_str()
            .unwrap()
            .contains("longer than 65536")
    );
    assert_eq!(client.hear(), None);
}

#[test]
fn client_that_ends_its_side_gets_its_answers_still() {
    let rig = Rig::new();
    let mut client = rig.client();
    // The last line needs no end of line then.
    client.say("{\"command\":\"stats\"}\n{\"command\":\"dump\"}");
    client
        .0
        .get_ref()
        .shutdown(std::net::Shutdown::Write)
        .unwrap();
    assert_eq!(client.hear().unwrap()["result"]["command"], "stats");
    assert_eq!(client.hear().unwrap()["result"]["command"], "dump");
    assert_eq!(client.hear(), None);
    rig.wait_for_clients(0);
}

#[test]
fn one_client_too_many_is_turned_away_and_room_is_made_when_one_leaves() {
    let rig = Rig::new();
    let mut clients: Vec<Peer> = (0..MOST_CLIENTS).map(|_| rig.client()).collect();
    rig.wait_for_clients(MOST_CLIENTS);
    let mut more = rig.client();
    let told = more.hear().unwrap();
    assert!(
        told["error"]["why"]
            .as_str()
            .unwrap()
            .contains("16 clients"),
        "{told}"
    );
    assert_eq!(more.hear(), None);
    clients.pop();
    rig.wait_for_clients(MOST_CLIENTS - 1);
    let mut again = rig.client();
    again.say("{\"command\":\"stats\"}\n");
    assert_eq!(again.hear().unwrap()["result"]["command"], "stats");
}

#[test]
fn client_that_waits_for_an_answer_has_no_second_request_taken() {
    let rig = Rig::new();
    let mut client = rig.client();
    client.say("{\"command\":\"pause\"}\n{\"command\":\"pause\"}\n{\"command\":\"stats\"}\n");
    let deadline = Instant::now() + Duration::from_secs(30);
    for _ in 0..2 {
        let call = loop {
            let mut kept = rig.kept.lock().unwrap();
            assert!(kept.len() < 2, "two requests are under way");
            match kept.pop() {
                Some(call) => break call,
                None => assert!(Instant::now() < deadline, "no request came"),
            }
            drop(kept);
            std::thread::sleep(Duration::from_millis(2));
        };
        call.ticket.answer(Ok(Value::Bool(true)));
        assert_eq!(client.hear().unwrap()["result"], true);
    }
    assert_eq!(client.hear().unwrap()["result"]["command"], "stats");
}

#[test]
fn answer_to_a_client_that_left_is_dropped() {
    let rig = Rig::new();
    let mut client = rig.client();
    client.say("{\"command\":\"pause\"}\n");
    let deadline = Instant::now() + Duration::from_secs(30);
    let call = loop {
        if let Some(call) = rig.kept.lock().unwrap().pop() {
            break call;
        }
        assert!(Instant::now() < deadline, "no request came");
        std::thread::sleep(Duration::from_millis(2));
    };
    drop(client);
    rig.wait_for_clients(0);
    call.ticket.answer(Ok(Value::Null));
    let mut other = rig.client();
    other.say("{\"command\":\"stats\"}\n");
    assert_eq!(other.hear().unwrap()["result"]["command"], "stats");
}

#[test]
fn listener_gets_events_from_its_request_on_and_may_ask_meanwhile() {
    let rig = Rig::new();
    rig.events.tell(Event::Started);
    let mut client = rig.client();
    client.say("{\"command\":\"events\",\"id\":1}\n");
    let answer = client.hear().unwrap();
    assert_eq!(answer["result"]["after"], 1);
    assert_eq!(answer["result"]["state"], "running");
    rig.events.tell(Event::Paused);
    rig.events.tell(Event::Resumed);
    assert_eq!(client.hear().unwrap()["event"], "paused");
    assert_eq!(client.hear().unwrap()["event"], "resumed");
    client.say("{\"command\":\"stats\",\"id\":2}\n");
    assert_eq!(client.hear().unwrap()["id"], 2);
}

#[test]
fn listener_that_does_not_read_costs_a_bounded_amount_and_is_told_what_it_missed() {
    let rig = Rig::new();
    let mut client = rig.client();
    client.say("{\"command\":\"events\"}\n");
    client.hear().unwrap();
    // More than any buffer between us takes.
    let text = "x".repeat(1000);
    let many = 4000u64;
    for _ in 0..many {
        rig.events.tell(Event::DeviceKept {
            id: text.clone(),
            why: String::new(),
        });
    }
    let mut other = rig.client();
    other.say("{\"command\":\"stats\"}\n");
    assert_eq!(other.hear().unwrap()["result"]["command"], "stats");
    {
        let server = rig.server.lock().unwrap();
        let held: usize = server.clients.values().map(|c| c.outbox.held()).sum();
        assert!(held < 200_000, "{held} bytes are held for a client");
    }
    let (mut seen, mut lost) = (0, 0);
    while seen + lost < many {
        let told = client.hear().unwrap();
        if told["event"] == "lost" {
            lost += told["count"].as_u64().unwrap();
        } else {
            seen += 1;
        }
        assert_eq!(told["seq"], seen + lost);
    }
    assert!(lost > 0, "{seen} events fitted into the socket's buffers");
}

#[test]
fn end_of_the_run_is_the_last_line() {
    let rig = Rig::new();
    let mut client = rig.client();
    client.say("{\"command\":\"events\"}\n");
    client.hear().unwrap();
    let mut asking = rig.client();
    asking.say("{\"command\":\"pause\"}\n");
    let deadline = Instant::now() + Duration::from_secs(30);
    while rig.kept.lock().unwrap().is_empty() {
        assert!(Instant::now() < deadline, "no request came");
        std::thread::sleep(Duration::from_millis(2));
    }
    {
        let mut server = rig.server.lock().unwrap();
        server.end_work();
        rig.kept.lock().unwrap().clear();
        rig.events.tell(Event::Stopped {
            reason: "poweroff".into(),
            status: 0,
            message: String::new(),
        });
        server.close();
    }
    assert_eq!(client.hear().unwrap()["event"], "stopped");
    assert_eq!(client.hear(), None);
    assert!(
        asking.hear().unwrap()["error"]["why"]
            .as_str()
            .unwrap()
            .contains("ending")
    );
}

#[test]
fn bytes_of_any_kind_leave_the_server_alive() {
    let rig = Rig::new();
    let mut state = 0x1234_5678_9abc_def0u64;
    for round in 0..200 {
        let mut client = rig.client();
        let mut bytes = Vec::new();
        for _ in 0..round * 7 {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.push(state.to_le_bytes()[3]);
        }
        // The server may close before all is written.
        let _ = client.0.get_mut().write_all(&bytes);
        let _ = client.0.get_ref().shutdown(std::net::Shutdown::Write);
        let mut rest = Vec::new();
        let _ = client.0.read_to_end(&mut rest);
    }
    let mut client = rig.client();
    client.say("{\"command\":\"stats\"}\n");
    assert_eq!(client.hear().unwrap()["result"]["command"], "stats");
}
