//! `GET /pipeline`: the way of a record, and whether the ledger balances.
//!
//! Why what is asked of the tables is kept for some seconds: every open page asks, and sums over the
//! ledger must not grow with the number of pages.

mod stages;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use redis::cmd;
use serde_json::{Value, json};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::timeout;

use self::stages::{Counts, Gateway, Samples, Seen};
use super::answer::{self, Wants};
use super::ask::Asked;
use super::{Told, Web, now};
use crate::admin::Admin;
use crate::ledger::in_flight as pending;
use crate::ledger::judge::{Balance, InFlight};
use crate::operator::moment;
use crate::store::{StoreError, accounts};
use crate::stream::lag;
use contract::{Beat, GatewayId, keys};

/// Between two samples of the counters.
const SAMPLE_EVERY: Duration = Duration::from_secs(2);

/// How long what the tables said is told again.
const FRESH: Duration = Duration::from_secs(5);

/// Longest wait for the tables, and for Redis.
const ASK_MAX: Duration = Duration::from_secs(3);

/// The ledger of the last so long.
const LEDGER_HOURS: i64 = 24;

/// Gateways that are told.
const GATEWAYS_MAX: i64 = 1_000;

/// What the tables said.
#[derive(Clone, Debug, Default)]
struct Tables {
    ledger: Option<Value>,
    devices: Option<(i64, i64)>,
    gateways: Vec<Gateway>,
}

/// Counters of the last seconds, and what the tables said last.
#[derive(Debug)]
pub(super) struct Pipeline {
    began: Instant,
    samples: Mutex<Samples>,
    tables: AsyncMutex<Option<(Instant, Tables)>>,
}

impl Pipeline {
    /// Nothing was looked at yet.
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            samples: Mutex::default(),
            tables: AsyncMutex::default(),
        }
    }

    fn sample(&self, admin: &Admin) -> stages::Rates {
        let metrics = &admin.metrics;
        let counts = Counts {
            received: metrics.records_received.get(),
            read: metrics.messages_read.get(),
            decoded: metrics.rows_decoded.get(),
            committed: metrics.rows_committed.get(),
        };
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.add(self.began.elapsed(), counts);
        samples.rates()
    }
}

/// Samples the counters now and then, until the stop.
pub(super) async fn sample(web: Web) {
    loop {
        web.pipeline.sample(&web.admin);
        tokio::select! {
            () = web.stop.cancelled() => return,
            () = tokio::time::sleep(SAMPLE_EVERY) => {}
        }
    }
}

/// `GET /pipeline`
pub(super) async fn pipeline(State(web): State<Web>, wants: Wants, uri: Uri) -> Told {
    Asked::read(uri.query(), &[])?;
    let admin = &web.admin;
    let streams = admin.streams.all();
    let asked = streams.len();
    let (standings, tables) = tokio::join!(admin.standings(streams), tables(&web));
    let is_all = standings.len() == asked;
    let waits = |it: &lag::Standing| Some(it.lag_entries? + it.pending_entries?);
    let metrics = &admin.metrics;
    let (redis, database) = admin.connections();
    let seen = Seen {
        rates: web.pipeline.sample(admin),
        is_redis_there: admin.link.as_ref().map(|_| redis == "connected"),
        entries: is_all.then(|| lag::total(&standings, waits)).flatten(),
        oldest_s: standings.iter().filter_map(|it| it.age_s).max(),
        waiting: u64::try_from(admin.intake.waiting()).unwrap_or(u64::MAX),
        in_hand: metrics
            .rows_decoded
            .get()
            .saturating_sub(metrics.rows_committed.get()),
        // Nothing may have been written for a while: then it is the tables that just did not answer.
        is_database_there: database == "connected" && tables.ledger.is_some(),
        is_refused: metrics.batch_refusals.get() >= crate::admin::REFUSALS_MAX,
        engine: admin.engine.to_string(),
        trouble: admin.trouble(),
        devices: tables.devices,
        gateways: tables.gateways,
    };
    let gateways: Vec<Value> = seen.gateways.iter().map(gateway_json).collect();
    let told = json!({
        "now": moment::text(now()),
        "stages": stages::stages(&seen),
        "ledger": tables.ledger,
        "gateways": gateways,
    });
    Ok(answer::passing(&wants, StatusCode::OK, &told))
}

fn gateway_json(gateway: &Gateway) -> Value {
    let beat = &gateway.beat;
    json!({
        "id": gateway.id,
        "last_seen": gateway.last_seen_ms.map(|ms| moment::text(moment::at_ms(ms))),
        "days_left_offline": beat.left_days,
        "certificate_days_left": beat.certificate_left_days,
        "spool_bytes": beat.spool_used_bytes,
        "spool_bytes_max": beat.spool_bytes_max,
        "backlog_frames": beat.frames_waiting,
    })
}

/// What the tables say, or said some seconds ago. Nothing where they do not answer.
async fn tables(web: &Web) -> Tables {
    let mut kept = web.pipeline.tables.lock().await;
    if let Some((at, tables)) = kept.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
        tracing::trace!(age = ?at.elapsed(), "the ledger is told again");
        return tables.clone();
    }
    let asking = async {
        // The streams first: what is settled meanwhile then counts on both sides, and not on neither.
        let in_flight = in_flight(web).await;
        ask(web, in_flight).await
    };
    let tables = match timeout(2 * ASK_MAX, asking).await {
        Ok(Ok(tables)) => tables,
        Ok(Err(error)) => {
            tracing::warn!(
                error = crate::stream::consumer::chained(&error),
                "the ledger cannot be told"
            );
            Tables::default()
        }
        Err(_) => Tables::default(),
    };
    *kept = Some((Instant::now(), tables.clone()));
    tables
}

async fn in_flight(web: &Web) -> InFlight {
    let Some(link) = &web.admin.link else {
        return InFlight {
            records: Some(0),
            estimated: false,
        };
    };
    let asking = pending::in_flight(link, &web.admin.stream);
    match timeout(ASK_MAX, asking).await {
        Ok(Ok(in_flight)) => in_flight,
        _ => InFlight::default(),
    }
}

async fn ask(web: &Web, in_flight: InFlight) -> Result<Tables, StoreError> {
    let refused = |source| StoreError::new("reading the ledger", source);
    let mut on = web.reads.acquire().await.map_err(refused)?;
    let since = now() - chrono::Duration::hours(LEDGER_HOURS);
    let balance = Balance {
        sums: accounts::sums(&mut on, Some(LEDGER_HOURS * 3_600_000)).await?,
        in_flight,
        letters_gone: accounts::letters_gone(&mut on).await?,
        positions_gone: accounts::positions_gone(&mut on).await?,
    };
    let devices: (i64, i64) = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE last_seen > now() - interval '5 minutes'), count(*) FROM devices",
    )
    .fetch_one(&mut *on)
    .await
    .map_err(refused)?;
    let newest: Vec<(String, Option<i64>)> = sqlx::query_as(
        "SELECT p.gateway, (extract(epoch FROM max(s.settled_at)) * 1000)::int8 \
         FROM (SELECT DISTINCT gateway FROM spools ORDER BY gateway LIMIT $1) AS p \
         LEFT JOIN settled s USING (gateway) GROUP BY p.gateway ORDER BY p.gateway",
    )
    .bind(GATEWAYS_MAX)
    .fetch_all(&mut *on)
    .await
    .map_err(refused)?;
    drop(on);
    let mut gateways = Vec::with_capacity(newest.len());
    for (id, settled_ms) in newest {
        let settled_ms = settled_ms.and_then(|ms| u64::try_from(ms).ok());
        gateways.push(gateway(web, id, settled_ms).await);
    }
    Ok(Tables {
        ledger: Some(ledger(&balance, &moment::text(since))),
        devices: Some(devices),
        gateways,
    })
}

/// Its sign of life, where Redis has one.
async fn gateway(web: &Web, id: String, settled_ms: Option<u64>) -> Gateway {
    let beat: Option<Option<String>> = match (&web.admin.link, GatewayId::new(&id)) {
        (Some(link), Ok(name)) => {
            let mut get = cmd("GET");
            get.arg(keys::heartbeat(&name));
            let asking = link.ask::<Option<String>>("GET", &get);
            timeout(ASK_MAX, asking).await.ok().and_then(Result::ok)
        }
        _ => None,
    };
    let is_alive = beat.as_ref().map(Option::is_some);
    let beat = beat.flatten().and_then(|beat| Beat::parse(&beat));
    Gateway {
        id,
        last_seen_ms: beat.as_ref().map(|beat| beat.at_ms).max(settled_ms),
        is_alive,
        beat: beat.unwrap_or_default(),
    }
}

/// One line that must balance. What is in flight was received, too.
fn ledger(balance: &Balance, since: &str) -> Value {
    let total = balance.total();
    let on_the_way = i64::try_from(balance.in_flight.records.unwrap_or(0)).unwrap_or(i64::MAX);
    let missing = |gone: &[accounts::Missing]| gone.iter().map(|it| it.missing).sum::<i64>();
    let in_columns =
        total.stored + total.quarantined + total.duplicate + total.dead + total.dropped;
    let difference = total.received - in_columns
        + missing(&balance.letters_gone)
        + missing(&balance.positions_gone);
    json!({
        "received": total.received.saturating_add(on_the_way),
        "stored": total.stored,
        "duplicate": total.duplicate,
        "quarantined": total.quarantined,
        "dead": total.dead,
        "dropped": total.dropped,
        "in_flight": balance.in_flight.records,
        "in_flight_estimated": balance.in_flight.estimated,
        "difference": difference,
        "unaccounted": balance.unaccounted(),
        "since": since,
    })
}
