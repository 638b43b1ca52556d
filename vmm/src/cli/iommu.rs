// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The text of `--iommu`.

use crate::config::{AddressWidth, IommuConfig, Stages, Switch, TableMode};
use crate::error::Error;
use crate::layout::MAX_UNITS;
use crate::options::Parts;
use iommu::capabilities::MAX_FAULT_RECORDS;

const MODES: [(&str, TableMode); 2] = [
    ("legacy", TableMode::Legacy),
    ("scalable", TableMode::Scalable),
];
const STAGES: [(&str, Stages); 4] = [
    ("auto", Stages::Auto),
    ("first", Stages::First),
    ("second", Stages::Second),
    ("both", Stages::Both),
];
const WIDTHS: [(&str, AddressWidth); 4] = [
    ("auto", AddressWidth::Auto),
    ("39", AddressWidth::Bits39),
    ("48", AddressWidth::Bits48),
    ("57", AddressWidth::Bits57),
];
const SWITCH: [(&str, bool); 2] = [("on", true), ("off", false)];
const THREE_WAY_SWITCH: [(&str, Switch); 3] = [
    ("auto", Switch::Auto),
    ("on", Switch::On),
    ("off", Switch::Off),
];

/// The units that `text` asks for; `None` for none.
///
/// # Errors
/// A part is not known, or its value is not allowed. Whether the parts go together is not judged here.
pub(super) fn iommu(text: &str) -> Result<Option<IommuConfig>, Error> {
    if text == "off" {
        return Ok(None);
    }
    let mut config = IommuConfig::default();
    let mut parts = Parts::new("iommu", text)?;
    choose(&mut parts, "mode", &MODES, &mut config.mode)?;
    choose(&mut parts, "stages", &STAGES, &mut config.stages)?;
    config.nesting = switch(&mut parts, "nesting")?;
    choose(
        &mut parts,
        "caching-mode",
        &THREE_WAY_SWITCH,
        &mut config.caching_mode,
    )?;
    choose(&mut parts, "aw", &WIDTHS, &mut config.address_width)?;
    choose(&mut parts, "intremap", &SWITCH, &mut config.intremap)?;
    config.pasid_bits = parts.number("pasid-bits", 0, 20)?;
    config.pri = switch(&mut parts, "pri")?;
    config.dirty = switch(&mut parts, "dirty")?;
    choose(&mut parts, "posted", &SWITCH, &mut config.posted)?;
    config.units = parts.number("units", 1, MAX_UNITS)?.unwrap_or(config.units);
    config.records = parts
        .number("records", 1, MAX_FAULT_RECORDS)?
        .unwrap_or(config.records);
    parts.finish()?;
    Ok(Some(config))
}

/// Puts what `name` chooses into `value`, and leaves it where nothing is said.
fn choose<T: Copy>(
    parts: &mut Parts<'_>,
    name: &'static str,
    choices: &[(&str, T)],
    value: &mut T,
) -> Result<(), Error> {
    if let Some(chosen) = parts.choice(name, choices)? {
        *value = chosen;
    }
    Ok(())
}

/// A switch whose absence leaves the decision open.
fn switch(parts: &mut Parts<'_>, name: &'static str) -> Result<Switch, Error> {
    Ok(match parts.choice(name, &SWITCH)? {
        None => Switch::Auto,
        Some(true) => Switch::On,
        Some(false) => Switch::Off,
    })
}
