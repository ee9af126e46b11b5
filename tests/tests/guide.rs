//! `docs/guide-first-tracker.md`, typed as it stands: every command, in order, in one shell.
//!
//! Only places are exchanged for private ones: the servers' addresses and the ports. Everything
//! else is what a reader would type.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tests::processes::program_path;
use tests::servers::{Port, Postgres, postgres_bin, redis_server};
use tests::tables::Tables;

const IMEI: u64 = 356_307_042_441_013;

/// Longer than any step may take; the steps themselves wait for what they need.
const DEADLINE: Duration = Duration::from_secs(120);

/// The commands of the page, block by block.
fn commands() -> Result<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide-first-tracker.md");
    let page = std::fs::read_to_string(path)?;
    let mut blocks = Vec::new();
    for (index, part) in page.split("```").enumerate() {
        if index % 2 == 1 {
            let block = part
                .strip_prefix("sh\n")
                .context("a block that is not sh")?;
            blocks.push(block.to_owned());
        }
    }
    Ok(blocks)
}

struct PlainRedis(Child);

impl Drop for PlainRedis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn plain_redis(port: &Port, dir: &Path) -> Result<PlainRedis> {
    let binary = redis_server()?;
    let mut command = Command::new(&binary.path);
    if let Some(path) = &binary.library_path {
        command.env("LD_LIBRARY_PATH", path);
    }
    let number = port.number().to_string();
    let words = [
        "--port",
        &number,
        "--bind",
        "127.0.0.1",
        "--appendonly",
        "yes",
    ];
    let child = command
        .args(words)
        .current_dir(dir)
        .stdout(Stdio::null())
        .spawn()?;
    let server = PlainRedis(child);
    let client = redis::Client::open(format!("redis://127.0.0.1:{number}/"))?;
    let deadline = Instant::now() + DEADLINE;
    while client.get_multiplexed_async_connection().await.is_err() {
        ensure!(Instant::now() < deadline, "Redis does not come up");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(server)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guide_leads_from_a_tracker_to_a_stored_record() -> Result<()> {
    let dir = tempfile::Builder::new()
        .prefix("milepost-guide-")
        .tempdir()?;
    let ports = [Port::free()?, Port::free()?, Port::free()?, Port::free()?];
    let [redis_port, tcp, pages, cloud_pages] =
        ports.each_ref().map(|port| port.number().to_string());
    let _redis = plain_redis(&ports[0], dir.path()).await?;
    let postgres = Postgres::start().await?;
    let database = postgres.create_database().await?;

    let mut blocks = commands()?;
    ensure!(blocks.len() >= 8, "only {} blocks", blocks.len());
    for (theirs, ours) in [
        (
            "postgres://milepost:milepost@127.0.0.1:5432/milepost",
            database.as_str(),
        ),
        ("127.0.0.1:6379", &format!("127.0.0.1:{redis_port}")),
        ("0.0.0.0:5027", &format!("127.0.0.1:{tcp}")),
        (
            "/dev/tcp/127.0.0.1/5027",
            &format!("/dev/tcp/127.0.0.1/{tcp}"),
        ),
        ("127.0.0.1:8080", &format!("127.0.0.1:{pages}")),
        ("127.0.0.1:8081", &format!("127.0.0.1:{cloud_pages}")),
    ] {
        ensure!(
            blocks.iter().any(|block| block.contains(theirs)),
            "{theirs} is not in the guide"
        );
        for block in &mut blocks {
            *block = block.replace(theirs, ours);
        }
    }
    let programs = program_path("gateway")?;
    let programs = programs.parent().unwrap().to_str().unwrap();
    let mut path = format!("{programs}:{}", std::env::var("PATH")?);
    if let Some(servers) = postgres_bin()?.path.parent() {
        path.push_str(&format!(":{}", servers.display()));
    }
    let has_psql = path
        .split(':')
        .any(|dir| Path::new(dir).join("psql").exists());
    let mut script = "set -eux\n".to_owned();
    for block in &blocks {
        // The row is looked at below in any case.
        if has_psql || !block.starts_with("psql") {
            script.push_str(block);
        }
        if block.starts_with("until gateway spool stat")
            || block.starts_with("until gateway status |")
        {
            script.push_str("echo THE-RECORD-IS-STORED\n");
        }
    }
    let log = dir.path().join("log");
    let file = std::fs::File::create(&log)?;
    let mut shell = Command::new("timeout")
        // The group goes as a whole, also what the script put into the background.
        .args(["--kill-after=20", &DEADLINE.as_secs().to_string()])
        .args(["bash", "-c", &script])
        .env_clear()
        .env("PATH", path)
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()?;
    let status = tokio::task::spawn_blocking(move || shell.wait()).await??;
    let said = std::fs::read_to_string(&log)?;
    let logs = ["gateway.log", "cloud.log"]
        .map(|name| std::fs::read_to_string(dir.path().join(name)).unwrap_or_default());
    ensure!(
        status.success(),
        "{status}\n{said}\n{}\n{}",
        logs[0],
        logs[1]
    );

    for words in [
        "\n 01\n",
        "\n 00 00 00 01\n",
        "THE-RECORD-IS-STORED",
        "first-box",
    ] {
        ensure!(said.contains(words), "{words:?} is missing:\n{said}");
    }
    if has_psql {
        ensure!(said.contains("356307042441013 | 2019-06-10"), "{said}");
    }
    let tables = Tables::connect(&database).await?;
    let row: (i64, i64, Option<i32>) = tables
        .one("SELECT imei, extract(epoch FROM fix_time)::bigint, external_voltage_mv FROM positions JOIN devices ON id = device_id")
        .await?;
    assert_eq!(row, (IMEI as i64, 1_560_161_086, Some(24_079)));
    for words in ["gateway started", "gateway stopped"] {
        ensure!(
            logs[0].contains(words),
            "{words:?} is missing:\n{}",
            logs[0]
        );
    }
    Ok(())
}
