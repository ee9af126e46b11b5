//! The way to Redis and what we may do there.
//!
//! First by hand, step by step (name, connection, handshake, first answer), because a client only
//! says "no connection"; then with the very client of the uplink, so that what is found good here
//! is good there.

mod answers;
mod commands;
mod direct;
mod rights;
mod way;

use std::time::Duration;

use ::settings::Settings;
use contract::{GatewayId, Kind, keys};
use redis::IntoConnectionInfo as _;
use tokio::time::timeout;

use super::Look;
use crate::chain::chain;
use crate::config;
use crate::explain::redis as pages;
use crate::spool::RealFs;
use crate::uplink::{ConnectError, Link, RedisConfig};

pub use answers::refusal;

/// Connecting and a few questions; a Redis that takes longer does not serve a gateway either.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// Our clock and that of Redis at one moment, milliseconds since 1970 UTC.
pub(super) type Clocks = (u64, u64);

/// The findings, and what Redis says the time is.
pub(super) async fn look(settings: &Settings) -> (Look, Option<Clocks>) {
    let mut look = Look::new("redis");
    let clocks = steps(&mut look, settings).await;
    (look, clocks)
}

async fn steps(look: &mut Look, settings: &Settings) -> Option<Clocks> {
    // What is wrong with them is told among the settings.
    let Ok(config) = config::redis(settings) else {
        look.skipped("not looked at: address and certificates cannot be used");
        return None;
    };
    if config.is_direct() {
        if timeout(ASK_TIMEOUT, direct::look(look, &config))
            .await
            .is_err()
        {
            silent(look, &config);
        }
        return None;
    }
    if config.is_cluster() {
        return cluster(look, &config, settings).await;
    }
    let info = config.url.as_str().into_connection_info().ok()?;
    way::look(look, &config, info.addr()).ok()?;
    let asked = async {
        let mut redis = match config.connect().await {
            Ok(redis) => redis,
            Err(error) => {
                not_let_in(look, &config, &error);
                return None;
            }
        };
        look.good(format!("logged in at {}", config.shown()));
        let clocks = rights::info(look, &mut redis, true).await;
        rights(look, &mut Link::Server(redis), settings).await;
        clocks
    };
    match timeout(ASK_TIMEOUT, asked).await {
        Ok(clocks) => clocks,
        Err(_) => {
            silent(look, &config);
            None
        }
    }
}

/// What we may do there.
async fn rights(look: &mut Look, redis: &mut Link, settings: &Settings) {
    let gateway = gateway(settings);
    if let Some(streams) = streams(settings) {
        rights::look(look, redis, &gateway, &streams).await;
    }
    if settings.flag("commands.enabled").unwrap_or(false) {
        commands::look(look, redis, &gateway).await;
    }
}

/// Doors behind which other vendors speak, who have streams of their own.
const VENDORS: [(&str, Kind); 1] = [("listen.nmea", Kind::Nmea)];

/// Every stream that is written to; a number that cannot be meant is told among the settings.
fn streams(settings: &Settings) -> Option<Vec<String>> {
    let stream = settings.text("uplink.stream").ok()?;
    let shards = settings
        .integer("uplink.shards", 1..=config::SHARDS_MAX)
        .ok()?;
    let open = VENDORS
        .into_iter()
        .filter(|(door, _)| settings.is_set(door));
    let kinds = open.map(|(_, kind)| kind);
    let mut all = Vec::new();
    for kind in std::iter::once(Kind::Teltonika).chain(kinds) {
        let stream = keys::stream_of(&kind, stream);
        all.extend((0..shards).map(|shard| keys::shard_stream(&stream, shard, shards)));
    }
    Some(all)
}

fn silent(look: &mut Look, config: &RedisConfig) {
    look.bad(
        &pages::SILENT,
        "Redis does not answer",
        config.shown(),
        "connected, and nothing came back in ten seconds",
        "look at the Redis machine: a full disk or a long script stops it",
    );
}

/// Of a cluster: the way to every node that is named and what it says of itself, whether the whole
/// lets us in, and what may be done there.
async fn cluster(look: &mut Look, config: &RedisConfig, settings: &Settings) -> Option<Clocks> {
    let mut clocks = None;
    let mut is_any_reached = false;
    for url in config.urls() {
        let node = RedisConfig {
            url: url.to_owned(),
            ..config.clone()
        };
        let info = url.into_connection_info().ok()?;
        if way::look(look, &node, info.addr()).is_err() {
            continue;
        }
        is_any_reached = true;
        let told = async {
            // Who is not let in hears of it below.
            let mut redis = node.connect().await.ok()?;
            rights::info(look, &mut redis, false).await
        };
        clocks = clocks.or(timeout(ASK_TIMEOUT, told).await.ok().flatten());
    }
    if !is_any_reached {
        return None;
    }
    let asked = async {
        match config.link().await {
            Ok(mut redis) => {
                look.good(format!("the cluster lets us in at {}", config.shown()));
                rights(look, &mut redis, settings).await;
            }
            Err(error) => not_let_in(look, config, &error),
        }
    };
    if timeout(ASK_TIMEOUT, asked).await.is_err() {
        silent(look, config);
    }
    clocks
}

/// As `run` would call itself; a name that cannot be used is told among the settings.
fn gateway(settings: &Settings) -> GatewayId {
    let typed = settings.optional_text("gateway.id").ok().flatten();
    let owner = || {
        let fs = RealFs::read_only(&settings.path("spool.dir").ok()?).ok()?;
        ::spool::owner(&fs).ok().flatten()
    };
    let host = || {
        let host = rustix::system::uname();
        GatewayId::new(host.nodename().to_string_lossy().into_owned()).ok()
    };
    let typed = typed.and_then(|name| GatewayId::new(name).ok());
    let found = typed.or_else(owner).or_else(host);
    found.unwrap_or_else(|| GatewayId::new("gateway").expect("letters alone"))
}

fn not_let_in(look: &mut Look, config: &RedisConfig, error: &ConnectError) {
    let ConnectError::Unreachable(source) = error else {
        look.skipped("not logged in: see the certificates");
        return;
    };
    let (page, remedy) = match answers::refusal(source) {
        // Not an entry but the greeting was refused.
        (page, _) if page.code == pages::NO_RIGHT.code => (
            &pages::RIGHTS,
            "allow +ping +hello +auth +client|setname, +cluster|slots and +asking in a cluster, and +select for a number other than 0",
        ),
        known => known,
    };
    let what = page.title.to_owned();
    look.bad(page, what, config.shown(), chain(error), remedy);
}
