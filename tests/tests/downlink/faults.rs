//! What goes wrong between an order and its outcome: a Redis that takes nothing or falls silent, and
//! a gateway that dies in the few milliseconds that count.

use std::net::{Ipv4Addr, SocketAddr};

use tests::edge;
use tests::proxy::{Passes, Proxy};

use super::*;

impl Yard {
    /// A gateway whose way to Redis leads through a proxy.
    async fn gateway_behind(&mut self, settings: &[Setting]) -> Result<(Gateway, Proxy)> {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, self.redis.port()));
        let proxy = Proxy::start(to).await?;
        let own = format!(":{}/", self.redis.port());
        let through = format!(":{}/", proxy.addr().port());
        let url = self.redis.url("gw-a").replace(&own, &through);
        let mut all = vec![
            ("uplink.url", Value::from(url)),
            ("uplink.retry_max", "500ms".into()),
        ];
        all.extend(settings.iter().cloned());
        Ok((self.gateway("gw-a", &all).await?, proxy))
    }

    async fn pending(&mut self) -> Result<usize> {
        let stream = keys::commands_outbound(&GatewayId::new("gw-a")?);
        let pending: StreamPendingReply = self.cloud.xpending(stream, keys::GROUP_GATEWAY).await?;
        Ok(pending.count())
    }

    /// Connections of the gateway that wait for orders, by Redis' number of them.
    async fn waiting_connections(&mut self) -> Result<Vec<String>> {
        let mut list = redis::cmd("CLIENT");
        let list: String = list.arg("LIST").query_async(&mut self.cloud).await?;
        let waiting = list
            .lines()
            .filter(|line| line.contains(" cmd=xreadgroup "));
        let id = |line: &str| line.split(' ').next().map(str::to_owned);
        Ok(waiting.filter_map(id).collect())
    }

    async fn reads(&mut self) -> Result<u64> {
        let mut info = redis::cmd("INFO");
        let info: String = info
            .arg("commandstats")
            .query_async(&mut self.cloud)
            .await?;
        let line = info.split("cmdstat_xreadgroup:calls=").nth(1);
        let calls = line.and_then(|line| line.split(',').next());
        Ok(calls.map_or(Ok(0), str::parse)?)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_takes_the_outcome_later_and_nothing_is_released_before() -> Result<()> {
    let mut yard = Yard::new().await?;
    let settings = [("uplink.retry_max", "500ms".into())];
    let gateway = yard.gateway("gw-a", &settings).await?;
    let mut tracker = tracker(&gateway).await?;
    yard.route(&order("c-1", 12, "getinfo")).await?;
    assert_eq!(obey(&mut tracker, 0x0C).await?, "getinfo");
    yard.until("c-1", CommandStatus::Sent).await?;
    yard.until_released("gw-a").await?;

    // An order that is in the stream already; reading it is no write that Redis would refuse.
    yard.give("gw-a", &order("c-2", 12, "getver")).await?;
    eventually("the order is received", async || {
        Ok(downlink(&gateway).await?["orders_received"] == 2)
    })
    .await?;
    edge::order(&yard.redis, &["CONFIG", "SET", "maxmemory", "1"]).await?;
    tracker.send_message(&MessageSpec::response(b"ok")).await?;
    // Trackers are obeyed and heard whatever Redis does.
    assert_eq!(obey(&mut tracker, 0x0C).await?, "getver");
    tracker.send_message(&MessageSpec::response(b"v1")).await?;
    eventually("both replies are taken in", async || {
        Ok(downlink(&gateway).await?["acked"] == 2)
    })
    .await?;
    eventually("the log says what to do", async || {
        let log = std::fs::read_to_string(gateway.log())?;
        Ok(log.contains("command outcomes wait: see that the cloud processor reads"))
    })
    .await?;
    assert_eq!(yard.statuses("c-1").await?, [CommandStatus::Sent]);
    assert!(yard.statuses("c-2").await?.is_empty());
    assert_eq!(yard.pending().await?, 1, "nothing said, nothing released");

    edge::order(&yard.redis, &["CONFIG", "SET", "maxmemory", "0"]).await?;
    assert_eq!(yard.until("c-1", CommandStatus::Ack).await?.reply, "ok");
    assert_eq!(yard.until("c-2", CommandStatus::Ack).await?.reply, "v1");
    yard.until_released("gw-a").await?;
    let both = [CommandStatus::Sent, CommandStatus::Ack];
    assert_eq!(yard.statuses("c-2").await?, both, "each once, in order");
    assert!(tracker.stays_silent(SILENCE).await?, "nothing is repeated");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_fell_silent_is_given_up_and_orders_come_again() -> Result<()> {
    let mut yard = Yard::new().await?;
    let settings = [("uplink.response_timeout", "1s".into())];
    let (gateway, proxy) = yard.gateway_behind(&settings).await?;
    let mut tracker = tracker(&gateway).await?;
    yard.route(&order("c-1", 12, "getinfo")).await?;
    assert_eq!(obey(&mut tracker, 0x0C).await?, "getinfo");
    yard.until("c-1", CommandStatus::Sent).await?;

    proxy.pass(Passes::Nothing);
    tracker.send_message(&MessageSpec::response(b"ok")).await?;
    eventually("the gateway has the reply", async || {
        Ok(downlink(&gateway).await?["acked"] == 1)
    })
    .await?;
    // Given while nobody can hear it; its reader waits on a connection that leads nowhere.
    yard.give("gw-a", &order("c-2", 12, "getver")).await?;
    eventually("whoever waits for orders has noticed", async || {
        Ok(downlink(&gateway).await?["connected"] == false)
    })
    .await?;
    assert_eq!(yard.statuses("c-1").await?, [CommandStatus::Sent]);

    proxy.pass(Passes::All);
    assert_eq!(yard.until("c-1", CommandStatus::Ack).await?.reply, "ok");
    assert_eq!(obey(&mut tracker, 0x0C).await?, "getver");
    tracker.send_message(&MessageSpec::response(b"v1")).await?;
    yard.until("c-2", CommandStatus::Ack).await?;
    yard.until_released("gw-a").await?;
    assert!(tracker.stays_silent(SILENCE).await?, "nothing is repeated");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_orders_waits_longer_than_an_answer_may_take() -> Result<()> {
    let mut yard = Yard::new().await?;
    let settings = [("uplink.response_timeout", "1s".into())];
    let gateway = yard.gateway("gw-a", &settings).await?;
    let mut first = Vec::new();
    eventually("it waits for orders", async || {
        first = yard.waiting_connections().await?;
        Ok(first.len() == 1)
    })
    .await?;
    // One look at what is pending, one read that waits to its end, and the next.
    eventually("a read has waited to its end", async || {
        Ok(yard.reads().await? >= 3)
    })
    .await?;
    assert_eq!(yard.waiting_connections().await?, first, "the same one");
    assert_eq!(downlink(&gateway).await?["connected"], true);
    Ok(())
}

/// The intent is durable, the command waits in the mailbox for the end of a frame.
#[tokio::test(flavor = "multi_thread")]
async fn killed_between_the_intent_and_the_first_byte_it_is_unknown_and_never_sent() -> Result<()> {
    let mut yard = Yard::new().await?;
    let mut gateway = yard.gateway("gw-a", &[]).await?;
    let mut old = tracker(&gateway).await?;
    let record = hex::decode(RECORD)?;
    let mut frame = Vec::new();
    codec::encode::frame(&record, &mut frame)?;
    old.send_raw(&[&frame[..], &frame[..20]].concat()).await?;
    assert_eq!(old.read_said().await?, Said::Ack(1));
    yard.route(&order("c-1", 12, "setdigout 1")).await?;
    let log = yard.dirs[0].path().join("spool/intents");
    eventually("its intent is on the disk", async || {
        let bytes = std::fs::read(&log)?;
        Ok(bytes.windows(3).any(|bytes| bytes == b"c-1"))
    })
    .await?;
    until_on_the_way(&gateway, 1).await?;
    assert!(yard.statuses("c-1").await?.is_empty());
    assert_eq!(yard.pending().await?, 1, "Redis would deliver it again");
    gateway.kill9()?;
    gateway.restart().await?;

    let mut new = tracker(&gateway).await?;
    let unknown = yard.until("c-1", CommandStatus::Unknown).await?;
    assert_eq!(unknown.reason, "restarted");
    yard.until_released("gw-a").await?;
    assert!(new.stays_silent(SILENCE).await?, "it is never sent");
    assert_eq!(yard.statuses("c-1").await?, [CommandStatus::Unknown]);
    Ok(())
}

/// The tracker has the command, Redis has not heard of it.
#[tokio::test(flavor = "multi_thread")]
async fn killed_between_the_last_byte_and_sent_it_is_unknown_and_not_sent_twice() -> Result<()> {
    let mut yard = Yard::new().await?;
    let mut gateway = yard.gateway("gw-a", &[]).await?;
    let mut old = tracker(&gateway).await?;
    yard.until_registered(Some("gw-a")).await?;
    // Orders still come in; what became of them cannot be said.
    edge::order(&yard.redis, &["ACL", "SETUSER", "gw-a", "-xadd"]).await?;
    yard.route(&order("c-1", 12, "setdigout 1")).await?;
    assert_eq!(obey(&mut old, 0x0C).await?, "setdigout 1");
    eventually("the outcome waits", async || {
        let log = std::fs::read_to_string(gateway.log())?;
        Ok(log.contains("command outcomes wait: "))
    })
    .await?;
    assert!(yard.statuses("c-1").await?.is_empty());
    assert_eq!(yard.pending().await?, 1, "Redis would deliver it again");
    gateway.kill9()?;
    edge::order(&yard.redis, &["ACL", "SETUSER", "gw-a", "+xadd"]).await?;
    gateway.restart().await?;

    let mut new = tracker(&gateway).await?;
    let unknown = yard.until("c-1", CommandStatus::Unknown).await?;
    assert_eq!(unknown.reason, "restarted");
    yard.until_released("gw-a").await?;
    assert!(new.stays_silent(SILENCE).await?, "it is not sent twice");
    assert_eq!(yard.statuses("c-1").await?, [CommandStatus::Unknown]);
    Ok(())
}
