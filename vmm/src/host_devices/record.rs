// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a function was bound to before it was taken from its driver: one small file each, where a reboot removes it.

use crate::host_files::HostFiles;
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::path::PathBuf;
use vfio::pci_address::PciAddress;

/// The driver of a function, and which one alone it may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    /// The driver that it is bound to.
    pub driver: Option<String>,
    /// The only driver that the kernel may bind it to (`driver_override`).
    pub only: Option<String>,
}

/// The remembered bindings.
#[derive(Clone, Debug)]
pub struct Records {
    /// Where they may be; the first that can be written is used.
    places: Vec<PathBuf>,
}

impl Records {
    /// Below `/run/remora`, or where that may not be written, below `runtime`, this user's own directory.
    #[must_use]
    pub fn new(files: &HostFiles, runtime: Option<PathBuf>) -> Self {
        let runtime = runtime.map(|runtime| runtime.join("remora"));
        let places = [files.path("run/remora")].into_iter().chain(runtime);
        Self {
            places: places.map(|place| place.join("bound")).collect(),
        }
    }

    /// Remembers a binding.
    ///
    /// # Errors
    /// No place can be written.
    pub fn save(&self, address: PciAddress, binding: &Binding) -> io::Result<()> {
        let text = json!({ "driver": binding.driver, "driver_override": binding.only });
        let mut result = Err(io::Error::from(io::ErrorKind::NotFound));
        for place in &self.places {
            result = fs::create_dir_all(place)
                .and_then(|()| fs::write(place.join(address.to_string()), text.to_string()));
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// The remembered binding.
    #[must_use]
    pub fn load(&self, address: PciAddress) -> Option<Binding> {
        let name = address.to_string();
        let mut places = self.places.iter();
        let text = places.find_map(|place| fs::read_to_string(place.join(&name)).ok())?;
        let value: Value = serde_json::from_str(&text).ok()?;
        let text = |field: &str| value[field].as_str().map(str::to_owned);
        Some(Binding {
            driver: text("driver"),
            only: text("driver_override"),
        })
    }

    /// Forgets a binding.
    pub fn forget(&self, address: PciAddress) {
        for place in &self.places {
            // What is not there is forgotten already; what cannot be removed is replaced by the next binding.
            let _ = fs::remove_file(place.join(address.to_string()));
        }
    }
}
