// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One row of the table, as a line that a benchmark prints and as a line that people read.
//!
//! The first is `what<TAB>goal<TAB>figure`, the goal being a relation (`<=`, `>=` or `=`), a space and a number, or `-`.

use std::fmt;
use std::str::FromStr;

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
    /// This: a count.
    Exactly(f64),
    /// Whatever it is: the figure is told for what it says of another.
    None,
}

impl Goal {
    /// Whether `figure` is as it should be.
    #[must_use]
    pub fn is_met(self, figure: f64) -> bool {
        match self {
            Self::AtMost(most) => figure <= most,
            Self::AtLeast(least) => figure >= least,
            Self::Exactly(count) => (figure - count).abs() < f64::EPSILON,
            Self::None => true,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (relation, number) = match self {
            Self::AtMost(number) => ("<=", number),
            Self::AtLeast(number) => (">=", number),
            Self::Exactly(number) => ("=", number),
            Self::None => return f.write_str("-"),
        };
        write!(f, "{relation} {number}")
    }
}

/// A line is no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRow;

impl FromStr for Goal {
    type Err = NoRow;

    fn from_str(text: &str) -> Result<Self, NoRow> {
        if text == "-" {
            return Ok(Self::None);
        }
        let (relation, number) = text.split_once(' ').ok_or(NoRow)?;
        let number = number.parse().map_err(|_| NoRow)?;
        match relation {
            "<=" => Ok(Self::AtMost(number)),
            ">=" => Ok(Self::AtLeast(number)),
            "=" => Ok(Self::Exactly(number)),
            _ => Err(NoRow),
        }
    }
}

/// What was measured, what it should be and what it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// In words, with what it is compared.
    pub what: String,
    /// What the figure should be.
    pub goal: Goal,
    /// What it is.
    pub figure: f64,
}

impl Row {
    /// Prints a row for the table.
    pub fn print(what: &str, goal: Goal, figure: f64) {
        println!("{what}\t{goal}\t{figure}");
    }

    /// The line above the rows.
    #[must_use]
    pub fn heading() -> String {
        line("what", "goal", "figure", "")
    }
}

impl FromStr for Row {
    type Err = NoRow;

    fn from_str(text: &str) -> Result<Self, NoRow> {
        let mut parts = text.split('\t');
        let mut part = || parts.next().ok_or(NoRow);
        let row = Self {
            what: part()?.to_owned(),
            goal: part()?.parse()?,
            figure: part()?.parse().map_err(|_| NoRow)?,
        };
        parts.next().is_none().then_some(row).ok_or(NoRow)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figure = match self.goal {
            Goal::Exactly(_) => self.figure.to_string(),
            _ => format!("{:.2}", self.figure),
        };
        let verdict = match self.goal {
            Goal::None => "",
            goal if goal.is_met(self.figure) => "met",
            _ => "NOT met",
        };
        f.write_str(&line(&self.what, &self.goal.to_string(), &figure, verdict))
    }
}

fn line(what: &str, goal: &str, figure: &str, verdict: &str) -> String {
    let line = format!("{what:<76} {goal:>7} {figure:>8}  {verdict}");
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_of_a_benchmark_becomes_a_line_with_a_verdict() {
        let line = |text: &str| text.parse::<Row>().unwrap().to_string();
        let words = |text: &str| line(text).split_whitespace().map(str::to_owned).collect();
        let words: [Vec<String>; 5] = [
            words("a hit\t<= 3\t2.996"),
            words("a miss\t<= 12\t12.004"),
            words("threads\t>= 0.9\t0.91"),
            words("pages\t= 5\t6"),
            words("as it is\t-\t7.5"),
        ];
        assert_eq!(
            words,
            [
                vec!["a", "hit", "<=", "3", "3.00", "met"],
                vec!["a", "miss", "<=", "12", "12.00", "NOT", "met"],
                vec!["threads", ">=", "0.9", "0.91", "met"],
                vec!["pages", "=", "5", "6", "NOT", "met"],
                vec!["as", "it", "is", "-", "7.50"],
            ]
        );
    }

    #[test]
    fn row_printed_is_read_back() {
        for goal in [
            Goal::AtMost(3.5),
            Goal::AtLeast(0.9),
            Goal::Exactly(0.0),
            Goal::None,
        ] {
            assert_eq!(goal.to_string().parse(), Ok(goal));
        }
    }

    #[test]
    fn other_lines_are_no_rows() {
        for text in [
            "",
            "a\tb\tc",
            "a\t<= 3",
            "a\t<= 3\tx",
            "a\t< 3\t2",
            "a\t= 3\t3\t3",
        ] {
            assert_eq!(text.parse::<Row>(), Err(NoRow), "{text}");
        }
    }
}
