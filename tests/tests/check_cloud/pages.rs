//! What a running processor says: `cloud status`, the pages under their founding names, the log.

use std::io::{Read as _, Write as _};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use codec::AvlCodec;
use codec::encode::{self, RecordSpec};
use serde_json::Value;
use tests::fleet::Tracker;
use tests::processes::{Road, RoadOptions, get, program_path};
use tests::tables::{DEADLINE, Tables, eventually};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, BufReader, Lines};
use tokio::time::timeout;

/// From the protocol documents.
const IMEI: u64 = 356_307_042_441_013;

async fn page(road: &Road, path: &str) -> Result<Value> {
    let (code, body) = get(road.cloud.http_addr(), path).await?;
    ensure!(code == 200, "{path}: {code} {body}");
    Ok(serde_json::from_str(&body)?)
}

/// A frame with one record of each of these device times.
fn frame(times_ms: &[u64]) -> Result<Vec<u8>> {
    let record = |timestamp_ms: &u64| RecordSpec {
        timestamp_ms: *timestamp_ms,
        satellites: 7,
        ..RecordSpec::default()
    };
    let records: Vec<_> = times_ms.iter().map(record).collect();
    let mut data = Vec::new();
    encode::avl_data(AvlCodec::Codec8, &records, &mut data)?;
    Ok(data)
}

fn now_ms() -> Result<u64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(u64::try_from(since.as_millis())?)
}

async fn tracker(road: &Road) -> Result<Tracker> {
    let mut tracker = Tracker::connect(road.gateway.tcp_addr(), IMEI).await?;
    ensure!(tracker.login().await?, "the login is accepted");
    Ok(tracker)
}

/// The value of an unlabelled metric, or of one with these labels.
fn metric(text: &str, name: &str) -> Option<f64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line?.trim().parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn health_queue_ready_metrics_and_log_have_their_founding_shapes() -> Result<()> {
    let mut road = Road::start(RoadOptions::default()).await?;
    let tables = Tables::connect(road.database_url()).await?;
    let now = now_ms()?;
    tracker(&road)
        .await?
        .send_frame(&frame(&[now, now - 3_700_000])?)
        .await?;
    tables.wait_for("SELECT count(*) FROM positions", 2).await?;
    // What nobody can read.
    let client = road.redis_access().client(tests::servers::ADMIN)?;
    let mut admin = client.get_multiplexed_async_connection().await?;
    let _: String = redis::cmd("XADD")
        .arg(&["telemetry:teltonika", "*", "v", "1", "what", "is this"])
        .query_async(&mut admin)
        .await?;
    tables
        .wait_for("SELECT count(*) FROM dead_letters", 1)
        .await?;
    eventually("everything is acknowledged", async || {
        Ok(page(&road, "/queue/status").await?["total_pending"] == 0
            && page(&road, "/health").await?["stats"]["messages_written"] == 2)
    })
    .await?;

    let health = page(&road, "/health").await?;
    ensure!(health["running"] == true, "{health}");
    ensure!(
        health["redis"] == "connected" && health["database"] == "connected",
        "{health}"
    );
    let stats = &health["stats"];
    ensure!(
        stats["messages_read"] == 2 && stats["messages_written"] == 2,
        "{health}"
    );
    ensure!(stats["messages_failed"] == 1, "{health}");
    ensure!(
        stats["batches_processed"].as_u64() > Some(0) && stats["errors"].is_u64(),
        "{health}"
    );

    let queue = page(&road, "/queue/status").await?;
    let ours = &queue["queues"]["telemetry:teltonika"];
    ensure!(
        ours["pending"] == 0 && ours["unread"] == 0 && ours["unacknowledged"] == 0,
        "{queue}"
    );
    let done = &queue["processor_stats"];
    ensure!(done["processed"] == 2 && done["failed"] == 1, "{queue}");

    ensure!(page(&road, "/ready").await?["ready"] == true, "it is ready");

    let (_, text) = get(road.cloud.http_addr(), "/metrics").await?;
    for (name, wanted) in [
        ("milepost_cloud_messages_read_total", 2.0),
        ("milepost_cloud_messages_written_total", 2.0),
        ("milepost_cloud_messages_failed_total", 1.0),
        ("milepost_cloud_records_late_total", 1.0),
        ("milepost_cloud_rows_decoded_total", 3.0),
        ("milepost_cloud_rows_committed_total", 3.0),
        ("milepost_cloud_decode_failed_total", 1.0),
        ("milepost_cloud_decode_seconds_count", 2.0),
        ("redis_stream_lag{stream=\"telemetry:teltonika\"}", 0.0),
        (
            "redis_stream_oldest_unacked_age_seconds{stream=\"telemetry:teltonika\"}",
            0.0,
        ),
    ] {
        ensure!(
            metric(&text, name) == Some(wanted),
            "{name} {wanted}\n{text}"
        );
    }
    let errors = metric(&text, "milepost_cloud_errors_total");
    ensure!(
        errors.is_some() && metric(&text, "milepost_cloud_batches_processed_total") > Some(0.0)
    );
    let lag = metric(&text, "end_to_end_lag_seconds").context("end_to_end_lag_seconds")?;
    ensure!((0.0..60.0).contains(&lag), "{lag}");
    ensure!(
        metric(&text, "milepost_cloud_store_seconds_count") > Some(0.0),
        "{text}"
    );

    let log = std::fs::read_to_string(road.cloud.log())?;
    let batch = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|line| line["message"] == "Processed batch" && line["rows_written"] == 2)
        .context("the log tells of the batch")?;
    ensure!(batch["messages_acknowledged"] == 1, "{batch}");
    ensure!(
        batch["timestamp"].is_string() && batch["level"] == "INFO",
        "{batch}"
    );

    road.redis.as_mut().context("a Redis of our own")?.kill9()?;
    eventually("the loss of Redis is told", async || {
        let health = page(&road, "/health").await?;
        let (ready, _) = get(road.cloud.http_addr(), "/ready").await?;
        Ok(health["redis"] == "disconnected" && health["running"] == true && ready == 503)
    })
    .await
}

/// Nobody writes: only the cloud's own look at the database can tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_gone_is_told_although_nothing_comes() -> Result<()> {
    let mut road = Road::start(RoadOptions::default()).await?;
    let http = road.cloud.http_addr();
    let ready = async |wanted: u16| {
        eventually(&format!("/ready answers {wanted}"), async || {
            Ok(get(http, "/ready").await?.0 == wanted)
        })
        .await
    };
    ready(200).await?;
    let postgres = road.postgres.as_mut().context("a PostgreSQL of our own")?;
    postgres.stop().await?;
    ready(503).await?;
    postgres.restart().await?;
    ready(200).await
}

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_every_stage_while_records_flow_and_check_finds_nothing_failed() -> Result<()>
{
    let mut road = Road::start(RoadOptions::default()).await?;
    let tables = Tables::connect(road.database_url()).await?;
    let mut tracker = tracker(&road).await?;
    let begin = now_ms()?;
    let sending = tokio::spawn(async move {
        let deadline = Instant::now() + Duration::from_secs(300);
        for number in 0.. {
            let sent = tracker.send_frame(&frame(&[begin + number * 10])?).await;
            if sent.is_err() || Instant::now() > deadline {
                break;
            }
        }
        anyhow::Ok(())
    });
    eventually("the first rows", async || {
        Ok(tables.rows("SELECT 1 FROM positions LIMIT 1").await? == 1)
    })
    .await?;
    eventually("every stage moves", async || {
        let told = road.cloud.call(&["--json", "status"]).await?;
        let told: Value = serde_json::from_str(told.trim())?;
        let stages = told["stages"].as_array().context("stages")?;
        let names: Vec<&str> = stages
            .iter()
            .filter_map(|it| it["stage"].as_str())
            .collect();
        ensure!(names == ["read", "decode", "store"], "{told}");
        Ok(stages.iter().all(|it| {
            it["in_per_s"].as_f64() > Some(0.0)
                && it["out_per_s"].as_f64() > Some(0.0)
                && it["queue"].is_u64()
                && it["errors"].is_u64()
                && it["p99_ms"].as_f64() > Some(0.0)
        }) && told["backlog"].is_u64()
            && told["dead_letters"] == 0
            && told["writers"] == 2
            && told["trouble"].is_null())
    })
    .await?;
    let text = road.cloud.call(&["status"]).await?;
    for words in [
        "stage",
        "in/s",
        "out/s",
        "queue",
        "oldest",
        "err",
        "p99",
        "read",
        "decode",
        "store",
        "backlog",
        "dead letters 0",
        "duplicates",
        "late >1 h",
        "writers 2",
    ] {
        ensure!(text.contains(words), "{words}\n{text}");
    }
    // `call` wants exit code 0.
    let told = road.cloud.call(&["--json", "check"]).await?;
    ensure!(!told.contains("\"failed\""), "{told}");
    ensure!(told.contains("group processor: lag"), "{told}");
    ensure!(told.contains("trackers connected to 1 gateways"), "{told}");

    // With --watch it goes on over a restart of the processor.
    let mut watch = tokio::process::Command::new(program_path("cloud")?)
        .args(["status", "--watch", "--json", "--config"])
        .arg(road.dir().join("cloud.toml"))
        .env_clear()
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut out = BufReader::new(watch.stdout.take().context("piped")?).lines();
    let mut err = BufReader::new(watch.stderr.take().context("piped")?).lines();
    said(&mut out, "\"stages\"").await?;
    road.cloud.kill9()?;
    let refused = road
        .cloud
        .call(&["status"])
        .await
        .map(drop)
        .unwrap_err()
        .to_string();
    ensure!(
        refused.contains("E-RUN-001") && refused.contains("exit status: 3"),
        "{refused}"
    );
    said(&mut err, "E-RUN-001").await?;
    road.cloud.restart().await?;
    // One may have been on its way when the processor died, two cannot.
    said(&mut out, "\"stages\"").await?;
    said(&mut out, "\"stages\"").await?;
    watch.kill().await?;
    sending.abort();
    Ok(())
}

/// The next line, which has these words.
async fn said<R: AsyncBufRead + Unpin>(lines: &mut Lines<R>, words: &str) -> Result<()> {
    let line = timeout(DEADLINE, lines.next_line()).await;
    let line = line.with_context(|| format!("no line with {words}"))??;
    let line = line.context("it has ended")?;
    ensure!(line.contains(words), "{words} expected: {line}");
    Ok(())
}

/// Exit code and what was said on both ways.
fn cloud(words: &[&str], env: &[(&str, &str)]) -> Result<(i32, String)> {
    let output = Command::new(program_path("cloud")?)
        .args(words)
        .env_clear()
        .envs(env.iter().copied())
        .output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.code().unwrap_or(-1), String::from_utf8(said)?))
}

#[test]
fn status_says_why_it_cannot_ask() -> Result<()> {
    let closed = tests::servers::Port::free()?;
    let closed = format!("127.0.0.1:{}", closed.number());
    let (exit, said) = cloud(&["status"], &[("CLOUD__HTTP__LISTEN", &closed)])?;
    ensure!(
        exit == 3 && said.contains("E-RUN-001") && said.contains(&closed),
        "{exit} {said}"
    );
    let (exit, said) = cloud(&["status"], &[("CLOUD__HTTP__LISTEN", "")])?;
    ensure!(exit == 2 && said.contains("E-RUN-002"), "{exit} {said}");
    let stranger = std::net::TcpListener::bind("127.0.0.1:0")?;
    let at = stranger.local_addr()?.to_string();
    std::thread::spawn(move || {
        for mut tcp in stranger.incoming().flatten() {
            let _ = tcp.read(&mut [0; 512]);
            let _ = tcp.write_all(b"HTTP/1.0 200 OK\r\n\r\n{\"gateway\": \"gw-1\"}");
        }
    });
    let (exit, said) = cloud(&["status"], &[("CLOUD__HTTP__LISTEN", &at)])?;
    ensure!(
        exit == 3 && said.contains("E-RUN-003") && said.contains("200 OK"),
        "{exit} {said}"
    );
    Ok(())
}

#[test]
fn explain_works_without_network_and_settings() -> Result<()> {
    let broken = [("CLOUD_CONFIG", "/nowhere/cloud.toml")];
    let (exit, said) = cloud(&["explain", "e-rds-15"], &broken)?;
    ensure!(
        exit == 0 && said.contains("E-RDS-015") && said.contains("noeviction"),
        "{exit} {said}"
    );
    ensure!(said.contains("exit with 4"), "{said}");
    let (exit, said) = cloud(&["explain"], &broken)?;
    ensure!(exit == 0 && said.lines().count() > 70, "{exit} {said}");
    let (exit, said) = cloud(&["--json", "explain", "W-STR-107"], &broken)?;
    let page: Value = serde_json::from_str(&said)?;
    ensure!(
        exit == 0 && page["code"] == "W-STR-107" && page["exit"] == 0,
        "{page}"
    );
    let (exit, said) = cloud(&["explain", "E-RDS-999"], &broken)?;
    ensure!(exit == 2 && said.contains("E-RDS-001"), "{exit} {said}");
    let (exit, said) = cloud(&["explain", "E-RED-001"], &broken)?;
    ensure!(
        exit == 2 && said.contains("gateway explain"),
        "{exit} {said}"
    );
    Ok(())
}

#[test]
fn check_prints_for_people_too() -> Result<()> {
    let (exit, said) = cloud(&["check"], &[("LOG_LEVEL", "loud")])?;
    ensure!(exit == 2, "{exit} {said}");
    for words in [
        "settings  ✗ E-CNF-004",
        "  do  ",
        "redis     · not looked at",
        "1 failed, 0 worth a look; begin with `cloud explain E-CNF-004`",
    ] {
        ensure!(said.contains(words), "{words}\n{said}");
    }
    Ok(())
}
