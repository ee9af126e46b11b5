//! Devices dealt out to several streams of one Redis: each in its own, in order, and each stream
//! looked after by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use contract::{Device, SettledRanges, keys};
use redis::AsyncCommands as _;
use tests::edge::{self, Edge, STREAM, admin, of_stream, settle};
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
