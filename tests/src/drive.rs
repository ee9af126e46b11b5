//! A fleet that drives over the whole road while something breaks, and the verdict afterwards.
//!
//! Each test first waits until data flows, so that the fault really falls into the stream, and asks
//! for data from after the fault as well.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::fleet::{Fleet, FleetConfig};
use crate::ledger::Ledger;
use crate::processes::{Road, RoadOptions, Setting};
use crate::servers::{Postgres, Redis};
use crate::tables::{Tables, eventually};

/// How long the last rows may take; waiting ends as soon as they are there.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Rows before the first fault.
const WARM_ROWS: i64 = 200;

/// A road with a fleet on it.
#[derive(Debug)]
pub struct Drive {
    /// What it drives on.
    pub road: Road,
    /// Twenty trackers, four hundred records a second.
    pub fleet: Fleet,
    /// A look at the database.
    pub tables: Tables,
}

/// A road whose gateway asks early about what is not stored: outages are short in tests.
#[must_use]
pub fn options() -> RoadOptions {
    let settings: [Setting; 2] = [
        ("uplink.resend_after", Value::from("2s")),
        ("uplink.retry_max", Value::from("1s")),
    ];
    RoadOptions {
        gateway: settings.to_vec(),
        ..RoadOptions::default()
    }
}

impl Drive {
    /// Starts road and fleet, and waits until rows arrive.
    ///
    /// # Errors
    /// When something does not start, or no rows come.
    pub async fn start(options: RoadOptions) -> Result<Self> {
        let road = Road::start(options).await?;
        let fleet = Fleet::start(FleetConfig {
            devices: 20,
            // Fast enough that hundreds of records are on their way at any moment.
            rate: "20".parse()?,
            records_per_frame: 2,
            ack_timeout: Duration::from_secs(5),
            backoff: (Duration::from_millis(50), Duration::from_millis(500)),
            ..road.fleet_config()
        })
        .await?;
        let tables = Tables::connect(road.database_url()).await?;
        let drive = Self {
            road,
            fleet,
            tables,
        };
        drive.stored(WARM_ROWS).await?;
        Ok(drive)
    }

    /// The Redis on the road.
    ///
    /// # Errors
    /// When the road uses somebody else's.
    pub fn redis(&mut self) -> Result<&mut Redis> {
        self.road.redis.as_mut().context("the Redis is not ours")
    }

    /// The PostgreSQL on the road.
    ///
    /// # Errors
    /// When the road uses somebody else's.
    pub fn postgres(&mut self) -> Result<&mut Postgres> {
        let postgres = self.road.postgres.as_mut();
        postgres.context("the PostgreSQL is not ours")
    }

    /// Kills the gateway again and again, each time so many records later, and goes on.
    ///
    /// # Errors
    /// When it does not come up, or trackers are not ACKed.
    pub async fn kill_gateway(&mut self, moments: &[u64]) -> Result<()> {
        for later in moments {
            self.acked(*later).await?;
            self.road.gateway.kill9()?;
            self.road.gateway.restart().await?;
            self.acked(50).await?;
        }
        Ok(())
    }

    /// Kills the cloud again and again, each time so many ACKed records after a row, and goes on.
    ///
    /// # Errors
    /// When it does not come up, or rows do not arrive.
    pub async fn kill_cloud(&mut self, moments: &[u64]) -> Result<()> {
        for later in moments {
            self.stored(1).await?;
            self.acked(*later).await?;
            self.road.cloud.kill9()?;
            self.acked(50).await?; // trackers do not notice
            self.road.cloud.restart().await?;
        }
        self.stored(150).await
    }

    /// Waits until trackers have so many more records ACKed.
    ///
    /// # Errors
    /// When they do not in time.
    pub async fn acked(&self, more: u64) -> Result<()> {
        let wanted = self.fleet.stats().acked + more;
        eventually("trackers are ACKed", async || {
            Ok(self.fleet.stats().acked >= wanted)
        })
        .await
    }

    /// Waits until there are so many more rows.
    ///
    /// # Errors
    /// When there are not in time.
    pub async fn stored(&self, more: i64) -> Result<()> {
        let wanted = self.rows().await? + more;
        eventually("rows arrive", async || Ok(self.rows().await? >= wanted)).await
    }

    /// Waits until there are as many rows as records were ACKed when it was asked.
    ///
    /// # Errors
    /// When there are not in time.
    pub async fn caught_up(&self) -> Result<()> {
        let wanted = i64::try_from(self.fleet.stats().acked)?;
        eventually("the rows catch up", async || {
            Ok(self.rows().await? >= wanted)
        })
        .await
    }

    async fn rows(&self) -> Result<i64> {
        let count = "SELECT count(*) FROM positions";
        Ok(self.tables.one::<(i64,)>(count).await?.0)
    }

    /// Stops the fleet and compares: every ACK must be a row, no row may be there twice, nothing
    /// may be among the dead letters.
    ///
    /// # Errors
    /// When it is not so.
    pub async fn judge(&self) -> Result<Ledger> {
        self.fleet.stop_producing();
        ensure!(
            self.fleet.drain(PATIENCE).await,
            "trackers still wait for ACKs: {:?}",
            self.fleet.stats()
        );
        let ledger = self
            .road
            .clean_ledger(&self.fleet.truth(), PATIENCE)
            .await?;
        ensure!(
            ledger.acked > 0 && ledger.sent == ledger.acked,
            "everything sent is ACKed in the end: {ledger}"
        );
        ensure!(ledger.dead == 0, "{ledger}");
        Ok(ledger)
    }
}
