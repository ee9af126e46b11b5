//! Commands against a real Redis, the real gateway binary and trackers driven by hand.
//!
//! The cloud's part (routing, reading outcomes) is played here, as CONTRACT describes it: look the
//! tracker up in the registry, `XADD NOMKSTREAM` to its gateway, read `commands:responses`.
#![allow(clippy::unwrap_used)]

#[path = "downlink/faults.rs"]
mod faults;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use codec::Imei;
use codec::encode::MessageSpec;
use contract::{CommandResponse, CommandStatus, Entry, GatewayId, Order, Payload, keys};
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamPendingReply, StreamRangeReply};
use serde_json::Value;
use tests::fleet::{Said, Tracker};
use tests::processes::{Gateway, Setting};
use tests::servers::{ADMIN, Redis, RedisOptions};
use tests::tables::eventually;

const IMEI: u64 = 350_000_000_000_017;

/// Wiki "Codec", Codec 8 example 1: the data field of one record.
const RECORD: &str = "08010000016B40D8EA30010000000000000000000000000000000105021503010101425E0F01F10000601A014E000000000000000001";

/// Long enough to notice something that should not come.
const SILENCE: Duration = Duration::from_millis(400);

/// A Redis, the gateways that were started on it, and the cloud's side.
struct Yard {
    redis: Redis,
    cloud: MultiplexedConnection,
    dirs: Vec<tempfile::TempDir>,
}

impl Yard {
    async fn new() -> Result<Self> {
        let redis = Redis::start(RedisOptions {
            gateways: vec!["gw-a".to_owned(), "gw-b".to_owned()],
            ..RedisOptions::default()
        })
        .await?;
        let client = redis.client(ADMIN)?;
        Ok(Self {
            cloud: client.get_multiplexed_async_connection().await?,
            redis,
            dirs: Vec::new(),
        })
    }

    async fn gateway(&mut self, id: &str, settings: &[Setting]) -> Result<Gateway> {
        let dir = tempfile::tempdir()?;
        let gateway = Gateway::start(dir.path(), Some(dir.path()), id, &self.redis, settings);
        let gateway = gateway.await?;
        self.dirs.push(dir);
        eventually("the gateway takes orders", async || {
            Ok(downlink(&gateway).await?["connected"] == true)
        })
        .await?;
        Ok(gateway)
    }

    /// Gives an order to a gateway; `None`: the gateway is gone.
    async fn give(&mut self, id: &str, order: &Order) -> Result<Option<String>> {
        self.give_fields(id, &order.to_fields()).await
    }

    async fn give_fields(
        &mut self,
        id: &str,
        fields: &[(&'static str, String)],
    ) -> Result<Option<String>> {
        let mut command = redis::cmd("XADD");
        let stream = keys::commands_outbound(&GatewayId::new(id)?);
        command.arg(stream).arg("NOMKSTREAM").arg("*");
        for (name, value) in fields {
            command.arg(name).arg(value);
        }
        Ok(command.query_async(&mut self.cloud).await?)
    }

    /// Gives an order to the gateway at which its tracker is; says which.
    async fn route(&mut self, order: &Order) -> Result<String> {
        let mut id = None;
        let field = order.imei.to_string();
        eventually("the tracker is registered", async || {
            id = self.cloud.hget(keys::CONNECTIONS, &field).await?;
            Ok(id.is_some())
        })
        .await?;
        let id: String = id.context("just seen")?;
        let alive: bool = self
            .cloud
            .exists(keys::heartbeat(&GatewayId::new(&*id)?))
            .await?;
        ensure!(alive, "{id} has no heartbeat");
        ensure!(self.give(&id, order).await?.is_some(), "{id} has no stream");
        Ok(id)
    }

    async fn registered(&mut self) -> Result<Option<String>> {
        let field = IMEI.to_string();
        Ok(self.cloud.hget(keys::CONNECTIONS, field).await?)
    }

    async fn until_registered(&mut self, id: Option<&str>) -> Result<()> {
        eventually(&format!("the registry says {id:?}"), async || {
            Ok(self.registered().await?.as_deref() == id)
        })
        .await
    }

    /// Everything that was said about an order, in order.
    async fn said_of(&mut self, cid: &str) -> Result<Vec<CommandResponse>> {
        let all: StreamRangeReply = self.cloud.xrange_all(keys::COMMAND_RESPONSES).await?;
        let mut of_this = Vec::new();
        for entry in all.ids {
            let fields = entry.map.into_iter();
            let fields = fields.map(|(name, value)| Ok((name, redis::from_redis_value(value)?)));
            let fields: HashMap<String, String> = fields.collect::<Result<_>>()?;
            let response = CommandResponse::from_fields(&fields)?;
            if response.cid == cid {
                of_this.push(response);
            }
        }
        Ok(of_this)
    }

    /// Waits for this word about an order.
    async fn until(&mut self, cid: &str, status: CommandStatus) -> Result<CommandResponse> {
        let mut found = None;
        eventually(&format!("{cid} is {}", status.as_str()), async || {
            let said = self.said_of(cid).await?;
            found = said.into_iter().find(|response| response.status == status);
            Ok(found.is_some())
        })
        .await?;
        found.context("just seen")
    }

    async fn statuses(&mut self, cid: &str) -> Result<Vec<CommandStatus>> {
        let said = self.said_of(cid).await?;
        Ok(said.iter().map(|response| response.status).collect())
    }

    /// Waits until a gateway has released everything it was given.
    async fn until_released(&mut self, id: &str) -> Result<()> {
        let stream = keys::commands_outbound(&GatewayId::new(id)?);
        eventually("every order is released", async || {
            let pending: StreamPendingReply =
                self.cloud.xpending(&stream, keys::GROUP_GATEWAY).await?;
            Ok(matches!(pending, StreamPendingReply::Empty))
        })
        .await
    }

    /// The data fields in the telemetry stream that begin with this codec id.
    async fn kept(&mut self, codec: u8) -> Result<Vec<Vec<u8>>> {
        let all: StreamRangeReply = self.cloud.xrange_all(keys::STREAM_TELTONIKA).await?;
        let mut kept = Vec::new();
        for id in all.ids {
            let fields = id.map.iter().map(|(name, value)| match value {
                redis::Value::BulkString(bytes) => (name.as_str(), bytes.as_slice()),
                other => panic!("a field is a string: {other:?}"),
            });
            let entry = Entry::from_fields(fields)?;
            let payload = Payload::open(&entry.coding, &entry.data)?;
            let envelopes = payload.envelopes()?;
            kept.extend(envelopes.iter().map(|envelope| envelope.bytes.to_vec()));
        }
        kept.retain(|data| data.first() == Some(&codec));
        Ok(kept)
    }
}

async fn downlink(gateway: &Gateway) -> Result<Value> {
    Ok(gateway.status().await?["downlink"].clone())
}

/// Waits until as many orders have their durable intent or is in the mailbox of its connection.
async fn until_on_the_way(gateway: &Gateway, count: u64) -> Result<()> {
    eventually("the order is on its way", async || {
        Ok(downlink(gateway).await?["on_the_way"] == count)
    })
    .await
}

fn imei() -> Imei {
    Imei::from_u64(IMEI).unwrap()
}

fn order(cid: &str, codec: u8, payload: &str) -> Order {
    let now_ms = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_millis() as u64;
    Order {
        cid: cid.to_owned(),
        imei: imei(),
        codec,
        payload: payload.to_owned(),
        created_ms: now_ms,
        expires_ms: now_ms + 3_600_000,
        attempt: 1,
        idempotent: false,
    }
}

async fn tracker(gateway: &Gateway) -> Result<Tracker> {
    let mut tracker = Tracker::connect(gateway.tcp_addr(), IMEI).await?;
    ensure!(tracker.login().await?, "refused");
    Ok(tracker)
}

/// The text of the next command, which must be one of this codec.
async fn obey(tracker: &mut Tracker, codec: u8) -> Result<String> {
    let (found, text) = tracker.read_order().await?;
    ensure!(found == codec, "codec {found:#04x}");
    Ok(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tracker_obeys_and_the_cloud_hears_of_it() -> Result<()> {
    let mut yard = Yard::new().await?;
    let gateway = yard.gateway("gw-a", &[]).await?;
    let mut tracker = tracker(&gateway).await?;

    assert_eq!(yard.route(&order("c-12", 12, "getinfo")).await?, "gw-a");
    assert_eq!(obey(&mut tracker, 0x0C).await?, "getinfo");
    yard.until("c-12", CommandStatus::Sent).await?;
    yard.until_released("gw-a").await?;
    tracker
        .send_message(&MessageSpec::response(b"RTC:2026"))
        .await?;
    let ack = yard.until("c-12", CommandStatus::Ack).await?;
    assert_eq!((ack.reply.as_str(), ack.reason.as_str()), ("RTC:2026", ""));
    assert_eq!(
        (ack.instance.as_str(), ack.imei, ack.attempt),
        ("gw-a", imei(), 1)
    );
    let statuses = [CommandStatus::Sent, CommandStatus::Ack];
    assert_eq!(yard.statuses("c-12").await?, statuses);

    yard.route(&order("c-14", 14, "setdigout 1")).await?;
    assert_eq!(obey(&mut tracker, 0x0E).await?, "setdigout 1");
    tracker
        .send_message(&MessageSpec::executed(imei(), b"DOUT1:1"))
        .await?;
    let ack = yard.until("c-14", CommandStatus::Ack).await?;
    assert_eq!(ack.reply, "DOUT1:1");

    yard.route(&order("c-no", 14, "cpureset")).await?;
    assert_eq!(obey(&mut tracker, 0x0E).await?, "cpureset");
    tracker
        .send_message(&MessageSpec::not_executed(imei()))
        .await?;
    let nack = yard.until("c-no", CommandStatus::Nack).await?;
    assert_eq!(nack.reason, "wrong-imei");

    // A reply is a frame like any other.
    eventually("the replies went up", async || {
        Ok((yard.kept(0x0C).await?.len(), yard.kept(0x0E).await?.len()) == (1, 2))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_does_not_come_is_a_timeout_and_one_that_comes_later_is_late() -> Result<()> {
    let mut yard = Yard::new().await?;
    let settings = [("commands.reply_timeout", "1s".into())];
    let gateway = yard.gateway("gw-a", &settings).await?;
    let mut tracker = tracker(&gateway).await?;
    yard.route(&order("c-1", 12, "getver")).await?;
    obey(&mut tracker, 0x0C).await?;
    yard.until("c-1", CommandStatus::Timeout).await?;
    assert!(tracker.stays_silent(SILENCE).await?, "it is not sent again");
    tracker
        .send_message(&MessageSpec::response(b"Ver:1"))
        .await?;
    let ack = yard.until("c-1", CommandStatus::Ack).await?;
    assert_eq!((ack.reply.as_str(), ack.reason.as_str()), ("Ver:1", "late"));

    // One that may be repeated is.
    let mut again = order("c-2", 12, "getver");
    again.idempotent = true;
    yard.route(&again).await?;
    assert_eq!(obey(&mut tracker, 0x0C).await?, "getver");
    assert_eq!(obey(&mut tracker, 0x0C).await?, "getver");
    tracker
        .send_message(&MessageSpec::response(b"Ver:1"))
        .await?;
    yard.until("c-2", CommandStatus::Ack).await?;
    let statuses = [CommandStatus::Sent, CommandStatus::Ack];
    assert_eq!(yard.statuses("c-2").await?, statuses);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_is_refused_with_the_reason_and_released() -> Result<()> {
    let mut yard = Yard::new().await?;
    let gateway = yard.gateway("gw-a", &[]).await?;
    yard.give("gw-a", &order("c-off", 12, "getinfo")).await?;
    let nack = yard.until("c-off", CommandStatus::Nack).await?;
    assert_eq!(nack.reason, "offline");

    let mut tracker = tracker(&gateway).await?;
    let mut late = order("c-late", 12, "getinfo");
    late.expires_ms = late.created_ms;
    yard.give("gw-a", &late).await?;
    yard.until("c-late", CommandStatus::Expired).await?;

    let mut fields = order("c-odd", 12, "getinfo").to_fields();
    for (name, value) in &mut fields {
        if *name == "codec" {
            *value = "13".to_owned();
        }
    }
    yard.give_fields("gw-a", &fields).await?;
    let nack = yard.until("c-odd", CommandStatus::Nack).await?;
    assert_eq!(nack.reason, "unreadable");
    yard.give_fields("gw-a", &[("hello", "world".to_owned())])
        .await?;

    let long = "x".repeat(5_000);
    yard.give("gw-a", &order("c-long", 12, &long)).await?;
    let nack = yard.until("c-long", CommandStatus::Nack).await?;
    assert_eq!(nack.reason, "too-large");

    eventually("all are received", async || {
        Ok(downlink(&gateway).await?["orders_received"] == 5)
    })
    .await?;
    yard.until_released("gw-a").await?;
    assert_eq!(downlink(&gateway).await?["orders_unreadable"], 2);
    assert!(tracker.stays_silent(SILENCE).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_command_waits_for_the_reply_to_the_first() -> Result<()> {
    let mut yard = Yard::new().await?;
    let gateway = yard.gateway("gw-a", &[]).await?;
    let mut tracker = tracker(&gateway).await?;
    for cid in ["c-1", "c-2", "c-3"] {
        yard.route(&order(cid, 12, cid)).await?;
    }
    for cid in ["c-1", "c-2", "c-3"] {
        assert_eq!(obey(&mut tracker, 0x0C).await?, cid);
        assert!(tracker.stays_silent(SILENCE).await?, "one at a time");
        tracker
            .send_message(&MessageSpec::response(cid.as_bytes()))
            .await?;
        assert_eq!(yard.until(cid, CommandStatus::Ack).await?.reply, cid);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_never_stands_between_a_frame_and_its_ack() -> Result<()> {
    let mut yard = Yard::new().await?;
    // The second frame in a row waits so long for its receipt.
    let settings = [("spool.commit_interval_min", "3s".into())];
    let gateway = yard.gateway("gw-a", &settings).await?;
    let mut tracker = tracker(&gateway).await?;
    let record = hex::decode(RECORD)?;
    let mut frame = Vec::new();
    codec::encode::frame(&record, &mut frame)?;

    assert_eq!(tracker.send_frame(&record).await?, 1);
    tracker.send_raw(&frame).await?;
    yard.route(&order("c-1", 12, "getinfo")).await?;
    until_on_the_way(&gateway, 1).await?;
    assert_eq!(tracker.read_said().await?, Said::Ack(1));
    assert_eq!(obey(&mut tracker, 0x0C).await?, "getinfo");
    tracker.send_message(&MessageSpec::response(b"ok")).await?;
    yard.until("c-1", CommandStatus::Ack).await?;

    // A frame that has begun counts as well: its tracker listens for the ACK alone. The first
    // bytes come with a whole frame, so they have been read when that one is acknowledged.
    tracker
        .send_raw(&[&frame[..], &frame[..20]].concat())
        .await?;
    assert_eq!(tracker.read_said().await?, Said::Ack(1));
    yard.route(&order("c-2", 12, "getver")).await?;
    until_on_the_way(&gateway, 1).await?;
    assert!(tracker.stays_silent(SILENCE).await?);
    tracker.send_raw(&frame[20..]).await?;
    assert_eq!(tracker.read_said().await?, Said::Ack(1));
    assert_eq!(obey(&mut tracker, 0x0C).await?, "getver");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_a_command_is_unknown_and_never_sent_again() -> Result<()> {
    let mut yard = Yard::new().await?;
    let mut gateway = yard.gateway("gw-a", &[]).await?;
    let mut old = tracker(&gateway).await?;
    yard.route(&order("c-1", 12, "setdigout 1")).await?;
    yard.route(&order("c-2", 12, "setdigout 0")).await?;
    obey(&mut old, 0x0C).await?;
    yard.until("c-1", CommandStatus::Sent).await?;
    gateway.kill9()?;
    assert_eq!(
        yard.registered().await?.as_deref(),
        Some("gw-a"),
        "nobody took it back"
    );
    gateway.restart().await?;

    let unknown = yard.until("c-1", CommandStatus::Unknown).await?;
    assert_eq!(unknown.reason, "restarted");
    // The one behind it was never begun: back to whoever routes.
    let nack = yard.until("c-2", CommandStatus::Nack).await?;
    assert_eq!(nack.reason, "offline");
    yard.until_released("gw-a").await?;
    yard.until_registered(None).await?;
    let mut new = tracker(&gateway).await?;
    assert!(new.stays_silent(SILENCE).await?);
    let statuses = [CommandStatus::Sent, CommandStatus::Unknown];
    assert_eq!(yard.statuses("c-1").await?, statuses);

    // Said once: the next start has nothing to report.
    gateway.kill9()?;
    gateway.restart().await?;
    eventually("the gateway takes orders again", async || {
        Ok(downlink(&gateway).await?["connected"] == true)
    })
    .await?;
    assert_eq!(downlink(&gateway).await?["unknown"], 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_waits_for_a_redis_that_is_away() -> Result<()> {
    let mut yard = Yard::new().await?;
    let settings = [("uplink.retry_max", "500ms".into())];
    let gateway = yard.gateway("gw-a", &settings).await?;
    let mut tracker = tracker(&gateway).await?;
    yard.route(&order("c-1", 12, "getinfo")).await?;
    obey(&mut tracker, 0x0C).await?;
    yard.until("c-1", CommandStatus::Sent).await?;
    yard.redis.kill9()?;
    tracker.send_message(&MessageSpec::response(b"ok")).await?;
    eventually("the gateway has the reply", async || {
        Ok(downlink(&gateway).await?["acked"] == 1)
    })
    .await?;
    yard.redis.restart().await?;
    let client = yard.redis.client(ADMIN)?;
    yard.cloud = client.get_multiplexed_async_connection().await?;
    assert_eq!(yard.until("c-1", CommandStatus::Ack).await?.reply, "ok");
    // And orders come again.
    yard.route(&order("c-2", 12, "getver")).await?;
    assert_eq!(obey(&mut tracker, 0x0C).await?, "getver");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn switched_off_it_takes_no_orders_and_says_so_to_the_router() -> Result<()> {
    let mut yard = Yard::new().await?;
    let dir = tempfile::tempdir()?;
    let settings = [("commands.enabled", false.into())];
    let gateway = Gateway::start(dir.path(), None, "gw-a", &yard.redis, &settings).await?;
    let mut tracker = tracker(&gateway).await?;
    assert_eq!(tracker.send_frame(&hex::decode(RECORD)?).await?, 1);
    eventually("the record went up", async || {
        Ok(yard.kept(0x08).await?.len() == 1)
    })
    .await?;
    assert_eq!(yard.give("gw-a", &order("c-1", 12, "getinfo")).await?, None);
    assert_eq!(yard.registered().await?, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_redis_gets_registry_heartbeat_and_group_back() -> Result<()> {
    let mut yard = Yard::new().await?;
    let gateway = yard.gateway("gw-a", &[]).await?;
    let mut tracker = tracker(&gateway).await?;
    yard.until_registered(Some("gw-a")).await?;
    let emptied_at = Instant::now();
    yard.redis.flushall().await?;
    // Without the tracker's help, and long before the next repetition.
    yard.route(&order("c-1", 12, "getinfo")).await?;
    assert_eq!(obey(&mut tracker, 0x0C).await?, "getinfo");
    let repetition = Duration::from_secs(keys::REPUBLISH_INTERVAL_S);
    assert!(emptied_at.elapsed() < repetition / 2);
    yard.until("c-1", CommandStatus::Sent).await?;
    let alive: i64 = yard
        .cloud
        .ttl(keys::heartbeat(&GatewayId::new("gw-a")?))
        .await?;
    assert!((1..=90).contains(&alive), "heartbeat expires in {alive} s");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_follow_a_tracker_from_one_gateway_to_another() -> Result<()> {
    let mut yard = Yard::new().await?;
    let here = yard.gateway("gw-a", &[]).await?;
    let there = yard.gateway("gw-b", &[]).await?;
    let mut old = tracker(&here).await?;
    assert_eq!(yard.route(&order("c-1", 12, "getinfo")).await?, "gw-a");
    assert_eq!(obey(&mut old, 0x0C).await?, "getinfo");
    old.send_message(&MessageSpec::response(b"ok")).await?;
    yard.until("c-1", CommandStatus::Ack).await?;

    // It dials the other one while its old connection looks alive.
    let mut new = tracker(&there).await?;
    yard.until_registered(Some("gw-b")).await?;
    assert_eq!(yard.route(&order("c-2", 12, "getver")).await?, "gw-b");
    assert_eq!(obey(&mut new, 0x0C).await?, "getver");
    new.send_message(&MessageSpec::response(b"ok")).await?;
    let ack = yard.until("c-2", CommandStatus::Ack).await?;
    assert_eq!(ack.instance.as_str(), "gw-b");

    // The late farewell of the old one takes nothing away.
    drop(old);
    eventually("the old gateway has noticed", async || {
        Ok(downlink(&here).await?["registered"] == 0)
    })
    .await?;
    assert_eq!(yard.registered().await?.as_deref(), Some("gw-b"));
    yard.give("gw-a", &order("c-3", 12, "getinfo")).await?;
    let nack = yard.until("c-3", CommandStatus::Nack).await?;
    assert_eq!(nack.reason, "moved");
    assert_eq!(yard.registered().await?.as_deref(), Some("gw-b"));

    // What the router then does.
    let mut again = order("c-3", 12, "getinfo");
    again.attempt = 2;
    assert_eq!(yard.route(&again).await?, "gw-b");
    assert_eq!(obey(&mut new, 0x0C).await?, "getinfo");
    drop(new);
    yard.until_registered(None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_gateway_reports_and_takes_itself_out_of_redis() -> Result<()> {
    let mut yard = Yard::new().await?;
    let mut gateway = yard.gateway("gw-a", &[]).await?;
    let mut tracker = tracker(&gateway).await?;
    yard.route(&order("c-1", 12, "getinfo")).await?;
    yard.route(&order("c-2", 12, "getver")).await?;
    obey(&mut tracker, 0x0C).await?;
    yard.until("c-1", CommandStatus::Sent).await?;
    let ended = gateway.terminate().await?.context("it ran")?;
    ensure!(ended.success(), "{ended}: {}", gateway.last_words());
    let unknown = yard.until("c-1", CommandStatus::Unknown).await?;
    assert_eq!(unknown.reason, "stopped");
    let nack = yard.until("c-2", CommandStatus::Nack).await?;
    assert_eq!(nack.reason, "offline");
    yard.until_released("gw-a").await?;
    assert_eq!(yard.registered().await?, None);
    let beats: bool = yard
        .cloud
        .exists(keys::heartbeat(&GatewayId::new("gw-a")?))
        .await?;
    assert!(!beats, "a heartbeat of what is gone");
    // Its stream stays: what is given to it now is there when it comes back.
    gateway.restart().await?;
    eventually("nothing is left to report", async || {
        Ok(downlink(&gateway).await?["connected"] == true)
    })
    .await?;
    assert_eq!(downlink(&gateway).await?["unknown"], 0);
    Ok(())
}
