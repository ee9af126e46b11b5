//! The process as the system sees it, and what only the pages know.

use std::time::Duration;

use super::text::Text;

/// Memory of this process in bytes (resident set); `None` where the system does not tell.
#[must_use]
pub(crate) fn memory_bytes() -> Option<u64> {
    // proc_pid_statm(5): size resident shared …, in pages.
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Files and sockets that are open.
fn files_open() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count())
}

/// Rows about the process, the oldest frame that waits and the certificate for trackers, if there is
/// one.
#[must_use]
pub(crate) fn to_prometheus(
    oldest_ms: Option<u64>,
    devices: usize,
    uptime: Duration,
    certificate_left_days: Option<f64>,
) -> String {
    let mut text = Text::default();
    if let Some(days) = certificate_left_days {
        text.one(
            "doors_certificate_left_days",
            "gauge",
            "Days until the certificate for trackers ends; negative afterwards.",
            format!("{days:.2}"),
        );
    }
    text.head("build_info", "gauge", "1, with the version as a label.");
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    text.sample("build_info", &version, 1);
    text.one(
        "uptime_seconds",
        "gauge",
        "Since the start.",
        uptime.as_secs(),
    );
    if let Some(bytes) = memory_bytes() {
        text.one(
            "process_memory_bytes",
            "gauge",
            "Resident set of the process.",
            bytes,
        );
    }
    if let Some(files) = files_open() {
        text.one(
            "process_files_open",
            "gauge",
            "Files and sockets the process has open.",
            files,
        );
    }
    text.one(
        "devices_known",
        "gauge",
        "Devices heard since the start, as far as they are remembered.",
        devices,
    );
    text.one(
        "log_lines_left_out_total",
        "counter",
        "Log lines that repeated too often to be written.",
        crate::logbook::left_out(),
    );
    let now_ms = crate::clock::now_ms();
    let age_s = oldest_ms.map_or(0.0, |ms| now_ms.saturating_sub(ms) as f64 / 1e3);
    text.one(
        "spool_oldest_waiting_seconds",
        "gauge",
        "How long the oldest frame has waited to be stored in the database; 0 when none waits.",
        age_s,
    );
    text.into_string()
}
