//! Looks at the gateway once a second and tells whoever should know: the events, the log, the
//! service manager.
//!
//! Invariants: the watchdog is fed only while every stage moves; whoever is told to read anew was
//! rung for before the manager hears that we are ready again.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::signal::unix::Signal;
use tokio_util::sync::CancellationToken;

use crate::board::{Judge, Signs};
use crate::chain::chain;
use crate::events::Kind;
use crate::listen::Identity;
use crate::logbook;
use crate::metrics::Metrics;
use crate::observe::{Observer, Sample, in_words};
use crate::panel::Phase;
use crate::progress::Stuck;
use crate::spool::{Spool, Usage};
use crate::systemd::Manager;

const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Between two lines that sum up.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(60);

/// Between two lines for `systemctl status`.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// Between two looks at how long our certificates last.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// With fewer days left it is said every day.
const LEFT_DAYS_WARN: f64 = 30.0;

/// After its start the uplink needs a moment to read its own.
const CERTIFICATE_FIRST: Duration = Duration::from_secs(5);

/// Everything it looks at.
pub(crate) struct Attendant {
    pub(crate) spool: Spool,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) manager: Arc<Manager>,
    /// Without it nothing can ring, and nothing else changes.
    pub(crate) hangup: Option<Signal>,
    /// What trackers over TLS see; empty without such a door.
    pub(crate) identity: Arc<OnceLock<Arc<Identity>>>,
}

/// Counts at the last summary.
#[derive(Default)]
struct Summed {
    records_acked: u64,
    records_sent: u64,
    log_lines_left_out: u64,
}

impl Attendant {
    /// Looks until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut hangup = self.hangup.take();
        let feeding = self.manager.watchdog().map(|usec| usec / 4);
        let interval = feeding.map_or(LOOK_INTERVAL, |feeding| feeding.min(LOOK_INTERVAL));
        let mut looks = tokio::time::interval(interval.max(Duration::from_millis(10)));
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut observer = Observer::new(Instant::now());
        let mut stuck: Option<Stuck> = None;
        let mut judge = Judge::default();
        let (mut summary_at, mut status_at) = (Instant::now() + SUMMARY_INTERVAL, Instant::now());
        let mut summed = Summed::default();
        let mut certificates_at = Instant::now() + CERTIFICATE_FIRST;
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                () = hung_up(hangup.as_mut()) => {
                    self.reload().await;
                    continue;
                }
                () = stop.cancelled() => return,
            }
            let now = Instant::now();
            let usage = self.spool.usage();
            self.tell(&mut observer, &usage, now);
            self.feed(&mut stuck, now);
            self.light(&mut judge, &usage, stuck.is_some(), now);
            if now >= status_at {
                self.manager.status(&self.line(&usage, stuck.as_ref()));
                status_at = now + STATUS_INTERVAL;
            }
            if now >= certificates_at {
                self.look_at_certificates();
                certificates_at = now + CERTIFICATE_INTERVAL;
            }
            if now >= summary_at {
                self.sum_up(&mut summed, &usage);
                summary_at = now + SUMMARY_INTERVAL;
            }
        }
    }

    /// Reads lists and certificates anew.
    async fn reload(&self) {
        let panel = &self.metrics.panel;
        if panel.phase() != Phase::Serving {
            return;
        }
        self.manager.reloading();
        tracing::info!("SIGHUP: reading lists and certificates anew");
        let text = "told to read lists and certificates anew";
        panel.events.note(Kind::Reload, None, text);
        for (what, outcome) in panel.reload.all().await {
            let Err(error) = outcome else { continue };
            let error = chain(error.as_ref());
            tracing::error!(what, error, "not read anew; what was there stays in use");
            let text = format!("{what} not read anew, what was there stays in use: {error}");
            panel.events.note(Kind::ReloadFailed, None, text);
        }
        self.manager.ready();
    }

    fn tell(&self, observer: &mut Observer, usage: &Usage, now: Instant) {
        let sample = Sample {
            now,
            is_connected: self.metrics.is_uplink_connected(),
            backlog: usage.backlog(),
            used_bytes: usage.used_bytes,
            bytes_max: usage.bytes_max,
            has_failed: self.spool.has_failed(),
            frames_not_kept: self.metrics.devices().frames_not_kept,
            envelopes_lost: usage.envelopes_lost,
            days_left: self.spool.days_left(usage),
        };
        for (kind, text) in observer.observe(&sample) {
            if kind.is_trouble() {
                tracing::warn!(code = kind.code(), "{text}");
            } else {
                tracing::info!(code = kind.code(), "{text}");
            }
            self.metrics.panel.events.note(kind, None, text);
        }
    }

    fn look_at_certificates(&self) {
        let identity = self.identity.get();
        let of_trackers = identity.and_then(|identity| identity.left_days());
        let of_uplink = self.metrics.uplink_link.certificate_left_days();
        for (setting, left_days) in [("listen.tls_cert", of_trackers), ("uplink.cert", of_uplink)] {
            let Some(left_days) = left_days.filter(|days| *days < LEFT_DAYS_WARN) else {
                continue;
            };
            let text = if left_days < 0.0 {
                format!("{setting} has ended: put a renewed one in its place")
            } else {
                format!(
                    "{setting} ends in {left_days:.0} days: put a renewed one in its place; it is used without a restart"
                )
            };
            tracing::warn!(code = Kind::Certificate.code(), "{text}");
            self.metrics
                .panel
                .events
                .note(Kind::Certificate, None, text);
        }
    }

    /// Feeds the watchdog while everything moves; a stage that stands still is told once.
    fn feed(&self, stuck: &mut Option<Stuck>, now: Instant) {
        let found = self.metrics.panel.progress.look(now);
        match (&found, &*stuck) {
            (None, before) => {
                if before.is_some() {
                    tracing::info!("every part of the gateway moves again");
                }
                self.manager.alive();
            }
            (Some(found), before) if before.as_ref().map(|b| &b.stage) != Some(&found.stage) => {
                let text = format!(
                    "no progress in {} for {}; the service manager restarts the gateway, nothing acknowledged is lost",
                    found.stage,
                    in_words(found.silence)
                );
                tracing::error!(stage = %found.stage, "{text}");
                self.metrics.panel.events.note(Kind::Stuck, None, text);
            }
            _ => {}
        }
        *stuck = found;
    }

    /// Tells the light what it is to say.
    fn light(&self, judge: &mut Judge, usage: &Usage, is_stuck: bool, now: Instant) {
        let board = &self.metrics.panel.board;
        board.show(judge.judge(&Signs {
            now,
            is_connected: self.metrics.is_uplink_connected(),
            is_behind: self.metrics.is_uplink_behind(),
            is_stuck,
            has_failed: self.spool.has_failed(),
            is_read_only: board.is_read_only(),
            used_bytes: usage.used_bytes,
            bytes_max: usage.bytes_max,
            frames_not_kept: self.metrics.devices().frames_not_kept,
            power: self.spool.supply().power(),
        }));
    }

    fn line(&self, usage: &Usage, stuck: Option<&Stuck>) -> String {
        if let Some(Stuck { stage, silence }) = stuck {
            return format!("STUCK: no progress in {stage} for {}", in_words(*silence));
        }
        let devices = self.metrics.devices();
        let link = if self.metrics.is_uplink_connected() {
            "uplink up"
        } else {
            "OFFLINE"
        };
        let days = self.spool.days_left(usage);
        let days = days.map_or_else(String::new, |days| {
            format!(" · {days:.1} days left offline")
        });
        format!(
            "{} trackers · {} records acknowledged · {link} · {} frames wait{days}",
            devices.connections,
            devices.records_acked,
            usage.backlog()
        )
    }

    fn sum_up(&self, summed: &mut Summed, usage: &Usage) {
        let records_acked = self.metrics.devices().records_acked;
        let records_sent = self.metrics.uplink().records_sent;
        let log_lines_left_out = logbook::left_out();
        tracing::info!(
            trackers = self.metrics.devices().connections,
            records_acked = records_acked - summed.records_acked,
            records_sent = records_sent - summed.records_sent,
            frames_waiting = usage.backlog(),
            uplink_connected = self.metrics.is_uplink_connected(),
            log_lines_left_out = log_lines_left_out - summed.log_lines_left_out,
            "the last minute"
        );
        *summed = Summed {
            records_acked,
            records_sent,
            log_lines_left_out,
        };
    }
}

async fn hung_up(hangup: Option<&mut Signal>) {
    match hangup {
        Some(hangup) => {
            // `None` means that there will be no more: then it never comes.
            if hangup.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::spool::{FullPolicy, SpoolConfig};
    use contract::GatewayId;
    use std::os::unix::net::UnixDatagram;

    fn attendant(dir: &std::path::Path, socket: &std::path::Path) -> Attendant {
        let config = SpoolConfig {
            dir: dir.to_owned(),
            gateway: GatewayId::new("attended").unwrap(),
            bytes_max: 8 << 20,
            full: FullPolicy::Refuse,
            commit_interval_min: Duration::ZERO,
        };
        Attendant {
            spool: Spool::open(config, [1, 2, 3]).unwrap().0,
            metrics: Arc::default(),
            manager: Arc::new(Manager::new(
                Some(socket.as_os_str()),
                Some("1000000"),
                None,
            )),
            hangup: None,
            identity: Arc::default(),
        }
    }

    #[test]
    fn a_stage_that_is_stuck_stops_the_watchdog_and_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let fed = || {
            let mut bytes = [0; 64];
            let heard = socket.recv(&mut bytes);
            heard.is_ok_and(|length| &bytes[..length] == b"WATCHDOG=1")
        };
        let attendant = attendant(&dir.path().join("spool"), &path);
        let panel = &attendant.metrics.panel;
        let stage = panel.progress.stage("door", Duration::from_secs(5));
        let start = Instant::now();
        let mut stuck = None;
        let mut look = |second| {
            attendant.feed(&mut stuck, start + Duration::from_secs(second));
            fed()
        };
        assert!(look(0) && look(5), "still within its silence");
        assert!(!look(6) && !look(7) && !look(8), "stuck");
        stage.turn();
        assert!(look(9), "it moves again");
        let events = panel.events.latest(9, crate::logbook::ImeiStyle::Short);
        let events = events["events"].as_array().unwrap();
        assert_eq!(events.len(), 1, "{events:?}");
        assert!(
            events[0]["text"]
                .as_str()
                .unwrap()
                .starts_with("no progress in door for 6 s")
        );
    }

    #[tokio::test]
    async fn whoever_subscribed_hears_the_bell_before_the_manager_hears_ready() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let attendant = attendant(&dir.path().join("spool"), &path);
        let panel = &attendant.metrics.panel;
        let mut bell = panel.reload.subscribe();
        let read = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let reading = Arc::clone(&read);
        panel
            .reload
            .hook("certificates", || Err("half a file".into()));
        panel.reload.hook("list", move || {
            reading.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Ok(())
        });
        attendant.reload().await;
        assert!(!bell.has_changed().unwrap(), "not while it starts");
        panel.serving();
        attendant.reload().await;
        assert_eq!(read.load(std::sync::atomic::Ordering::SeqCst), 1);
        let events = panel.events.latest(9, crate::logbook::ImeiStyle::Short);
        let failed = &events["events"][0];
        assert_eq!(failed["code"], "reload-failed");
        assert_eq!(
            failed["text"],
            "certificates not read anew, what was there stays in use: half a file"
        );
        assert!(bell.has_changed().unwrap());
        assert_eq!(*bell.borrow_and_update(), 1);
        let mut bytes = [0; 64];
        let length = socket.recv(&mut bytes).unwrap();
        assert!(bytes[..length].starts_with(b"RELOADING=1\n"));
        let length = socket.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"READY=1");
    }
}
