// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What to do about a device node that this user may not open.

use super::host::{Host, Node};
use std::io;

/// Readable and writable by the group.
const GROUP_READ_WRITE: u32 = 0o060;

/// What to do about `error` from opening the node at `path`.
pub(super) fn advice(host: &Host<'_>, path: &str, error: &io::Error) -> String {
    let denied = error.kind() == io::ErrorKind::PermissionDenied;
    match host.nodes.node(path) {
        Some(node) if denied => permission(host, path, node),
        _ => format!("see what the kernel's log says of {path} (dmesg)"),
    }
}

fn permission(host: &Host<'_>, path: &str, node: Node) -> String {
    let by_group = node.mode & GROUP_READ_WRITE == GROUP_READ_WRITE && node.group != 0;
    match group_name(host, node.group) {
        Some(group) if by_group => format!(
            "join the group that owns {path}, then log in again: sudo usermod -aG {group} \"$USER\""
        ),
        _ => format!(
            "give {path} to a group of yours, lastingly by a udev rule: sudo chgrp GROUP {path} && sudo chmod 660 {path}"
        ),
    }
}

fn group_name(host: &Host<'_>, id: u32) -> Option<String> {
    let groups = host.files.text("etc/group")?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    })
}
