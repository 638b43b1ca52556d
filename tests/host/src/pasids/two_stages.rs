// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Entries of two stages: the host walks our guest's first-stage table on a copy of its second-stage tables.
//!
//! The second stage maps the first stage's tables one to one, and data at addresses where there is no RAM.

use anyhow::{Result, bail};
use iommu::address::{Iova, IovaRange};
use vfio::backend::{Backend, Endpoint, HostError, Role};
use vfio::ram::HostVa;
use vfio::run::{Rights, Run};
use vm_memory::GuestAddress;

use super::dmatest::{Command, DONE};
use super::guest::{SOURCE, both, first, iotlb_domain, pasid_iotlb_page};
use super::{Bench, DEVICE, IOVA};
use crate::check::same;

const PASID: u32 = 0x308;
const DOMAIN: u64 = 11;
/// Where data is in the space between the stages.
const DATA: u64 = 0x5000_0000;
const PAGE: u64 = 4096;
/// Bytes of data.
const BYTES: u64 = 1 << 20;

/// Tables of both stages, and the first page of data.
struct Stages {
    above: u64,
    below: u64,
    data: u64,
}

impl Bench {
    pub(super) fn two_stages(&mut self) -> Result<()> {
        self.parent_takes_nothing_for_reading_only()?;
        let stages = self.stages()?;
        let words = both(stages.above, stages.below, DOMAIN);
        self.guest.bind(PASID, words, DOMAIN)?;
        let last = BYTES - PAGE;
        self.reaches("two stages", Some(PASID), IOVA, stages.data)?;
        let at = (IOVA + last, stages.data + last);
        self.reaches("two stages, last page", Some(PASID), at.0, at.1)?;
        self.second_stage_changes(&stages)?;
        self.first_stage_changes(&stages)?;
        self.cut_under_dma(&stages)?;
        self.either_stage_moves(&stages)?;
        println!("two stages: ok");
        same("faults of two stages", &self.guest.fault(), &None)
    }

    /// Why such pages are refused to the guest: the kernel's own word.
    fn parent_takes_nothing_for_reading_only(&self) -> Result<()> {
        let mut backend = self.backend.lock();
        let table = backend.create_table(Role::Parent)?;
        let endpoint = Endpoint {
            device: DEVICE,
            pasid: None,
        };
        backend.prepare(table, endpoint)?;
        let Some(iova) = IovaRange::from_len(Iova(DATA), PAGE) else {
            bail!("no range");
        };
        for (rights, answer) in [
            (Rights::Read, Err(HostError::Invalid)),
            (Rights::ReadWrite, Ok(())),
        ] {
            let run = Run {
                iova,
                gpa: GuestAddress(0x30_0000),
                rights,
            };
            let mapped = backend.map(table, &run, HostVa(0));
            same("a mapping beneath a first stage", &mapped, &answer)?;
        }
        Ok(backend.destroy_table(table)?)
    }

    /// 1 MiB of data at [`IOVA`].
    fn stages(&mut self) -> Result<Stages> {
        let data = self.guest.page();
        for _ in 1..BYTES / PAGE {
            self.guest.page();
        }
        let above = self.guest.page();
        for offset in (0..BYTES).step_by(4096) {
            let page = Some(DATA + offset);
            self.guest.map_first(above, IOVA + offset, page)?;
        }
        let below = self.guest.page();
        for table in (above..below).step_by(4096) {
            self.guest.map_second(below, table, Some(table))?;
        }
        for offset in (0..BYTES).step_by(4096) {
            let page = Some(data + offset);
            self.guest.map_second(below, DATA + offset, page)?;
        }
        Ok(Stages { above, below, data })
    }

    fn second_stage_changes(&mut self, stages: &Stages) -> Result<()> {
        let other = self.guest.page();
        self.guest.map_second(stages.below, DATA, Some(other))?;
        self.guest.submit(&[(iotlb_domain(DOMAIN), 0)])?;
        self.reaches("second stage, moved", Some(PASID), IOVA, other)?;
        self.guest.map_second(stages.below, DATA, None)?;
        self.guest.submit(&[(iotlb_domain(DOMAIN), 0)])?;
        self.is_blocked("second stage, unmapped", Some(PASID))?;
        same("faults so far", &self.guest.fault(), &None)?;
        self.guest.map_read_only(stages.below, DATA, stages.data)?;
        self.guest.submit(&[(iotlb_domain(DOMAIN), 0)])?;
        self.is_blocked("second stage, for reading only", Some(PASID))?;
        let fault = Some((0x78, SOURCE, PASID));
        same("fault of reading only", &self.guest.fault(), &fault)?;
        let page = Some(stages.data);
        self.guest.map_second(stages.below, DATA, page)?;
        self.guest.submit(&[(iotlb_domain(DOMAIN), 0)])?;
        self.reaches("second stage, again", Some(PASID), IOVA, stages.data)
    }

    fn first_stage_changes(&mut self, stages: &Stages) -> Result<()> {
        let calls = self.mirror.stats().calls;
        let descriptor = (pasid_iotlb_page(DOMAIN, PASID), IOVA | 0x40);
        for page in [3, 7, 0] {
            let (above, data) = (stages.above, stages.data + page * PAGE);
            let between = Some(DATA + page * PAGE);
            self.guest.map_first(above, IOVA, between)?;
            self.guest.submit(&[descriptor])?;
            self.reaches("first stage, changed", Some(PASID), IOVA, data)?;
        }
        let after = self.mirror.stats().calls;
        let invalidated = after.invalidate - calls.invalidate;
        same("calls for three batches", &invalidated, &3)?;
        same("mappings for the first stage", &after.map, &calls.map)
    }

    /// A page beneath comes and goes while its neighbours are written to.
    fn cut_under_dma(&mut self, stages: &Stages) -> Result<()> {
        let (below, hole) = (stages.below, 200 * PAGE);
        let mut cuts = 0;
        for round in 1..=4u64 {
            let length = u32::try_from(hole)?;
            let fill = Command::fill(Some(PASID), IOVA, length, round);
            let slot = self.device.start(&fill)?;
            loop {
                let there = Some(stages.data + hole);
                for page in [None, there] {
                    self.guest.map_second(below, DATA + hole, page)?;
                    self.guest.submit(&[(iotlb_domain(DOMAIN), 0)])?;
                }
                cuts += 1;
                match self.device.status(slot)? {
                    0 => {}
                    DONE => break,
                    status => bail!("status {status} while a neighbour went"),
                }
            }
            let last = self.guest.word(stages.data + hole - PAGE)?;
            same("the last word of a round", &last, &round)?;
        }
        println!("{cuts} cuts beneath a first stage under DMA");
        same("gaps", &self.mirror.stats().gaps, &0)
    }

    /// Another second stage beneath the same first one, none, and the device's own requests.
    fn either_stage_moves(&mut self, stages: &Stages) -> Result<()> {
        let (above, below) = (stages.above, self.guest.page());
        for table in (above..stages.below).step_by(4096) {
            self.guest.map_second(below, table, Some(table))?;
        }
        let other = self.guest.page();
        self.guest.map_second(below, DATA, Some(other))?;
        self.guest.bind(PASID, both(above, below, 12), 12)?;
        self.reaches("another second stage", Some(PASID), IOVA, other)?;
        let words = both(above, stages.below, DOMAIN);
        self.guest.bind(0, words, DOMAIN)?;
        self.reaches("own requests, two stages", None, IOVA, stages.data)?;
        self.guest.bind(0, both(above, below, 12), 12)?;
        self.reaches("own requests, moved", None, IOVA, other)?;
        let (root, page) = self.table()?;
        self.guest.bind(PASID, first(root, DOMAIN), DOMAIN)?;
        self.reaches("one stage again", Some(PASID), IOVA, page)?;
        self.guest.bind(0, first(root, DOMAIN), DOMAIN)?;
        self.reaches("own requests, one stage", None, IOVA, page)
    }
}
