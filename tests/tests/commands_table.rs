//! The table of commands for people: what it takes, what it refuses and how, on PostgreSQL and on
//! TimescaleDB; and `cloud cmd`.
#![allow(clippy::unwrap_used)]

use anyhow::{Context as _, Result, ensure};
use codec::Imei;
use serde_json::Value;
use sqlx::postgres::{PgDatabaseError, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Row as _};
use tests::processes::Cloud;
use tests::servers::{Postgres, Redis, RedisOptions, Timescale};
use tests::tables::eventually;

const IMEI: i64 = 350_000_000_000_017;

/// Runs `sql`; what the database said against it, and its hint.
async fn refusal(pool: &PgPool, sql: &str) -> Result<String> {
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(pool);
    let error = done.await.err().with_context(|| format!("taken: {sql}"))?;
    let said = error.as_database_error().context("the database says it")?;
    let said = said.downcast_ref::<PgDatabaseError>();
    ensure!(said.code() == "23514", "{} {said}", said.code());
    Ok(format!("{} {}", said.message(), said.hint().unwrap_or("")))
}

async fn insert(pool: &PgPool, fields: &str, values: &str) -> Result<String> {
    let sql = format!("INSERT INTO commands ({fields}) VALUES ({values}) RETURNING id::text");
    Ok(sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_one(pool)
        .await?)
}

/// Every rule, seen keeping somebody out.
async fn the_table_keeps_its_rules(pool: &PgPool) -> Result<()> {
    for (values, parts) in [
        ("123, 'getinfo'", ["imei 123 is not", "15 digits"]),
        (
            "3500000000000170, 'getinfo'",
            ["is not an IMEI", "15 digits"],
        ),
        ("350000000000017, ''", ["empty", "getinfo"]),
        ("350000000000017, '  '", ["empty", "getinfo"]),
        ("350000000000017, NULL", ["empty", "getinfo"]),
        ("350000000000017, repeat('ä', 2049)", ["4098 bytes", "4096"]),
    ] {
        let sql = format!("INSERT INTO commands (imei, payload) VALUES ({values})");
        let said = refusal(pool, &sql).await?;
        ensure!(
            parts.iter().all(|part| said.contains(part)),
            "{values}: {said}"
        );
    }
    for (fields, values, part) in [
        (
            "imei, payload, codec",
            "350000000000017, 'x', 13",
            "codec 13",
        ),
        (
            "imei, payload, status",
            "350000000000017, 'x', 'sent'",
            "begins as queued",
        ),
        (
            "imei, payload, expires_at",
            "350000000000017, 'x', now() - interval '1 s'",
            "passed",
        ),
    ] {
        let said = refusal(
            pool,
            &format!("INSERT INTO commands ({fields}) VALUES ({values})"),
        )
        .await?;
        ensure!(said.contains(part), "{said}");
    }

    // What a program sends that sends every field.
    let fields =
        "id, imei, payload, codec, idempotent, status, created_at, expires_at, requested_by";
    let values = "NULL, '350000000000017', 'getinfo', NULL, NULL, NULL, NULL, NULL, NULL";
    let cid = insert(pool, fields, values).await?;
    ensure!(
        cid.as_bytes()[14] == b'7' && b"89ab".contains(&cid.as_bytes()[19]),
        "{cid}"
    );
    let row = sqlx::query(
        "SELECT status, codec, attempt, expires_at - created_at = '24 hours', \
                           id > command_id() FROM commands WHERE id = $1::uuid",
    );
    let row = row.bind(&cid).fetch_one(pool).await?;
    assert_eq!(row.get::<String, _>(0), "queued");
    assert_eq!((row.get::<i16, _>(1), row.get::<i32, _>(2)), (12, 0));
    assert!(
        row.get::<bool, _>(3) && !row.get::<bool, _>(4),
        "ids grow with time"
    );

    // Forward only.
    let go = |set: &str| format!("UPDATE commands SET {set} WHERE id = '{cid}'");
    let run = async |sql: String| sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await;
    run(go("payload = 'getver'")).await?;
    let said = refusal(pool, &go("payload = ''")).await?;
    ensure!(said.contains("empty"), "{said}");
    let said = refusal(pool, &go("status = 'routed', gateway = 'a'")).await?;
    ensure!(said.contains("attempt 0 after 0"), "{said}");
    run(go("status = 'routed', gateway = 'a', attempt = 1")).await?;
    let said = refusal(pool, &go("payload = 'cpureset'")).await?;
    ensure!(said.contains("cannot be changed"), "{said}");
    let said = refusal(pool, &go("attempt = 7")).await?;
    ensure!(said.contains("counted where it is routed"), "{said}");
    let other = insert(pool, "imei, payload", "350000000000017, 'x'").await?;
    let second = format!(
        "UPDATE commands SET status = 'routed', gateway = 'a', attempt = 1 WHERE id = '{other}'"
    );
    let twice = run(second.clone()).await.unwrap_err();
    ensure!(
        twice.as_database_error().and_then(|e| e.code()).as_deref() == Some("23505"),
        "{twice}"
    );
    run(go("status = 'sent'")).await?;
    let said = refusal(pool, &go("status = 'queued'")).await?;
    ensure!(
        said.contains("cannot be queued again") && said.contains("Insert a new one"),
        "{said}"
    );
    run(go("status = 'unknown'")).await?;
    for back in ["queued", "routed", "sent"] {
        refusal(pool, &go(&format!("status = '{back}'"))).await?;
    }
    run(second).await?;
    run(go("status = 'acked', reply = 'late'")).await?;
    let said = refusal(pool, &go("status = 'timeout'")).await?;
    ensure!(said.contains("only moves forward"), "{said}");
    let said = refusal(pool, &go("status = 'done'")).await?;
    ensure!(said.contains("check constraint"), "{said}");

    // History.
    let history: Vec<String> = sqlx::query_scalar(
        "SELECT status FROM command_events WHERE command_id = $1::uuid ORDER BY id",
    )
    .bind(&cid)
    .fetch_all(pool)
    .await?;
    assert_eq!(history, ["queued", "routed", "sent", "unknown", "acked"]);
    let said = refusal(pool, "UPDATE command_events SET status = 'nacked'").await?;
    ensure!(said.contains("history"), "{said}");

    // What may be repeated, three times.
    let cid = insert(
        pool,
        "imei, payload, idempotent",
        "350000000000025, 'getinfo', true",
    )
    .await?;
    let go = |set: &str| format!("UPDATE commands SET {set} WHERE id = '{cid}'");
    for _ in 0..3 {
        run(go(
            "status = 'routed', gateway = 'a', attempt = attempt + 1",
        ))
        .await?;
        run(go("status = 'sent'")).await?;
        refusal(pool, &go("status = 'queued'")).await?;
        run(go("status = 'queued', resends = resends + 1")).await?;
    }
    run(go(
        "status = 'routed', gateway = 'a', attempt = attempt + 1",
    ))
    .await?;
    run(go("status = 'queued'")).await?;
    run(go(
        "status = 'routed', gateway = 'a', attempt = attempt + 1",
    ))
    .await?;
    run(go("status = 'sent'")).await?;
    let said = refusal(pool, &go("status = 'queued', resends = resends + 1")).await?;
    ensure!(said.contains("cannot be queued again"), "{said}");
    Ok(())
}

struct Office {
    cloud: Cloud,
    pool: PgPool,
    _redis: Redis,
    _dir: tempfile::TempDir,
}

async fn office(url: &str, settings: &[tests::processes::Setting]) -> Result<Office> {
    let redis = Redis::start(RedisOptions::default()).await?;
    let dir = tempfile::tempdir()?;
    let cloud = Cloud::start(dir.path(), Some(dir.path()), &redis, url, settings).await?;
    Ok(Office {
        cloud,
        pool: PgPoolOptions::new().max_connections(1).connect(url).await?,
        _redis: redis,
        _dir: dir,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_keeps_the_rules() -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.create_database().await?;
    let office = office(&url, &[("commands.enabled", false.into())]).await?;
    the_table_keeps_its_rules(&office.pool).await
}

#[tokio::test(flavor = "multi_thread")]
async fn timescaledb_keeps_the_rules_and_its_one_session_serves_the_router() -> Result<()> {
    let Some(timescale) = Timescale::start().await? else {
        return Ok(()); // said aloud by the server's room
    };
    let url = timescale.url();
    let mut office = office(
        &url,
        &[
            ("commands.enabled", false.into()),
            ("database.pool", 1.into()),
        ],
    )
    .await?;
    the_table_keeps_its_rules(&office.pool).await?;
    // With everything running through the one session, a command still comes to its end.
    office.cloud.set(("commands.enabled", true.into()));
    office.cloud.restart().await?;
    let fields = "imei, payload, expires_at";
    let cid = insert(
        &office.pool,
        fields,
        "350000000000033, 'x', now() + interval '1 s'",
    )
    .await?;
    eventually("it expires", async || {
        let status: String = sqlx::query_scalar("SELECT status FROM commands WHERE id = $1::uuid")
            .bind(&cid)
            .fetch_one(&office.pool)
            .await?;
        Ok(status == "expired")
    })
    .await
}

/// What a call that fails printed.
async fn fails(cloud: &Cloud, words: &[&str], code: u8) -> Result<String> {
    let said = cloud.call(words).await.err().context("it should fail")?;
    let said = said.to_string();
    ensure!(said.contains(&format!("exit status: {code}")), "{said}");
    Ok(said)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_gives_follows_and_takes_back_commands() -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.create_database().await?;
    let office = office(&url, &[("commands.enabled", false.into())]).await?;
    let (cloud, pool) = (&office.cloud, &office.pool);
    let device = "INSERT INTO devices (imei, first_seen, last_seen) VALUES ($1, now(), now())";
    sqlx::query(device).bind(IMEI).execute(pool).await?;
    let imei = Imei::from_u64(IMEI as u64).unwrap().to_string();

    let said = fails(cloud, &["cmd", "send", "350000000000071", "getinfo"], 2).await?;
    for part in [
        "no tracker 350000000000071",
        "why",
        "did you mean 350000000000017?",
        "--new-device",
    ] {
        ensure!(said.contains(part), "{said}");
    }
    let said = fails(cloud, &["cmd", "send", "35000000000017", "getinfo"], 2).await?;
    ensure!(
        said.contains("this has 14") && said.contains("did you mean 350000000000017?"),
        "{said}"
    );
    let said = fails(cloud, &["cmd", "send", &imei, "x", "--expires", "soon"], 2).await?;
    ensure!(said.contains("--expires"), "{said}");
    fails(cloud, &["cmd", "send", &imei, "x", "--codec", "13"], 2).await?;
    let said = fails(cloud, &["cmd", "send", &imei, " "], 1).await?;
    ensure!(said.contains("the payload is empty"), "{said}");

    let words = [
        "cmd",
        "send",
        &imei,
        "getinfo",
        "--codec",
        "14",
        "--expires",
        "1h",
        "--idempotent",
    ];
    let cid = cloud.call(&words).await?.trim().to_owned();
    let new = cloud
        .call(&[
            "cmd",
            "send",
            "867648042441555",
            "x",
            "--new-device",
            "--json",
        ])
        .await?;
    let new: Value = serde_json::from_str(&new)?;
    assert_eq!(
        (&new["status"], &new["imei"]),
        (&"queued".into(), &"867648042441555".into())
    );
    let listed = cloud
        .call(&["cmd", "ls", "--imei", &imei, "--status", "queued", "--json"])
        .await?;
    let listed: Value = serde_json::from_str(&listed)?;
    for (name, value) in [
        ("id", Value::from(&*cid)),
        ("codec", 14.into()),
        ("idempotent", true.into()),
        ("imei", imei.as_str().into()),
    ] {
        assert_eq!(listed[name], value, "{name}");
    }
    fails(cloud, &["cmd", "ls", "--status", "done"], 2).await?;

    assert_eq!(
        cloud.call(&["cmd", "cancel", &cid]).await?,
        format!("cancelled {cid}\n")
    );
    let shown = cloud.call(&["cmd", "show", &cid]).await?;
    for part in [
        "tracker  350000000000017",
        "getinfo (Codec 14, may be repeated)",
        "nacked    (cancelled)",
    ] {
        ensure!(shown.contains(part), "{shown}");
    }
    let said = fails(cloud, &["cmd", "cancel", &cid], 1).await?;
    ensure!(
        said.contains("it is nacked") && said.contains("it is over"),
        "{said}"
    );
    let said = fails(cloud, &["cmd", "show", "01936f4e"], 1).await?;
    ensure!(said.contains("there is no command 01936f4e"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_ends_with_the_outcome() -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.create_database().await?;
    let office = office(&url, &[("commands.enabled", false.into())]).await?;
    let (cloud, pool) = (&office.cloud, &office.pool);
    // The gateway's part is played in SQL.
    let play = async |end: &str| -> Result<()> {
        let waiting = "SELECT id::text FROM commands WHERE status = 'queued'";
        let mut cid = None;
        eventually("the command is there", async || {
            cid = sqlx::query_scalar::<_, String>(waiting)
                .fetch_optional(pool)
                .await?;
            Ok(cid.is_some())
        })
        .await?;
        let cid = cid.context("just seen")?;
        for set in [
            "status = 'routed', gateway = 'gw-a', attempt = 1",
            "status = 'sent'",
            end,
        ] {
            let sql = format!("UPDATE commands SET {set} WHERE id = '{cid}'");
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await?;
        }
        Ok(())
    };
    let words = [
        "cmd",
        "send",
        "350000000000017",
        "getinfo",
        "--new-device",
        "--wait",
    ];
    let (said, played) = tokio::join!(
        cloud.call(&words),
        play("status = 'acked', reply = 'RTC:2026'")
    );
    played?;
    let said = said?;
    let steps: Vec<&str> = said
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    assert_eq!(steps, ["queued", "routed", "sent", "acked"], "{said}");
    ensure!(said.trim_end().ends_with("RTC:2026"), "{said}");
    let (said, played) = tokio::join!(fails(cloud, &words, 1), play("status = 'timeout'"));
    played?;
    ensure!(said?.contains("timeout"));
    Ok(())
}
