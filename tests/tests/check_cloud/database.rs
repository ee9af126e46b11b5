//! The database.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use serde_json::json;
use tests::servers::{Port, Timescale};

use super::stage::{Case, Row, Stage, set};

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_on_the_way_to_the_database_are_named() -> Result<()> {
    let stage = Stage::start().await?;
    let closed = Port::free()?;
    let deaf = std::net::TcpListener::bind("127.0.0.1:0")?;
    let deaf = deaf.local_addr()?;
    let web = std::net::TcpListener::bind("127.0.0.1:0")?;
    let web_at = web.local_addr()?;
    std::thread::spawn(move || {
        for mut tcp in web.incoming().flatten() {
            let _ = tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let port = stage.postgres.port();
    stage
        .sql(&["CREATE ROLE small LOGIN PASSWORD 'small' CONNECTION LIMIT 0"])
        .await?;
    let url = |url: &str| vec![set("database.url", url)];
    stage.expect(&[
        Case::new("no such name", "E-DBS-001")
            .edit(url("postgres://u:p@db.invalid/x"))
            .says("db.invalid"),
        Case::new("wrong port", "E-DBS-002")
            .edit(url(&format!(
                "postgres://u:p@127.0.0.1:{}/x",
                closed.number()
            )))
            .says("5432"),
        Case::new("silence", "E-DBS-003")
            .edit(url(&format!("postgres://u:p@{deaf}/x")))
            .says("firewall"),
        Case::new("wrong password", "E-DBS-004")
            .edit(url(&stage.database_as("milepost:guess")))
            .says("password"),
        Case::new("unknown role", "E-DBS-004")
            .edit(url(&stage.database_as("nobody:guess")))
            .says("nobody"),
        Case::new("no such database", "E-DBS-005")
            .edit(url(&stage.postgres.url("nowhere")))
            .says("CREATE DATABASE"),
        Case::new("no free connection", "E-DBS-006")
            .edit(url(&stage.database_as("small:small")))
            .says("limit"),
        Case::new("no PostgreSQL", "E-DBS-007")
            .edit(url(&format!("postgres://u:p@{web_at}/x")))
            .says("answer"),
        Case::new("TLS that is not there", "E-DBS-007")
            .edit(url(&format!("{}?sslmode=require", stage.database_url)))
            .says("log"),
        Case::new("address", "E-DBS-008")
            .edit(url(&format!("postgres//127.0.0.1:{port}/x")))
            .says("postgres://user"),
        Case::new("TimescaleDB required", "E-DBS-012")
            .env("ENABLE_TIMESCALE", "true")
            .says("CREATE EXTENSION timescaledb"),
        Case::new("large pool", "W-DBS-105")
            .edit(vec![set("database.pool", 100)])
            .says("max_connections"),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_inside_the_database_are_named() -> Result<()> {
    let mut stage = Stage::start().await?;
    stage.is_good()?;
    let rows: &[Row] = &[
        (
            "only reads",
            &["ALTER DATABASE @ SET default_transaction_read_only = on"],
            "E-DBS-010",
            "default_transaction_read_only",
            &[
                "SET default_transaction_read_only = off",
                "ALTER DATABASE @ RESET default_transaction_read_only",
            ],
        ),
        (
            "a migration is missing",
            &[
                "CREATE TABLE kept AS SELECT * FROM _sqlx_migrations WHERE version = 4; DELETE FROM _sqlx_migrations WHERE version = 4",
            ],
            "E-DBS-011",
            "cloud migrate up",
            &["INSERT INTO _sqlx_migrations SELECT * FROM kept; DROP TABLE kept"],
        ),
        (
            "an edited migration",
            &["UPDATE _sqlx_migrations SET checksum = checksum || '\\x00' WHERE version = 1"],
            "W-DBS-111",
            "1 is changed",
            &[
                "UPDATE _sqlx_migrations SET checksum = substr(checksum, 1, length(checksum) - 1) WHERE version = 1",
            ],
        ),
        (
            "a migration of a newer one",
            &[
                "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'later', true, '', 0)",
            ],
            "W-DBS-111",
            "9999 is newer",
            &["DELETE FROM _sqlx_migrations WHERE version = 9999"],
        ),
        (
            "asynchronous commits",
            &["ALTER DATABASE @ SET synchronous_commit = off"],
            "E-DBS-015",
            "synchronous_commit",
            &["ALTER DATABASE @ RESET synchronous_commit"],
        ),
        (
            "strict isolation",
            &["ALTER DATABASE @ SET default_transaction_isolation = 'serializable'"],
            "W-DBS-107",
            "read committed",
            &["ALTER DATABASE @ RESET default_transaction_isolation"],
        ),
        (
            "another time zone",
            &["ALTER DATABASE @ SET timezone = 'America/Sao_Paulo'"],
            "W-DBS-108",
            "America/Sao_Paulo",
            &["ALTER DATABASE @ SET timezone = 'UTC'"],
        ),
        (
            "dead letters",
            &[
                "INSERT INTO dead_letters (error_class, reason, records, bytes) VALUES ('codec', 'codec 9 is not known', 1, '')",
            ],
            "W-DBS-109",
            "codec: codec 9 is not known",
            &["DELETE FROM dead_letters"],
        ),
    ];
    stage.expect_in_database(rows).await?;
    // A writer that owns nothing: what it is not granted is named, one right after the other.
    stage
        .sql(&[
            "CREATE ROLE writer LOGIN PASSWORD 'writer'",
            "GRANT USAGE ON SCHEMA public TO writer",
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO writer",
        ])
        .await?;
    let writer = stage.database_as("writer:writer");
    stage.set("database.url", json!(writer));
    stage.is_good()?;
    for (take, says) in [
        ("INSERT ON positions", "GRANT INSERT ON positions TO writer"),
        ("UPDATE ON devices", "GRANT UPDATE ON devices TO writer"),
        ("DELETE ON settled", "GRANT DELETE ON settled TO writer"),
        ("DELETE ON frames", "GRANT DELETE ON frames TO writer"),
        ("SELECT ON spools", "GRANT SELECT ON spools TO writer"),
        ("UPDATE ON commands", "GRANT UPDATE ON commands TO writer"),
        (
            "SELECT ON _sqlx_migrations",
            "GRANT SELECT ON _sqlx_migrations TO writer",
        ),
    ] {
        let (make, undo) = (
            format!("REVOKE {take} FROM writer"),
            format!("GRANT {take} TO writer"),
        );
        let row: Row = (take, &[&make], "E-DBS-014", says, &[&undo]);
        stage.expect_in_database(&[row]).await?;
    }
    let no_schema: Row = (
        "no schema",
        &["REVOKE USAGE ON SCHEMA public FROM writer, PUBLIC"],
        "E-DBS-014",
        "GRANT USAGE",
        &["GRANT USAGE ON SCHEMA public TO writer, PUBLIC"],
    );
    stage.expect_in_database(&[no_schema]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_database_misses_its_migrations_and_says_so_first() -> Result<()> {
    let stage = Stage::start().await?;
    let empty = stage.postgres.create_database().await?;
    stage.expect(&[Case::new("empty", "E-DBS-011")
        .edit(vec![set("database.url", empty)])
        .says("6 of 6 migrations are missing")])
}

#[tokio::test(flavor = "multi_thread")]
async fn timescaledb_is_looked_at_too() -> Result<()> {
    let Some(timescale) = Timescale::start().await? else {
        return Ok(());
    };
    let mut stage = Stage::start().await?;
    stage.set("database.url", json!(timescale.url()));
    let (_, exit) = stage.run(&["migrate", "up"])?;
    anyhow::ensure!(exit == 0, "migrate up: {exit}");
    let (found, _) = stage.check(&Case::new("hypertables", ""))?;
    let says = |words: &str| {
        found.iter().any(|it| {
            it["part"] == "database"
                && it["mark"] == "ok"
                && it["text"].as_str().is_some_and(|text| text.contains(words))
        })
    };
    for words in [
        "TimescaleDB 2.",
        "licence timescale",
        "positions has",
        "every privilege",
    ] {
        anyhow::ensure!(says(words), "{words}: {found:#?}");
    }
    let failed = found
        .iter()
        .find(|it| it["part"] == "database" && it["mark"] == "failed");
    anyhow::ensure!(failed.is_none(), "{failed:?}");
    // Ordinary tables beside the extension.
    stage.database_url = timescale.url();
    stage
        .sql(&["CREATE SCHEMA plain; SET search_path = plain; SELECT set_config('search_path', 'plain', false)"])
        .await?;
    let url = format!("{}&options=-csearch_path%3Dplain", timescale.url());
    stage.set("database.url", json!(url));
    stage.set("database.timescale", json!("off"));
    let (told, exit) = stage.run(&["migrate", "up"])?;
    anyhow::ensure!(exit == 0, "migrate up: {exit} {told:?}");
    stage.set("database.timescale", json!("auto"));
    stage
        .expect(&[
            Case::new("ordinary", "W-DBS-104").says("no hypertable"),
            Case::new("ordinary and required", "E-DBS-013")
                .edit(vec![set("database.timescale", "require")])
                .says("ordinary"),
        ])
        .context("ordinary tables beside the extension")
}
