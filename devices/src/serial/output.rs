// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Output that never makes its producer wait: a bounded buffer, and a thread that writes it out.
//!
//! A reader that has stopped (a terminal after Ctrl-S, a full pipe) costs what passes the bound; the loss is logged. The thread
//! is not joined: it may sit in a write that never returns.

use std::collections::VecDeque;
use std::fmt;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Bytes that wait at most.
const LIMIT: usize = 1 << 20;

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<u8>,
    writing: bool,
    closed: bool,
    lost: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The producer's end. Dropping it lets the thread write what is left and end.
pub struct Output(Arc<Shared>);

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Output").field(&self.0.state).finish()
    }
}

impl Output {
    /// Starts the thread that writes to `out`.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(out: Box<dyn Write + Send>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        thread::Builder::new()
            .name("serial-output".to_owned())
            .spawn(move || write_out(&theirs, out))?;
        Ok(Self(shared))
    }

    /// Adds bytes; what does not fit is lost.
    pub fn push(&self, bytes: &[u8]) {
        let mut state = self.0.lock();
        let room = LIMIT.saturating_sub(state.waiting.len());
        let taken = bytes.len().min(room);
        state.waiting.extend(&bytes[..taken]);
        let loses = taken < bytes.len();
        let first_loss = loses && !std::mem::replace(&mut state.lost, loses);
        drop(state);
        self.0.changed.notify_all();
        if first_loss {
            tracing::warn!("nobody reads the serial output: beyond {LIMIT} bytes it is lost");
        }
    }

    /// Waits until everything has been written, or `limit` has passed; whether it has been written.
    #[must_use]
    pub fn flush(&self, limit: Duration) -> bool {
        let state = self.0.lock();
        let (state, _) = self
            .0
            .changed
            .wait_timeout_while(state, limit, |s| s.writing || !s.waiting.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        !state.writing && state.waiting.is_empty()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_all();
    }
}

fn write_out(shared: &Shared, mut out: Box<dyn Write + Send>) {
    let mut failed = false;
    loop {
        let mut state = shared.lock();
        state.writing = false;
        shared.changed.notify_all();
        let mut state = shared
            .changed
            .wait_while(state, |s| s.waiting.is_empty() && !s.closed)
            .unwrap_or_else(PoisonError::into_inner);
        if state.waiting.is_empty() {
            return;
        }
        let bytes: Vec<u8> = state.waiting.drain(..).collect();
        state.writing = true;
        drop(state);
        if let Err(error) = out.write_all(&bytes).and_then(|()| out.flush())
            && !std::mem::replace(&mut failed, true)
        {
            tracing::warn!("cannot write the serial output: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Sends each write on, and waits for permission before the first.
    struct Gate(mpsc::Sender<Vec<u8>>, Option<mpsc::Receiver<()>>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if let Some(open) = self.1.take() {
                open.recv().unwrap();
            }
            self.0.send(bytes.to_vec()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn output_arrives_in_order_and_flush_waits_for_it() {
        let (sender, written) = mpsc::channel();
        let output = Output::start(Box::new(Gate(sender, None))).unwrap();
        output.push(b"one ");
        output.push(b"two");
        assert!(output.flush(Duration::from_secs(60)));
        assert_eq!(written.try_iter().flatten().collect::<Vec<_>>(), b"one two");
    }

    #[test]
    fn reader_that_stopped_costs_what_passes_the_bound() {
        let (sender, written) = mpsc::channel();
        let (open, gate) = mpsc::channel();
        let output = Output::start(Box::new(Gate(sender, Some(gate)))).unwrap();
        let big = vec![b'x'; LIMIT];
        for _ in 0..3 {
            output.push(&big);
        }
        assert!(!output.flush(Duration::ZERO));
        open.send(()).unwrap();
        assert!(output.flush(Duration::from_secs(60)));
        let total = written.try_iter().map(|bytes| bytes.len()).sum::<usize>();
        assert!((LIMIT..=2 * LIMIT).contains(&total));
    }

    #[test]
    fn dropped_output_is_still_written() {
        let (sender, written) = mpsc::channel();
        let output = Output::start(Box::new(Gate(sender, None))).unwrap();
        output.push(b"last words");
        drop(output);
        assert_eq!(written.iter().flatten().collect::<Vec<_>>(), b"last words");
    }
}
