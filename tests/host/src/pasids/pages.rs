// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Page requests: dmatest asks for a page, the host's kernel hands the request over, our guest finds it in its queue, maps the
//! page and answers, and dmatest goes on.

use std::sync::Arc;

use anyhow::{Result, bail};
use iommu::ids::Requester;
use vfio::page_requests::{PageRequestThread, PageRequests};

use super::dmatest::{Command, DONE};
use super::guest::{SOURCE, first, pasid_iotlb_page};
use super::{Bench, DEVICE, DOMAIN, IOVA};
use crate::check::same;

/// A page that is not there.
const ABSENT: u64 = IOVA + 0x10_0000;
const PASID: u32 = 0x307;
/// The status of a command whose page request was answered with Invalid Request.
const INVALID: u32 = 10;

impl Bench {
    pub(super) fn page_requests(&mut self) -> Result<()> {
        let queue = self.backend.lock().fault_queue()?;
        let requests = PageRequests::new(queue.clone());
        let Some(id) = self.backend.lock().id(DEVICE) else {
            bail!("the device has no name");
        };
        let requester: Arc<Requester> = self.requester.clone();
        requests.add(id, &self.guest.unit, requester);
        let thread = PageRequestThread::start(requests.clone(), queue)?;
        let (root, page) = self.table()?;
        self.guest.bind(PASID, first(root, DOMAIN), DOMAIN)?;
        for round in 0..4u64 {
            let slot = self.device.start(&Command::ask(PASID, ABSENT, round + 1))?;
            let [low, high] = self.guest.page_request()?;
            same("page", &(high & !0xfff), &ABSENT)?;
            let source = low >> 16 & 0xffff;
            same("source", &source, &u64::from(SOURCE))?;
            same("PASID", &(low >> 32 & 0xf_ffff), &u64::from(PASID))?;
            let good = round % 2 == 1;
            if good {
                self.guest.map_first(root, ABSENT, Some(page))?;
            }
            let code = u64::from(!good) << 12;
            let answer = (low & 0xf_ffff_ffff_0000) & !0xf000 | code | 0x19;
            self.guest.submit(&[(answer, high & 0xff8)])?;
            let status = self.device.wait(slot)?;
            same("status", &status, &if good { DONE } else { INVALID })?;
            if good && self.guest.word(page)? != round + 1 {
                bail!("the page was not written");
            }
            self.guest.map_first(root, ABSENT, None)?;
            self.guest
                .submit(&[(pasid_iotlb_page(DOMAIN, PASID), ABSENT | 0x40)])?;
        }
        drop(thread);
        let stats = requests.stats();
        println!(
            "page requests {stats:?}, of the device {}",
            self.device.page_requests()?
        );
        same("answered", &stats.answered, &4)
    }
}
