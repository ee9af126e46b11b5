//! What the router asks of Redis and writes to it.
//!
//! Why the look at an entry and its removal are one script: between the two its gateway may read it,
//! and an order that was read must not go anywhere else.
//!
//! Invariant: an entry is written for a [`Claimed`] order and for nothing else.

use std::collections::{HashMap, HashSet};

use codec::Imei;
use contract::{GatewayId, keys};
use redis::{Value, cmd};

use super::state::Standing;
use super::table::Claimed;
use crate::stream::{Link, RedisFailure};

/// Fields or keys in one command, which Redis answers without a break.
const CHUNK: usize = 1_000;

/// Entries in one look for orders whose entry nobody noted.
const PAGE: usize = 500;

// KEYS stream. ARGV group, entry, "1" to remove an unread entry.
// Returns unread (and removed, if asked for), held, released or gone.
const STANDING: &str = r"
local function parts(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end
if #redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2]) == 0 then return 'gone' end
local last = '0-0'
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local fields = {}
  for i = 1, #group, 2 do fields[group[i]] = group[i + 1] end
  if fields['name'] == ARGV[1] then last = fields['last-delivered-id'] end
end
local last_ms, last_seq = parts(last)
local ms, seq = parts(ARGV[2])
if ms > last_ms or (ms == last_ms and seq > last_seq) then
  if ARGV[3] == '1' then redis.call('XDEL', KEYS[1], ARGV[2]) end
  return 'unread'
end
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1) > 0 then return 'held' end
return 'released'
";

/// At which gateway each tracker is, by the registry.
pub(super) async fn places(
    link: &Link,
    imeis: &[Imei],
) -> Result<HashMap<Imei, GatewayId>, RedisFailure> {
    let mut places = HashMap::new();
    for chunk in imeis.chunks(CHUNK) {
        let mut ask = cmd("HMGET");
        ask.arg(keys::CONNECTIONS);
        for imei in chunk {
            ask.arg(imei.to_string());
        }
        let answers: Vec<Option<String>> = link.ask("HMGET", &ask).await?;
        for (imei, answer) in chunk.iter().zip(answers) {
            // A name that is none names no gateway.
            if let Some(Ok(gateway)) = answer.map(|name| name.parse()) {
                places.insert(*imei, gateway);
            }
        }
    }
    Ok(places)
}

/// Those of `gateways` that give a sign of life.
pub(super) async fn alive(
    link: &Link,
    gateways: HashSet<GatewayId>,
) -> Result<HashSet<GatewayId>, RedisFailure> {
    let mut alive = HashSet::new();
    let gateways: Vec<GatewayId> = gateways.into_iter().collect();
    for chunk in gateways.chunks(CHUNK) {
        if link.is_cluster() {
            // Each heartbeat has a slot of its own.
            let exists = |gateway| {
                let mut ask = cmd("EXISTS");
                ask.arg(keys::heartbeat(gateway));
                ask
            };
            let asked = link.ask_all("EXISTS", chunk.iter().map(exists).collect());
            for (gateway, beats) in chunk.iter().zip(asked.await) {
                if beats? {
                    alive.insert(gateway.clone());
                }
            }
            continue;
        }
        let mut ask = cmd("MGET");
        for gateway in chunk {
            ask.arg(keys::heartbeat(gateway));
        }
        let answers: Vec<Option<Vec<u8>>> = link.ask("MGET", &ask).await?;
        let beating = chunk.iter().zip(answers).filter(|(_, beat)| beat.is_some());
        alive.extend(beating.map(|(gateway, _)| gateway.clone()));
    }
    Ok(alive)
}

/// Gives an order to its gateway. `None`: the gateway has no stream, so it is gone.
pub(super) async fn give(link: &Link, claimed: &Claimed) -> Result<Option<String>, RedisFailure> {
    let mut add = cmd("XADD");
    add.arg(keys::commands_outbound(claimed.gateway()));
    add.arg("NOMKSTREAM").arg("*");
    for (name, value) in claimed.order().to_fields() {
        add.arg(name).arg(value);
    }
    link.ask("XADD", &add).await
}

/// Where an entry is.
pub(super) async fn standing(
    link: &Link,
    gateway: &GatewayId,
    entry: &str,
) -> Result<Standing, RedisFailure> {
    look(link, gateway, entry, false).await
}

/// Removes an entry that its gateway has not read. [`Standing::Unread`]: it is removed.
pub(super) async fn withdraw(
    link: &Link,
    gateway: &GatewayId,
    entry: &str,
) -> Result<Standing, RedisFailure> {
    look(link, gateway, entry, true).await
}

async fn look(
    link: &Link,
    gateway: &GatewayId,
    entry: &str,
    removes: bool,
) -> Result<Standing, RedisFailure> {
    let mut call = cmd("EVAL");
    call.arg(STANDING)
        .arg(1)
        .arg(keys::commands_outbound(gateway));
    call.arg(keys::GROUP_GATEWAY)
        .arg(entry)
        .arg(u8::from(removes));
    let word: String = link.ask("EVAL", &call).await?;
    Ok(match word.as_str() {
        "unread" => Standing::Unread,
        "held" => Standing::Held,
        "released" => Standing::Released,
        _ => Standing::Gone,
    })
}

/// The entries of these orders (id and attempt), as far as the stream has them.
pub(super) async fn find(
    link: &Link,
    gateway: &GatewayId,
    wanted: &HashSet<(String, u32)>,
) -> Result<HashMap<String, String>, RedisFailure> {
    let mut found = HashMap::new();
    let mut from = "-".to_owned();
    loop {
        let mut range = cmd("XRANGE");
        range
            .arg(keys::commands_outbound(gateway))
            .arg(&from)
            .arg("+");
        range.arg("COUNT").arg(PAGE);
        let answer: Value = link.ask("XRANGE", &range).await?;
        let entries = crate::stream::reply::items(&answer);
        let Some((last, _)) = entries.last() else {
            return Ok(found);
        };
        from = format!("({last}");
        for (id, fields) in &entries {
            let text = |name: &str| {
                let field = fields.iter().flatten().find(|(n, _)| n == name.as_bytes());
                field.and_then(|(_, value)| std::str::from_utf8(value).ok())
            };
            let attempt = text("attempt").and_then(|n| n.parse().ok());
            if let (Some(cid), Some(attempt)) = (text("cid"), attempt)
                && wanted.contains(&(cid.to_owned(), attempt))
            {
                found.insert(cid.to_owned(), id.to_string());
            }
        }
    }
}
