// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A dump as a page: one file that needs nothing else, neither a network nor fonts. Every text in it is escaped; its size
//! is bounded as the dump is.
//!
//! The only script looks an address up in the lists of the page and says in words why it is not mapped.

mod picture;

use super::{Difference, Differs, DomainDump, Dump, Hole, Line, Listed};
use crate::mirror::{Address, EndpointName, Why};
use std::fmt::Write;

const STYLE: &str = include_str!("html/page.css");
const SCRIPT: &str = include_str!("html/page.js");

/// Lines of a list that are shown as a table; the script knows all that the dump has.
const SHOWN: usize = 256;

/// The page.
#[must_use]
pub fn render(dump: &Dump) -> String {
    let mut page = String::from(concat!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n",
        "<meta http-equiv=\"Content-Security-Policy\" ",
        "content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n",
        "<title>Remora: mappings of passed-through devices</title>\n<style>\n",
    ));
    page.push_str(STYLE);
    page.push_str("</style></head><body>\n<h1>Mappings of passed-through devices</h1>\n");
    query(&mut page, dump);
    devices(&mut page, dump);
    if dump.domains.is_empty() {
        page.push_str("<p id=\"none\">No host table holds anything for a guest domain.</p>\n");
    }
    for domain in &dump.domains {
        section(&mut page, domain);
    }
    totals(&mut page, dump);
    page.push_str("<script>\n");
    page.push_str(SCRIPT);
    page.push_str("</script></body></html>\n");
    page
}

/// `text` as it stands in HTML, between tags or in quotes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Adds formatted text, which is escaped already.
macro_rules! put {
    ($page:expr, $($text:tt)*) => {
        // A string takes everything.
        let _ = write!($page, $($text)*);
    };
}
use put;

fn query(page: &mut String, dump: &Dump) {
    page.push_str(concat!(
        "<form id=\"query\"><label>Why is this IOVA not mapped? ",
        "<input name=\"iova\" placeholder=\"0x1000\" autocomplete=\"off\"></label> ",
        "<label>in <select name=\"table\">",
    ));
    for domain in &dump.domains {
        let table = domain.domain.table;
        let holds = escape(&domain.domain.holds.to_string());
        put!(
            page,
            "<option value=\"{table}\">host table {table}: {holds}</option>"
        );
    }
    page.push_str(
        "</select></label> <button>Ask</button></form>\n<p id=\"answer\" role=\"status\"></p>\n",
    );
}

fn devices(page: &mut String, dump: &Dump) {
    page.push_str(concat!(
        "<h2>Devices</h2>\n<table id=\"devices\"><tr><th>device</th><th>unit</th><th>guest says</th>",
        "<th>host table</th><th>faults</th><th>trouble</th></tr>\n",
    ));
    for endpoint in &dump.report.devices {
        let mut trouble = endpoint.refused.clone().unwrap_or_default();
        if endpoint.still_reachable {
            trouble.push_str(" It can still reach what the guest took away.");
        }
        let place = endpoint
            .place
            .map_or_else(|| "none".to_owned(), |place| place.to_string());
        put!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{place}</td><td>{}</td><td>{}</td></tr>\n",
            escape(&endpoint.name.to_string()),
            endpoint.unit,
            escape(&endpoint.wants),
            endpoint.counters.faults,
            escape(&trouble),
        );
    }
    page.push_str("</table>\n");
}

fn section(page: &mut String, dump: &DomainDump) {
    let domain = &dump.domain;
    let table = domain.table;
    put!(
        page,
        "<section id=\"table-{table}\" class=\"domain\">\n<h2>Host table {table}: {}</h2>\n",
        escape(&domain.holds.to_string())
    );
    facts(page, dump);
    picture::draw(page, &dump.blocks);
    differences(page, &dump.differences);
    lines(page, "Guest's tables", &dump.guest);
    lines(page, "Host", &dump.host);
    put!(
        page,
        "<script type=\"application/json\" class=\"data\" data-table=\"{table}\">"
    );
    page.push_str(&data(dump));
    page.push_str("</script>\n</section>\n");
}

fn facts(page: &mut String, dump: &DomainDump) {
    let domain = &dump.domain;
    let names = |members: &[EndpointName]| {
        let names: Vec<String> = members.iter().map(ToString::to_string).collect();
        names.join(", ")
    };
    let tags = domain.tags.iter();
    let tags: Vec<String> = tags
        .map(|tag| format!("{} of unit {}", tag.domain, tag.unit))
        .collect();
    put!(
        page,
        "<p>Devices: {}. Domain ids: {}. Guest: {} pages at the last whole walk, {} runs, {} bytes. Host: {} runs, {} bytes.</p>\n",
        escape(&names(&domain.members)),
        escape(&tags.join(", ")),
        domain.leaves,
        dump.guest.total,
        dump.guest.bytes,
        domain.runs,
        domain.bytes
    );
    if let Some(blocked) = domain.blocked {
        put!(
            page,
            "<p class=\"bad\">Nothing goes through it: {}.</p>\n",
            escape(&blocked.to_string())
        );
    }
    if let Some(refusal) = &domain.last_refusal {
        put!(
            page,
            "<p class=\"bad\">{} ranges are not as the guest says; the last refusal: {}.</p>\n",
            domain.unsynced,
            escape(&refusal.meaning)
        );
    }
    if let Some(at) = dump.stopped {
        put!(
            page,
            "<p class=\"bad\">The comparison stopped at {at}: the guest's tables cost too much.</p>\n"
        );
    }
}

fn differences(page: &mut String, list: &Listed<Difference>) {
    if list.total == 0 {
        page.push_str("<p class=\"good\">Guest and host agree.</p>\n");
        return;
    }
    head(page, "Differences", list, true);
    page.push_str("<tr><th>IOVA</th><th>what</th><th>guest</th><th>host</th></tr>\n");
    for difference in list.lines.iter().take(SHOWN) {
        let mapping = |mapping: Option<super::explain::Mapping>| {
            mapping.map_or_else(
                || "nothing".to_owned(),
                |mapping| format!("{} ({})", mapping.gpa, mapping.rights),
            )
        };
        put!(
            page,
            "<tr class=\"{}\"><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
            if matches!(difference.what, Differs::LeftOut(_)) {
                "left"
            } else {
                "bad"
            },
            span(difference.first, difference.last),
            escape(what(difference.what)),
            escape(&mapping(difference.guest)),
            escape(&mapping(difference.host)),
        );
    }
    page.push_str("</table></details>\n");
}

const fn what(differs: Differs) -> &'static str {
    match differs {
        Differs::Missing => "missing on the host",
        Differs::Extra => "extra on the host",
        Differs::Different => "different on the host",
        Differs::LeftOut(Why::InterruptWindow) => "left out: the interrupt window",
        Differs::LeftOut(Why::NothingThere) => "left out: leads where there is no RAM",
        Differs::LeftOut(Why::DeviceMemory) => "left out: memory of another device",
        Differs::LeftOut(Why::Aperture) => "left out: beyond the host's width, or reserved there",
        Differs::LeftOut(Why::Granularity) => "left out: finer than the host's smallest page",
        Differs::LeftOut(Why::ReadOnly) => {
            "left out: for reading only, beneath a first-stage table"
        }
    }
}

fn lines(page: &mut String, title: &str, list: &Listed<Line>) {
    head(page, title, list, false);
    page.push_str("<tr><th>IOVA</th><th>GPA</th><th>rights</th></tr>\n");
    for line in list.lines.iter().take(SHOWN) {
        let Line {
            first,
            last,
            gpa,
            rights,
        } = line;
        put!(
            page,
            "<tr><td>{}</td><td>{gpa}</td><td>{rights}</td></tr>\n",
            span(*first, *last)
        );
    }
    page.push_str("</table></details>\n");
}

fn head<T>(page: &mut String, title: &str, list: &Listed<T>, open: bool) {
    let shown = list.lines.len().min(SHOWN);
    let open = if open { " open" } else { "" };
    put!(
        page,
        "<details{open}><summary>{title}: {} runs, {} bytes",
        list.total,
        list.bytes
    );
    if (shown as u64) < list.total {
        put!(page, "; the first {shown}");
    }
    page.push_str("</summary><table>\n");
}

fn span(first: Address, last: Address) -> String {
    format!("{first} to {last}")
}

fn totals(page: &mut String, dump: &Dump) {
    let text = serde_json::to_string_pretty(&dump.report.totals).unwrap_or_default();
    put!(
        page,
        "<details><summary>All counters since the start</summary><pre>{}</pre></details>\n",
        escape(&text)
    );
}

/// What the script looks addresses up in: `[first, last, words]`, of differences, of holes and of what is mapped, with
/// whether the lists are whole.
fn data(dump: &DomainDump) -> String {
    let differences: Vec<_> = dump
        .differences
        .lines
        .iter()
        .map(|difference| (difference.first, difference.last, what(difference.what)))
        .collect();
    let holes: Vec<_> = dump
        .holes
        .lines
        .iter()
        .map(
            |Hole {
                 first,
                 last,
                 entry,
                 why,
             }| (first, last, why.in_words(entry.as_ref())),
        )
        .collect();
    let host: Vec<_> = dump
        .host
        .lines
        .iter()
        .map(|line| (line.first, line.last, line.gpa, line.rights))
        .collect();
    let data = serde_json::json!({
        "blocked": dump.domain.blocked.map(|blocked| blocked.to_string()),
        "differences": differences,
        "holes": holes,
        "host": host,
    });
    // Nothing in it may end the element that it stands in.
    data.to_string().replace('<', "\\u003c")
}

#[cfg(test)]
mod tests;
