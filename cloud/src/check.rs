//! `cloud check`: looks at everything this processor needs and names what is wrong, with the remedy.

use std::sync::Arc;

use redis::cmd;
use sqlx::Connection as _;

use crate::config::Config;
use crate::store::{Database, DatabaseError, Timescale, migrate};
use crate::stream::consumer::chained;
use crate::stream::{Link, Redis, RedisFailure, Standing, finder, lag};

/// How one thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// As it should be.
    Good,
    /// Works, and could be better.
    Odd,
    /// Will not work.
    Bad,
}

/// One line of the report.
#[derive(Clone, Debug)]
pub struct Finding {
    /// `redis`, `stream` or `database`.
    pub part: &'static str,
    /// How it stands.
    pub mark: Mark,
    /// What was seen, and the remedy.
    pub text: String,
}

/// The report.
#[derive(Debug, Default)]
pub struct Report {
    /// In the order looked at.
    pub findings: Vec<Finding>,
    /// A server did not answer at all.
    pub unreachable: bool,
}

impl Report {
    fn say(&mut self, part: &'static str, mark: Mark, text: impl Into<String>) {
        let text = text.into();
        self.findings.push(Finding { part, mark, text });
    }

    /// Anything that will not work?
    #[must_use]
    pub fn failed(&self) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.mark == Mark::Bad)
    }
}

/// Looks at everything.
/// # Errors
/// The configuration itself is not usable.
pub async fn check(config: &Config) -> Result<Report, crate::app::RunError> {
    let mut report = Report::default();
    let redis = Arc::new(Redis::new(&config.redis)?);
    let link = Link::new(redis);
    if let Err(failure) = look_at_redis(&link, config, &mut report).await {
        report.unreachable |= matches!(failure, RedisFailure::Unreachable { .. });
        report.say("redis", Mark::Bad, chained(&failure));
    }
    let database = Database::new(&config.database)?;
    if let Err(failure) = look_at_database(&database, &mut report).await {
        let unreachable = matches!(
            failure,
            DatabaseError::Unreachable { .. } | DatabaseError::Silent { .. }
        );
        report.unreachable |= unreachable;
        report.say("database", Mark::Bad, chained(&failure));
    }
    Ok(report)
}

async fn look_at_redis(
    link: &Link,
    config: &Config,
    report: &mut Report,
) -> Result<(), RedisFailure> {
    let mut info = cmd("INFO");
    info.arg("server").arg("memory").arg("persistence");
    let info: String = link.ask("INFO", &info).await?;
    let field = |name: &str| {
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or("").trim().to_owned()
    };
    let version = field("redis_version");
    let major: u32 = version
        .split('.')
        .next()
        .and_then(|major| major.parse().ok())
        .unwrap_or(0);
    if major >= 7 {
        report.say(
            "redis",
            Mark::Good,
            format!("version {version} at {}", link.url()),
        );
    } else {
        report.say(
            "redis",
            Mark::Bad,
            format!(
                "version {version} at {}: 7.0 or newer is needed (lag, deleted ids)",
                link.url()
            ),
        );
    }
    let policy = field("maxmemory_policy");
    if policy == "noeviction" {
        report.say("redis", Mark::Good, "maxmemory-policy noeviction");
    } else {
        report.say("redis", Mark::Bad, format!("maxmemory-policy {policy}: whole streams can vanish; CONFIG SET maxmemory-policy noeviction"));
    }
    if field("aof_enabled") == "1" {
        report.say("redis", Mark::Good, "appendonly yes");
    } else {
        report.say("redis", Mark::Odd, "appendonly no: after a crash the gateways send everything unsettled again; CONFIG SET appendonly yes");
    }
    let group = &config.stream.group;
    let found = finder::find(link, &config.stream).await?;
    for stream in finder::named(&config.stream).into_iter().chain(found) {
        let standing = lag::standing(link, &stream, group).await?;
        let (mark, text) = told(&standing, group);
        report.say("stream", mark, text);
    }
    Ok(())
}

fn told(standing: &Standing, group: &str) -> (Mark, String) {
    let stream = &standing.stream.name;
    let Some(pending) = standing.pending_entries else {
        let text = format!("{stream} has no group {group} yet; `cloud run` creates it at 0");
        return (Mark::Odd, text);
    };
    let lag = standing
        .lag_entries
        .map_or_else(|| "unknown".to_owned(), |lag| lag.to_string());
    let text = format!("{stream}, group {group}: lag {lag}, pending {pending}");
    (Mark::Good, text)
}

async fn look_at_database(database: &Database, report: &mut Report) -> Result<(), DatabaseError> {
    let mut connection = database.connect().await?;
    let version = database.server_version(&mut connection).await?;
    let major: u32 = version
        .split('.')
        .next()
        .and_then(|major| major.parse().ok())
        .unwrap_or(0);
    let mark = if major >= 15 { Mark::Good } else { Mark::Bad };
    report.say(
        "database",
        mark,
        format!(
            "PostgreSQL {version} at {} (15 or newer is needed)",
            database.url()
        ),
    );
    match database.timescale(&mut connection).await? {
        Timescale::Yes { version, license } => report.say(
            "database",
            Mark::Good,
            format!("TimescaleDB {version}, licence {license}"),
        ),
        Timescale::No => report.say("database", Mark::Good, "plain PostgreSQL: ordinary tables"),
    }
    let steps = migrate::status(database, &mut connection).await?;
    let missing = migrate::missing(&steps).len();
    if missing == 0 {
        report.say(
            "database",
            Mark::Good,
            format!("{} migrations applied", steps.len()),
        );
    } else {
        report.say(
            "database",
            Mark::Bad,
            format!("{missing} migrations pending: run `cloud migrate up`"),
        );
    }
    // The findings stand whether or not the server hears the farewell.
    let _ = connection.close().await;
    Ok(())
}
