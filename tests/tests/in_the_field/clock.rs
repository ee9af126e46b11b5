//! A system clock that jumps while the gateway runs: libfaketime answers for the C library, and the
//! clock that timers go by is left alone, as by anybody who sets the time of a machine.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::fleet::{Fleet, FleetConfig};
use tests::processes::{Gateway, Road, RoadOptions, get};
use tests::servers::skipped;
use tests::tables::{Tables, eventually};

/// Names the library, wherever it is.
const VARIABLE: &str = "MILEPOST_FAKETIME";

/// Days that the clock is wrong by: about the year 1970 and about 2100.
const FAR_BACK_DAYS: i64 = -20_500;
const FAR_AHEAD_DAYS: i64 = 27_000;

const DAY_MS: i64 = 86_400_000;

fn library() -> Result<Option<PathBuf>> {
    let named = std::env::var_os(VARIABLE).map(PathBuf::from);
    let packaged = [
        "x86_64-linux-gnu",
        "aarch64-linux-gnu",
        "arm-linux-gnueabihf",
    ]
    .map(|triple| PathBuf::from(format!("/usr/lib/{triple}/faketime/libfaketime.so.1")));
    let found = named
        .into_iter()
        .chain(packaged)
        .find(|path| path.is_file());
    if found.is_none() {
        skipped("a clock that jumps: no libfaketime here, ./dev setup fetches it")?;
    }
    Ok(found)
}

/// A clock to be set.
struct Clock {
    file: PathBuf,
    _dir: tempfile::TempDir,
}

impl Clock {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let clock = Self {
            file: dir.path().join("clock"),
            _dir: dir,
        };
        clock.write(0)?;
        Ok(clock)
    }

    fn words(&self, library: &Path) -> Vec<OsString> {
        let mut words = vec![OsString::from("env")];
        for (name, value) in [
            ("LD_PRELOAD", library.as_os_str()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.as_os_str()),
            ("FAKETIME_NO_CACHE", "1".as_ref()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".as_ref()),
            ("FAKETIME_DISABLE_SHM", "1".as_ref()),
            ("NO_FAKE_STAT", "1".as_ref()),
        ] {
            let mut word = OsString::from(name);
            word.push("=");
            word.push(value);
            words.push(word);
        }
        words
    }

    fn write(&self, days: i64) -> Result<()> {
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{days:+}d\n"))?;
        Ok(std::fs::rename(new, &self.file)?)
    }

    /// Returns when the gateway's clock is wrong by so many days.
    async fn set(&self, days: i64, gateway: &Gateway) -> Result<()> {
        self.write(days)?;
        eventually(&format!("the clock is {days} days off"), async || {
            let now_ms = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
            let theirs_ms = gateway.status().await?["now_ms"].as_i64().context("now")?;
            Ok((theirs_ms - now_ms - days * DAY_MS).abs() < DAY_MS / 2)
        })
        .await
    }
}

async fn acked(fleet: &Fleet, more: u64) -> Result<()> {
    let wanted = fleet.stats().acked + more;
    eventually("trackers are ACKed", async || {
        Ok(fleet.stats().acked >= wanted)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_loses_doubles_and_quarantines_nothing() -> Result<()> {
    let Some(library) = library()? else {
        return Ok(());
    };
    let clock = Clock::new()?;
    let road = Road::start(RoadOptions {
        gateway_by: clock.words(&library),
        gateway: vec![("uplink.retry_max", Value::from("500ms"))],
        ..RoadOptions::default()
    });
    let mut road = road.await?;
    let tables = Tables::connect(road.database_url()).await?;
    let fleet = Fleet::start(FleetConfig {
        devices: 5,
        rate: "20".parse()?,
        records_per_frame: 2,
        ack_timeout: Duration::from_secs(5),
        backoff: (Duration::from_millis(50), Duration::from_millis(500)),
        ..road.fleet_config()
    });
    let fleet = fleet.await?;
    let stored = async |more: i64| {
        let sql = "SELECT count(*) FROM positions";
        let before = tables.one::<(i64,)>(sql).await?.0;
        eventually("rows arrive", async || {
            Ok(tables.one::<(i64,)>(sql).await?.0 >= before + more)
        })
        .await
    };
    stored(50).await?;
    for days in [1, -1, FAR_AHEAD_DAYS, FAR_BACK_DAYS] {
        clock.set(days, &road.gateway).await?;
        acked(&fleet, 60).await?;
        stored(60).await?;
    }
    // A box without a battery for its clock begins in 1970. No certificate is valid then: it keeps
    // what comes, says why it does not send, and goes on once the time is right.
    road.gateway.kill9()?;
    road.gateway.restart().await?;
    acked(&fleet, 60).await?;
    eventually("the clock is named", async || {
        Ok(road.gateway.status().await?["uplink"]["cause"] == "clock")
    })
    .await?;
    clock.set(0, &road.gateway).await?;
    stored(120).await?;

    fleet.stop_producing();
    ensure!(
        fleet.drain(Duration::from_secs(60)).await,
        "{:?}",
        fleet.stats()
    );
    let patience = Duration::from_secs(60);
    let ledger = road
        .settled_ledger(&fleet.truth(), patience, |_| {})
        .await?;
    ensure!(
        ledger.is_clean() && ledger.stored == ledger.acked && ledger.dead == 0,
        "{ledger}\ngateway: {}",
        road.gateway.last_words()
    );
    let quarantined = "SELECT count(*) FROM positions_quarantine";
    assert_eq!(tables.one::<(i64,)>(quarantined).await?.0, 0);
    let (_, events) = get(road.gateway.http_addr(), "/events").await?;
    ensure!(!events.contains("\"stuck\""), "{events}");
    Ok(())
}
