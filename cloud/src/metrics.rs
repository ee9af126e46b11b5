//! Every number this process counts, under one name each.
//!
//! Why one file: an operator looks for a name and finds its meaning beside it; nothing that can
//! lose something may go uncounted. Shells count; pure code returns outcomes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::latency::Latency;
use crate::stream::Standing;

/// A number that only grows, or a gauge that is set.
#[derive(Debug, Default)]
pub struct Number(AtomicU64);

impl Number {
    /// Adds.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Sets a gauge.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Reads.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number of one stream, where it is known.
type OfStanding = fn(&Standing) -> Option<u64>;

/// What keeps one writer from going on.
#[derive(Clone, Copy, Debug, Default)]
struct Trouble {
    refusals: u64,
    schema: bool,
}

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $kind:ident $field:ident = $name:literal;)+) => {
        /// All of them.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $($(#[doc = $help])+ pub $field: Number,)+
            /// What each writer last met; the gauges show the worst of them.
            writers: Mutex<BTreeMap<usize, Trouble>>,
            /// Streams whose reader got no answer last time.
            unanswered: Mutex<BTreeSet<Arc<str>>>,
            /// Did Redis answer every reader last time?
            /// From the moment Redis took a stream item to the moment a writer took it up.
            pub read: Latency,
            /// Decoding one stream item.
            pub decode: Latency,
            /// Writing one batch, from its first attempt to COMMIT and acknowledgement.
            pub store: Latency,
            /// Did Redis answer last time?
            pub redis_connected: AtomicBool,
            /// Did the database answer last time?
            pub database_connected: AtomicBool,
        }

        impl Metrics {
            /// Name, kind, help and value of each.
            fn all(&self) -> Vec<(&'static str, &'static str, &'static str, u64)> {
                vec![$(($name, stringify!($kind), concat!($($help),+), self.$field.get()),)+]
            }
        }
    };
}

metrics! {
    /// Stream items that Redis handed out to this process, whatever became of them.
    counter entries_delivered = "milepost_cloud_entries_delivered_total";
    /// Rows that decoding made: AVL records, messages of trackers and dead letters.
    counter rows_decoded = "milepost_cloud_rows_decoded_total";
    /// Of them, those in batches that were committed.
    counter rows_committed = "milepost_cloud_rows_committed_total";
    /// Dead letters that decoding made.
    counter decode_failed = "milepost_cloud_decode_failed_total";
    /// Attempts at a batch that the database did not take.
    counter store_errors = "milepost_cloud_store_errors_total";
    /// AVL records that were received more than an hour after they were written.
    counter records_late = "milepost_cloud_records_late_total";
    /// Stream items read.
    counter messages_read = "milepost_cloud_messages_read_total";
    /// Stream items acknowledged after COMMIT.
    counter messages_written = "milepost_cloud_messages_written_total";
    /// Dead letters written.
    counter messages_failed = "milepost_cloud_messages_failed_total";
    /// Batches committed.
    counter batches_processed = "milepost_cloud_batches_processed_total";
    /// Errors of Redis or the database; each was tried again.
    counter errors = "milepost_cloud_errors_total";
    /// AVL records in batches that were committed.
    counter records_received = "milepost_cloud_records_received_total";
    /// AVL records that became rows in positions.
    counter records_stored = "milepost_cloud_records_stored_total";
    /// AVL records with an impossible time.
    counter records_quarantined = "milepost_cloud_records_quarantined_total";
    /// AVL records that were there before.
    counter records_duplicate = "milepost_cloud_records_duplicate_total";
    /// AVL records nobody can read.
    counter records_dead = "milepost_cloud_records_dead_total";
    /// AVL records a gateway gave up.
    counter records_dropped = "milepost_cloud_records_dropped_total";
    /// Messages of Codec 12 to 15 stored.
    counter device_messages_stored = "milepost_cloud_device_messages_stored_total";
    /// Stream items left pending for a newer processor: upgrade this one.
    counter left_for_newer = "milepost_cloud_left_for_newer_total";
    /// Stream items taken over from another consumer.
    counter claimed = "milepost_cloud_claimed_total";
    /// Stream items that somebody deleted before they were acknowledged.
    counter deleted_unread = "milepost_cloud_deleted_unread_total";
    /// Dead letters that are in the table and could not be copied to the stream.
    counter mirror_missed = "milepost_cloud_dead_letter_copies_missed_total";
    /// Stream items that somebody trimmed before they were read: gateways send them again.
    counter trim_lost = "milepost_cloud_trim_lost_total";
    /// Times the consumer group was gone: Redis lost data.
    counter group_lost = "milepost_cloud_group_lost_total";
    /// Times the database lacked what had been stored in it: it went back in time.
    counter database_setbacks = "milepost_cloud_database_setbacks_total";
    /// Stream items trimmed behind all groups.
    counter trimmed = "milepost_cloud_trimmed_total";
    /// Entries of sensor streams read; also in messages_read.
    counter sensor_read = "milepost_cloud_sensor_messages_read_total";
    /// Of them, those acknowledged after COMMIT.
    counter sensor_written = "milepost_cloud_sensor_messages_written_total";
    /// Dead letters of sensor streams written.
    counter sensor_failed = "milepost_cloud_sensor_messages_failed_total";
    /// Batches of readings committed.
    counter sensor_batches = "milepost_cloud_sensor_batches_processed_total";
    /// Readings that became rows in sensor_readings.
    counter sensor_stored = "milepost_cloud_sensor_readings_stored_total";
    /// Readings that were there before.
    counter sensor_duplicate = "milepost_cloud_sensor_readings_duplicate_total";
    /// Entries of sensor streams that somebody trimmed before they were read: lost.
    counter sensor_trim_lost = "milepost_cloud_sensor_trim_lost_total";
    /// Commands given to a gateway.
    counter commands_routed = "milepost_cloud_commands_routed_total";
    /// Milliseconds that given commands had waited, together.
    counter commands_route_ms = "milepost_cloud_commands_route_milliseconds_total";
    /// Commands put back into the queue.
    counter commands_requeued = "milepost_cloud_commands_requeued_total";
    /// Commands that were written to a tracker's socket.
    counter commands_sent = "milepost_cloud_commands_sent_total";
    /// Commands that were answered.
    counter commands_acked = "milepost_cloud_commands_acked_total";
    /// Commands that were refused or cancelled by a gateway.
    counter commands_nacked = "milepost_cloud_commands_nacked_total";
    /// Commands without a reply in time.
    counter commands_timeout = "milepost_cloud_commands_timeout_total";
    /// Commands that were too late.
    counter commands_expired = "milepost_cloud_commands_expired_total";
    /// Commands of which nobody can tell whether the tracker got them.
    counter commands_unknown = "milepost_cloud_commands_unknown_total";
    /// Responses of gateways recorded.
    counter command_responses = "milepost_cloud_command_responses_total";
    /// Responses that nobody can read or that are about no command of ours.
    counter command_responses_dead = "milepost_cloud_command_responses_dead_total";
    /// Registry fields of dead gateways removed.
    counter registry_fields_removed = "milepost_cloud_registry_fields_removed_total";
    /// Idle consumers removed.
    counter consumers_removed = "milepost_cloud_consumers_removed_total";
    /// Commands that wait for their tracker or behind another command.
    gauge commands_queued = "milepost_cloud_commands_queued";
    /// Commands given to a gateway and not yet sent.
    gauge commands_routed_now = "milepost_cloud_commands_routed";
    /// Commands sent whose outcome is open.
    gauge commands_sent_now = "milepost_cloud_commands_sent";
    /// Age of the oldest command in the queue, seconds.
    gauge commands_oldest_queued_s = "milepost_cloud_commands_oldest_queued_seconds";
    /// Milliseconds the command given last had waited.
    gauge commands_last_route_ms = "milepost_cloud_commands_last_route_milliseconds";
    /// Milliseconds from the reception of the oldest envelope of the last batch to its COMMIT, by the
    /// clocks of gateway and cloud.
    gauge end_to_end_ms = "milepost_cloud_end_to_end_milliseconds";
    /// Milliseconds spent writing the last batch.
    gauge last_batch_ms = "milepost_cloud_last_batch_milliseconds";
    /// Time of the last COMMIT, milliseconds since 1970 UTC; 0 before the first.
    gauge last_commit_ms = "milepost_cloud_last_commit_timestamp_milliseconds";
    /// 1 while consuming is stopped because the tables are not the ones this program knows.
    gauge schema_mismatch = "milepost_cloud_schema_mismatch";
    /// Positions told to gateways as stored that the database, gone back in time, lacks.
    gauge positions_missing = "milepost_cloud_positions_missing";
    /// Stream items in which gateways give something up, waiting for what was sent before them.
    gauge gaps_held = "milepost_cloud_gaps_held";
    /// Sensor streams that are read.
    gauge sensor_streams = "milepost_cloud_sensor_streams";
    /// Entries in them not yet read by the group, five seconds ago at most.
    gauge sensor_lag = "milepost_cloud_sensor_lag_entries";
    /// Entries in them read and not yet acknowledged, five seconds ago at most.
    gauge sensor_pending = "milepost_cloud_sensor_pending_entries";
    /// Attempts in a row in which the database did not take the batch in hand.
    gauge batch_refusals = "milepost_cloud_batch_refusals";
}

/// Milliseconds since 1970 UTC by this machine's clock.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or(Duration::ZERO).as_millis()).unwrap_or(u64::MAX)
}

impl Metrics {
    /// Counts one error that will be tried again.
    pub fn error(&self) {
        self.errors.add(1);
    }

    /// Notes whether Redis answers the reader of this stream. In a cluster one may be cut off while
    /// others read.
    pub fn redis(&self, stream: &Arc<str>, answers: bool) {
        let unanswered = self.unanswered.lock();
        let mut unanswered = unanswered.unwrap_or_else(PoisonError::into_inner);
        if answers {
            unanswered.remove(stream);
        } else {
            unanswered.insert(stream.clone());
        }
        self.redis_connected
            .store(unanswered.is_empty(), Ordering::Relaxed);
    }

    /// How often in a row the database did not take the batch of this writer.
    pub fn writer_refusals(&self, writer: usize, in_a_row: u64) {
        self.trouble(writer, |trouble| trouble.refusals = in_a_row);
    }

    /// Whether this writer found tables that it does not know.
    pub fn writer_schema(&self, writer: usize, mismatch: bool) {
        self.trouble(writer, |trouble| trouble.schema = mismatch);
    }

    /// One writer that gets on must not hide that another is stuck.
    fn trouble(&self, writer: usize, change: impl FnOnce(&mut Trouble)) {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        change(writers.entry(writer).or_default());
        let all = || writers.values();
        let refusals = all().map(|trouble| trouble.refusals).max();
        self.batch_refusals.set(refusals.unwrap_or(0));
        let schema = all().any(|trouble| trouble.schema);
        self.schema_mismatch.set(schema.into());
    }

    /// Notes whether the database answers.
    pub fn database(&self, connected: bool) {
        self.database_connected.store(connected, Ordering::Relaxed);
    }

    /// Prometheus text format 0.0.4.
    #[must_use]
    pub fn to_prometheus(&self, standings: &[Standing]) -> String {
        let mut text = String::new();
        let mut line = |name: &str, kind: &str, help: &str, value: u64| {
            let help = help.trim();
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
            );
        };
        for (name, kind, help, value) in self.all() {
            line(name, kind, help, value);
        }
        let flags = [
            (
                "milepost_cloud_redis_connected",
                "1 while Redis answers, and where none is used.",
                &self.redis_connected,
            ),
            (
                "milepost_cloud_database_connected",
                "1 while the database answers.",
                &self.database_connected,
            ),
        ];
        for (name, help, flag) in flags {
            line(name, "gauge", help, u64::from(flag.load(Ordering::Relaxed)));
        }
        let seconds = Duration::from_millis(self.end_to_end_ms.get()).as_secs_f64();
        let _ = writeln!(
            text,
            "# HELP end_to_end_lag_seconds From reception to COMMIT, in the last batch.\n# TYPE end_to_end_lag_seconds gauge\nend_to_end_lag_seconds {seconds}"
        );
        let by_stream: [(&str, &str, OfStanding); 4] = [
            (
                "milepost_cloud_stream_lag_entries",
                "Stream items not yet read by the group.",
                |standing| standing.lag_entries,
            ),
            (
                "milepost_cloud_stream_pending_entries",
                "Stream items read and not yet acknowledged.",
                |standing| standing.pending_entries,
            ),
            (
                "milepost_cloud_stream_lag_records",
                "AVL records not yet read by the group; an estimate where there are many.",
                |standing| standing.lag_records,
            ),
            (
                "milepost_cloud_stream_oldest_unacknowledged_seconds",
                "Age of the oldest stream item that is not acknowledged.",
                |standing| standing.age_s,
            ),
        ];
        // Under the founding documents' names too; dashboards and alerts ask for these.
        let founding: [(&str, &str, OfStanding); 2] = [
            (
                "redis_stream_lag",
                "Stream items not yet read by the group.",
                |standing| standing.lag_entries,
            ),
            (
                "redis_stream_oldest_unacked_age_seconds",
                "Age of the oldest stream item that is not acknowledged.",
                |standing| standing.age_s,
            ),
        ];
        let founding = founding.iter().filter(|_| !standings.is_empty());
        for (name, help, of) in by_stream.iter().chain(founding) {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
            for standing in standings {
                if let Some(value) = of(standing) {
                    let stream = label(&standing.stream.name);
                    let _ = writeln!(text, "{name}{{stream=\"{stream}\"}} {value}");
                }
            }
        }
        for (name, help, latency) in [
            (
                "milepost_cloud_read_seconds",
                "From Redis taking a stream item to a writer taking it up.",
                &self.read,
            ),
            (
                "milepost_cloud_decode_seconds",
                "Decoding one stream item.",
                &self.decode,
            ),
            (
                "milepost_cloud_store_seconds",
                "Writing one batch, to COMMIT and acknowledgement.",
                &self.store,
            ),
        ] {
            text.push_str(&latency.to_prometheus(name, help));
        }
        text
    }
}

/// A label's value: Prometheus' text form knows three escapes.
fn label(value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"");
    value.replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_writer_is_shown() {
        let metrics = Metrics::default();
        metrics.writer_refusals(0, 4);
        metrics.writer_schema(0, true);
        metrics.writer_refusals(1, 0);
        metrics.writer_schema(1, false);
        assert_eq!(metrics.batch_refusals.get(), 4);
        assert_eq!(metrics.schema_mismatch.get(), 1);
        metrics.writer_refusals(0, 0);
        metrics.writer_schema(0, false);
        assert_eq!(metrics.batch_refusals.get(), 0);
        assert_eq!(metrics.schema_mismatch.get(), 0);
    }

    #[test]
    fn durations_are_told_as_histograms() {
        let metrics = Metrics::default();
        metrics
            .store
            .record(std::time::Instant::now(), Duration::from_millis(3));
        let text = metrics.to_prometheus(&[]);
        assert!(
            text.contains("\nmilepost_cloud_store_seconds_count 1\n"),
            "{text}"
        );
    }

    #[test]
    fn each_stream_has_its_own_line() {
        let standing = |name: &str, lag_entries| Standing {
            stream: crate::stream::Stream {
                name: name.into(),
                named: true,
            },
            lag_entries,
            lag_records: None,
            estimated: false,
            pending_entries: Some(2),
            age_s: None,
        };
        let text =
            Metrics::default().to_prometheus(&[standing("a", Some(7)), standing("b\"", None)]);
        let lines: Vec<&str> = text.lines().filter(|l| l.contains("_entries{")).collect();
        assert_eq!(
            lines,
            [
                "milepost_cloud_stream_lag_entries{stream=\"a\"} 7",
                "milepost_cloud_stream_pending_entries{stream=\"a\"} 2",
                "milepost_cloud_stream_pending_entries{stream=\"b\\\"\"} 2",
            ]
        );
    }

    #[test]
    fn every_metric_is_told_once_with_help() {
        let metrics = Metrics::default();
        metrics.records_stored.add(7);
        let text = metrics.to_prometheus(&[]);
        assert!(
            text.contains("\nmilepost_cloud_records_stored_total 7\n"),
            "{text}"
        );
        // Histograms have many lines under one name.
        let single = text.split("# HELP milepost_cloud_read_seconds").next();
        let text = single.unwrap_or_default();
        let mut names: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        let by_stream = text.matches("# HELP milepost_cloud_stream_").count();
        assert_eq!(text.matches("# HELP ").count(), count + by_stream);
        for (name, kind, help, _) in metrics.all() {
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            assert!(!help.trim().is_empty(), "{name}");
        }
    }
}
