// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What no kernel log may hold, unless the scenario asked for it.

/// A kernel complains where one of these stands in a line.
const COMPLAINTS: &[&str] = &[
    "WARNING:",
    "BUG:",
    "Oops",
    "Call Trace",
    "Kernel panic",
    "general protection fault",
    "unable to handle",
    "INFO: rcu",
    "soft lockup",
    "hung_task",
    "nobody cared",
    "unchecked MSR access",
    "[Firmware Bug]",
    "[Hardware Error]",
    "Invalid wait context",
];

/// The IOMMU's driver complains where one of these stands in a line about it ("DMAR:", "DMAR-IR:").
const IOMMU_COMPLAINTS: &[&str] = &[
    "fault", "Fault", "timeout", "Timeout", "error", "Error", "failed", "Failed", "Can't", "Unable",
];

/// The lines of a kernel log that complain and hold none of the `allowed` texts.
pub fn complaints<'a>(log: &'a str, allowed: &[&str]) -> Vec<&'a str> {
    log.lines()
        .filter(|line| complains(line) && !allowed.iter().any(|text| line.contains(text)))
        .collect()
}

fn complains(line: &str) -> bool {
    let holds = |texts: &[&str]| texts.iter().any(|text| line.contains(text));
    let about_iommu = line.contains("DMAR:") || line.contains("DMAR-IR:");
    holds(COMPLAINTS) || (about_iommu && holds(IOMMU_COMPLAINTS))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAULT: &str = "[ 1.0] DMAR: [DMA Read NO_PASID] Request device [00:04.0] fault addr 0x1000 [fault reason 0x06]";

    #[test]
    fn complaints_of_a_clean_log_are_none() {
        let log = "DMAR: Host address width 39\nDMAR: DRHD base: 0x000000fed90000 flags: 0x0\n\
                   DMAR-IR: Enabled IRQ remapping in x2apic mode\nDebug: on\n";
        assert!(complaints(log, &[]).is_empty());
    }

    #[test]
    fn complaints_name_each_bad_line() {
        let log =
            format!("{FAULT}\nfine\nWARNING: CPU: 0 PID: 1 at a.c:1\nBUG: bad page\nOops: 0000\n");
        assert_eq!(complaints(&log, &[]).len(), 4);
        assert_eq!(complaints(&log, &[])[0], FAULT);
    }

    #[test]
    fn complaints_that_were_asked_for_are_left_out() {
        assert!(complaints(FAULT, &["fault addr 0x1000"]).is_empty());
        assert_eq!(complaints(FAULT, &["fault addr 0x2000"]), [FAULT]);
    }
}
