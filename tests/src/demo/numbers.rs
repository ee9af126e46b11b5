//! The numbers on the screen: asked of the trackers, the programs and the database.
//!
//! Invariant: a part that does not answer leaves a gap on the screen and stops nothing.

use anyhow::Result;
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tokio::time::Instant;

use super::soon;
use crate::fleet::{Fleet, FleetStats};
use crate::processes::Road;

/// Positions this young give the delay: the journeys' clock is the wall clock.
const DELAY: &str = "
    SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY delay_ms),
           percentile_disc(0.99) WITHIN GROUP (ORDER BY delay_ms)
    FROM (SELECT (extract(epoch FROM stored_at - received_at) * 1000)::bigint AS delay_ms
          FROM positions WHERE fix_time > now() - interval '15 s'
          ORDER BY fix_time DESC LIMIT 20000) AS recent";

/// One look at everything.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    pub(super) fleet: FleetStats,
    pub(super) acked_per_s: f64,
    pub(super) rows_per_s: f64,
    /// `/status` of the gateway.
    pub(super) gateway: Option<Value>,
    /// `/status` of the cloud.
    pub(super) cloud: Option<Value>,
    pub(super) rows: Option<i64>,
    /// Median and 99th percentile from the gateway's receipt to the transaction that stores.
    pub(super) delay_ms: Option<(i64, i64)>,
}

/// Reads [`Numbers`] again and again, and remembers what it needs for rates.
#[derive(Debug)]
pub(super) struct Gauges {
    url: String,
    database: Option<PgConnection>,
    last: (Instant, u64, i64),
}

impl Gauges {
    pub(super) fn new(url: &str) -> Gauges {
        Gauges {
            url: url.to_owned(),
            database: None,
            last: (Instant::now(), 0, 0),
        }
    }

    pub(super) async fn read(&mut self, road: &Road, fleet: &Fleet) -> Numbers {
        let (gateway, cloud, tables) = tokio::join!(
            soon(road.gateway.status()),
            soon(road.cloud.status()),
            self.tables()
        );
        let stats = fleet.stats();
        let mut numbers = Numbers {
            fleet: stats,
            gateway,
            cloud,
            rows: tables.map(|(rows, _)| rows),
            delay_ms: tables.and_then(|(_, delay_ms)| delay_ms),
            ..Numbers::default()
        };
        let now = Instant::now();
        let (then, acked_then, rows_then) = self.last;
        let rows = numbers.rows.unwrap_or(rows_then);
        let passed_s = (now - then).as_secs_f64().max(0.001);
        numbers.acked_per_s = (stats.acked - acked_then) as f64 / passed_s;
        numbers.rows_per_s = (rows - rows_then) as f64 / passed_s;
        self.last = (now, stats.acked, rows);
        numbers
    }

    async fn tables(&mut self) -> Option<(i64, Option<(i64, i64)>)> {
        // Taken out while it is used: a query cut off by its time limit spoils the connection.
        let database = self.database.take();
        let (connection, answer) = soon(ask(database, &self.url)).await?;
        self.database = Some(connection);
        Some(answer)
    }
}

type Tables = (i64, Option<(i64, i64)>);

async fn ask(database: Option<PgConnection>, url: &str) -> Result<(PgConnection, Tables)> {
    let mut database = match database {
        Some(database) => database,
        None => PgConnection::connect(url).await?,
    };
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM positions")
        .fetch_one(&mut database)
        .await?;
    let (p50, p99): (Option<i64>, Option<i64>) =
        sqlx::query_as(DELAY).fetch_one(&mut database).await?;
    Ok((database, (rows, p50.zip(p99))))
}
