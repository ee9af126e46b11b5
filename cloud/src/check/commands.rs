//! The way of commands: the table and its triggers, the registry, the stream of responses.

use std::collections::BTreeSet;

use contract::keys;
use redis::cmd;

use super::Look;
use super::redis::rights;
use super::scan::scan;
use crate::config::Config;
use crate::explain::{commands as pages, redis as redis_pages};
use crate::store::Database;
use crate::stream::consumer::chained;
use crate::stream::{Link, RedisFailure, lag};

/// Triggers of migration 4, which hold to the rules of a command whoever writes.
const TRIGGERS: [(&str, &str); 3] = [
    ("commands", "commands_guard"),
    ("commands", "commands_told"),
    ("command_events", "command_events_only_grow"),
];

/// Responses are recorded within a second.
const WAITING_S: u64 = 60;

/// Fields of the registry that are looked at.
const FIELDS_MAX: usize = 100_000;

/// Name and value in a hash.
type Field = (Vec<u8>, Vec<u8>);

/// The findings. `link`: `None` where Redis cannot be asked.
pub(super) async fn look(link: Option<&Link>, database: &Database, config: &Config) -> Look {
    let mut look = Look::new("commands");
    if config.commands.is_none() {
        look.skipped("not looked at: commands.enabled = false");
        return look;
    }
    table(database, &mut look).await;
    let Some(link) = link else {
        look.skipped("registry and responses: Redis cannot be asked");
        return look;
    };
    if let Err(failure) = in_redis(link, config, &mut look).await {
        if failure.code() == Some("NOPERM") {
            look.skipped(format!("not looked at: {}", chained(&failure)));
        } else {
            let remedy = "look up the answer; its log may say more";
            look.bad(&redis_pages::UNUSABLE, chained(&failure), remedy);
        }
    }
    look
}

async fn table(database: &Database, look: &mut Look) {
    let asked = async {
        let mut connection = database.connect().await.ok()?;
        let tables: Vec<&str> = TRIGGERS.iter().map(|it| it.0).collect();
        let names: Vec<&str> = TRIGGERS.iter().map(|it| it.1).collect();
        let found: Result<Vec<(String, String)>, _> = sqlx::query_as(
            "SELECT a.t, a.n FROM UNNEST($1::text[], $2::text[]) AS a(t, n) \
             WHERE to_regclass(a.t) IS NOT NULL AND NOT EXISTS (SELECT FROM pg_trigger g \
                WHERE g.tgrelid = to_regclass(a.t) AND g.tgname = a.n AND g.tgenabled IN ('O', 'A'))",
        )
        .bind(tables)
        .bind(names)
        .fetch_all(&mut connection)
        .await;
        Some(found)
    };
    match asked.await {
        // Why it cannot be asked, and that the tables are missing, is told with the database.
        None => look.skipped("the table: the database cannot be asked"),
        Some(Err(error)) => super::database::unusable(look, "looking at triggers", &error),
        Some(Ok(missing)) if missing.is_empty() => look.good("table and triggers"),
        Some(Ok(missing)) => {
            for (table, trigger) in missing {
                look.bad(
                    &pages::TRIGGER,
                    format!("trigger {trigger} of {table} is missing or off"),
                    format!("ALTER TABLE {table} ENABLE TRIGGER {trigger}"),
                );
            }
        }
    }
}

async fn in_redis(link: &Link, config: &Config, look: &mut Look) -> Result<(), RedisFailure> {
    let mut is_sound = true;
    for (key, wanted) in [
        (keys::CONNECTIONS, "hash"),
        (keys::CONNECTION_EPOCHS, "hash"),
        (keys::COMMAND_RESPONSES, "stream"),
    ] {
        let kind: String = link.ask("TYPE", cmd("TYPE").arg(key)).await?;
        if kind != wanted && kind != "none" {
            is_sound = false;
            look.bad(
                &pages::WRONG_KEY,
                format!("{key} is a {kind}, not a {wanted}"),
                "rename that key",
            );
        }
    }
    for refusal in rights::refused(link, &rights::needed_for_commands(config)).await? {
        // Other states than a missing right are told with Redis.
        if refusal.code == "NOPERM" {
            look.bad(
                &pages::NO_RIGHT,
                format!("the Redis user may not {}", refusal.what),
                format!("ACL SETUSER … {}", refusal.rule),
            );
        }
    }
    if is_sound {
        responses(link, look).await?;
        registry(link, look).await?;
    }
    Ok(())
}

async fn responses(link: &Link, look: &mut Look) -> Result<(), RedisFailure> {
    let stream = crate::stream::Stream {
        name: keys::COMMAND_RESPONSES.into(),
        named: true,
    };
    let length: u64 = link
        .ask("XLEN", cmd("XLEN").arg(keys::COMMAND_RESPONSES))
        .await?;
    let standing = lag::standing(link, &stream, keys::GROUP_COMMANDS).await?;
    match standing.age_s {
        None if length > 0 => look.bad(
            &pages::NO_GROUP,
            format!(
                "{} has {length} entries and no group {}",
                stream.name,
                keys::GROUP_COMMANDS
            ),
            "start `cloud run` with commands.enabled = true",
        ),
        Some(age_s) if age_s > WAITING_S => look.bad(
            &pages::WAITING,
            format!(
                "responses wait in {}, the oldest for {age_s} s",
                stream.name
            ),
            "start `cloud run` with commands.enabled = true, or see its log",
        ),
        _ => look.good(format!("{} is read", stream.name)),
    }
    Ok(())
}

async fn registry(link: &Link, look: &mut Look) -> Result<(), RedisFailure> {
    let mut named: BTreeSet<String> = BTreeSet::new();
    let (mut cursor, mut fields) = ("0".to_owned(), 0);
    while fields < FIELDS_MAX {
        let mut some = cmd("HSCAN");
        some.arg(keys::CONNECTIONS)
            .arg(&cursor)
            .arg("COUNT")
            .arg(1_000);
        let (next, pairs): (String, Vec<Field>) = link.ask("HSCAN", &some).await?;
        fields += pairs.len();
        let gateways = pairs
            .iter()
            .map(|(_, gateway)| String::from_utf8_lossy(gateway));
        named.extend(gateways.map(|gateway| gateway.into_owned()));
        if next == "0" {
            break;
        }
        cursor = next;
    }
    let beginning = "instance:heartbeat:";
    let alive = scan(link, &format!("{beginning}*"), None, FIELDS_MAX).await?;
    let is_alive = |gateway: &String| {
        let heartbeat = format!("{beginning}{gateway}");
        alive.keys.contains(&heartbeat)
    };
    let stale: Vec<&str> = named
        .iter()
        .filter(|gateway| !is_alive(gateway))
        .map(String::as_str)
        .collect();
    if stale.is_empty() {
        look.good(format!(
            "{fields} trackers connected to {} gateways",
            named.len()
        ));
    } else {
        look.bad(
            &pages::STALE,
            format!(
                "{} names {} without a heartbeat",
                keys::CONNECTIONS,
                stale.join(", ")
            ),
            "start `cloud run`, which removes them, or that gateway",
        );
    }
    Ok(())
}
