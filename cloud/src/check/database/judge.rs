//! Pure: no I/O, no clock.
//!
//! What the database said of itself, judged.
//!
//! Invariant: what keeps every row from being written is told first.

use crate::check::Look;
use crate::config::{Config, Timescale};
use crate::explain::database as pages;
use crate::store::migrate::{self, Standing, Step};

const VERSION_MIN: i32 = 150_000;

/// Newer than the last one with errors in unique keys of compressed chunks.
const TIMESCALE_MIN: (u32, u32) = (2, 18);

/// Above this planning a query without a time takes seconds.
const CHUNKS_MANY: i64 = 5_000;

/// Connections beside the pool: the one that hears notifications, and one to ask about migrations.
const BESIDE_POOL: i64 = 2;

/// What was seen.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) url: String,
    pub(super) server: Server,
    pub(super) engine: Engine,
    /// `None`: may not be read.
    pub(super) steps: Option<Vec<Step>>,
    pub(super) missing: Vec<Missing>,
    pub(super) dead_letters: Option<DeadLetters>,
    pub(super) chunks: Option<Chunks>,
    pub(super) failed_jobs: Option<Vec<String>>,
}

/// The server and this session's settings.
#[derive(Clone, Debug, Default)]
pub(super) struct Server {
    pub(super) version: String,
    /// `150020` is 15.20.
    pub(super) number: i32,
    pub(super) is_standby: bool,
    pub(super) is_read_only: bool,
    pub(super) isolation: String,
    /// Of the database, where it has one of its own.
    pub(super) time_zone: Option<String>,
    pub(super) encoding: String,
    /// Connections that ordinary roles may have together.
    pub(super) places: i64,
    /// Of them, taken by others than us.
    pub(super) used: i64,
    /// Settings by which a commit may be lost.
    pub(super) careless: Vec<String>,
    /// Where tables without a schema are looked for; `None`: nowhere.
    pub(super) schema: Option<String>,
    pub(super) login: String,
    /// Of this database on disk.
    pub(super) bytes: i64,
}

/// What large tables are made of.
#[derive(Clone, Debug)]
pub(super) enum Engine {
    /// TimescaleDB is there and used.
    Hypertables { version: String, license: String },
    /// TimescaleDB is there, the tables are ordinary (or none yet).
    Ordinary { version: String, license: String },
    /// TimescaleDB is not in this database.
    Plain { is_available: bool },
}

/// A privilege that is not there.
#[derive(Clone, Debug)]
pub(super) struct Missing {
    pub(super) table: String,
    pub(super) right: String,
}

/// What could not be stored and was not sent again.
#[derive(Clone, Debug)]
pub(super) struct DeadLetters {
    pub(super) all: i64,
    /// In the last hour.
    pub(super) lately: i64,
    pub(super) newest: Option<String>,
}

/// Chunks of positions.
#[derive(Clone, Debug)]
pub(super) struct Chunks {
    pub(super) count: i64,
    pub(super) oldest: String,
    pub(super) newest: String,
}

pub(super) fn judge(facts: &Facts, config: &Config, look: &mut Look) {
    server(facts, look);
    let is_made = migrations(facts, look);
    engine(facts, config, is_made, look);
    rights(facts, look);
    commits(&facts.server, look);
    connections(&facts.server, config, look);
    conventions(&facts.server, look);
    contents(facts, look);
}

fn server(facts: &Facts, look: &mut Look) {
    let server = &facts.server;
    let seen = format!("PostgreSQL {} at {}", server.version, facts.url);
    if server.number < VERSION_MIN {
        look.bad(&pages::OLD, seen, "use PostgreSQL 15 or newer");
    } else {
        look.good(seen);
    }
    if server.is_standby {
        look.bad(
            &pages::READ_ONLY,
            "this is a standby",
            "point database.url at the primary",
        );
    } else if server.is_read_only {
        look.bad(
            &pages::READ_ONLY,
            "default_transaction_read_only is on",
            "switch it off; pg_settings and pg_db_role_setting tell where it was set",
        );
    }
    if server.schema.is_none() {
        look.bad(
            &pages::NO_RIGHT,
            format!("role {} may use no schema of its search_path", server.login),
            format!("GRANT USAGE, CREATE ON SCHEMA public TO {}", server.login),
        );
    }
}

/// Are the tables there?
fn migrations(facts: &Facts, look: &mut Look) -> bool {
    let Some(steps) = &facts.steps else {
        look.skipped("migrations: the list of those applied may not be read");
        return true;
    };
    let missing = migrate::missing(steps);
    if let Some(first) = missing.first() {
        look.bad(
            &pages::MIGRATIONS,
            format!(
                "{} of {} migrations are missing, from {} {}",
                missing.len(),
                steps.len(),
                first.version,
                first.description
            ),
            "cloud migrate up",
        );
    } else {
        look.good(format!("{} migrations applied", steps.len()));
    }
    let other: Vec<String> = steps
        .iter()
        .filter(|step| matches!(step.standing, Standing::Newer | Standing::Changed))
        .map(|step| format!("{} is {}", step.version, step.standing.as_str()))
        .collect();
    if !other.is_empty() {
        look.bad(
            &pages::OTHER_VERSION,
            format!("migration {}", other.join(", ")),
            "update this program",
        );
    }
    missing.len() < steps.len()
}

fn engine(facts: &Facts, config: &Config, is_made: bool, look: &mut Look) {
    let wanted = config.database.timescale;
    let extension = match &facts.engine {
        Engine::Plain { .. } if wanted == Timescale::Require => {
            return look.bad(
                &pages::NO_TIMESCALE,
                "database.timescale is require, and the extension is not in this database",
                "let an administrator run CREATE EXTENSION timescaledb, or set auto",
            );
        }
        Engine::Plain { is_available } if *is_available && wanted != Timescale::Off => {
            return look.bad(
                &pages::AVAILABLE,
                "the server has the extension timescaledb, this database has not",
                "CREATE EXTENSION timescaledb before the first migration, or database.timescale = off",
            );
        }
        Engine::Plain { .. } => return look.good("plain PostgreSQL: ordinary tables"),
        Engine::Ordinary { version, license } | Engine::Hypertables { version, license } => {
            (version, license)
        }
    };
    let (version, license) = extension;
    if is_made && matches!(facts.engine, Engine::Ordinary { .. }) {
        match wanted {
            Timescale::Require => look.bad(
                &pages::ORDINARY,
                "database.timescale is require, and the tables are ordinary ones",
                "migrate into a database that has the extension, or set auto",
            ),
            Timescale::Auto => look.bad(
                &pages::STAYED_ORDINARY,
                format!("TimescaleDB {version} is there, and positions is no hypertable"),
                "migrate into a database that has the extension, or set database.timescale = off",
            ),
            Timescale::Off => look.good("ordinary tables, as database.timescale = off says"),
        }
        return;
    }
    let mut numbers = version
        .split('.')
        .map_while(|part| part.parse::<u32>().ok());
    let number = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if number < TIMESCALE_MIN {
        look.bad(
            &pages::TIMESCALE_OLD,
            format!("TimescaleDB {version}"),
            "install 2.18 or newer and run ALTER EXTENSION timescaledb UPDATE",
        );
    }
    if license == "apache" {
        look.bad(
            &pages::APACHE,
            format!("TimescaleDB {version}, licence {license}"),
            "set timescaledb.license = timescale on the server, if its terms suit you",
        );
    } else {
        look.good(format!("TimescaleDB {version}, licence {license}"));
    }
}

fn rights(facts: &Facts, look: &mut Look) {
    let login = &facts.server.login;
    for Missing { table, right } in &facts.missing {
        look.bad(
            &pages::NO_RIGHT,
            format!("role {login} may not {right} on {table}"),
            format!("GRANT {right} ON {table} TO {login}"),
        );
    }
    if facts.missing.is_empty() {
        look.good(format!("role {login} has every privilege that is needed"));
    }
}

fn commits(server: &Server, look: &mut Look) {
    if !server.careless.is_empty() {
        let names = server.careless.join(", ");
        look.bad(
            &pages::COMMIT_LOST,
            format!("off: {names}"),
            format!("switch on: {names}; pg_settings and pg_db_role_setting tell where it was set"),
        );
    }
}

fn connections(server: &Server, config: &Config, look: &mut Look) {
    let needed = i64::from(config.database.pool) + BESIDE_POOL;
    let free = server.places - server.used;
    let seen = format!(
        "{free} of {} connections are free, {needed} are needed here",
        server.places
    );
    if free < needed {
        look.bad(
            &pages::POOL,
            seen,
            "lower database.pool, close idle sessions, or raise max_connections",
        );
    } else {
        look.good(seen);
    }
}

fn conventions(server: &Server, look: &mut Look) {
    if server.isolation != "read committed" {
        look.bad(
            &pages::ISOLATION,
            format!("default_transaction_isolation is {}", server.isolation),
            format!(
                "ALTER ROLE {} SET default_transaction_isolation = 'read committed'",
                server.login
            ),
        );
    }
    let utc = [
        "UTC",
        "Etc/UTC",
        "GMT",
        "Etc/GMT",
        "Etc/UCT",
        "UCT",
        "Zulu",
        "Universal",
    ];
    if let Some(zone) = server
        .time_zone
        .as_deref()
        .filter(|zone| !utc.contains(zone))
    {
        look.bad(
            &pages::TIME_ZONE,
            format!("TimeZone of the database is {zone}"),
            "ALTER DATABASE … SET timezone = 'UTC'",
        );
    }
    if server.encoding != "UTF8" {
        look.bad(
            &pages::ENCODING,
            format!("server_encoding is {}", server.encoding),
            "make a database with ENCODING 'UTF8'",
        );
    }
}

fn contents(facts: &Facts, look: &mut Look) {
    #[expect(clippy::cast_precision_loss, reason = "a size for people")]
    let mebibytes = facts.server.bytes as f64 / f64::from(1 << 20);
    look.good(format!("{mebibytes:.0} MiB on disk"));
    if let Some(letters) = &facts.dead_letters {
        if letters.lately > 0 {
            let newest = letters.newest.as_deref().unwrap_or("?");
            look.bad(
                &pages::DEAD_LETTERS,
                format!(
                    "{} dead letters, {} of them in the last hour; {newest}",
                    letters.all, letters.lately
                ),
                "look into the table dead_letters; each has its reason and its bytes",
            );
        } else {
            look.good(format!(
                "{} dead letters, none in the last hour",
                letters.all
            ));
        }
    }
    if let Some(Chunks {
        count,
        oldest,
        newest,
    }) = &facts.chunks
    {
        if *count > CHUNKS_MANY {
            look.bad(
                &pages::CHUNKS,
                format!("positions has {count} chunks, from {oldest} to {newest}"),
                "widen store.chunk_interval, or set store.retention",
            );
        } else {
            look.good(format!("positions has {count} chunks"));
        }
    }
    for job in facts.failed_jobs.iter().flatten() {
        look.bad(
            &pages::JOB,
            format!("the last run of {job} failed"),
            "SELECT * FROM timescaledb_information.job_errors ORDER BY start_time DESC",
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{ENV_PREFIX, KEYS};

    fn config(timescale: &str) -> Config {
        let env = [(
            "CLOUD__DATABASE__TIMESCALE".to_owned(),
            timescale.to_owned(),
        )];
        let settings = settings::Settings::read(KEYS, ENV_PREFIX, None, env).unwrap();
        Config::new(&settings, "box").unwrap()
    }

    fn step(version: i64, standing: Standing) -> Step {
        Step {
            version,
            description: "tables".to_owned(),
            standing,
            sql: String::new(),
        }
    }

    fn facts() -> Facts {
        Facts {
            url: "postgres://db/x".to_owned(),
            server: Server {
                version: "16.4".to_owned(),
                number: 160_004,
                isolation: "read committed".to_owned(),
                time_zone: Some("Etc/UTC".to_owned()),
                encoding: "UTF8".to_owned(),
                places: 97,
                used: 5,
                schema: Some("public".to_owned()),
                login: "cloud".to_owned(),
                ..Server::default()
            },
            engine: Engine::Plain {
                is_available: false,
            },
            steps: Some(vec![step(1, Standing::Applied), step(2, Standing::Applied)]),
            missing: Vec::new(),
            dead_letters: None,
            chunks: None,
            failed_jobs: None,
        }
    }

    fn timescale(version: &str, license: &str) -> Engine {
        Engine::Hypertables {
            version: version.to_owned(),
            license: license.to_owned(),
        }
    }

    fn codes(timescale: &str, change: impl FnOnce(&mut Facts)) -> Vec<&'static str> {
        let mut facts = facts();
        change(&mut facts);
        let mut look = Look::new("database");
        judge(&facts, &config(timescale), &mut look);
        look.codes()
    }

    #[test]
    fn what_may_be_wrong_with_a_database() {
        type Change = fn(&mut Facts);
        let rows: &[(&str, Change)] = &[
            ("E-DBS-009", |it| it.server.number = 140_013),
            ("E-DBS-010", |it| it.server.is_standby = true),
            ("E-DBS-010", |it| it.server.is_read_only = true),
            ("E-DBS-011", |it| {
                it.steps.as_mut().unwrap()[1].standing = Standing::Pending
            }),
            ("E-DBS-014", |it| it.server.schema = None),
            ("E-DBS-015", |it| {
                it.server.careless = vec!["fsync".to_owned()]
            }),
            ("W-DBS-101", |it| it.engine = timescale("2.28.3", "apache")),
            ("W-DBS-102", |it| {
                it.engine = timescale("2.17.2", "timescale")
            }),
            ("W-DBS-103", |it| {
                it.engine = Engine::Plain { is_available: true }
            }),
            ("W-DBS-104", |it| {
                it.engine = Engine::Ordinary {
                    version: "2.28.3".to_owned(),
                    license: "timescale".to_owned(),
                };
            }),
            ("W-DBS-105", |it| it.server.used = 95),
            ("W-DBS-106", |it| {
                it.failed_jobs = Some(vec!["job 1000".to_owned()])
            }),
            ("W-DBS-107", |it| {
                it.server.isolation = "serializable".to_owned()
            }),
            ("W-DBS-108", |it| {
                it.server.time_zone = Some("Europe/Vilnius".to_owned())
            }),
            ("W-DBS-109", |it| {
                it.dead_letters = Some(DeadLetters {
                    all: 3,
                    lately: 1,
                    newest: None,
                });
            }),
            ("W-DBS-110", |it| {
                it.chunks = Some(Chunks {
                    count: 6_000,
                    oldest: "2010-01-01".to_owned(),
                    newest: "2026-01-01".to_owned(),
                });
            }),
            ("W-DBS-111", |it| {
                it.steps.as_mut().unwrap().push(step(3, Standing::Newer))
            }),
            ("W-DBS-112", |it| it.server.encoding = "LATIN1".to_owned()),
        ];
        for (code, change) in rows {
            assert_eq!(codes("auto", *change), [*code]);
        }
        assert!(codes("auto", |_| ()).is_empty());
        assert!(codes("require", |it| it.engine = timescale("2.28.3", "timescale")).is_empty());
    }

    #[test]
    fn what_is_required_is_missed_and_what_is_not_wanted_is_not() {
        let ordinary = |it: &mut Facts| {
            it.engine = Engine::Ordinary {
                version: "2.28.3".to_owned(),
                license: "timescale".to_owned(),
            };
        };
        assert_eq!(codes("require", |_| ()), ["E-DBS-012"]);
        assert_eq!(codes("require", ordinary), ["E-DBS-013"]);
        assert!(codes("off", ordinary).is_empty());
        assert!(codes("off", |it| it.engine = Engine::Plain { is_available: true }).is_empty());
        // Before the first migration there is nothing to be ordinary.
        let fresh = codes("require", |it| {
            ordinary(it);
            it.steps = Some(vec![step(1, Standing::Pending)]);
        });
        assert_eq!(fresh, ["E-DBS-011"]);
    }

    #[test]
    fn each_privilege_is_named_with_its_grant() {
        let mut facts = facts();
        facts.missing = vec![Missing {
            table: "settled".to_owned(),
            right: "DELETE".to_owned(),
        }];
        let mut look = Look::new("database");
        judge(&facts, &config("auto"), &mut look);
        assert_eq!(look.codes(), ["E-DBS-014"]);
        assert!(
            look.findings
                .iter()
                .any(|it| it.remedy == "GRANT DELETE ON settled TO cloud")
        );
    }
}
