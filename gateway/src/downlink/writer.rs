//! Tells Redis what became of orders, on a connection of its own: a blocking read would hold
//! every answer back (measured).
//!
//! Invariant: an entry is acknowledged after its report is written, and an intent is forgotten
//! after both. What fails in between is written again, which a reader by (cid, status) does not
//! notice.

use contract::keys;
use redis::RedisResult;

use super::dispatch::Downlink;
use super::link::{self, ANSWER_MAX, Link, Pace, Trouble};
use super::outbox::Item;
use super::queue::{EntryId, Reason, Report};
use super::{DownlinkConfig, registry};

/// Reports in one pipeline.
const BATCH: usize = 64;

/// Writes whatever waits. Never returns.
pub(super) async fn write(downlink: &Downlink, config: &DownlinkConfig) {
    let mut pace = Pace::new(config.retry_max);
    loop {
        downlink.shared.outbox.filled().await;
        pace.attempt();
        if let Err(trouble) = talk(downlink, config).await {
            let what = "command outcomes wait";
            pace.wait(what, &config.redis, &trouble).await;
        }
    }
}

/// One connection, until it fails.
async fn talk(downlink: &Downlink, config: &DownlinkConfig) -> Result<(), Trouble> {
    let mut redis = link::open(&config.redis).await?;
    let outbox = &downlink.shared.outbox;
    loop {
        outbox.filled().await;
        let items = outbox.front(BATCH);
        report(downlink, config, &mut redis, &items).await?;
        acknowledge(config, &mut redis, items.iter().filter_map(Item::entry)).await?;
        for item in &items {
            downlink.told(item);
        }
        outbox.pop(items.len());
    }
}

async fn report(
    downlink: &Downlink,
    config: &DownlinkConfig,
    redis: &mut Link,
    items: &[Item],
) -> Result<(), Trouble> {
    let mut pipe = redis::pipe();
    for item in items {
        let Item::Report(report) = item else {
            continue;
        };
        let registered = registered(downlink, config, redis, report).await?;
        let response = report.to_response(&config.gateway, registered.as_deref());
        let command = pipe.cmd("XADD").arg(keys::COMMAND_RESPONSES).arg("*");
        for (name, value) in response.to_fields() {
            command.arg(name).arg(value);
        }
    }
    if !pipe.is_empty() {
        // One by one: the error of a whole pipeline does not say what Redis minds.
        pipe.ignore_errors();
        let asking = pipe.query_async::<Vec<RedisResult<String>>>(redis);
        for answer in link::within(ANSWER_MAX, asking).await? {
            answer?;
        }
    }
    Ok(())
}

/// Where the registry says that a tracker is which is not here. That it is here is the word of an
/// earlier life of ours, which nobody else may take back.
async fn registered(
    downlink: &Downlink,
    config: &DownlinkConfig,
    redis: &mut Link,
    report: &Report,
) -> Result<Option<String>, Trouble> {
    if report.reason != Reason::Away {
        return Ok(None);
    }
    let place = link::within(ANSWER_MAX, registry::place(redis, report.imei)).await?;
    let Some((gateway, epoch)) = place else {
        return Ok(None);
    };
    if gateway == config.gateway.as_str() && !downlink.is_here(report.imei) {
        let seat = [(report.imei, epoch)];
        link::within(ANSWER_MAX, registry::withdraw(redis, &seat)).await?;
    }
    Ok(Some(gateway))
}

async fn acknowledge(
    config: &DownlinkConfig,
    redis: &mut Link,
    entries: impl Iterator<Item = &EntryId>,
) -> Result<(), Trouble> {
    let stream = keys::commands_outbound(&config.gateway);
    let mut command = redis::cmd("XACK");
    command.arg(stream).arg(keys::GROUP_GATEWAY);
    let mut any = false;
    for entry in entries {
        command.arg(entry);
        any = true;
    }
    if any {
        let () = link::within(ANSWER_MAX, command.query_async(redis)).await?;
    }
    Ok(())
}
