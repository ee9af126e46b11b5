//! What the uplink tells beyond its numbers: why it does not send, and how long its certificate
//! lasts.
//!
//! Invariant: days to expiry are counted when they are asked for, so that a gateway that runs for
//! months does not show those of its start.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::text::Text;
use crate::clock;
use crate::uplink::Cause;
use crate::uplink::certificate::Validity;

/// The uplink's connection.
#[derive(Debug, Default)]
pub struct LinkCounters {
    failures: AtomicU64,
    renewals: AtomicU64,
    renewals_failed: AtomicU64,
    renewal_trouble: Mutex<Option<String>>,
    certificate: Mutex<Option<Validity>>,
    cause: Mutex<Option<Cause>>,
}

impl LinkCounters {
    /// A connection failed or was given up.
    pub fn failed(&self, cause: Cause) {
        self.failures.fetch_add(1, Relaxed);
        *lock(&self.cause) = Some(cause);
    }

    /// It sends.
    pub fn works(&self) {
        *lock(&self.cause) = None;
    }

    /// It went on with new certificates.
    pub fn renewed(&self) {
        self.renewals.fetch_add(1, Relaxed);
        *lock(&self.renewal_trouble) = None;
    }

    /// The changed certificate files do not work; the old connection is used on.
    pub fn not_renewed(&self, trouble: String) {
        self.renewals_failed.fetch_add(1, Relaxed);
        *lock(&self.renewal_trouble) = Some(trouble);
    }

    /// Why the changed certificate files do not work.
    #[must_use]
    pub fn renewal_trouble(&self) -> Option<String> {
        lock(&self.renewal_trouble).clone()
    }

    /// Connections that failed or were given up, renewals that worked, and those that did not.
    #[must_use]
    pub fn counts(&self) -> [u64; 3] {
        [&self.failures, &self.renewals, &self.renewals_failed].map(|c| c.load(Relaxed))
    }

    /// Our certificate is valid for so long; `None` without one.
    pub fn certificate(&self, validity: Option<Validity>) {
        *lock(&self.certificate) = validity;
    }

    /// Days until our certificate ends, negative afterwards; `None` without one.
    #[must_use]
    pub fn certificate_left_days(&self) -> Option<f64> {
        let validity = *lock(&self.certificate);
        validity.map(|validity| validity.left_days(clock::now_ms()))
    }

    /// What keeps the uplink from sending.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        *lock(&self.cause)
    }

    /// Appends its rows of the Prometheus text. Each cause has a row, so that an alert can name it.
    pub(super) fn write_prometheus(&self, text: &mut Text) {
        let counters = [
            (
                "uplink_failures_total",
                "Connections to Redis that failed or were given up.",
                &self.failures,
            ),
            (
                "uplink_certificate_renewals_total",
                "Connections made with renewed certificates.",
                &self.renewals,
            ),
            (
                "uplink_certificate_renewals_failed_total",
                "Changed certificate files that did not work.",
                &self.renewals_failed,
            ),
        ];
        for (name, help, counter) in counters {
            text.one(name, "counter", help, counter.load(Relaxed));
        }
        if let Some(days) = self.certificate_left_days() {
            let help = "Days until our certificate for Redis ends; negative afterwards.";
            let days = format!("{days:.2}");
            text.one("uplink_certificate_left_days", "gauge", help, days);
        }
        let name = "uplink_trouble";
        let help = "1 for what keeps the uplink from sending.";
        text.head(name, "gauge", help);
        let now = self.cause();
        for cause in Cause::ALL {
            let label = format!("cause=\"{}\"", cause.name());
            text.sample(name, &label, u8::from(now == Some(cause)));
        }
    }
}

fn lock<T>(slot: &Mutex<T>) -> MutexGuard<'_, T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cause_at_a_time_and_none_once_it_works() {
        let link = LinkCounters::default();
        let rows = |link: &LinkCounters| {
            let mut text = Text::default();
            link.write_prometheus(&mut text);
            let text = text.into_string();
            let rows = text.lines().filter(|line| line.ends_with("} 1"));
            rows.map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(rows(&link).is_empty());
        link.failed(Cause::Memory);
        link.failed(Cause::WrongCa);
        assert_eq!(
            rows(&link),
            ["milepost_gateway_uplink_trouble{cause=\"wrong-ca\"} 1"]
        );
        link.works();
        assert!(rows(&link).is_empty());
        let mut text = Text::default();
        link.write_prometheus(&mut text);
        let text = text.into_string();
        assert!(text.contains("milepost_gateway_uplink_failures_total 2\n"));
        assert!(!text.contains("left_days"), "no certificate, no row");
    }
}
