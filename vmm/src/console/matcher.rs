// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Finds texts in a stream of bytes, however it is cut, with memory for the texts only (Knuth, Morris and Pratt 1977).

/// One text and how much of it the end of the stream matches.
#[derive(Clone, Debug)]
struct Pattern {
    text: Vec<u8>,
    /// For each prefix, the length of the longest proper prefix that ends it.
    borders: Vec<usize>,
    matched: usize,
    seen: bool,
}

impl Pattern {
    fn new(text: &str) -> Self {
        let text = text.as_bytes().to_vec();
        let mut borders = vec![0; text.len()];
        let mut border = 0;
        for index in 1..text.len() {
            while border != 0 && text[index] != text[border] {
                border = borders[border - 1];
            }
            border += usize::from(text[index] == text[border]);
            borders[index] = border;
        }
        Self {
            seen: text.is_empty(),
            text,
            borders,
            matched: 0,
        }
    }

    /// Takes one more byte; whether the text has been seen, now or before.
    fn feed(&mut self, byte: u8) -> bool {
        if self.seen {
            return true;
        }
        while self.matched != 0 && self.text[self.matched] != byte {
            self.matched = self.borders[self.matched - 1];
        }
        self.matched += usize::from(self.text[self.matched] == byte);
        self.seen = self.matched == self.text.len();
        self.seen
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.text).into_owned()
    }
}

/// What was seen by the end of some bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// A text that must not appear did, before all expected ones had.
    pub failed: Option<String>,
    /// Every expected text has been seen, with these bytes.
    pub complete: bool,
}

/// Watches a stream for texts that must appear and texts that must not.
#[derive(Clone, Debug)]
pub struct Watch {
    expect: Vec<Pattern>,
    fail_on: Vec<Pattern>,
}

impl Watch {
    /// Watches for `expect` and `fail_on`. An empty text counts as seen, or never fails.
    #[must_use]
    pub fn new(expect: &[String], fail_on: &[String]) -> Self {
        Self {
            expect: expect.iter().map(|text| Pattern::new(text)).collect(),
            fail_on: fail_on
                .iter()
                .filter(|text| !text.is_empty())
                .map(|text| Pattern::new(text))
                .collect(),
        }
    }

    /// Takes the next bytes of the stream, up to the first one that decides.
    pub fn feed(&mut self, bytes: &[u8]) -> Seen {
        for &byte in bytes {
            let mut missing = 0;
            for pattern in &mut self.expect {
                missing += usize::from(!pattern.feed(byte));
            }
            if missing == 0 && !self.expect.is_empty() {
                return Seen {
                    failed: None,
                    complete: true,
                };
            }
            if let Some(pattern) = self
                .fail_on
                .iter_mut()
                .find_map(|p| p.feed(byte).then_some(p))
            {
                return Seen {
                    failed: Some(pattern.text()),
                    complete: false,
                };
            }
        }
        Seen::default()
    }

    /// The expected texts that were not seen yet.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        self.expect
            .iter()
            .filter(|pattern| !pattern.seen)
            .map(Pattern::text)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(expect: &[&str], fail_on: &[&str]) -> Watch {
        let own = |texts: &[&str]| texts.iter().map(|&t| t.to_owned()).collect::<Vec<_>>();
        Watch::new(&own(expect), &own(fail_on))
    }

    fn feed_bytewise(watch: &mut Watch, text: &str) -> Seen {
        text.bytes()
            .map(|byte| watch.feed(&[byte]))
            .find(|seen| *seen != Seen::default())
            .unwrap_or_default()
    }

    #[test]
    fn text_is_found_however_the_stream_is_cut() {
        let stream = "ababab\r\nabac login: ";
        for text in ["abac", "ab\r\nab", "login: ", "ababab", "babab\r"] {
            assert!(
                watch(&[text], &[]).feed(stream.as_bytes()).complete,
                "{text:?}"
            );
            assert!(
                feed_bytewise(&mut watch(&[text], &[]), stream).complete,
                "{text:?}"
            );
        }
        assert!(!watch(&["abad"], &[]).feed(stream.as_bytes()).complete);
    }

    #[test]
    fn text_that_overlaps_itself_is_found() {
        assert!(watch(&["aab"], &[]).feed(b"aaab").complete);
        assert!(watch(&["abcabd"], &[]).feed(b"abcabcabd").complete);
    }

    #[test]
    fn texts_may_come_in_any_order_and_share_bytes() {
        let mut watch = watch(&["panic: no", "no init"], &[]);
        assert!(!watch.feed(b"panic: no").complete);
        assert_eq!(watch.missing(), ["no init"]);
        assert!(watch.feed(b" init").complete);
        assert!(watch.missing().is_empty());
    }

    #[test]
    fn failing_text_is_named_and_wins_when_it_comes_first() {
        let seen = watch(&["done"], &["BUG:", "Oops"]).feed(b"x Oops done");
        assert_eq!(seen.failed.as_deref(), Some("Oops"));
        let seen = watch(&["done"], &["Oops"]).feed(b"done Oops");
        assert!(seen.complete && seen.failed.is_none());
    }

    #[test]
    fn empty_texts_do_nothing() {
        assert_eq!(watch(&[], &[""]).feed(b"x"), Seen::default());
        assert!(watch(&[""], &[]).feed(b"x").complete);
    }
}
