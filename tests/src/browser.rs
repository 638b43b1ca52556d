// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A headless browser that opens a page of ours, asks it something and tells what it looks like.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process;

/// The program, of the Debian package of the same name.
pub const PROGRAM: &str = "chromium-headless-shell";

/// What a probe's result stands in.
const MARK: &str = "probe-of-the-test";
/// Seconds of the page's own clock that it may take.
const PAGE_TIME: &str = "20000";

/// Whether there is a browser.
pub fn is_there() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(PROGRAM).is_file())
}

/// Opens a copy of `page` in `dir`, runs `probe` in it, which is the body of a JavaScript function, and gives what that returns
/// as JSON. A picture of the page is left beside the copy.
pub fn ask(page: &str, dir: &Path, probe: &str) -> Result<(Value, PathBuf)> {
    let (file, picture) = (dir.join("page.html"), dir.join("page.png"));
    // Errors of the page itself are part of the answer.
    let script = format!(
        "<script>{{ const probed = document.createElement('pre'); probed.id = '{MARK}';\n\
         const result = (() => {{ try {{ return (() => {{ {probe} }})(); }} \
         catch (error) {{ return {{ thrown: String(error) }}; }} }})();\n\
         probed.hidden = true; probed.textContent = JSON.stringify(result); document.body.append(probed); }}</script>"
    );
    fs::write(&file, format!("{page}{script}"))?;
    let output = process::bound(PROGRAM)
        // Without a sandbox, as root has none there; the page is ours.
        .args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .arg(format!("--user-data-dir={}", dir.join("profile").display()))
        .arg(format!("--virtual-time-budget={PAGE_TIME}"))
        .args(["--enable-logging=stderr", "--window-size=1280,1600"])
        .arg(format!("--screenshot={}", picture.display()))
        .arg("--dump-dom")
        .arg(format!("file://{}", file.display()))
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {PROGRAM}"))?;
    let (dom, said) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    if let Some(complaint) = said.lines().find(|line| line.contains(":CONSOLE")) {
        bail!("the page complains: {complaint}");
    }
    let begin = format!("<pre id=\"{MARK}\" hidden=\"\">");
    let result = dom
        .split_once(&begin)
        .and_then(|(_, rest)| rest.split_once("</pre>"))
        .with_context(|| format!("the page did not come to the probe; {PROGRAM} said:\n{said}"))?;
    let value = serde_json::from_str(&unescape(result.0)).context("the probe's result")?;
    if fs::metadata(&picture).is_ok_and(|file| file.len() > 0) {
        Ok((value, picture))
    } else {
        bail!("{PROGRAM} took no picture; it said:\n{said}")
    }
}

/// Text of a document, as a browser writes it out.
fn unescape(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&nbsp;", "\u{a0}")
        .replace("&amp;", "&")
}
