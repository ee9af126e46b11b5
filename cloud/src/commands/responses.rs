//! Records what gateways say about commands.
//!
//! Why a response that cannot be placed is kept as a dead letter: it may be the only trace of
//! something that a tracker did, and it must not hold up the ones behind it.
//!
//! Invariants: an entry is acknowledged only with a [`Recorded`] in hand, which only a COMMIT makes;
//! delivering a response twice changes nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use contract::{CommandResponse, keys};
use redis::cmd;
use sqlx::postgres::PgConnection;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::state::{self, Heard, Row, Status};
use super::table;
use crate::backoff::Backoff;
use crate::batch::EntryId;
use crate::fail_point::fail_point;
use crate::metrics::Metrics;
use crate::store::errors::Next;
use crate::store::{Database, StoreError};
use crate::stream::consumer::chained;
use crate::stream::{Deliveries, Delivery, Intake, Link};

/// Responses in one transaction.
const BATCH: usize = 100;

/// Longest pause after an error.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// What stands in `dead_letters.error_class`.
const ERROR_CLASS: &str = "command-response";

/// The receipt of a COMMIT: these entries may be acknowledged.
#[derive(Debug)]
struct Recorded {
    entries: Vec<EntryId>,
    tally: Vec<Outcome>,
}

/// What became of one response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Forward(Status),
    Again,
    Noted,
    Dead,
}

/// The task that records.
pub(super) struct Recorder {
    pub(super) deliveries: Deliveries,
    pub(super) intake: Intake,
    pub(super) database: Database,
    pub(super) link: Link,
    pub(super) metrics: Arc<Metrics>,
}

impl Recorder {
    /// Records until `stop`; a batch in hand is tried once more.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut batch = Vec::new();
        // Nobody else takes from this door.
        let mut receiver = self.deliveries.turn().await;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                count = receiver.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                }
            }
            if !self.record_whatever_it_takes(&batch, &stop).await {
                return;
            }
            batch.clear();
        }
    }

    /// `false`: stopped before it was recorded; what is pending comes again.
    async fn record_whatever_it_takes(&self, batch: &[Delivery], stop: &CancellationToken) -> bool {
        let mut backoff = Backoff::default();
        let mut singly = batch.len() == 1;
        loop {
            let result = if singly {
                self.record_singly(batch).await
            } else {
                self.record(batch, None)
                    .await
                    .map(|recorded| vec![recorded])
            };
            let failure = match result {
                Ok(recorded) => {
                    for one in recorded {
                        self.acknowledge(one, stop).await;
                    }
                    return true;
                }
                Err(failure) => failure,
            };
            if failure.next() == Next::Split && !singly {
                singly = true;
                continue;
            }
            self.metrics.error();
            let pause = backoff.pause().min(RETRY_MAX);
            warn!(
                error = chained(&failure),
                retry_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                responses = batch.len(),
                "cannot record what became of commands; nothing is acknowledged"
            );
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Each in a transaction of its own; what the database refuses as data becomes a dead letter.
    async fn record_singly(&self, batch: &[Delivery]) -> Result<Vec<Recorded>, StoreError> {
        let mut all = Vec::new();
        for delivery in batch {
            let one = std::slice::from_ref(delivery);
            all.push(match self.record(one, None).await {
                Err(failure) if failure.next() == Next::Split => {
                    self.record(one, Some(&chained(&failure))).await?
                }
                recorded => recorded?,
            });
        }
        Ok(all)
    }

    /// One transaction. `refused`: why none of it can be more than a dead letter.
    async fn record(
        &self,
        batch: &[Delivery],
        refused: Option<&str>,
    ) -> Result<Recorded, StoreError> {
        let failed = |source| StoreError::new("recording what became of commands", source);
        let read: Vec<_> = batch
            .iter()
            .map(|delivery| (delivery, read(delivery)))
            .collect();
        let mut transaction = self.database.pool().begin().await.map_err(failed)?;
        let cids = read.iter().filter_map(|(_, said)| said.as_ref().ok());
        let cids: Vec<&str> = cids.map(|said| said.cid.as_str()).collect();
        let mut rows = rows(&mut transaction, &cids).await?;
        let mut tally = Vec::new();
        for (delivery, said) in &read {
            let placed = match (said, refused) {
                (_, Some(reason)) => Err(reason.to_owned()),
                (Err(reason), None) => Err(reason.clone()),
                (Ok(said), None) => place(said, &mut rows),
            };
            tally.push(match placed {
                Ok((said, row)) => hear(&mut transaction, said, row).await?,
                Err(reason) => {
                    let gateway = said.as_ref().ok().map(|said| said.instance.as_str());
                    bury(&mut transaction, delivery, gateway.unwrap_or(""), &reason).await?;
                    warn!(entry = %delivery.entry, reason, "a command response is kept as a dead letter");
                    Outcome::Dead
                }
            });
        }
        fail_point!("response-heard");
        transaction.commit().await.map_err(failed)?;
        fail_point!("response-recorded");
        let entries = batch
            .iter()
            .map(|delivery| delivery.entry.clone())
            .collect();
        Ok(Recorded { entries, tally })
    }

    async fn acknowledge(&self, recorded: Recorded, stop: &CancellationToken) {
        self.count(&recorded.tally);
        let mut ack = cmd("XACK");
        ack.arg(keys::COMMAND_RESPONSES).arg(keys::GROUP_COMMANDS);
        for entry in &recorded.entries {
            ack.arg(entry.id.to_string());
        }
        let mut backoff = Backoff::default();
        loop {
            let Err(failure) = self.link.ask::<u64>("XACK", &ack).await else {
                break;
            };
            // The group went with its pending entries: nothing to acknowledge.
            if failure.code() == Some("NOGROUP") {
                break;
            }
            self.metrics.error();
            let pause = backoff.pause().min(RETRY_MAX);
            warn!(
                error = chained(&failure),
                "cannot acknowledge command responses yet; they are recorded"
            );
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
        fail_point!("response-acknowledged");
        self.intake.let_out(&recorded.entries);
    }

    fn count(&self, tally: &[Outcome]) {
        let metrics = &self.metrics;
        for outcome in tally {
            metrics.command_responses.add(1);
            let counter = match outcome {
                Outcome::Dead => &metrics.command_responses_dead,
                Outcome::Again => &metrics.commands_requeued,
                Outcome::Forward(Status::Sent) => &metrics.commands_sent,
                Outcome::Forward(Status::Unknown) => &metrics.commands_unknown,
                Outcome::Forward(Status::Timeout) => &metrics.commands_timeout,
                Outcome::Forward(Status::Expired) => &metrics.commands_expired,
                Outcome::Forward(Status::Nacked) => &metrics.commands_nacked,
                Outcome::Forward(Status::Acked) => &metrics.commands_acked,
                Outcome::Forward(Status::Queued | Status::Routed) | Outcome::Noted => continue,
            };
            counter.add(1);
        }
    }
}

/// Rows of commands, locked, with whose they are.
type Rows = HashMap<String, (i64, Row)>;

async fn rows(on: &mut PgConnection, cids: &[&str]) -> Result<Rows, StoreError> {
    type Fields = (String, i64, String, i32, i16, bool, bool);
    let rows: Vec<Fields> = sqlx::query_as(
        "SELECT id::text, imei, status, attempt, resends, idempotent, expires_at <= now() \
         FROM commands WHERE id = ANY($1::text[]::uuid[]) ORDER BY id FOR UPDATE",
    )
    .bind(cids)
    .fetch_all(on)
    .await
    .map_err(|source| StoreError::new("reading commands", source))?;
    let rows = rows.into_iter().filter_map(|row| {
        let (id, imei, status, attempt, resends, idempotent, expired) = row;
        let row = table::row_of(&status, attempt, resends, idempotent, expired)?;
        Some((id, (imei, row)))
    });
    Ok(rows.collect())
}

/// The command that a response is about.
fn place<'a, 'r>(
    said: &'a CommandResponse,
    rows: &'r mut Rows,
) -> Result<(&'a CommandResponse, &'r mut Row), String> {
    match rows.get_mut(&said.cid) {
        None => Err(format!("there is no command {}", said.cid)),
        Some((imei, _)) if table::imei_of(*imei) != Some(said.imei) => {
            Err(format!("command {} is for another tracker", said.cid))
        }
        Some((_, row)) => Ok((said, row)),
    }
}

async fn hear(
    on: &mut PgConnection,
    said: &CommandResponse,
    row: &mut Row,
) -> Result<Outcome, StoreError> {
    let (cid, gateway) = (&said.cid, &said.instance);
    match state::on_response(row, said) {
        Heard::Forward(to) => {
            forward(on, said, to).await?;
            row.status = to;
            info!(cid, %gateway, imei = ?said.imei, status = to.as_str(), reason = said.reason, "command");
            Ok(Outcome::Forward(to))
        }
        Heard::Again(change) => {
            table::apply(on, cid, row, &change).await?;
            row.status = change.to;
            row.resends += u32::from(change.is_resend);
            info!(cid, %gateway, imei = ?said.imei, reason = change.reason, "command goes back to the queue");
            Ok(Outcome::Again)
        }
        Heard::Noted => {
            note(on, said).await?;
            Ok(Outcome::Noted)
        }
    }
}

async fn forward(
    on: &mut PgConnection,
    said: &CommandResponse,
    to: Status,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE commands SET status = $2, reason = nullif($3, ''), \
             reply = coalesce(nullif($4, ''), reply), gateway = $5 WHERE id = $1::uuid",
    )
    .bind(&said.cid)
    .bind(to.as_str())
    .bind(&said.reason)
    .bind(&said.reply)
    .bind(said.instance.as_str())
    .execute(on)
    .await
    .map_err(|source| StoreError::new("writing a response", source))?;
    Ok(())
}

async fn note(on: &mut PgConnection, said: &CommandResponse) -> Result<(), StoreError> {
    let attempt = i32::try_from(said.attempt).unwrap_or(i32::MAX);
    // One that was applied and comes again is no news.
    sqlx::query(
        "INSERT INTO command_events (command_id, status, attempt, gateway, reason, reply, applied) \
         SELECT $1::uuid, $2, $3, $4, nullif($5, ''), nullif($6, ''), false \
         WHERE NOT EXISTS (SELECT FROM command_events WHERE command_id = $1::uuid AND applied \
             AND attempt = $3 AND coalesce(reason, '') = $5 \
             AND (status = $2 OR (status = 'queued' AND $2 IN ('nacked', 'unknown')))) \
         ON CONFLICT DO NOTHING",
    )
    .bind(&said.cid)
    .bind(Status::of_response(said.status).as_str())
    .bind(attempt)
    .bind(said.instance.as_str())
    .bind(&said.reason)
    .bind(&said.reply)
    .execute(on)
    .await
    .map_err(|source| StoreError::new("noting a response", source))?;
    Ok(())
}

async fn bury(
    on: &mut PgConnection,
    delivery: &Delivery,
    gateway: &str,
    reason: &str,
) -> Result<(), StoreError> {
    let fields: serde_json::Map<String, serde_json::Value> = delivery
        .fields
        .iter()
        .map(|(name, value)| (text(name), text(value).into()))
        .collect();
    sqlx::query(
        "INSERT INTO dead_letters (gateway, entry_id, error_class, reason, records, bytes) \
         VALUES ($1, $2, $3, $4, 0, $5) \
         ON CONFLICT (gateway, spool_id, seq, record_index, entry_id) DO UPDATE \
             SET last_failed = now(), delivery_count = dead_letters.delivery_count + 1",
    )
    .bind(gateway)
    .bind(delivery.entry.to_string())
    .bind(ERROR_CLASS)
    .bind(reason)
    .bind(serde_json::Value::Object(fields).to_string().into_bytes())
    .execute(on)
    .await
    .map_err(|source| {
        error!("the database does not even take a dead letter of a command response");
        StoreError::new("writing a dead letter", source)
    })?;
    Ok(())
}

/// What an entry says, or why it says nothing.
fn read(delivery: &Delivery) -> Result<CommandResponse, String> {
    let fields = delivery.fields.iter();
    let fields: HashMap<String, String> = fields.map(|(n, v)| (text(n), text(v))).collect();
    let said = CommandResponse::from_fields(&fields).map_err(|error| error.to_string())?;
    match uuid(&said.cid) {
        Some(cid) => Ok(CommandResponse { cid, ..said }),
        None => Err(format!("cid {:?} is not a UUID", said.cid)),
    }
}

/// As PostgreSQL writes it.
pub(crate) fn uuid(text: &str) -> Option<String> {
    let is_uuid = text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    is_uuid.then(|| text.to_ascii_lowercase())
}

/// PostgreSQL's text takes everything but NUL.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "\u{FFFD}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const CID: &str = "01936f4e-7c00-7000-8000-0000000000aa";

    fn delivery(changed: (&str, &[u8])) -> Delivery {
        let fields: [(&str, &[u8]); 8] = [
            ("cid", CID.as_bytes()),
            ("imei", b"356307042441013"),
            ("instance", b"depot-1"),
            ("status", b"ack"),
            ("reason", b""),
            ("reply", b"ok"),
            ("ts", b"1700000000000"),
            ("attempt", b"1"),
        ];
        let fields = fields.map(|(name, value)| {
            let value = if name == changed.0 { changed.1 } else { value };
            (name.as_bytes().to_vec(), value.to_vec())
        });
        Delivery {
            entry: EntryId {
                stream: keys::COMMAND_RESPONSES.into(),
                id: "1-1".parse().unwrap(),
            },
            fields: fields.to_vec(),
        }
    }

    #[test]
    fn whatever_a_tracker_answers_can_be_stored() {
        let said = read(&delivery(("reply", b"a\0b\xFF"))).unwrap();
        assert_eq!(said.reply, "a\u{FFFD}b\u{FFFD}");
        let upper = CID.to_ascii_uppercase();
        assert_eq!(read(&delivery(("cid", upper.as_bytes()))).unwrap().cid, CID);
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        for (field, value) in [
            ("cid", "c-1"),
            ("cid", "01936f4e-7c00-7000-8000-0000000000ag"),
            ("status", "done"),
            ("imei", "1"),
            ("attempt", "-1"),
        ] {
            let reason = read(&delivery((field, value.as_bytes()))).unwrap_err();
            assert!(reason.contains(field), "{reason}");
        }
    }

    #[test]
    fn a_response_about_another_tracker_is_not_placed() {
        let said = read(&delivery(("", b""))).unwrap();
        let row = table::row_of("sent", 1, 0, false, false).unwrap();
        let mut rows = Rows::new();
        assert!(place(&said, &mut rows).unwrap_err().contains("no command"));
        rows.insert(CID.to_owned(), (350_000_000_000_017, row));
        assert!(place(&said, &mut rows).unwrap_err().contains("another"));
        rows.insert(CID.to_owned(), (356_307_042_441_013, row));
        assert!(place(&said, &mut rows).is_ok());
    }
}
