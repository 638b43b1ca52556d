// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Why something that was asked of a running machine is not done: for people, in three parts.

use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A request that was refused. Nothing is left half done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What was tried, on what: "add disk d0".
    pub what: String,
    /// Why it cannot be.
    pub why: String,
    /// What to do about it; empty where nothing helps.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mend: String,
}

impl Refusal {
    /// A refusal without advice.
    pub fn new(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            why: why.into(),
            mend: String::new(),
        }
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn mend(self, mend: impl Into<String>) -> Self {
        Self {
            mend: mend.into(),
            ..self
        }
    }

    /// Makes one of an error that came while `what` was tried.
    pub fn of(what: impl Into<String>, error: &Error) -> Self {
        match error {
            Error::Host {
                what: call,
                source,
                advice,
            } => Self::new(what, format!("the host refused to {call}: {source}")).mend(*advice),
            other => Self::new(what, other.to_string()),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.what, self.why)?;
        if self.mend.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", self.mend)
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn advice_of_the_host_error_is_what_mends_it() {
        let error = Error::Host {
            what: "open /dev/kvm".into(),
            source: io::Error::from_raw_os_error(13),
            advice: "join the group kvm",
        };
        let refusal = Refusal::of("add disk d0", &error);
        assert_eq!(
            refusal.to_string(),
            "cannot add disk d0: the host refused to open /dev/kvm: Permission denied (os error 13) (join the group kvm)"
        );
        let text = serde_json::to_string(&Refusal::new("a", "b")).unwrap();
        assert_eq!(text, r#"{"what":"a","why":"b"}"#);
    }
}
