//! A disk that ends before `spool.bytes_max` does: a small file system, mounted for the gateway
//! alone in a name space of its own.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use contract::{Entry, GatewayId, Payload, SettledRanges, keys};
use redis::streams::StreamRangeReply;
use redis::{AsyncCommands as _, AsyncConnectionConfig};
use tests::edge::{EDGE, admin};
use tests::processes::Gateway;
use tests::servers::{ADMIN, Redis, mounted, skipped};
use tests::tables::eventually;

use super::{IMEI, tracker};

const DISK_BYTES: usize = 24 << 20;

/// Words that mount a file system of so many bytes at `place` and hand over; `None` where this user
/// may not.
fn on_small_disk(place: &Path, bytes: usize) -> Result<Option<Vec<OsString>>> {
    let words = mounted(place, &format!("size={bytes}"))?;
    if words.is_none() {
        skipped("a full disk: this user may not mount one with `unshare --map-root-user`")?;
    }
    Ok(words)
}

/// `path` as the gateway sees it.
fn seen_by(gateway: &Gateway, path: &Path) -> Result<PathBuf> {
    let root = PathBuf::from(format!("/proc/{}/root", gateway.pid().context("it runs")?));
    Ok(root.join(path.strip_prefix("/")?))
}

/// A data field of 60 kB that no record can be read from; kept all the same, and known by `number`.
fn large(number: u64) -> Result<Vec<u8>> {
    let mut data = vec![0; 60_000];
    getrandom::fill(&mut data)?;
    data[..2].copy_from_slice(&[8, 1]);
    data[2..10].copy_from_slice(&number.to_be_bytes());
    data[59_999] = 1;
    Ok(data)
}

/// Sends frames until one is not acknowledged, on new connections; returns the next number.
async fn fill_up(gateway: &Gateway, mut number: u64) -> Result<u64> {
    let mut one = tracker(gateway, IMEI).await?;
    while one.send_frame(&large(number)?).await.is_ok() {
        number += 1;
        ensure!(number < 1_000, "the disk is full by now");
    }
    Ok(number)
}

/// Trackers try again; a disk that refused is not asked at every one of these tries.
async fn until_kept(gateway: &Gateway, number: u64) -> Result<()> {
    eventually("trackers are acknowledged again", async || {
        let mut one = tracker(gateway, IMEI).await?;
        Ok(one.send_frame(&large(number)?).await? == 1)
    })
    .await
}

struct Stream {
    numbers: BTreeSet<u64>,
    doubled: usize,
    /// Spool ids and positions.
    positions: Vec<(String, u64, u64)>,
}

async fn stream(redis: &Redis) -> Result<Stream> {
    // Tens of megabytes on a loaded machine.
    let patience = AsyncConnectionConfig::new().set_response_timeout(None);
    let client = redis.client(ADMIN)?;
    let mut admin = client
        .get_multiplexed_async_connection_with_config(&patience)
        .await?;
    let entries: StreamRangeReply = admin.xrange_all(keys::STREAM_TELTONIKA).await?;
    let (mut numbers, mut doubled, mut positions) = (BTreeSet::new(), 0, Vec::new());
    for id in entries.ids {
        let fields = id.map.iter().map(|(name, value)| match value {
            redis::Value::BulkString(bytes) => (name.as_str(), bytes.as_slice()),
            other => panic!("a field is a string: {other:?}"),
        });
        let entry = Entry::from_fields(fields)?;
        let payload = Payload::open(&entry.coding, &entry.data)?;
        for envelope in payload.envelopes()? {
            let number = u64::from_be_bytes(envelope.bytes[2..10].try_into()?);
            doubled += usize::from(!numbers.insert(number));
            let seq = envelope.seq.get();
            positions.push((entry.spool.to_string(), seq, seq));
        }
    }
    Ok(Stream {
        numbers,
        doubled,
        positions,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_costs_no_acknowledged_record_and_mends_without_a_restart() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let disk = dir.path().join("disk");
    let Some(words) = on_small_disk(&disk, DISK_BYTES)? else {
        return Ok(());
    };
    let mut redis = tests::edge::redis(&[]).await?;
    let settings = [
        ("spool.dir", disk.join("spool").to_str().unwrap().into()),
        ("uplink.retry_max", "500ms".into()),
    ];
    redis.stop().await?;
    let gateway = Gateway::start_by(words, dir.path(), None, EDGE, &redis, &settings).await?;
    // Somebody else's file has a part of the disk.
    let foreign = seen_by(&gateway, &disk.join("foreign"))?;
    std::fs::write(&foreign, vec![1; 8 << 20])?;

    let first = fill_up(&gateway, 0).await?;
    ensure!(first > 20, "{first} frames fit");
    let not_kept = async || anyhow::Ok(gateway.status().await?["frames_not_kept"].as_u64());
    eventually("it is counted", async || Ok(not_kept().await? >= Some(1))).await?;
    let log = std::fs::read_to_string(gateway.log())?;
    ensure!(log.contains("free some, or lower spool.bytes_max"), "{log}");
    assert_eq!(fill_up(&gateway, first).await?, first, "still full");

    std::fs::remove_file(&foreign)?;
    until_kept(&gateway, first).await?;
    let second = fill_up(&gateway, first + 1).await?;
    ensure!(second > first + 20, "{second} frames fit where {first} did");

    // With the disk full to the brim everything goes up, and what is settled is noted and freed.
    redis.restart().await?;
    let acked: BTreeSet<u64> = (0..second).collect();
    eventually("everything acknowledged is in Redis", async || {
        Ok(stream(&redis).await?.numbers.is_superset(&acked))
    })
    .await?;
    let there = stream(&redis).await?;
    assert_eq!(there.numbers.len() as u64, second, "and nothing else");
    assert_eq!(there.doubled, 0);
    let mut settled = std::collections::BTreeMap::<String, SettledRanges>::new();
    for (spool, from, to) in there.positions {
        settled.entry(spool).or_default().insert(from, to);
    }
    let floor = keys::floor(&GatewayId::new(EDGE)?);
    for (spool, ranges) in settled {
        let mut admin = admin(&redis).await?;
        let () = admin.hset(&floor, spool, ranges.to_string()).await?;
    }
    until_kept(&gateway, second).await?;
    eventually("the floor is taken in", async || {
        Ok(gateway.status().await?["spool"]["backlog"].as_u64() <= Some(1))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_room_for_the_cursor_ends_the_start_and_names_it() -> Result<()> {
    let redis = tests::edge::redis(&[]).await?;
    let dir = tempfile::tempdir()?;
    let disk = dir.path().join("disk");
    let Some(words) = on_small_disk(&disk, 600 << 10)? else {
        return Ok(());
    };
    let settings = [("spool.dir", disk.join("spool").to_str().unwrap().into())];
    let started = Gateway::start_by(words, dir.path(), None, EDGE, &redis, &settings).await;
    let said = format!("{:#}", started.err().context("it cannot start")?);
    for words in [
        "no space left on the disk for spool file cursor",
        "free some",
    ] {
        ensure!(said.contains(words), "{words}: {said}");
    }
    Ok(())
}

/// Trackers come first: they are let in, and hear nothing until a record can be kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_room_for_intents_costs_the_commands_and_acknowledges_nothing() -> Result<()>
{
    let redis = tests::edge::redis(&[]).await?;
    let dir = tempfile::tempdir()?;
    let disk = dir.path().join("disk");
    let Some(words) = on_small_disk(&disk, DISK_BYTES)? else {
        return Ok(());
    };
    // Room for the cursor and half of the intents, until somebody tidies up.
    let fill = format!(
        "head -c {} /dev/zero >'{}'; exec \"$@\"",
        DISK_BYTES - (2 << 20),
        disk.join("foreign").display()
    );
    let words = words.into_iter();
    let words = words.chain(["sh", "-c", &fill, "sh"].map(OsString::from));
    let settings = [("spool.dir", disk.join("spool").to_str().unwrap().into())];
    let gateway =
        Gateway::start_by(words.collect(), dir.path(), None, EDGE, &redis, &settings).await?;
    let log = std::fs::read_to_string(gateway.log())?;
    for words in [
        "commands are off until the next start",
        "spool file intents",
    ] {
        ensure!(log.contains(words), "{words}: {log}");
    }
    assert_eq!(gateway.status().await?["downlink"]["enabled"], false);
    assert_eq!(fill_up(&gateway, 0).await?, 0, "nothing is acknowledged");
    std::fs::remove_file(seen_by(&gateway, &disk.join("foreign"))?)?;
    until_kept(&gateway, 0).await
}
