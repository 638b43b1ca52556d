// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The texts of options that have parts of their own: `FIRST,flag,name=value`.
//!
//! Every part is asked for by name; what nobody asked for is an error that says what is allowed.

use crate::error::Error;
use std::str::FromStr;

/// An option's text, cut at commas.
#[derive(Debug)]
pub struct Parts<'a> {
    option: &'static str,
    first: Option<&'a str>,
    rest: Vec<(&'a str, Option<&'a str>)>,
    asked: Vec<String>,
}

impl<'a> Parts<'a> {
    /// Parts of `text`, all of the form `name` or `name=value`.
    ///
    /// # Errors
    /// A part is empty, or a name comes twice.
    pub fn new(option: &'static str, text: &'a str) -> Result<Self, Error> {
        Self::cut(option, None, text)
    }

    /// Parts of `text`, of which the first is a value without a name.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_first(option: &'static str, text: &'a str) -> Result<Self, Error> {
        match text.split_once(',') {
            None => Self::cut(option, Some(text), ""),
            Some((_, "")) => Err(wrong(option, format!("an empty part in {text:?}"))),
            Some((first, rest)) => Self::cut(option, Some(first), rest),
        }
    }

    fn cut(option: &'static str, first: Option<&'a str>, text: &'a str) -> Result<Self, Error> {
        if first == Some("") {
            return Err(wrong(option, "the first part is empty"));
        }
        let mut parts = Self {
            option,
            first,
            rest: Vec::new(),
            asked: Vec::new(),
        };
        if first.is_some() && text.is_empty() {
            return Ok(parts);
        }
        for part in text.split(',') {
            let (name, value) = match part.split_once('=') {
                None => (part, None),
                Some((name, value)) => (name, Some(value)),
            };
            if name.is_empty() {
                return Err(wrong(option, format!("an empty part in {text:?}")));
            }
            if parts.rest.iter().any(|(other, _)| *other == name) {
                return Err(wrong(option, format!("{name} is given twice")));
            }
            parts.rest.push((name, value));
        }
        Ok(parts)
    }

    /// The value without a name; empty only when the parts were made without one.
    #[must_use]
    pub fn first(&self) -> &'a str {
        self.first.unwrap_or("")
    }

    /// Whether the part `name` is there, without a value.
    ///
    /// # Errors
    /// It has a value.
    pub fn flag(&mut self, name: &'static str) -> Result<bool, Error> {
        match self.take(name, name.to_owned()) {
            None => Ok(false),
            Some(None) => Ok(true),
            Some(Some(value)) => Err(wrong(
                self.option,
                format!("{name} takes no value, not {value:?}"),
            )),
        }
    }

    /// The value of `name`. `shape` stands for it in messages.
    ///
    /// # Errors
    /// It has no value.
    pub fn value(&mut self, name: &'static str, shape: &str) -> Result<Option<&'a str>, Error> {
        match self.take(name, format!("{name}={shape}")) {
            None => Ok(None),
            Some(Some(value)) if !value.is_empty() => Ok(Some(value)),
            Some(_) => Err(wrong(
                self.option,
                format!("{name} needs a value: {name}={shape}"),
            )),
        }
    }

    /// The value of `name`, which must be there.
    ///
    /// # Errors
    /// It is not.
    pub fn required(&mut self, name: &'static str, shape: &str) -> Result<&'a str, Error> {
        self.value(name, shape)?
            .ok_or_else(|| wrong(self.option, format!("{name}={shape} is missing")))
    }

    /// The value of `name` as one of `choices`, given by their words.
    ///
    /// # Errors
    /// It is none of them.
    pub fn choice<T: Copy>(
        &mut self,
        name: &'static str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, Error> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let shape = words.join("|");
        let Some(value) = self.value(name, &shape)? else {
            return Ok(None);
        };
        choices
            .iter()
            .find(|(word, _)| *word == value)
            .map(|(_, choice)| Some(*choice))
            .ok_or_else(|| {
                wrong(
                    self.option,
                    format!("{name}={value}: allowed are {}", words.join(", ")),
                )
            })
    }

    /// The value of `name` as a number from `low` to `high`.
    ///
    /// # Errors
    /// It is none.
    pub fn number<T>(&mut self, name: &'static str, low: T, high: T) -> Result<Option<T>, Error>
    where
        T: FromStr + PartialOrd + std::fmt::Display,
    {
        let Some(value) = self.value(name, "N")? else {
            return Ok(None);
        };
        match value.parse::<T>() {
            Ok(number) if number >= low && number <= high => Ok(Some(number)),
            _ => Err(wrong(
                self.option,
                format!("{name}={value}: allowed are numbers from {low} to {high}"),
            )),
        }
    }

    /// Ends the parsing.
    ///
    /// # Errors
    /// There is a part that nobody asked for.
    pub fn finish(self) -> Result<(), Error> {
        match self.rest.first() {
            None => Ok(()),
            Some((name, _)) if self.asked.is_empty() => {
                Err(wrong(self.option, format!("{name:?} is not known")))
            }
            Some((name, _)) => Err(wrong(
                self.option,
                format!(
                    "{name:?} is not known; allowed are {}",
                    self.asked.join(", ")
                ),
            )),
        }
    }

    fn take(&mut self, name: &str, shape: String) -> Option<Option<&'a str>> {
        self.asked.push(shape);
        let index = self.rest.iter().position(|(other, _)| *other == name)?;
        Some(self.rest.remove(index).1)
    }
}

/// A complaint about `option`.
pub(crate) fn wrong(option: &'static str, problem: impl Into<String>) -> Error {
    Error::Option {
        option,
        problem: problem.into(),
    }
}

/// A size in bytes from a number with a suffix K, M, G or T (powers of 1024); MiB without one.
///
/// # Errors
/// It is no such number, or does not fit in 64 bits.
pub fn size(option: &'static str, text: &str) -> Result<u64, Error> {
    let complaint = || {
        wrong(
            option,
            format!(
                "{text:?} is no size: a number with a suffix K, M, G or T, or of MiB without one"
            ),
        )
    };
    let (digits, shift) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 10),
        Some((at, 'm' | 'M')) => (&text[..at], 20),
        Some((at, 'g' | 'G')) => (&text[..at], 30),
        Some((at, 't' | 'T')) => (&text[..at], 40),
        _ => (text, 20),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(complaint());
    }
    let number: u64 = digits.parse().map_err(|_| complaint())?;
    number.checked_mul(1 << shift).ok_or_else(complaint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_takes_suffixes_and_means_mib_without() {
        let table = [
            ("512M", Some(512 << 20)),
            ("2g", Some(2 << 30)),
            ("4K", Some(4096)),
            ("1T", Some(1 << 40)),
            ("64", Some(64 << 20)),
            ("0", Some(0)),
            ("", None),
            ("M", None),
            ("1.5G", None),
            ("-1", None),
            ("+1", None),
            ("12Q", None),
            ("é", None),
            ("18446744073709551615", None),
        ];
        for (text, bytes) in table {
            assert_eq!(size("memory", text).ok(), bytes, "{text:?}");
        }
    }

    fn complaint(text: &str) -> String {
        let parse = || -> Result<(), Error> {
            let mut parts = Parts::with_first("disk", text)?;
            parts.flag("readonly")?;
            parts.number::<u16>("queues", 1, 16)?;
            parts.choice("mode", &[("fast", 1), ("slow", 2)])?;
            parts.finish()
        };
        parse().err().map_or(String::new(), |e| e.to_string())
    }

    #[test]
    fn parts_are_taken_by_name_in_any_order() {
        let mut parts = Parts::with_first("disk", "a=b,mode=slow,readonly,queues=3").unwrap();
        assert_eq!(parts.first(), "a=b");
        assert!(parts.flag("readonly").unwrap());
        assert_eq!(parts.number::<u16>("queues", 1, 16).unwrap(), Some(3));
        assert_eq!(parts.choice("mode", &[("slow", 2)]).unwrap(), Some(2));
        assert_eq!(parts.value("id", "ID").unwrap(), None);
        parts.finish().unwrap();
    }

    #[test]
    fn complaint_names_the_option_the_part_and_what_is_allowed() {
        let table = [
            ("x", ""),
            ("x,readonly", ""),
            ("", "--disk: the first part is empty"),
            ("x,", "--disk: an empty part in \"x,\""),
            ("x,readonly=1", "--disk: readonly takes no value, not \"1\""),
            ("x,queues", "--disk: queues needs a value: queues=N"),
            ("x,queues=", "--disk: queues needs a value: queues=N"),
            (
                "x,queues=17",
                "--disk: queues=17: allowed are numbers from 1 to 16",
            ),
            (
                "x,queues=-1",
                "--disk: queues=-1: allowed are numbers from 1 to 16",
            ),
            ("x,mode=odd", "--disk: mode=odd: allowed are fast, slow"),
            ("x,readonly,readonly", "--disk: readonly is given twice"),
            (
                "x,cache=off",
                "--disk: \"cache\" is not known; allowed are readonly, queues=N, mode=fast|slow",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(complaint(text), expected, "{text:?}");
        }
    }
}
