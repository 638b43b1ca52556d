// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Signals that end the run, as readable descriptors for the event loop.

use crate::control::{Control, Ending, Request};
use crate::error::Error;
use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// Turns signals into requests.
#[derive(Debug)]
pub struct Signals {
    control: Arc<Control>,
    interrupt: UnixStream,
    terminate: UnixStream,
}

const INTERRUPT: u32 = 0;
const TERMINATE: u32 = 1;

impl Signals {
    /// Catches SIGTERM and SIGHUP (terminated) and SIGINT (quit, from a terminal that is not raw).
    ///
    /// # Errors
    /// The host refused a descriptor or a handler.
    pub fn new(control: Arc<Control>) -> Result<Self, Error> {
        Ok(Self {
            control,
            interrupt: catch(&[SIGINT])?,
            terminate: catch(&[SIGTERM, SIGHUP])?,
        })
    }
}

fn catch(signals: &[i32]) -> Result<UnixStream, Error> {
    let refused = |e| Error::host("catch signals", e);
    let (mut reader, writer) = UnixStream::pair().map_err(refused)?;
    reader.set_nonblocking(true).map_err(refused)?;
    for &signal in signals {
        let writer = writer.try_clone().map_err(refused)?;
        pipe::register(signal, writer).map_err(refused)?;
    }
    // A signal that came before is not ours.
    drain(&mut reader);
    Ok(reader)
}

fn drain(reader: &mut UnixStream) {
    let mut bytes = [0; 64];
    while matches!(reader.read(&mut bytes), Ok(count) if count != 0) {}
}

impl MutEventSubscriber for Signals {
    fn init(&mut self, ops: &mut EventOps<'_>) {
        for (reader, data) in [(&self.interrupt, INTERRUPT), (&self.terminate, TERMINATE)] {
            if let Err(error) = ops.add(Events::with_data(reader, data, EventSet::IN)) {
                tracing::warn!("signals are not watched: {error}");
            }
        }
    }

    fn process(&mut self, events: Events, _: &mut EventOps<'_>) {
        let ending = if events.data() == INTERRUPT {
            drain(&mut self.interrupt);
            Ending::Quit
        } else {
            drain(&mut self.terminate);
            Ending::Terminated
        };
        self.control.request(Request::End(ending));
    }
}
