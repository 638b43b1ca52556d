// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory: how much this user may lock, and huge pages.

use super::Row;
use super::host::Host;

const HUGE: &str = "sys/kernel/mm/hugepages";
const TRANSPARENT: &str = "sys/kernel/mm/transparent_hugepage/enabled";

pub(super) fn rows(host: &Host<'_>) -> Vec<Row> {
    vec![memlock(host), huge_pages(host)]
}

/// Guests with a passed-through device have all their RAM locked.
fn memlock(host: &Host<'_>) -> Row {
    const ID: &str = "memlock";
    if host.may_lock() {
        return Row::ok(
            ID,
            "this process may lock any amount of memory (CAP_IPC_LOCK)",
        );
    }
    let limits = host.files.field("proc/self/limits", "Max locked memory");
    let soft = limits.and_then(|limits| Some(limits.split_whitespace().next()?.to_owned()));
    let Some(soft) = soft else {
        return Row::warning(ID, "how much memory may be locked is not known")
            .advise("guests with a passed-through device have their RAM locked: see ulimit -l");
    };
    let Ok(limit) = soft.parse::<u64>() else {
        return Row::ok(ID, "any amount of memory may be locked");
    };
    let ram = host.ram().unwrap_or(u64::MAX);
    if limit >= ram {
        return Row::ok(ID, format!("{} may be locked: all of RAM", size(limit)));
    }
    Row::warning(
        ID,
        format!(
            "only {} of memory may be locked, which bounds the RAM of guests with a passed-through device",
            size(limit)
        ),
    )
    .advise(
        "add a line \"USER - memlock unlimited\" to /etc/security/limits.d/remora.conf and log in again; for a service, LimitMEMLOCK=infinity",
    )
}

fn huge_pages(host: &Host<'_>) -> Row {
    const ID: &str = "hugepages";
    let pools = host.files.names(HUGE);
    let pools = pools.iter().filter_map(|pool| {
        let kib: u64 = pool
            .strip_prefix("hugepages-")?
            .strip_suffix("kB")?
            .parse()
            .ok()?;
        let count = |what: &str| {
            host.files
                .number(&format!("{HUGE}/{pool}/{what}_hugepages"))
        };
        let (all, free) = (count("nr")?, count("free")?);
        (all > 0).then(|| format!("{all} of {} reserved, {free} free", size(kib << 10)))
    });
    let pools: Vec<String> = pools.collect();
    let pools = if pools.is_empty() {
        "none reserved".to_owned()
    } else {
        pools.join("; ")
    };
    let modes = host.files.text(TRANSPARENT).unwrap_or_default();
    let mode = modes
        .split('[')
        .nth(1)
        .and_then(|rest| rest.split(']').next());
    match mode {
        Some(mode @ ("always" | "madvise")) => {
            Row::ok(ID, format!("transparent huge pages ({mode}); {pools}"))
        }
        _ => Row::warning(ID, format!("no transparent huge pages; {pools}")).advise(format!(
            "guests run faster with them: echo madvise | sudo tee /{TRANSPARENT}"
        )),
    }
}

/// Bytes in the largest unit of which there are at least two, or one exactly.
fn size(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units
        .iter()
        .find(|(shift, _)| bytes >> shift >= 2 || bytes == 1 << shift);
    match unit {
        Some((shift, name)) => format!("{} {name}", bytes >> shift),
        None => format!("{bytes} bytes"),
    }
}
