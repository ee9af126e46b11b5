//! The schema's way back: up, down and up again is the same schema, nothing goes unasked, and a plan
//! names the locks that the server then takes.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cloud::store::{locks, migrate};
use sqlx::{Connection as _, PgConnection};
use tests::batches::{Sent, SpoolOf, database, migrated};
use tests::servers::{Postgres, Timescale};
use tests::tables::Tables;

use super::program::Office;

const IMEI: u64 = 356_307_042_441_013;

/// Everything in the schema that a person could have typed: columns, defaults, constraints, indexes,
/// triggers, views, functions, comments. Chunks and what TimescaleDB keeps for itself are elsewhere.
const CATALOG: &str = "
SELECT 'column ' || c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
       || ' null ' || (NOT a.attnotnull) || ' identity ' || a.attidentity::text || ' default '
       || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
       || ' # ' || row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum) AS line
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
  AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL SELECT 'relation ' || relname || ' ' || relkind::text || ' ' || coalesce(reloptions::text, '')
FROM pg_class WHERE relnamespace = 'public'::regnamespace
UNION ALL SELECT 'constraint ' || conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conrelid <> 0
UNION ALL SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT 'trigger ' || pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relnamespace = 'public'::regnamespace AND NOT t.tgisinternal AND t.tgname !~ '^ts_'
UNION ALL SELECT 'view ' || viewname || ' ' || definition FROM pg_views WHERE schemaname = 'public'
  AND viewname NOT IN ('positions_hourly', 'device_daily')
UNION ALL SELECT 'function ' || pg_get_functiondef(p.oid) FROM pg_proc p
WHERE p.pronamespace = 'public'::regnamespace AND p.prokind = 'f'
  AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.objid = p.oid AND e.deptype = 'e')
UNION ALL SELECT 'comment ' || coalesce(c.relname, p.proname, '') || ' ' || coalesce(a.attname, '') || ' ' || d.description
FROM pg_description d
LEFT JOIN pg_class c ON d.classoid = 'pg_class'::regclass AND c.oid = d.objoid
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.objsubid AND d.objsubid > 0
LEFT JOIN pg_proc p ON d.classoid = 'pg_proc'::regclass AND p.oid = d.objoid
WHERE coalesce(c.relnamespace, p.pronamespace) = 'public'::regnamespace
  AND (p.oid IS NULL OR NOT EXISTS (SELECT FROM pg_depend e WHERE e.objid = p.oid AND e.deptype = 'e'))
ORDER BY 1";

async fn catalog(tables: &Tables) -> Result<BTreeSet<String>> {
    let lines: Vec<(String,)> = tables.all(CATALOG).await?;
    Ok(lines.into_iter().map(|(line,)| line).collect())
}

fn office(url: &str) -> Result<Office> {
    Office::new(&format!("[database]\nurl = \"{url}\"\npool = 1"))
}

/// A record, a command and an override: something in every migration that people would miss.
async fn fill(url: &str) -> Result<()> {
    let now_ms = u64::try_from(chrono::Utc::now().timestamp_millis())?;
    let sent = Sent::record(IMEI, now_ms - 60_000, now_ms, &[])?;
    let mut writer = cloud::store::Writer::new(migrated(url).await?, true);
    writer
        .write(&SpoolOf::new("depot", 1)?.batch(&[sent])?, 1)
        .await?;
    let tables = Tables::connect(url).await?;
    tables
        .run("INSERT INTO commands (imei, payload) VALUES (356307042441013, 'getinfo')")
        .await?;
    tables
        .run("INSERT INTO io_dictionary_overrides (io_id, name) VALUES (1, 'door')")
        .await?;
    tables.run("UPDATE devices SET family = 'fmx6'").await
}

/// How many migrations there are.
fn count() -> usize {
    cloud::store::migrate::count()
}

async fn up_down_and_up_again_is_the_same(url: &str) -> Result<()> {
    let office = office(url)?;
    let tables = Tables::connect(url).await?;
    let empty = catalog(&tables).await?;
    office.run(&["migrate", "up"])?.ok()?;
    let all = count();
    let mut stations = vec![catalog(&tables).await?];
    // One by one, and from every station all the way up again.
    for taken in 1..=all {
        let down = office.run(&["migrate", "down", "1", "--json"])?.ok()?;
        let down = down.json()?;
        assert_eq!(down[0]["version"], (all - taken + 1) as u64, "{down:?}");
        let now = catalog(&tables).await?;
        assert!(!stations.contains(&now), "down {taken} changes something");
        stations.push(now);
    }
    let left: BTreeSet<_> = stations[all].difference(&empty).cloned().collect();
    ensure!(
        left.iter().all(|line| line.contains("_sqlx_migrations")),
        "left behind: {left:#?}"
    );
    office.run(&["migrate", "status"])?.with(1)?;
    for taken in (1..=all).rev() {
        office.run(&["migrate", "up"])?.ok()?;
        let now = catalog(&tables).await?;
        let gone: Vec<_> = stations[0].difference(&now).collect();
        let new: Vec<_> = now.difference(&stations[0]).collect();
        ensure!(
            gone.is_empty() && new.is_empty(),
            "after {taken}: gone {gone:#?} new {new:#?}"
        );
        let steps = (taken - 1).to_string();
        if taken > 1 {
            office.run(&["migrate", "down", &steps])?.ok()?;
            ensure!(
                catalog(&tables).await? == stations[taken - 1],
                "down {steps} at once"
            );
        }
    }
    Ok(())
}

async fn nothing_goes_unasked(url: &str) -> Result<()> {
    let office = office(url)?;
    fill(url).await?;
    let tables = Tables::connect(url).await?;
    let before = catalog(&tables).await?;
    let all = count().to_string();
    let shy = office.run(&["migrate", "down", &all])?.with(4)?;
    for words in [
        "positions 1 row",
        "commands 1 row",
        "io_dictionary_overrides 1 row",
        "--yes",
    ] {
        assert!(shy.err.contains(words), "{words}: {}", shy.err);
    }
    let dry = office
        .run(&["migrate", "down", &all, "--dry-run", "--json"])?
        .ok()?
        .json()?;
    assert_eq!(dry.len(), count());
    let of = |version: u64| {
        dry.iter()
            .find(|line| line["version"] == version)
            .map(|line| line["loses"].clone())
    };
    let lost = of(2).context("the dictionary")?;
    assert_eq!(
        lost,
        serde_json::json!([{"what": "io_dictionary_overrides", "rows": 1}, {"what": "devices.family", "rows": 1}])
    );
    let text = office
        .run(&["migrate", "down", "1", "--dry-run"])?
        .ok()?
        .out;
    assert!(text.contains("DROP TABLE") || count() != 4, "{text}");
    ensure!(catalog(&tables).await? == before, "a look changes nothing");
    tables.wait_for("SELECT count(*) FROM positions", 1).await?;
    office.run(&["migrate", "down", "99"])?.with(2)?;
    office.run(&["migrate", "down", "0"])?.with(2)?;
    let done = office
        .run(&["migrate", "downgrade", &all, "--yes"])?
        .ok()?
        .out;
    assert!(done.contains("deleted 1 of positions"), "{done}");
    assert_eq!(
        tables
            .rows("SELECT FROM pg_tables WHERE tablename = 'positions'")
            .await?,
        0
    );
    // The names that others are used to.
    office.run(&["migrate", "check"])?.with(1)?;
    office.run(&["migrate", "upgrade", "head"])?.ok()?;
    assert_eq!(
        office
            .run(&["migrate", "history", "--json"])?
            .ok()?
            .json()?
            .len(),
        count()
    );
    Ok(())
}

#[tokio::test]
async fn up_down_and_up_again_is_the_same_schema() -> Result<()> {
    let postgres = Postgres::start().await?;
    up_down_and_up_again_is_the_same(&postgres.create_database().await?).await
}

#[tokio::test]
async fn down_deletes_nothing_unasked_and_tells_what_it_would() -> Result<()> {
    let postgres = Postgres::start().await?;
    nothing_goes_unasked(&postgres.create_database().await?).await
}

#[tokio::test]
async fn the_way_back_on_timescale() -> Result<()> {
    let Some(timescale) = Timescale::start().await? else {
        return Ok(());
    };
    up_down_and_up_again_is_the_same(&timescale.url()).await?;
    let office = office(&timescale.url())?;
    office
        .run(&["migrate", "down", &count().to_string(), "--yes"])?
        .ok()?;
    nothing_goes_unasked(&timescale.url()).await
}

/// Tables of before there were kinds, with a chunk of each that is compressed: what a site has that
/// brings its program up to date.
#[tokio::test]
async fn kinds_come_to_compressed_chunks() -> Result<()> {
    let Some(timescale) = Timescale::start().await? else {
        return Ok(());
    };
    let url = timescale.url();
    let office = Office::new(&format!(
        "[database]\nurl = \"{url}\"\npool = 1\n[store]\ncompress_after = \"off\""
    ))?;
    office.run(&["migrate", "up"])?.ok()?;
    let newer = (u64::try_from(count())? - 4).to_string();
    office.run(&["migrate", "down", &newer, "--yes"])?.ok()?;
    let tables = Tables::connect(&url).await?;
    for table in ["positions", "positions_quarantine", "device_latest"] {
        for column in ["altitude_m", "heading_deg", "speed_kmh", "satellites"] {
            let strict = format!("ALTER TABLE {table} ALTER COLUMN {column} SET NOT NULL");
            tables.run(&strict).await?;
        }
    }
    tables
        .run(
            "ALTER TABLE positions ALTER COLUMN priority SET NOT NULL; \
             ALTER TABLE positions SET (timescaledb.compress, \
                 timescaledb.compress_segmentby = 'device_id', \
                 timescaledb.compress_orderby = 'fix_time DESC, record_hash'); \
             ALTER TABLE frames SET (timescaledb.compress, \
                 timescaledb.compress_segmentby = 'device_id', \
                 timescaledb.compress_orderby = 'received_at DESC, seq'); \
             INSERT INTO positions (device_id, fix_time, record_hash, received_at, latitude, \
                 longitude, heading_deg, speed_kmh, event_io_id, altitude_m, satellites, priority, valid) \
             SELECT 1, now() - n * interval '1 s', n, now(), 1, 2, 3, 4, 5, 6, 7, 1, true \
             FROM generate_series(1, 50) AS n; \
             INSERT INTO frames VALUES (now(), 1, 1, 1, 1, 0, 2, 'depot', '\\x08')",
        )
        .await?;
    for table in ["positions", "frames"] {
        tables
            .run(&format!(
                "SELECT compress_chunk(c) FROM show_chunks('{table}') AS c"
            ))
            .await?;
    }
    office.run(&["migrate", "up"])?.ok()?;
    tables
        .run(
            "INSERT INTO positions (device_id, fix_time, record_hash, received_at, latitude, \
                 longitude, event_io_id, valid) VALUES (1, now() - interval '20 s', 99, now(), 1, 2, 0, true); \
             INSERT INTO frames VALUES (now(), 1, 2, 1, 1, 3, 2, 'depot', '\\x92', 1)",
        )
        .await?;
    let rows: (i64, i64) = tables
        .one("SELECT count(*), count(altitude_m) FROM positions")
        .await?;
    assert_eq!(rows, (51, 50));
    let kinds: Vec<(Option<i16>,)> = tables.all("SELECT kind FROM frames ORDER BY seq").await?;
    assert_eq!(kinds, [(None,), (Some(1),)]);
    office.run(&["migrate", "down", &newer])?.with(4)?;
    Ok(())
}

#[tokio::test]
async fn a_table_that_is_in_use_is_not_waited_for_for_ever() -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.create_database().await?;
    let office = office(&url)?;
    office.run(&["migrate", "up"])?.ok()?;
    let before = catalog(&Tables::connect(&url).await?).await?;
    let mut reader = PgConnection::connect(&url).await?;
    let mut reading = reader.begin().await?;
    sqlx::query("SELECT FROM commands")
        .execute(&mut *reading)
        .await?;
    let started = std::time::Instant::now();
    let shy = office.run(&["migrate", "down", "4"])?.with(1)?;
    assert!(shy.err.contains("in use"), "{}", shy.err);
    assert!(started.elapsed() < Duration::from_secs(60));
    reading.rollback().await?;
    reader.close().await?;
    ensure!(catalog(&Tables::connect(&url).await?).await? == before);
    Ok(())
}

/// The strong locks on tables that were there before, as the server took them.
async fn taken(on: &mut PgConnection, sql: &str) -> Result<BTreeSet<(String, String)>> {
    let old: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')",
    )
    .fetch_all(&mut *on)
    .await?;
    let mut on = on.begin().await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))
        .execute(&mut *on)
        .await?;
    let held: Vec<(String, String)> = sqlx::query_as(
        "SELECT c.relname::text, l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation \
         WHERE l.pid = pg_backend_pid() AND c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') \
           AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')",
    )
    .fetch_all(&mut *on)
    .await?;
    on.commit().await?;
    Ok(held
        .into_iter()
        .filter(|(table, _)| old.contains(table))
        .collect())
}

#[tokio::test]
async fn the_plan_names_every_lock_that_the_server_takes() -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.create_database().await?;
    let planned = office(&url)?
        .run(&["migrate", "plan", "--json"])?
        .ok()?
        .json()?;
    assert_eq!(planned.len(), count());
    assert_eq!(
        planned[1]["locks"][0]["table"], "devices",
        "{}",
        planned[1]["locks"]
    );
    let text = office(&url)?.run(&["migrate", "plan"])?.ok()?.out;
    assert!(
        text.contains("--   locks  devices: ACCESS EXCLUSIVE (readers and writers wait)"),
        "{text}"
    );

    let mut on = PgConnection::connect(&url).await?;
    let database = database(&url)?;
    let steps = migrate::status(&database, &mut on).await?;
    let mut extra = vec![
        "CREATE INDEX ON positions (stored_at)".to_owned(),
        "ALTER TABLE frames ALTER record_count TYPE bigint".to_owned(),
        "DO $$ BEGIN IF true THEN ALTER TABLE messages ADD COLUMN x integer; END IF; END $$".to_owned(),
        "CREATE TABLE child (id integer REFERENCES devices); CREATE INDEX ON child (id)".to_owned(),
        "UPDATE spools SET low = 1; DELETE FROM settled; TRUNCATE dead_letters".to_owned(),
        "CREATE TRIGGER t BEFORE UPDATE ON device_latest FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()".to_owned(),
        "DROP VIEW ledger; DROP TABLE settled".to_owned(),
    ];
    let mut all: Vec<String> = steps.into_iter().map(|step| step.sql).collect();
    all.append(&mut extra);
    for sql in all {
        let told: BTreeSet<String> = locks::of(&sql).into_iter().map(|lock| lock.table).collect();
        let strongest: BTreeSet<(String, String)> = taken(&mut on, &sql).await?;
        let really: BTreeSet<String> = strongest.iter().map(|(table, _)| table.clone()).collect();
        let shown = sql.lines().next().unwrap_or_default().to_owned();
        // A table that is gone shows no lock, and a view is no table.
        let told: BTreeSet<String> = match sql.contains("DROP ") && really.len() < told.len() {
            true => told.intersection(&really).cloned().collect(),
            false => told,
        };
        assert_eq!(told, really, "{shown}");
        for lock in locks::of(&sql) {
            let name = lock.mode.as_str().replace(' ', "").to_lowercase() + "lock";
            let modes = strongest.iter().filter(|(table, _)| *table == lock.table);
            let modes: Vec<String> = modes.map(|(_, mode)| mode.to_lowercase()).collect();
            assert!(
                modes.is_empty() || modes.contains(&name),
                "{shown}: {} {modes:?} {name}",
                lock.table
            );
        }
    }
    on.close().await?;
    Ok(())
}
