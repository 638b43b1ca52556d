// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One run: builds the machine, serves its event loop, ends it.

mod requests;

use crate::api::Service;
use crate::api::socket::Socket;
use crate::config::Config;
use crate::console::stdin::Typist;
use crate::console::{Console, terminal};
use crate::control::{Control, Ending, Request};
use crate::error::Error;
use crate::events::{By, Event, Events as Told};
use crate::machine::Machine;
use crate::report;
use crate::signals::Signals;
use crate::wiring;
use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::Arc;
use std::time::Duration;
use vmm_sys_util::timerfd::TimerFd;

type Subscriber = Box<dyn MutEventSubscriber + Send>;

/// Runs the machine that `config` describes to its end, and tells how it ended; the exit status.
#[must_use]
pub fn run(config: Config) -> u8 {
    let (ending, counters) = match prepare(config) {
        Err(error) => (Ending::Error(error), None),
        Ok(mut run) => {
            let ending = run.serve().unwrap_or_else(Ending::Error);
            let counters = run.machine.counters();
            (run.stop(ending), counters)
        }
    };
    report::tell(&ending, counters.as_ref())
}

struct Run {
    config: Arc<Config>,
    control: Arc<Control>,
    console: Arc<Console>,
    machine: Machine,
    service: Service,
    told: Arc<Told>,
    events: EventManager<Subscriber>,
    // Last, so that the terminal is raw as long as anything may write to it.
    _raw: Option<terminal::Raw>,
}

fn prepare(config: Config) -> Result<Run, Error> {
    raise_file_limit();
    let config = Arc::new(config);
    // Before anything is built: another machine may serve it.
    let socket = config.api_socket.as_deref().map(Socket::bind).transpose()?;
    let told = Told::new()?;
    let control = Arc::new(Control::new()?);
    let mut subscribers: Vec<Subscriber> = vec![
        Box::new(Wake(Arc::clone(&control))),
        Box::new(Signals::new(Arc::clone(&control))?),
    ];
    if let Some(limit) = config.ending.timeout {
        subscribers.push(Box::new(Timeout::new(limit, Arc::clone(&control))?));
    }
    let console = Console::new(
        &config.serial,
        &config.ending.expect,
        &config.ending.fail_on,
        Arc::clone(&control),
    )?;
    subscribers.push(Box::new(RestOfLine(Arc::clone(&console))));
    let mut machine = Machine::new(
        Arc::clone(&config),
        Arc::clone(&control),
        Arc::clone(&console),
        Arc::clone(&told),
        wiring::wire,
    )?;
    subscribers.extend(machine.take_subscribers());
    let service = Service::new(socket, &machine, &told)?;
    if let Some(server) = service.server() {
        subscribers.push(Box::new(Arc::clone(server)));
    }
    let raw = if console.takes_stdin() {
        let typist = Typist::new(Arc::clone(&console), Arc::clone(&control))?;
        subscribers.push(Box::new(typist));
        terminal::raw()?
    } else {
        None
    };
    let mut events = EventManager::new().map_err(broken_loop)?;
    for subscriber in subscribers {
        events.add_subscriber(subscriber);
    }
    Ok(Run {
        config,
        control,
        console,
        machine,
        service,
        told,
        events,
        _raw: raw,
    })
}

impl Run {
    fn serve(&mut self) -> Result<Ending, Error> {
        self.machine.start()?;
        self.told.tell(Event::Started);
        loop {
            match self.events.run() {
                Ok(_) => {}
                Err(event_manager::Error::Epoll(e)) if e.errno() == libc::EINTR => {}
                Err(error) => return Err(broken_loop(error)),
            }
            if let Some(request) = self.control.take()
                && let Some(ending) = self.decide(request)?
            {
                return Ok(ending);
            }
            while let Some(call) = self.service.calls.next() {
                self.obey(call)?;
            }
        }
    }

    /// Serves a request; how the run ends, if it does.
    fn decide(&mut self, request: Request) -> Result<Option<Ending>, Error> {
        let ending = match request {
            Request::End(ending) => return Ok(Some(ending)),
            Request::PowerOff => Ending::PowerOff,
            Request::Reset => Ending::Reset,
        };
        // What other processors are saying right now was said before the end, too.
        self.machine.park()?;
        if let Some(failed) = self.console.failed() {
            return Ok(Some(failed));
        }
        if matches!(ending, Ending::Reset) && !self.config.ending.no_reboot {
            tracing::info!("the guest resets the machine");
            self.reset(By::Guest)?;
            return Ok(None);
        }
        let missing = self.console.missing();
        Ok(Some(if missing.is_empty() {
            ending
        } else {
            Ending::Missing(missing)
        }))
    }

    /// Ends everything. What fails then is told only if nothing worse was.
    fn stop(mut self, ending: Ending) -> Ending {
        self.service.end_work();
        let ending = self.stop_machine(ending);
        self.told.tell(Event::Stopped {
            reason: ending.reason().to_owned(),
            status: ending.status(),
            message: ending.to_string(),
        });
        self.service.close();
        ending
    }

    fn stop_machine(&mut self, ending: Ending) -> Ending {
        match self.machine.stop() {
            Ok(()) => ending,
            Err(error) => {
                tracing::error!("{error}");
                if ending.status() == 0 {
                    Ending::Error(error)
                } else {
                    ending
                }
            }
        }
    }
}

fn broken_loop(error: event_manager::Error) -> Error {
    Error::Bug(format!("the event loop: {error}"))
}

/// Each vCPU and each queue needs descriptors; many systems start programs with a low limit that they may raise.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!("the limit of open files stays: {error}");
    }
}

/// Wakes the loop for a request; [`Run::serve`] takes it.
struct Wake(Arc<Control>);

impl MutEventSubscriber for Wake {
    fn init(&mut self, ops: &mut EventOps<'_>) {
        watch(ops, self.0.wake());
    }

    fn process(&mut self, _: Events, _: &mut EventOps<'_>) {}
}

/// Ends the run when its time is up.
struct Timeout {
    timer: TimerFd,
    limit: Duration,
    control: Arc<Control>,
}

impl Timeout {
    fn new(limit: Duration, control: Arc<Control>) -> Result<Self, Error> {
        let refused = |e| Error::host("create a timer", e);
        let mut timer = TimerFd::new().map_err(refused)?;
        timer.reset(limit, None).map_err(refused)?;
        Ok(Self {
            timer,
            limit,
            control,
        })
    }
}

impl MutEventSubscriber for Timeout {
    fn init(&mut self, ops: &mut EventOps<'_>) {
        watch(ops, &self.timer);
    }

    fn process(&mut self, _: Events, _: &mut EventOps<'_>) {
        let _ = self.timer.wait();
        self.control
            .request(Request::End(Ending::TimedOut(self.limit)));
    }
}

/// Ends the run for a forbidden text whose line does not end.
struct RestOfLine(Arc<Console>);

impl MutEventSubscriber for RestOfLine {
    fn init(&mut self, ops: &mut EventOps<'_>) {
        watch(ops, &*self.0.rest_of_line());
    }

    fn process(&mut self, _: Events, _: &mut EventOps<'_>) {
        let _ = self.0.rest_of_line().wait();
        self.0.fail();
    }
}

fn watch<T: std::os::fd::AsRawFd>(ops: &mut EventOps<'_>, source: &T) {
    if let Err(error) = ops.add(Events::new(source, EventSet::IN)) {
        tracing::error!("the event loop does not watch a descriptor: {error}");
    }
}
