//! The gateway against a Redis Cluster of three masters: every shard finds its master, also after its
//! slot moved away in mid-stream or a master was away, and behind TLS with users as well.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result};
use contract::keys;
use gateway::uplink::{Cause, RedisConfig, UplinkConfig};
use redis::AsyncCommands as _;
use tests::edge::{self, EDGE, Edge, STREAM, gateway_id, of_stream, way_into};
use tests::processes::program_path;
use tests::servers::{RedisAccess, RedisCluster};
use tests::tables::eventually;

const SHARDS: u32 = 6;

fn config(url: String, cluster: bool) -> UplinkConfig {
    let redis = RedisConfig {
        cluster,
        response_timeout: Duration::from_secs(2),
        ..RedisConfig::at(url)
    };
    UplinkConfig {
        shards: SHARDS,
        resend_after: Duration::from_secs(600),
        ..edge::config(redis)
    }
}

fn stream(shard: u32) -> String {
    keys::shard_stream(STREAM, shard, SHARDS)
}

/// How often each number is in the streams, wherever these live now.
async fn received(cluster: &RedisCluster) -> Result<BTreeMap<u64, usize>> {
    let mut times = BTreeMap::new();
    for shard in 0..SHARDS {
        let owner = cluster.owner(cluster.slot(&stream(shard)).await?).await?;
        let mut connection = cluster.connection(owner).await?;
        for number in of_stream(&mut connection, &stream(shard)).await? {
            *times.entry(number).or_default() += 1;
        }
    }
    Ok(times)
}

async fn until_received(cluster: &RedisCluster, count: u64) -> Result<()> {
    let wanted: BTreeSet<u64> = (0..count).collect();
    eventually("everything is in the streams", async || {
        let there: BTreeSet<u64> = received(cluster).await?.into_keys().collect();
        Ok(there == wanted)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_move_in_mid_stream_and_nothing_is_lost() -> Result<()> {
    let cluster = RedisCluster::start().await?;
    // One node is enough: it knows the others.
    let config = config(cluster.url(0), true);
    moves(&cluster, config, 2_000, SHARDS).await
}

/// TLS, a client certificate and a user with the rights of docs/gateway.md and no more.
#[tokio::test(flavor = "multi_thread")]
async fn behind_tls_a_user_with_few_rights_follows_every_slot() -> Result<()> {
    let cluster = RedisCluster::start_secure(&[EDGE.to_owned()]).await?;
    let access = cluster.access();
    let redis = RedisConfig {
        cluster: true,
        response_timeout: Duration::from_secs(2),
        ..way_into(access)
    };
    let config = UplinkConfig {
        redis,
        ..config(String::new(), true)
    };
    moves(&cluster, config, 500, 2).await
}

/// Sends `count` envelopes while the slots of so many shards move.
async fn moves(
    cluster: &RedisCluster,
    config: UplinkConfig,
    count: u64,
    moving: u32,
) -> Result<()> {
    let edge = Edge::open(1 << 28)?.launch(config)?;
    edge.append(0..100).await?;
    until_received(cluster, 100).await?;
    let times = received(cluster).await?;
    assert!(times.values().all(|&times| times == 1), "{times:?}");
    let mut owners = BTreeSet::new();
    for shard in 0..SHARDS {
        owners.insert(cluster.owner(cluster.slot(&stream(shard)).await?).await?);
    }
    assert_eq!(owners.len(), cluster.masters(), "the shards are spread");

    let appended = async {
        edge.append(100..count).await?;
        anyhow::Ok(())
    };
    let moved = async {
        for shard in 0..moving {
            let slot = cluster.slot(&stream(shard)).await?;
            let to = (cluster.owner(slot).await? + 1) % cluster.masters();
            cluster.move_slot(slot, to).await?;
        }
        anyhow::Ok(())
    };
    let (appended, moved) = tokio::join!(appended, moved);
    appended.context("trackers are acknowledged")?;
    moved?;
    until_received(cluster, count).await?;
    eventually("the trouble, if any, is over", async || {
        Ok(edge.status()["trouble"].is_null() && edge.status()["connected"] == true)
    })
    .await?;

    // Floor and heartbeat have slots of their own.
    let floor = keys::floor(&gateway_id());
    let owner = cluster.owner(cluster.slot(&floor).await?).await?;
    let mut connection = cluster.connection(owner).await?;
    let spool = contract::SpoolId::from_random(7).to_string();
    let () = connection
        .hset(floor, spool, format!("1-{}", count - 50))
        .await?;
    eventually("the floor is believed", async || {
        Ok(edge.spool.usage().backlog() == 50)
    })
    .await?;
    let heartbeat = keys::heartbeat(&gateway_id());
    let owner = cluster.owner(cluster.slot(&heartbeat).await?).await?;
    let mut connection = cluster.connection(owner).await?;
    let alive: i64 = connection.ttl(heartbeat).await?;
    assert!((1..=90).contains(&alive), "heartbeat expires in {alive} s");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_is_away_is_named_and_waited_for() -> Result<()> {
    let mut cluster = RedisCluster::start().await?;
    let nodes: Vec<String> = (0..cluster.masters()).map(|at| cluster.url(at)).collect();
    // Several nodes in the address mean a cluster.
    let edge = Edge::open(1 << 28)?.launch(config(nodes.join(","), false))?;
    edge.append(0..100).await?;
    until_received(&cluster, 100).await?;
    cluster.kill9(1)?;
    edge.append(100..300)
        .await
        .context("trackers are acknowledged")?;
    eventually("the status says what it is and what to do", async || {
        let status = edge.status();
        let trouble = status["trouble"].as_str().unwrap_or_default();
        anyhow::ensure!(status["cause"] == Cause::ClusterDown.name(), "{status}");
        Ok(trouble.contains(Cause::ClusterDown.remedy()))
    })
    .await?;
    cluster.restart(1).await?;
    until_received(&cluster, 300).await?;
    eventually("the trouble is over", async || {
        Ok(edge.status()["trouble"].is_null())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_taken_for_one_server_is_named() -> Result<()> {
    let cluster = RedisCluster::start().await?;
    let heartbeat = cluster.slot(&keys::heartbeat(&gateway_id())).await?;
    let another = (cluster.owner(heartbeat).await? + 1) % cluster.masters();
    let edge = Edge::open(1 << 28)?.launch(config(cluster.url(another), false))?;
    edge.append(0..10)
        .await
        .context("trackers are acknowledged")?;
    eventually("the status says what it is and what to do", async || {
        let status = edge.status();
        let trouble = status["trouble"].as_str().unwrap_or_default();
        anyhow::ensure!(status["cause"] == Cause::Cluster.name(), "{status}");
        Ok(trouble.contains("uplink.cluster = true"))
    })
    .await?;
    assert_eq!(edge.spool.usage().backlog(), 10);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_names_no_wrong_cause_in_a_cluster() -> Result<()> {
    let cluster = RedisCluster::start().await?;
    let dir = tempfile::tempdir()?;
    let both = format!("{},{}", cluster.url(0), cluster.url(1));
    let dead = format!("{},redis://127.0.0.1:1/", cluster.url(0));
    // Nobody has published the contract, and the user `default` may read.
    let always = ["W-RED-101", "W-RED-102"];
    for (url, found) in [
        (cluster.url(0), None),
        (both, None),
        (dead, Some("E-RED-002")),
    ] {
        let ran = std::process::Command::new(program_path("gateway")?)
            .args(["check", "--json"])
            .env_clear()
            .env("GATEWAY__UPLINK__URL", &url)
            .env("GATEWAY__UPLINK__CLUSTER", "true")
            .env("GATEWAY__SPOOL__DIR", dir.path().join("spool"))
            .output()?;
        let said = String::from_utf8(ran.stdout)?;
        let codes: BTreeSet<&str> = said
            .split('"')
            .filter(|word| word.contains("-RED-"))
            .collect();
        let expected = found.into_iter().chain(always).collect();
        assert_eq!(codes, expected, "{url}: {said}");
        assert!(said.contains("the cluster lets us in"), "{url}: {said}");
    }
    Ok(())
}

/// What `gateway check` finds about Redis, by code, as this gateway with these certificates.
fn check(access: &RedisAccess, shards: u32) -> Result<(String, Vec<String>)> {
    let dir = tempfile::tempdir()?;
    let identity = access.identity(EDGE);
    let ran = std::process::Command::new(program_path("gateway")?)
        .args(["check", "--json"])
        .env_clear()
        .env("GATEWAY__GATEWAY__ID", EDGE)
        .env("GATEWAY__UPLINK__URL", access.url(EDGE))
        .env("GATEWAY__UPLINK__CERT", &identity.cert)
        .env("GATEWAY__UPLINK__KEY", &identity.key)
        .env("GATEWAY__UPLINK__CA", access.ca())
        .env("GATEWAY__UPLINK__CLUSTER", "true")
        .env("GATEWAY__UPLINK__SHARDS", shards.to_string())
        .env("GATEWAY__SPOOL__DIR", dir.path().join("spool"))
        .output()?;
    let said = String::from_utf8(ran.stdout)?;
    let words = said.split('"').filter(|word| word.contains("-RED-"));
    let codes = words.map(str::to_owned).collect();
    Ok((said, codes))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_asks_for_every_right_at_the_node_that_has_the_key() -> Result<()> {
    let cluster = RedisCluster::start_secure(&[EDGE.to_owned()]).await?;
    let access = cluster.access();
    let (said, codes) = check(access, SHARDS)?;
    assert_eq!(
        codes,
        ["W-RED-101"],
        "nobody has published the contract: {said}"
    );
    for shard in 0..SHARDS {
        let right = format!("may XADD {}", stream(shard));
        assert!(said.contains(&right), "{right}: {said}");
    }
    assert!(
        said.contains("may take orders from commands:outbound:edge-test"),
        "{said}"
    );
    let mut keys_there = 0;
    for master in 0..cluster.masters() {
        let mut connection = cluster.connection(master).await?;
        let count: u64 = redis::cmd("DBSIZE").query_async(&mut connection).await?;
        keys_there += count;
    }
    assert_eq!(keys_there, 0, "the check wrote something");

    // Each right is taken away at one node alone: the one that has the key.
    let answers = keys::COMMAND_RESPONSES.to_owned();
    let heartbeat = keys::heartbeat(&gateway_id());
    for (key, rule, code) in [
        (stream(4), "-xadd", "E-RED-012"),
        (heartbeat, "-set", "E-RED-022"),
        (keys::CONNECTIONS.to_owned(), "-hdel", "E-RED-025"),
        (answers, "-xadd", "E-RED-025"),
    ] {
        let owner = cluster.owner(cluster.slot(&key).await?).await?;
        let mut connection = cluster.connection(owner).await?;
        let mut acl = redis::cmd("ACL");
        let () = acl
            .arg(&["SETUSER", EDGE, rule])
            .query_async(&mut connection)
            .await?;
        let (said, codes) = check(access, SHARDS)?;
        assert!(
            codes.iter().any(|found| found == code),
            "{key} {rule}: {said}"
        );
        assert!(said.contains(&key), "{key} {rule}: {said}");
        let back = rule.replace('-', "+");
        let mut acl = redis::cmd("ACL");
        let () = acl
            .arg(&["SETUSER", EDGE, &back])
            .query_async(&mut connection)
            .await?;
    }

    // Without this one the client does not find the nodes at all.
    for master in 0..cluster.masters() {
        let mut connection = cluster.connection(master).await?;
        let mut acl = redis::cmd("ACL");
        let rule = &["SETUSER", EDGE, "-cluster|slots"];
        let () = acl.arg(rule).query_async(&mut connection).await?;
    }
    let (said, _) = check(access, SHARDS)?;
    assert!(said.contains("+cluster|slots"), "{said}");
    Ok(())
}
