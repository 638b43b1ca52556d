// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Lines as they stand in docs/control.md, and lines that are none.

use super::*;
use proptest::prelude::*;

fn parse(line: &str) -> Result<Request, BadRequest> {
    Request::parse(line.as_bytes())
}

#[test]
fn request_of_each_command_is_understood_and_said_again() {
    let table = [
        (r#"{"command":"stats"}"#, Command::Stats {}),
        (r#"{"command":"dump"}"#, Command::Dump { part: None }),
        (
            r#"{"command":"dump","part":"mirror"}"#,
            Command::Dump {
                part: Some("mirror".into()),
            },
        ),
        (r#"{"command":"page"}"#, Command::Page {}),
        (
            r#"{"command":"explain","question":"device=1,iova=0x1000"}"#,
            Command::Explain {
                question: "device=1,iova=0x1000".into(),
            },
        ),
        (r#"{"command":"events"}"#, Command::Events {}),
        (
            r#"{"command":"add-device","option":"disk=/a,bus=p0"}"#,
            Command::AddDevice {
                option: "disk=/a,bus=p0".into(),
            },
        ),
        (
            r#"{"command":"remove-device","device":"d0","force":true}"#,
            Command::RemoveDevice {
                device: "d0".into(),
                force: true,
            },
        ),
        (r#"{"command":"pause"}"#, Command::Pause {}),
        (r#"{"command":"resume"}"#, Command::Resume {}),
        (r#"{"command":"reset"}"#, Command::Reset {}),
        (r#"{"command":"shutdown"}"#, Command::Shutdown {}),
    ];
    for (line, command) in table {
        let mut request = Request { id: None, command };
        assert_eq!(parse(line).unwrap(), request, "{line}");
        request.id = Some(u64::MAX);
        assert_eq!(parse(request.line().trim_end()).unwrap(), request, "{line}");
    }
}

#[test]
fn version_and_id_may_be_given() {
    let request = parse(r#" {"version": 1, "id": 7, "command": "stats"} "#).unwrap();
    assert_eq!(request.id, Some(7));
}

#[test]
fn complaint_says_what_is_wrong_and_keeps_the_id() {
    let table = [
        ("", true, None, "EOF"),
        ("help", true, None, "expected value"),
        ("[1]", true, None, "invalid type"),
        (r#"{"command":"stats""#, true, None, "EOF"),
        ("{}", false, None, "there is no command; allowed are stats"),
        (r#"{"id":5}"#, false, Some(5), "there is no command"),
        (
            r#"{"id":-5,"command":"stats"}"#,
            false,
            None,
            "id is no number",
        ),
        (
            r#"{"id":5,"version":2,"command":"stats"}"#,
            false,
            Some(5),
            "version 2 is not spoken here, but 1",
        ),
        (
            r#"{"id":5,"command":"halt"}"#,
            false,
            Some(5),
            "unknown variant `halt`, expected one of `stats`, `dump`",
        ),
        (
            r#"{"command":"pause","force":true}"#,
            false,
            None,
            "unknown field `force`",
        ),
        (
            r#"{"command":"add-device"}"#,
            false,
            None,
            "missing field `option`",
        ),
        (
            r#"{"command":"add-device","option":3}"#,
            false,
            None,
            "expected a string",
        ),
    ];
    for (line, is_foreign, id, why) in table {
        let bad = parse(line).unwrap_err();
        assert_eq!((bad.is_foreign, bad.id), (is_foreign, id), "{line}");
        assert!(bad.error.why.contains(why), "{line}: {}", bad.error);
        assert!(!bad.error.mend.is_empty());
    }
}

#[test]
fn complaint_about_a_long_request_is_short() {
    let line = format!(r#"{{"command":"{}"}}"#, "é".repeat(60_000));
    assert!(parse(&line).unwrap_err().error.why.chars().count() <= 301);
}

#[test]
fn answer_is_one_flat_line() {
    let done = Answer::new(
        Some(3),
        Ok(value(&State {
            state: RunState::Paused,
            changed: true,
            note: "a\nb".into(),
        })),
    );
    assert_eq!(
        done.line(),
        concat!(
            r#"{"version":1,"id":3,"result":{"changed":true,"note":"a\nb","state":"paused"}}"#,
            "\n"
        )
    );
    let refused = Answer::new(
        None,
        Err(Refusal::new("add disk d0", "no slot").mend("add one")),
    );
    assert_eq!(
        refused.line(),
        concat!(
            r#"{"version":1,"error":{"what":"add disk d0","why":"no slot","mend":"add one"}}"#,
            "\n"
        )
    );
    for answer in [done, refused] {
        let again: Answer = serde_json::from_str(&answer.line()).unwrap();
        assert_eq!(again, answer);
    }
}

proptest! {
    #[test]
    fn bytes_of_any_kind_are_a_request_or_a_complaint(line in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Err(bad) = Request::parse(&line) {
            prop_assert!(bad.error.why.chars().count() <= 301);
        }
    }

    #[test]
    fn deep_json_is_a_complaint(depth in 1usize..30_000, open in prop::sample::select(vec!["[", "{\"a\":"])) {
        prop_assert!(Request::parse(open.repeat(depth).as_bytes()).is_err());
    }
}
