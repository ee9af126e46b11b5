//! `cloud check`: looks at everything this processor stands on and names what is wrong.
//!
//! Why one command: whoever runs this sees "no rows", and the cause is one of fifty. Each finding
//! says what and where, what to do, and has a code that [`explain`](crate::explain) knows.
//!
//! Invariants: every part is looked at, whatever the one before found; nothing is left behind (no
//! key, no entry, no row); shells look and pure functions judge what they saw.

pub mod commands;
pub mod database;
mod finding;
pub mod redis;
mod scan;
pub mod sensors;
pub mod settings;
pub mod socket;
pub mod stream;
pub mod web;

use std::sync::Arc;

pub use finding::{Finding, Look, Mark};

use crate::config::Config;
use crate::explain::{database as database_pages, redis as redis_pages};
use crate::store::Database;
use crate::stream::consumer::chained;
use crate::stream::{Link, Redis, RedisFailure};

/// Looks at everything; `say` hears every finding as it is made. Returns the worst exit code.
pub async fn run(
    settings: &::settings::Settings,
    config: &Config,
    mut say: impl FnMut(&Finding),
) -> u8 {
    let mut worst = 0;
    let mut tell = |look: Look| {
        for finding in look.findings {
            worst = finding.exit().max(worst);
            say(&finding);
        }
    };
    tell(settings::look(settings));
    tell(web::look(config));
    let link = match &config.socket {
        Some(path) => {
            tell(socket::look(path));
            for part in ["redis", "stream"] {
                let mut look = Look::new(part);
                look.skipped("not used: spool.socket is set; commands wait in their table");
                tell(look);
            }
            None
        }
        None => link(config, &mut tell).await,
    };
    match &link {
        None if config.socket.is_some() => {}
        Some(link) => {
            tell(stream::look(link, &config.stream).await);
            if let Some(sensors) = &config.sensors {
                tell(sensors::look(link, sensors, &config.stream.group).await);
            }
        }
        None => {
            let mut look = Look::new("stream");
            look.skipped("not looked at: Redis cannot be asked");
            tell(look);
        }
    }
    match Database::new(&config.database) {
        Ok(database) => {
            tell(database::look(&database, config).await);
            tell(commands::look(link.as_ref(), &database, config).await);
        }
        Err(failure) => {
            let mut look = Look::new("database");
            let remedy = "write postgres://user:password@host:5432/database";
            look.bad(&database_pages::URL, chained(&failure), remedy);
            tell(look);
        }
    }
    worst
}

/// The way to Redis and how it stands; `None` where it cannot be asked.
async fn link(config: &Config, tell: &mut impl FnMut(Look)) -> Option<Link> {
    match Redis::new(&config.redis) {
        Ok(redis) => {
            let link = Link::new(Arc::new(redis));
            let (look, is_reached) = redis::look(&link, config).await;
            tell(look);
            is_reached.then_some(link)
        }
        Err(failure) => {
            let mut look = Look::new("redis");
            let (page, remedy) = match failure {
                RedisFailure::Url { .. } => (
                    &redis_pages::URL,
                    "write rediss://user:password@host:port/0, or redis:// inside one machine",
                ),
                _ => (
                    &redis_pages::FILE,
                    "correct redis.cert, redis.key and redis.ca, and let this user read them",
                ),
            };
            look.bad(page, chained(&failure), remedy);
            tell(look);
            None
        }
    }
}
