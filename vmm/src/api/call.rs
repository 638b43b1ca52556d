// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A request on its way: to the event loop or to the worker, and its answer back to the client.
//!
//! Lock rule: the lock of the mail is held to put an answer in or to take all out; nothing is called under it.

use super::protocol::{Answer, Command};
use crate::error::Error;
use crate::refusal::Refusal;
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Answers that clients are to get.
#[derive(Debug)]
pub struct Mail {
    answers: Mutex<Vec<(u32, Answer)>>,
    wake: EventFd,
}

impl Mail {
    /// No answer yet.
    ///
    /// # Errors
    /// No file descriptor can be had.
    pub fn new() -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self {
            answers: Mutex::default(),
            wake: EventFd::new(EFD_NONBLOCK)
                .map_err(|e| Error::host("create an eventfd for the control socket", e))?,
        }))
    }

    /// All answers, with the clients that they are for.
    #[must_use]
    pub fn take(&self) -> Vec<(u32, Answer)> {
        let _ = self.wake.read();
        std::mem::take(&mut self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Readable while there are answers.
    #[must_use]
    pub const fn wake(&self) -> &EventFd {
        &self.wake
    }

    fn put(&self, client: u32, answer: Answer) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.push((client, answer));
        drop(answers);
        let _ = self.wake.write(1);
    }
}

/// Whom to answer. A ticket that is dropped answers that the machine ended.
#[derive(Debug)]
pub struct Ticket {
    client: u32,
    id: Option<u64>,
    mail: Option<Arc<Mail>>,
}

impl Ticket {
    /// For request `id` of `client`.
    #[must_use]
    pub fn new(client: u32, id: Option<u64>, mail: &Arc<Mail>) -> Self {
        Self {
            client,
            id,
            mail: Some(Arc::clone(mail)),
        }
    }

    /// Answers.
    pub fn answer(mut self, outcome: Result<Value, Refusal>) {
        self.send(outcome);
    }

    fn send(&mut self, outcome: Result<Value, Refusal>) {
        if let Some(mail) = self.mail.take() {
            mail.put(self.client, Answer::new(self.id, outcome));
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let ended = Refusal::new("carry out the request", "the machine is ending");
        self.send(Err(ended));
    }
}

/// A request and whom to answer.
#[derive(Debug)]
pub struct Call {
    /// What is asked for.
    pub command: Command,
    /// Whom to answer.
    pub ticket: Ticket,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::protocol::Outcome;

    #[test]
    fn ticket_answers_once_even_when_it_is_forgotten() {
        let mail = Mail::new().unwrap();
        Ticket::new(1, Some(9), &mail).answer(Ok(Value::Null));
        drop(Ticket::new(2, None, &mail));
        let answers = mail.take();
        assert_eq!(answers.len(), 2);
        assert_eq!((answers[0].0, answers[0].1.id), (1, Some(9)));
        assert!(matches!(answers[0].1.outcome, Outcome::Result(_)));
        assert_eq!(answers[1].0, 2);
        assert!(matches!(answers[1].1.outcome, Outcome::Error(_)));
        assert!(mail.take().is_empty());
    }
}
