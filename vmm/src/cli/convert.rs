// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From option texts to a checked [`Config`].

use super::RunArgs;
use super::iommu::iommu;
use super::vfio::{self, vfio};
use crate::config::{
    Config, DiskConfig, DmarConfig, DmatestConfig, EndingConfig, HugePages, MemoryConfig,
    NetConfig, RootPortConfig, SerialConfig, ShareConfig,
};
use crate::error::Error;
use crate::kvm::features::Feature;
use crate::offer;
use crate::options::{Parts, size, wrong};
use std::path::PathBuf;
use std::time::Duration;

/// What a panicking Linux says.
const PANIC: &str = "Kernel panic - not syncing";
/// vCPUs whose APIC ids fit the eight bits of an interrupt that is not remapped; 255 is the broadcast.
const MAX_PLAIN_CPUS: u32 = 255;

impl RunArgs {
    /// The configuration that the options describe.
    ///
    /// # Errors
    /// An option's text is wrong, or options contradict each other.
    pub fn config(&self) -> Result<Config, Error> {
        let config = Config {
            kernel: self.kernel.clone(),
            initrd: self.initrd.clone(),
            cmdline: self.cmdline.clone(),
            cpus: cpus(&self.cpus)?,
            memory: memory(&self.memory)?,
            removed_features: cpu(&self.cpu)?,
            root_ports: each(&self.root_port, root_port)?,
            serial: serial(&self.serial)?,
            rng: self.rng,
            edu: self.edu,
            dmatests: each(&self.dmatest, dmatest)?,
            disks: each(&self.disk, disk)?,
            nets: each(&self.net, net)?,
            shares: each(&self.share, share)?,
            vfios: each(&self.vfio, vfio)?,
            iommu: iommu(&self.iommu)?,
            dmar: DmarConfig::default(),
            api_socket: self.api_socket.clone(),
            ending: self.ending()?,
        };
        check_ids(&config)?;
        check_buses(&config)?;
        vfio::check(&config.vfios)?;
        check_cpus(&config)?;
        offer::check(&config)?;
        Ok(config)
    }

    fn ending(&self) -> Result<EndingConfig, Error> {
        let mut fail_on = self.fail_on.clone();
        if !self.no_default_fail_on {
            fail_on.push(PANIC.to_owned());
        }
        for (option, texts) in [("expect", &self.expect), ("fail-on", &self.fail_on)] {
            if texts.iter().any(String::is_empty) {
                return Err(wrong(option, "the text is empty"));
            }
        }
        Ok(EndingConfig {
            timeout: self.timeout.as_deref().map(timeout).transpose()?,
            expect: self.expect.clone(),
            fail_on,
            no_reboot: self.no_reboot,
        })
    }
}

fn each<T>(texts: &[String], parse: fn(&str) -> Result<T, Error>) -> Result<Vec<T>, Error> {
    texts.iter().map(|text| parse(text)).collect()
}

fn cpus(text: &str) -> Result<u32, Error> {
    match text.parse() {
        Ok(cpus) if cpus != 0 => Ok(cpus),
        _ => Err(wrong(
            "cpus",
            format!("{text:?} is no number of processors, 1 or more"),
        )),
    }
}

fn memory(text: &str) -> Result<MemoryConfig, Error> {
    let mut parts = Parts::with_first("memory", text)?;
    let config = MemoryConfig {
        size: size("memory", parts.first())?,
        hugepages: parts.choice(
            "hugepages",
            &[("2M", HugePages::Size2M), ("1G", HugePages::Size1G)],
        )?,
    };
    parts.finish()?;
    Ok(config)
}

fn cpu(text: &str) -> Result<Vec<Feature>, Error> {
    let mut words = text.split(',');
    if words.next() != Some("host") {
        return Err(wrong("cpu", format!("{text:?}: the only model is host")));
    }
    words
        .map(|word| {
            let name = word.strip_prefix('-').ok_or_else(|| {
                wrong(
                    "cpu",
                    format!("{word:?}: features can only be taken away, as -{word}"),
                )
            })?;
            Feature::parse(name).ok_or_else(|| {
                wrong(
                    "cpu",
                    format!("feature {name:?} is not known; allowed are names of /proc/cpuinfo that a guest can be without"),
                )
            })
        })
        .collect()
}

fn root_port(text: &str) -> Result<RootPortConfig, Error> {
    let mut parts = Parts::new("root-port", text)?;
    let config = RootPortConfig {
        id: parts.required("id", "ID")?.to_owned(),
        hotplug: parts.flag("hotplug")?,
    };
    parts.finish()?;
    Ok(config)
}

fn serial(text: &str) -> Result<SerialConfig, Error> {
    match (text, text.strip_prefix("file:")) {
        ("stdio", _) => Ok(SerialConfig::Stdio),
        ("null", _) => Ok(SerialConfig::Null),
        (_, Some(path)) if !path.is_empty() => Ok(SerialConfig::File(PathBuf::from(path))),
        _ => Err(wrong(
            "serial",
            format!("{text:?}: allowed are stdio, file:PATH and null"),
        )),
    }
}

pub(super) fn disk(text: &str) -> Result<DiskConfig, Error> {
    let mut parts = Parts::with_first("disk", text)?;
    let config = DiskConfig {
        path: PathBuf::from(parts.first()),
        readonly: parts.flag("readonly")?,
        direct: parts.flag("direct")?,
        queues: parts.number("queues", 1, 16)?.unwrap_or(1),
        id: parts.value("id", "ID")?.map(str::to_owned),
        bus: parts.value("bus", "ID")?.map(str::to_owned),
    };
    parts.finish()?;
    Ok(config)
}

pub(super) fn dmatest(text: &str) -> Result<DmatestConfig, Error> {
    let switch = [("on", true), ("off", false)];
    let mut config = DmatestConfig {
        bus: None,
        pasid_bits: 20,
        ats: true,
        pri: true,
    };
    if text.is_empty() {
        return Ok(config);
    }
    let mut parts = Parts::new("dmatest", text)?;
    config.bus = parts.value("bus", "ID")?.map(str::to_owned);
    if let Some(bits) = parts.number("pasid-bits", 0, 20)? {
        config.pasid_bits = bits;
    }
    let pri = parts.choice("pri", &switch)?;
    config.ats = parts.choice("ats", &switch)?.unwrap_or(config.ats);
    config.pri = pri.unwrap_or(config.ats);
    parts.finish()?;
    if config.pri && !config.ats {
        return Err(wrong(
            "dmatest",
            "pri=on needs ats=on: only a device that translates asks for pages",
        ));
    }
    Ok(config)
}

pub(super) fn net(text: &str) -> Result<NetConfig, Error> {
    let mut parts = Parts::new("net", text)?;
    let config = NetConfig {
        tap: parts.required("tap", "NAME")?.to_owned(),
        mac: parts
            .value("mac", "xx:xx:xx:xx:xx:xx")?
            .map(mac)
            .transpose()?,
        bus: parts.value("bus", "ID")?.map(str::to_owned),
    };
    parts.finish()?;
    if config.tap.len() > 15 || config.tap.contains(['/', '\0']) {
        return Err(wrong(
            "net",
            format!(
                "tap={}: an interface's name has up to 15 bytes and no slash",
                config.tap
            ),
        ));
    }
    Ok(config)
}

fn mac(text: &str) -> Result<[u8; 6], Error> {
    let complaint = |why: &str| wrong("net", format!("mac={text}: {why}"));
    let bytes: Vec<u8> = text
        .split(':')
        .map(|byte| match byte.len() {
            2 => u8::from_str_radix(byte, 16).ok(),
            _ => None,
        })
        .collect::<Option<_>>()
        .ok_or_else(|| complaint("wanted six bytes in hexadecimal, xx:xx:xx:xx:xx:xx"))?;
    let mac: [u8; 6] = bytes
        .try_into()
        .map_err(|_| complaint("wanted six bytes in hexadecimal, xx:xx:xx:xx:xx:xx"))?;
    if mac[0] & 1 != 0 {
        return Err(complaint("it is a group address (the first byte is odd)"));
    }
    Ok(mac)
}

fn share(text: &str) -> Result<ShareConfig, Error> {
    let mut parts = Parts::with_first("share", text)?;
    let config = ShareConfig {
        dir: PathBuf::from(parts.first()),
        tag: parts.required("tag", "NAME")?.to_owned(),
        readonly: parts.flag("readonly")?,
    };
    parts.finish()?;
    if config.tag.len() > 35 {
        return Err(wrong(
            "share",
            format!("tag={}: a tag has up to 35 bytes", config.tag),
        ));
    }
    Ok(config)
}

fn timeout(text: &str) -> Result<Duration, Error> {
    const YEAR: f64 = 31_536_000.0;
    match text.parse::<f64>() {
        Ok(seconds) if (0.001..=YEAR).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(wrong(
            "timeout",
            format!("{text:?} is no number of seconds from 0.001 to {YEAR}"),
        )),
    }
}

/// Names are how the control socket and `bus=` tell devices apart.
fn check_ids(config: &Config) -> Result<(), Error> {
    let mut seen: Vec<&str> = Vec::new();
    let ports = config.root_ports.iter().map(|port| &port.id);
    let disks = config.disks.iter().filter_map(|disk| disk.id.as_ref());
    let vfios = config.vfios.iter().filter_map(|vfio| vfio.id.as_ref());
    for id in ports.chain(disks).chain(vfios) {
        if seen.contains(&id.as_str()) {
            return Err(Error::Config(format!("two devices have the id {id:?}")));
        }
        seen.push(id);
    }
    let mut tags: Vec<&str> = config
        .shares
        .iter()
        .map(|share| share.tag.as_str())
        .collect();
    tags.sort_unstable();
    match tags.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::Config(format!(
            "two shares have the tag {:?}",
            pair[0]
        ))),
        None => Ok(()),
    }
}

/// A port has room for one device.
fn check_buses(config: &Config) -> Result<(), Error> {
    let disks = config.disks.iter().map(|disk| ("disk", &disk.bus));
    let nets = config.nets.iter().map(|net| ("net", &net.bus));
    let dmatests = config
        .dmatests
        .iter()
        .map(|dmatest| ("dmatest", &dmatest.bus));
    let vfios = config.vfios.iter().map(|vfio| ("vfio", &vfio.bus));
    let mut taken: Vec<&str> = Vec::new();
    for (option, bus) in disks.chain(nets).chain(dmatests).chain(vfios) {
        let Some(bus) = bus else { continue };
        if !config.root_ports.iter().any(|port| port.id == *bus) {
            return Err(wrong(
                option,
                format!("bus={bus}: no --root-port has this id"),
            ));
        }
        if taken.contains(&bus.as_str()) {
            return Err(wrong(
                option,
                format!("bus={bus}: another device is behind this root port"),
            ));
        }
        taken.push(bus);
    }
    Ok(())
}

fn check_cpus(config: &Config) -> Result<(), Error> {
    let remaps = config.iommu.is_some_and(|iommu| iommu.intremap);
    if config.cpus > MAX_PLAIN_CPUS && !remaps {
        return Err(wrong(
            "cpus",
            format!(
                "{} processors need interrupt remapping; without it (--iommu off or intremap=off) {MAX_PLAIN_CPUS} is the most",
                config.cpus
            ),
        ));
    }
    Ok(())
}
