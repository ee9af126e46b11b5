//! Devices dealt out to several streams of one Redis: each in its own, in order, and each stream
//! looked after by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use contract::{Device, Entry, Kind, Lane, Payload, SettledRanges, keys, version};
use redis::AsyncCommands as _;
use tests::edge::{self, Edge, STREAM, admin, entries_of, of_stream, settle};
use tests::servers::Redis;
use tests::tables::eventually;

const SHARDS: u32 = 4;

/// What each stream holds, in its order.
async fn streams(redis: &Redis) -> Result<BTreeMap<u32, Vec<u64>>> {
    let mut admin = admin(redis).await?;
    let mut streams = BTreeMap::new();
    for shard in 0..SHARDS {
        let stream = keys::shard_stream(STREAM, shard, SHARDS);
        streams.insert(shard, of_stream(&mut admin, &stream).await?);
    }
    Ok(streams)
}

fn shard_of(number: u64) -> u32 {
    keys::shard_of(&Device::Text(format!("boat-{}", number % 50)), SHARDS)
}

async fn until_there(redis: &Redis, count: usize) -> Result<()> {
    eventually("everything is in the streams", async || {
        Ok(streams(redis).await?.values().map(Vec::len).sum::<usize>() == count)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_device_has_its_stream_and_its_order() -> Result<()> {
    let redis = edge::redis(&[]).await?;
    let edge = Edge::start(&redis, |config| {
        config.shards = SHARDS;
        config.resend_after = Duration::from_secs(600);
    })?;
    edge.append(0..1).await?;
    until_there(&redis, 1).await?;
    edge.append(1..600).await?;
    until_there(&redis, 600).await?;
    for (shard, numbers) in streams(&redis).await? {
        let wanted: Vec<u64> = (0..600).filter(|&n| shard_of(n) == shard).collect();
        assert!(wanted.len() > 50, "shard {shard} has its share");
        assert_eq!(numbers, wanted, "shard {shard}");
    }
    Ok(())
}

/// Kinds alternate in one spool, over a cloud that reads exact positions or does not.
async fn kinds_go_apart(reads: &str) -> Result<()> {
    const KINDS: u64 = 4;
    let redis = edge::redis(&[]).await?;
    let mut admin = admin(&redis).await?;
    let () = admin
        .hset(keys::CONTRACT, version::FIELD_READS, reads)
        .await?;
    let edge = Edge::start(&redis, |config| {
        config.flush = Duration::from_millis(200);
        config.resend_after = Duration::from_secs(600);
    })?;
    // The last of them is one that this build does not know.
    let kind = |number: u64| Kind::from_u8(u8::try_from(number % KINDS).unwrap_or_default());
    for number in 0..400 {
        let kind = kind(number);
        edge.append_of(kind, Lane::Normal, number).await?;
        if number == 0 {
            // Connected: what comes from now on is live, and goes up in its order.
            eventually("the first is in its stream", async || {
                Ok(of_stream(&mut admin.clone(), STREAM).await? == [0])
            })
            .await?;
        }
    }
    let streams = [STREAM, "telemetry:http", "telemetry:nmea"];
    let mut found: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    eventually("everything is in the streams", async || {
        for stream in streams {
            found.insert(stream, of_stream(&mut admin.clone(), stream).await?);
        }
        Ok(found.values().map(Vec::len).sum::<usize>() >= 400)
    })
    .await?;
    for (at, stream) in (0..).zip(streams) {
        // What nobody knows goes where somebody reads; there order holds within a kind.
        let is_here = |n: &u64| n % KINDS == at || (at == 0 && n % KINDS == 3);
        let mut numbers = found[stream].clone();
        for kind in [at, 3] {
            let of_kind: Vec<u64> = numbers
                .iter()
                .copied()
                .filter(|n| n % KINDS == kind)
                .collect();
            assert!(of_kind.is_sorted(), "{stream}: {of_kind:?}");
        }
        numbers.sort_unstable();
        let wanted: Vec<u64> = (0..400).filter(is_here).collect();
        assert_eq!(numbers, wanted, "{stream}: each once");
        for entry in entries_of(&mut admin.clone(), stream).await? {
            let payload = Payload::open(&entry.coding, &entry.data)?;
            for envelope in payload.envelopes()? {
                let number = envelope
                    .bytes
                    .first_chunk()
                    .copied()
                    .map(u64::from_be_bytes);
                assert_eq!(
                    number.map(kind),
                    Some(entry.kind.clone()),
                    "one entry, one kind"
                );
            }
            assert!(entry.exact.is_none() || reads == "1-2");
        }
    }
    // Of one kind some are stored (a floor names 64 runs at most), then all: only the floor empties
    // the spool.
    let mut stored = SettledRanges::new();
    (0..50).for_each(|n| stored.insert(n * KINDS + 1, n * KINDS + 1));
    settle(&redis, &stored.to_string()).await?;
    eventually("some of one kind are settled", async || {
        Ok(edge.spool.usage().backlog() == 350)
    })
    .await?;
    settle(&redis, "1-400").await?;
    eventually("all are settled", async || {
        Ok(edge.spool.usage().backlog() == 0)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_that_alternate_go_apart_and_none_is_lost_or_doubled() -> Result<()> {
    kinds_go_apart("1-2").await?;
    kinds_go_apart("1").await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_of_any_kind_waits_for_no_company() -> Result<()> {
    let redis = edge::redis(&[]).await?;
    let mut admin = admin(&redis).await?;
    let edge = Edge::start(&redis, |config| {
        config.flush = Duration::from_secs(3_600);
        config.resend_after = Duration::from_secs(7_200);
    })?;
    for number in 0..10 {
        let kind = Kind::from_u8(u8::try_from(number % 3)?);
        edge.append_of(kind, Lane::Normal, number).await?;
    }
    edge.append_of(Kind::Position, Lane::High, 99).await?;
    eventually("the alarm is there", async || {
        Ok(of_stream(&mut admin.clone(), "telemetry:http").await? == [99])
    })
    .await?;
    assert!(of_stream(&mut admin, STREAM).await?.is_empty(), "they wait");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_stream_is_sent_again_and_the_others_are_not() -> Result<()> {
    let redis = edge::redis(&[]).await?;
    let edge = Edge::start(&redis, |config| config.shards = SHARDS)?;
    let mut admin = admin(&redis).await?;
    for shard in 0..SHARDS {
        // A group with something left to read: there slow is not lost.
        let stream = keys::shard_stream(STREAM, shard, SHARDS);
        let () = admin
            .xgroup_create_mkstream(stream, keys::GROUP_PROCESSOR, "0")
            .await?;
    }
    edge.append(0..200).await?;
    until_there(&redis, 200).await?;
    let before = streams(&redis).await?;
    // What shard 1 held is stored; of shard 2 the stream is lost.
    let mut stored = SettledRanges::new();
    for number in (0..200).filter(|&n| shard_of(n) == 1) {
        stored.insert(number + 1, number + 1);
    }
    settle(&redis, &stored.to_string()).await?;
    let lost = keys::shard_stream(STREAM, 2, SHARDS);
    let () = admin.del(&lost).await?;
    eventually("what was lost is there again", async || {
        let mut numbers = of_stream(&mut admin.clone(), &lost).await?;
        numbers.sort_unstable();
        numbers.dedup();
        let mut wanted = before[&2].clone();
        wanted.sort_unstable();
        Ok(numbers == wanted)
    })
    .await?;
    let after = streams(&redis).await?;
    for shard in [0, 1, 3] {
        assert_eq!(after[&shard], before[&shard], "shard {shard} is untouched");
    }
    let stored = before[&1].len() as u64;
    assert_eq!(edge.spool.usage().backlog(), 200 - stored);
    Ok(())
}

/// Sends 300 envelopes to shards of which the cloud says that it reads `reads`.
async fn entries_for(reads: Option<&str>) -> Result<Vec<Entry>> {
    let redis = edge::redis(&[]).await?;
    let mut admin = admin(&redis).await?;
    if let Some(reads) = reads {
        let () = admin
            .hset(keys::CONTRACT, version::FIELD_READS, reads)
            .await?;
    }
    let edge = Edge::start(&redis, |config| {
        config.shards = SHARDS;
        config.flush = Duration::from_millis(500);
        config.resend_after = Duration::from_secs(600);
    })?;
    edge.append(0..300).await?;
    until_there(&redis, 300).await?;
    let mut entries = Vec::new();
    for shard in 0..SHARDS {
        let stream = keys::shard_stream(STREAM, shard, SHARDS);
        entries.extend(entries_of(&mut admin, &stream).await?);
    }
    Ok(entries)
}

/// What an entry says of its positions, and what is inside: the same, and nobody else's.
fn judge_positions(entries: &[Entry]) -> Result<()> {
    let mut all = SettledRanges::new();
    for entry in entries {
        let payload = Payload::open(&entry.coding, &entry.data)?;
        let mut inside = SettledRanges::new();
        for envelope in payload.envelopes()? {
            let seq = envelope.seq.get();
            inside.insert(seq, seq);
            assert!(
                !all.contains(envelope.seq),
                "position {seq} is in two entries"
            );
        }
        assert_eq!(entry.positions(), inside);
        all.merge(&inside);
    }
    assert_eq!(all.to_string(), "1-300");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_names_exactly_the_positions_inside() -> Result<()> {
    let entries = entries_for(Some("1-2")).await?;
    judge_positions(&entries)?;
    let exact = entries.iter().filter(|entry| entry.exact.is_some()).count();
    assert!(
        exact > 0,
        "devices dealt out to {SHARDS} streams leave holes"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_that_does_not_read_holes_is_sent_none() -> Result<()> {
    for reads in [Some("1-1"), None] {
        let entries = entries_for(reads).await?;
        judge_positions(&entries)?;
        assert!(
            entries.iter().all(|entry| entry.exact.is_none()),
            "{reads:?}"
        );
    }
    Ok(())
}
