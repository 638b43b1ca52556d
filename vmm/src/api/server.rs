// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The server of the control socket, on the event loop's thread: takes clients in, reads requests, writes answers and events.
//!
//! It does nothing of what is asked for itself and waits for nobody. Each client has one request under way at most; only when
//! the answer was taken the next one is read. So what a client costs is bounded: one request, one answer, some events. A
//! client that does not read loses events (and is told how many), then the connection.
//!
//! Lock rule: the server's own lock is taken by the event loop's thread alone.

use super::call::{Call, Mail, Ticket};
use super::connection::{Got, Inbox, Outbox};
use super::protocol::{Answer, Command, Listening, Request, RunState, line, value};
use super::socket::Socket;
use crate::error::Error;
use crate::events::Events;
use crate::refusal::Refusal;
use event_manager::{EventOps, EventSet, Events as Watched, MutEventSubscriber};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vmm_sys_util::timerfd::TimerFd;

/// Clients at a time.
pub const MOST_CLIENTS: usize = 16;
/// How long a client may leave what it was sent unread.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How often that is looked at.
const TICK: Duration = Duration::from_secs(1);
/// How long the end of the run waits for clients to take the last lines.
const FAREWELL: Duration = Duration::from_millis(500);
/// Events written at a time.
const HANDFUL: usize = 64;

const LISTENER: u32 = 0;
const MAIL: u32 = 1;
const EVENTS: u32 = 2;
const TIMER: u32 = 3;
const FIRST_CLIENT: u32 = 16;

/// Takes what clients ask for. Returns at once; the answer comes by the call's ticket.
pub trait Desk: Send {
    /// Has the call carried out.
    fn take(&mut self, call: Call);

    /// The state of the machine.
    fn state(&self) -> RunState;
}

/// The server.
pub struct Server {
    socket: Socket,
    clients: BTreeMap<u32, Client>,
    next: u32,
    mail: Arc<Mail>,
    events: Arc<Events>,
    /// None once the machine ends.
    desk: Option<Box<dyn Desk>>,
    timer: TimerFd,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("socket", &self.socket)
            .field("clients", &self.clients)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// A server for `socket` that passes requests to `desk`.
    ///
    /// # Errors
    /// No file descriptor can be had.
    pub fn new(socket: Socket, events: Arc<Events>, desk: Box<dyn Desk>) -> Result<Self, Error> {
        let timer = TimerFd::new().map_err(|e| Error::host("create a timer", e))?;
        Ok(Self {
            socket,
            clients: BTreeMap::new(),
            next: FIRST_CLIENT,
            mail: Mail::new()?,
            events,
            desk: Some(desk),
            timer,
        })
    }

    /// Has what is under way carried out; nothing more is after that.
    pub fn end_work(&mut self) {
        self.desk = None;
    }

    /// Tells every client the rest and lets it go. Waits for them a moment.
    pub fn close(&mut self) {
        self.post();
        let deadline = Instant::now() + FAREWELL;
        for client in self.clients.values_mut() {
            client.say_farewell(&self.events, deadline);
        }
        self.clients.clear();
    }

    fn accept(&mut self, ops: &mut EventOps<'_>) {
        loop {
            match self.socket.listener().accept() {
                Ok((stream, _)) => self.admit(stream, ops),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    // No descriptor is left, for one. The timer tries again; until then nobody may wake the loop in vain.
                    tracing::warn!("a client of the control socket was not taken in: {error}");
                    self.watch_listener(false, ops);
                    return;
                }
            }
        }
    }

    fn watch_listener(&mut self, on: bool, ops: &mut EventOps<'_>) {
        let interest = if on { EventSet::IN } else { EventSet::empty() };
        let listener = self.socket.listener();
        let watched = Watched::with_data(listener, LISTENER, interest);
        let _ = ops.modify(watched);
        if !on && self.timer.reset(TICK, None).is_err() {
            tracing::error!("the control socket takes no more clients: no timer");
        }
    }

    fn admit(&mut self, mut stream: UnixStream, ops: &mut EventOps<'_>) {
        if self.clients.len() >= MOST_CLIENTS {
            let why = format!("it has {MOST_CLIENTS} clients already");
            let refusal = Refusal::new("serve another client", why).mend("end one of them");
            // Nobody waits for a client that does not read this at once.
            let _ = stream.set_nonblocking(true);
            let _ = stream.write_all(Answer::new(None, Err(refusal)).line().as_bytes());
            return;
        }
        let key = self.next;
        self.next = self.next.checked_add(1).unwrap_or(FIRST_CLIENT);
        let watched = Watched::with_data(&stream, key, EventSet::IN);
        if stream.set_nonblocking(true).is_err() || ops.add(watched).is_err() {
            tracing::warn!("a client of the control socket cannot be watched and was dropped");
            return;
        }
        self.clients.insert(key, Client::new(stream));
    }

    /// Hands out answers.
    fn post(&mut self) -> Vec<u32> {
        let answers = self.mail.take();
        let mut reached = Vec::with_capacity(answers.len());
        for (key, answer) in answers {
            if let Some(client) = self.clients.get_mut(&key) {
                client.push(&answer.line());
                client.busy = false;
                reached.push(key);
            }
        }
        reached
    }

    /// Takes every client as far as it goes.
    fn serve_all(&mut self, ops: &mut EventOps<'_>) {
        let keys: Vec<u32> = self.clients.keys().copied().collect();
        for key in keys {
            self.serve(key, ops);
        }
    }

    /// Takes a client as far as it goes: writes, and passes on what it asks for.
    fn serve(&mut self, key: u32, ops: &mut EventOps<'_>) {
        let Some(client) = self.clients.get_mut(&key) else {
            return;
        };
        let Some(desk) = &mut self.desk else { return };
        let context = Context {
            key,
            mail: &self.mail,
            events: &self.events,
            desk: &mut **desk,
        };
        let stays = client.advance(context);
        if stays && client.update_interest(key, ops) {
            if !client.outbox.is_empty() && self.timer.is_armed().is_ok_and(|armed| !armed) {
                let _ = self.timer.reset(TICK, None);
            }
        } else {
            self.drop_client(key, ops);
        }
        let listened = self.clients.values().any(|client| client.seen.is_some());
        self.events.listen(listened);
    }

    fn drop_client(&mut self, key: u32, ops: &mut EventOps<'_>) {
        if let Some(client) = self.clients.remove(&key) {
            let _ = ops.remove(Watched::empty(&client.stream));
        }
    }

    /// Drops those who do not read, and takes new clients again.
    fn tick(&mut self, ops: &mut EventOps<'_>) {
        let _ = self.timer.wait();
        let stalled: Vec<u32> = self
            .clients
            .iter()
            .filter(|(_, client)| client.is_stalled())
            .map(|(key, _)| *key)
            .collect();
        for key in stalled {
            tracing::warn!(
                "a client of the control socket was dropped: it has read nothing for {} s",
                PATIENCE.as_secs()
            );
            self.drop_client(key, ops);
        }
        self.watch_listener(true, ops);
        if self
            .clients
            .values()
            .any(|client| !client.outbox.is_empty())
        {
            let _ = self.timer.reset(TICK, None);
        }
    }

    fn ready(&mut self, key: u32, set: EventSet, ops: &mut EventOps<'_>) {
        let Some(client) = self.clients.get_mut(&key) else {
            return;
        };
        let gone = set.intersects(EventSet::HANG_UP | EventSet::ERROR);
        let broken = set.contains(EventSet::IN) && !client.read();
        self.serve(key, ops);
        if gone || broken {
            self.drop_client(key, ops);
        }
    }
}

impl MutEventSubscriber for Server {
    fn init(&mut self, ops: &mut EventOps<'_>) {
        let watched = [
            Watched::with_data(self.socket.listener(), LISTENER, EventSet::IN),
            Watched::with_data(self.mail.wake(), MAIL, EventSet::IN),
            Watched::with_data(self.events.wake(), EVENTS, EventSet::IN),
            Watched::with_data(&self.timer, TIMER, EventSet::IN),
        ];
        for watched in watched {
            if let Err(error) = ops.add(watched) {
                tracing::error!("the control socket is not served: {error}");
            }
        }
    }

    fn process(&mut self, events: Watched, ops: &mut EventOps<'_>) {
        match events.data() {
            LISTENER => self.accept(ops),
            MAIL => {
                for key in self.post() {
                    self.serve(key, ops);
                }
            }
            EVENTS => {
                let _ = self.events.wake().read();
                self.serve_all(ops);
            }
            TIMER => self.tick(ops),
            key => self.ready(key, events.event_set(), ops),
        }
    }
}

/// What a client's requests need.
struct Context<'a> {
    key: u32,
    mail: &'a Arc<Mail>,
    events: &'a Events,
    desk: &'a mut dyn Desk,
}

/// One client.
#[derive(Debug)]
struct Client {
    stream: UnixStream,
    inbox: Inbox,
    outbox: Outbox,
    /// The number of the last event that it was told, if it listens.
    seen: Option<u64>,
    /// A request is under way.
    busy: bool,
    /// It sends nothing more.
    ended: bool,
    /// It is to be let go once it has read what it was told.
    closing: bool,
    /// When it last took something, or was first given something after that.
    moved: Instant,
    interest: EventSet,
}

impl Client {
    fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            seen: None,
            busy: false,
            ended: false,
            closing: false,
            moved: Instant::now(),
            interest: EventSet::IN,
        }
    }

    fn push(&mut self, text: &str) {
        if self.outbox.is_empty() {
            self.moved = Instant::now();
        }
        self.outbox.push(text);
    }

    /// Reads once; whether the connection is whole.
    fn read(&mut self) -> bool {
        match self.inbox.fill(&mut &self.stream) {
            Ok(Got::Some) => true,
            Ok(Got::End) => {
                self.ended = true;
                true
            }
            Err(_) => false,
        }
    }

    /// Goes on until there is something to wait for; whether the client stays.
    fn advance(&mut self, mut context: Context<'_>) -> bool {
        loop {
            match self.outbox.flush(&mut &self.stream) {
                Ok(true) => self.moved = Instant::now(),
                Ok(false) => {}
                Err(_) => return false,
            }
            if !self.outbox.is_empty() {
                return true;
            }
            if self.closing {
                return false;
            }
            if self.take_events(context.events) {
                continue;
            }
            if self.busy {
                return true;
            }
            match self.inbox.line(self.ended) {
                Ok(Some(line)) => self.obey(&line, &mut context),
                Ok(None) => return !self.ended || self.seen.is_some(),
                Err(_) => {
                    let why = format!("it is longer than {} bytes", super::protocol::MAX_REQUEST);
                    self.refuse(None, Refusal::new("take the request", why));
                    self.closing = true;
                }
            }
        }
    }

    /// Puts some of the events that the client has not seen into its outbox; whether there were any.
    fn take_events(&mut self, events: &Events) -> bool {
        let Some(seen) = self.seen else { return false };
        let told = events.after(seen, HANDFUL);
        let Some(last) = told.last() else {
            return false;
        };
        self.seen = Some(last.seq);
        let text: String = told.iter().map(line).collect();
        self.push(&text);
        true
    }

    fn obey(&mut self, line: &[u8], context: &mut Context<'_>) {
        match Request::parse(line) {
            Ok(Request {
                id,
                command: Command::Events {},
            }) => {
                // First, so that no event comes between that nobody is woken for.
                context.events.listen(true);
                let after = *self.seen.get_or_insert_with(|| context.events.last());
                let state = context.desk.state();
                let listening = value(&Listening { state, after });
                self.push(&Answer::new(id, Ok(listening)).line());
            }
            Ok(Request { id, command }) => {
                self.busy = true;
                let ticket = Ticket::new(context.key, id, context.mail);
                context.desk.take(Call { command, ticket });
            }
            Err(bad) => {
                self.refuse(bad.id, bad.error);
                self.closing = bad.is_foreign;
            }
        }
    }

    fn refuse(&mut self, id: Option<u64>, refusal: Refusal) {
        self.push(&Answer::new(id, Err(refusal)).line());
    }

    fn is_stalled(&self) -> bool {
        !self.outbox.is_empty() && self.moved.elapsed() >= PATIENCE
    }

    /// Has the loop watch for what the client waits for; whether it can.
    fn update_interest(&mut self, key: u32, ops: &EventOps<'_>) -> bool {
        let interest = if !self.outbox.is_empty() {
            EventSet::OUT
        } else if self.busy || self.ended {
            EventSet::empty()
        } else {
            EventSet::IN
        };
        if interest == self.interest {
            return true;
        }
        self.interest = interest;
        let watched = Watched::with_data(&self.stream, key, interest);
        ops.modify(watched).is_ok()
    }

    /// Writes what there is to be told, until `deadline`.
    fn say_farewell(&mut self, events: &Events, deadline: Instant) {
        while self.take_events(events) {}
        let left = deadline.saturating_duration_since(Instant::now());
        let patient = self.stream.set_nonblocking(false).is_ok()
            && self
                .stream
                .set_write_timeout(Some(left.max(Duration::from_millis(1))))
                .is_ok();
        if patient {
            let _ = self.outbox.flush(&mut &self.stream);
        }
    }
}

#[cfg(test)]
mod tests;
