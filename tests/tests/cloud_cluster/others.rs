//! What others see who read the streams: `cloud/examples/read_stream.py` against what was sent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use contract::{Coding, keys};
use redis::AsyncCommands as _;
use serde_json::Value;
use tests::fleet::{Fleet, FleetConfig};
use tests::processes::{Road, RoadOptions};
use tests::servers::{ADMIN, Missing, RedisAccess, python, skipped};
use tests::tables::{Tables, eventually};

use super::stage::{IMEI, PATIENCE, add, entry};

/// Runs the example and reads its lines. `None`: there is no Python here, which was said.
fn example(access: &RedisAccess, words: &[&str]) -> Result<Option<(bool, String)>> {
    let (python, packages) = match python() {
        Ok(found) => found,
        Err(why @ Missing::Nowhere { .. }) => {
            skipped(&format!("the test of cloud/examples/read_stream.py: {why}"))?;
            return Ok(None);
        }
        Err(why) => bail!(why),
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cloud/examples/read_stream.py");
    let identity = access.identity(ADMIN);
    let ran = Command::new(python.path)
        .arg(script)
        .args(words)
        .args(["--url", &access.url(ADMIN)])
        .arg("--ca")
        .arg(access.ca())
        .arg("--cert")
        .arg(&identity.cert)
        .arg("--key")
        .arg(&identity.key)
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()?;
    let said = [ran.stdout, ran.stderr].concat();
    Ok(Some((ran.status.success(), String::from_utf8(said)?)))
}

fn lines(access: &RedisAccess, words: &[&str]) -> Result<Option<Vec<Value>>> {
    let Some((good, said)) = example(access, words)? else {
        return Ok(None);
    };
    ensure!(good, "{words:?}: {said}");
    let read = |line: &str| serde_json::from_str(line).with_context(|| line.to_owned());
    said.lines().map(read).collect::<Result<_>>().map(Some)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_wrote_is_read_by_the_example_and_the_cloud_is_not_disturbed() -> Result<()>
{
    let mut road = Road::start(RoadOptions {
        gateway: vec![("uplink.shards", 2.into())],
        ..RoadOptions::default()
    })
    .await?;
    let access = road.redis_access().clone();
    let fleet = Fleet::start(FleetConfig {
        devices: 8,
        rate: "10".parse()?,
        records_per_frame: 3,
        ..road.fleet_config()
    })
    .await?;
    let tables = Tables::connect(road.database_url()).await?;
    eventually("rows come", async || {
        let (rows,) = tables
            .one::<(i64,)>("SELECT count(*) FROM positions")
            .await?;
        Ok(rows > 400)
    })
    .await?;
    fleet.stop_producing();
    ensure!(fleet.drain(PATIENCE).await, "trackers wait for ACKs");
    let truth = fleet.truth();
    let ledger = road.settled_ledger(&truth, PATIENCE, |_| {}).await?;
    ensure!(ledger.is_clean(), "{ledger}");
    road.gateway.terminate().await?;

    let client = access.client(ADMIN)?;
    let mut redis = client.get_multiplexed_async_connection().await?;
    let streams = [0, 1].map(|n| keys::shard_stream(keys::STREAM_TELTONIKA, n, 2));
    let before = groups(&mut redis, &streams).await?;
    let Some(read) = lines(&access, &[])? else {
        return Ok(());
    };

    // Each frame once, whatever was sent twice; every record of every tracker, and no other.
    let mut frames = BTreeMap::new();
    for line in &read {
        ensure!(line["error"].is_null(), "{line}");
        ensure!(
            line["gateway"] == "gw-test" && line["transport"] == "tcp",
            "{line}"
        );
        ensure!(line["records"] == line["count"], "{line}");
        frames.insert((line["spool"].to_string(), line["seq"].as_u64()), line);
    }
    let rows: Vec<(i64, i64, f64, f64)> = tables
        .all(
            "SELECT imei, (extract(epoch FROM fix_time) * 1000)::bigint, latitude, longitude \
             FROM positions JOIN devices ON devices.id = device_id",
        )
        .await?;
    let rows: BTreeSet<String> = rows.iter().map(|row| format!("{row:?}")).collect();
    let mut records: BTreeMap<u64, u64> = BTreeMap::new();
    for line in frames.values() {
        let imei: u64 = line["device"].as_str().context("device")?.parse()?;
        let first = line["time_ms"].as_u64().context("time")?;
        let known = truth.records(imei);
        ensure!(
            known.iter().any(|record| record.key.fix_time_ms == first),
            "{imei} never sent {line}"
        );
        let degrees = |name: &str| line[name].as_f64().context("degrees");
        let row = (imei, first, degrees("latitude")?, degrees("longitude")?);
        ensure!(
            rows.contains(&format!("{row:?}")),
            "{row:?} is no row: {line}"
        );
        *records.entry(imei).or_default() += line["records"].as_u64().context("records")?;
    }
    let sent: BTreeMap<u64, u64> = truth
        .devices()
        .into_iter()
        .map(|imei| (imei, truth.records(imei).len() as u64))
        .collect();
    assert_eq!(records, sent);
    let places: BTreeSet<&str> = read
        .iter()
        .filter_map(|line| line["stream"].as_str())
        .collect();
    assert_eq!(places, streams.iter().map(String::as_str).collect());
    // A group of our own: everything once, then nothing; and the cloud's group is where it was.
    let own = lines(&access, &["--group", "reports"])?.context("python is there")?;
    assert_eq!(own.len(), read.len());
    let again = lines(&access, &["--group", "reports"])?.context("python is there")?;
    assert_eq!(again.len(), 0, "everything was acknowledged");
    let after = groups(&mut redis, &streams).await?;
    let ours = |groups: &BTreeMap<String, String>| -> Vec<String> {
        let of = groups
            .iter()
            .filter(|(name, _)| name.ends_with(" processor"));
        of.map(|(name, state)| format!("{name}: {state}")).collect()
    };
    assert_eq!(ours(&after), ours(&before));
    assert_eq!(
        after.len(),
        before.len() + 2,
        "one group more in each: {after:?}"
    );
    let (good, said) = example(&access, &["--group", "processor"])?.context("python is there")?;
    ensure!(!good && said.contains("Milepost's own"), "{said}");
    Ok(())
}

/// How far each group of each stream is.
async fn groups(
    redis: &mut redis::aio::MultiplexedConnection,
    streams: &[String],
) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for stream in streams {
        let info: redis::streams::StreamInfoGroupsReply = redis.xinfo_groups(stream).await?;
        for group in info.groups {
            let state = format!("{} {}", group.last_delivered_id, group.pending);
            all.insert(format!("{stream} {}", group.name), state);
        }
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_reads_every_version_and_names_what_it_cannot_read() -> Result<()> {
    let redis = tests::servers::Redis::start(tests::servers::RedisOptions::default()).await?;
    let client = redis.client(ADMIN)?;
    let mut admin = client.get_multiplexed_async_connection().await?;
    let stream = keys::STREAM_TELTONIKA;
    let mut spoilt = entry(3, "1", &Coding::MsgPackZstd)?;
    let mut newer = entry(4, "1", &Coding::MsgPack)?;
    let mut holey = entry(5, "7", &Coding::MsgPack)?;
    for (name, value) in &mut spoilt {
        if *name == "d" {
            *value = b"spoilt".to_vec();
        }
    }
    newer[0].1 = b"3".to_vec();
    holey.push(("gap", b"2-4:30:dropped,6-6:0:corrupt".to_vec()));
    // One at a position that the entry does not name: it says 1, and holds 2.
    let mut wrong = entry(6, "2", &Coding::MsgPack)?;
    for (name, value) in &mut wrong {
        if ["a", "z"].contains(name) {
            *value = b"1".to_vec();
        }
    }
    for fields in [
        &entry(1, "1-2", &Coding::MsgPack)?,
        &entry(2, "3-4,9-9", &Coding::MsgPackZstd)?,
        &spoilt,
        &newer,
        &holey,
        &wrong,
    ] {
        add(&mut admin, stream, fields).await?;
    }
    let Some(read) = lines(&redis, &[])? else {
        return Ok(());
    };
    let told: Vec<String> = read
        .iter()
        .map(|line| {
            let spool = line["spool"].as_str().unwrap_or_default();
            let what = match (&line["gap"], &line["error"]) {
                (Value::Null, Value::Null) => line["seq"].to_string(),
                (Value::Null, error) => format!("error {}", error.as_str().unwrap_or_default()),
                (gap, _) => format!("gap {}-{} {}", gap["first"], gap["last"], gap["records"]),
            };
            let what = what.split(':').next().unwrap_or_default().to_owned();
            format!("{}: {what}", spool.trim_start_matches('0'))
        })
        .collect();
    let expected = [
        "1: 1",
        "1: 2",
        "2: 3",
        "2: 4",
        "2: 9",
        "3: error ZstdError",
        "4: error Unreadable",
        "5: gap 2-4 30",
        "5: gap 6-6 0",
        "5: 7",
        "6: error Unreadable",
    ];
    assert_eq!(told, expected, "{read:?}");
    let first = &read[0];
    assert_eq!(first["device"], format!("{IMEI:015}"));
    assert_eq!(first["time_ms"], 1_700_000_100_001_u64);
    assert_eq!(
        (&first["longitude"], &first["latitude"]),
        (&Value::from(25.2797), &Value::from(-54.5687))
    );
    assert_eq!(
        (&first["satellites"], &first["codec"]),
        (&Value::from(7), &Value::from("8"))
    );
    // From an entry on.
    let third = read[4]["id"].as_str().context("id")?;
    let rest = lines(&redis, &["--from", third])?.context("python is there")?;
    assert_eq!(rest.len(), read.len() - 2);
    Ok(())
}
