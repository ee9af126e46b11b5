//! The private servers do what the other tests build on: TLS only, least privilege, and they come
//! back from a `kill -9` with their data.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use redis::{AsyncCommands, Client, ClientTlsConfig, RedisResult, TlsCertificates};
use sqlx::{Connection, PgConnection};
use tests::servers::{
    ADMIN, GATEWAY, Identity, PROCESSOR, Postgres, Redis, RedisOptions, Timescale,
};

const STREAM: &str = "telemetry:teltonika";

async fn connect(redis: &Redis, user: &str) -> redis::aio::MultiplexedConnection {
    redis
        .client(user)
        .unwrap()
        .get_multiplexed_async_connection()
        .await
        .unwrap()
}

async fn xadd(connection: &mut redis::aio::MultiplexedConnection) -> RedisResult<String> {
    redis::cmd("XADD")
        .arg(STREAM)
        .arg("*")
        .arg("v")
        .arg(1)
        .query_async(connection)
        .await
}

/// Why a client with this certificate (or none) cannot even say PING.
async fn refused(redis: &Redis, identity: Option<&Identity>) -> bool {
    let client_tls = identity.map(|identity| ClientTlsConfig {
        client_cert: std::fs::read(&identity.cert).unwrap(),
        client_key: std::fs::read(&identity.key).unwrap(),
    });
    let root_cert = Some(std::fs::read(redis.ca()).unwrap());
    let tls = TlsCertificates {
        client_tls,
        root_cert,
    };
    let client = Client::build_with_tls(redis.url(GATEWAY), tls).unwrap();
    match client.get_multiplexed_async_connection().await {
        // In TLS 1.3 the client is done before the server has looked at its certificate.
        Ok(mut connection) => redis::cmd("PING")
            .query_async::<String>(&mut connection)
            .await
            .is_err(),
        Err(_) => true,
    }
}

#[tokio::test]
async fn redis_lets_in_only_who_shows_a_certificate_of_its_authority() {
    let redis = Redis::start(RedisOptions::default()).await.unwrap();
    assert!(
        !refused(&redis, Some(redis.identity(GATEWAY))).await,
        "the right certificate"
    );
    assert!(refused(&redis, None).await, "no certificate");
    let expired = redis.pki().expired_client("expired").unwrap();
    assert!(
        refused(&redis, Some(&expired)).await,
        "an expired certificate"
    );
    let foreign = redis.pki().foreign_client(GATEWAY).unwrap();
    assert!(
        refused(&redis, Some(&foreign)).await,
        "a certificate of another authority"
    );
    let plain = Client::open(format!("redis://127.0.0.1:{}/", redis.port())).unwrap();
    assert!(
        plain.get_multiplexed_async_connection().await.is_err(),
        "no TLS"
    );
}

#[tokio::test]
async fn a_gateway_may_append_and_may_not_read() {
    let options = RedisOptions {
        gateways: vec![GATEWAY.into(), "gw-other".into()],
        ..Default::default()
    };
    let redis = Redis::start(options).await.unwrap();
    let mut gateway = connect(&redis, GATEWAY).await;
    xadd(&mut gateway).await.unwrap();

    let denied: [&[&str]; 10] = [
        &["XREAD", "STREAMS", STREAM, "0"],
        &["XRANGE", STREAM, "-", "+"],
        &[
            "XREADGROUP",
            "GROUP",
            "processor",
            "c",
            "STREAMS",
            STREAM,
            ">",
        ],
        &["XTRIM", STREAM, "MAXLEN", "0"],
        &["DEL", STREAM],
        &["FLUSHALL"],
        &["HGETALL", "floor:gw-other"],
        &["HSET", "floor:gw-test", "s", "1"],
        &["HSET", "contract", "reads", "9"],
        &["SET", "instance:heartbeat:gw-other", "x"],
    ];
    for words in denied {
        let outcome: RedisResult<redis::Value> = redis::cmd(words[0])
            .arg(&words[1..])
            .query_async(&mut gateway)
            .await;
        assert_eq!(outcome.unwrap_err().code(), Some("NOPERM"), "{words:?}");
    }
    let allowed: [&[&str]; 8] = [
        &["HGETALL", "floor:gw-test"],
        &["HGETALL", "contract"],
        &["XINFO", "GROUPS", STREAM],
        &[
            "XGROUP",
            "CREATE",
            "commands:outbound:gw-test",
            "gateway",
            "0",
            "MKSTREAM",
        ],
        &["XADD", "commands:responses", "*", "cid", "1"],
        &["SET", "instance:heartbeat:gw-test", "x", "EX", "90"],
        &["HSET", "connections:registry", "356307042441013", "gw-test"],
        &[
            "HSET",
            "{connections:registry}:epoch",
            "356307042441013",
            "1",
        ],
    ];
    for words in allowed {
        let outcome: RedisResult<redis::Value> = redis::cmd(words[0])
            .arg(&words[1..])
            .query_async(&mut gateway)
            .await;
        outcome.unwrap_or_else(|error| panic!("{words:?}: {error}"));
    }

    let mut processor = connect(&redis, PROCESSOR).await;
    let created: RedisResult<()> = processor
        .xgroup_create_mkstream(STREAM, "processor", "0")
        .await;
    created.unwrap();
    let words = [
        "GROUP",
        "processor",
        "host-0",
        "COUNT",
        "10",
        "STREAMS",
        STREAM,
        ">",
    ];
    let read: redis::streams::StreamReadReply = redis::cmd("XREADGROUP")
        .arg(&words)
        .query_async(&mut processor)
        .await
        .unwrap();
    let id = read.keys[0].ids[0].id.clone();
    let acknowledged: usize = processor.xack(STREAM, "processor", &[id]).await.unwrap();
    assert_eq!(acknowledged, 1);
    let () = processor.hset("floor:gw-test", "s", "1-5").await.unwrap();
    let flushed: RedisResult<()> = redis::cmd("FLUSHALL").query_async(&mut processor).await;
    assert_eq!(flushed.unwrap_err().code(), Some("NOPERM"));
}

#[tokio::test]
async fn redis_keeps_its_data_over_kill_and_stop_and_loses_it_over_flushall() {
    let mut redis = Redis::start(RedisOptions::default()).await.unwrap();
    for expected in 1..=2_usize {
        xadd(&mut connect(&redis, GATEWAY).await).await.unwrap();
        if expected == 1 {
            redis.kill9().unwrap();
            assert!(
                redis
                    .client(ADMIN)
                    .unwrap()
                    .get_multiplexed_async_connection()
                    .await
                    .is_err()
            );
        } else {
            redis.stop().await.unwrap();
        }
        redis.restart().await.unwrap();
        let length: usize = connect(&redis, ADMIN).await.xlen(STREAM).await.unwrap();
        assert_eq!(length, expected);
    }
    redis.flushall().await.unwrap();
    let length: usize = connect(&redis, ADMIN).await.xlen(STREAM).await.unwrap();
    assert_eq!(length, 0);
}

#[tokio::test]
async fn a_paused_redis_answers_nothing_and_then_goes_on() {
    let mut redis = Redis::start(RedisOptions::default()).await.unwrap();
    let mut gateway = connect(&redis, GATEWAY).await;
    redis.pause().unwrap();
    assert!(xadd(&mut gateway).await.unwrap_err().is_timeout());
    redis.resume().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while xadd(&mut gateway).await.is_err() {
        assert!(Instant::now() < deadline, "no answer after the pause");
    }
}

#[tokio::test]
async fn postgres_keeps_what_was_committed_over_a_kill() {
    let mut postgres = Postgres::start().await.unwrap();
    let url = postgres.create_database().await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::query("create table t (n int)")
        .execute(&mut connection)
        .await
        .unwrap();
    sqlx::query("insert into t values (42)")
        .execute(&mut connection)
        .await
        .unwrap();
    let mut open = connection.begin().await.unwrap();
    sqlx::query("insert into t values (43)")
        .execute(&mut *open)
        .await
        .unwrap();
    postgres.kill9().unwrap();
    assert!(PgConnection::connect(&url).await.is_err());
    postgres.restart().await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let rows: Vec<i32> = sqlx::query_scalar("select n from t")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    assert_eq!(rows, [42]);
    let password = sqlx::query("select 1").execute(&mut connection).await;
    password.unwrap();
    let stranger = format!(
        "postgres://milepost:wrong@127.0.0.1:{}/postgres",
        postgres.port()
    );
    assert!(
        PgConnection::connect(&stranger).await.is_err(),
        "a password is asked for"
    );
}

#[tokio::test]
async fn timescale_makes_a_hypertable() {
    let Some(timescale) = Timescale::start().await.unwrap() else {
        return;
    };
    let mut connection = PgConnection::connect(&timescale.url()).await.unwrap();
    sqlx::query("create table p (time timestamptz not null, device int not null)")
        .execute(&mut connection)
        .await
        .unwrap();
    sqlx::query("select create_hypertable('p', 'time')")
        .execute(&mut connection)
        .await
        .unwrap();
    sqlx::query("insert into p values (now(), $1)")
        .bind(7_i32)
        .execute(&mut connection)
        .await
        .unwrap();
    let chunks: i64 = sqlx::query_scalar("select count(*) from show_chunks('p')")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(chunks, 1);
}

/// Runs as its own process, started by the test below; does nothing in an ordinary run.
#[tokio::test]
async fn child_that_holds_servers_until_killed() {
    let Some(report) = std::env::var_os("MILEPOST_TEST_HOLD_SERVERS") else {
        return;
    };
    let redis = Redis::start(RedisOptions::default()).await.unwrap();
    let postgres = Postgres::start().await.unwrap();
    let home = redis.ca().parent().unwrap().display();
    let partial = Path::new(&report).with_extension("partial");
    std::fs::write(
        &partial,
        format!("{} {} {home}", redis.pid(), postgres.pid()),
    )
    .unwrap();
    std::fs::rename(&partial, &report).unwrap();
    std::future::pending::<()>().await;
}

#[test]
fn servers_die_with_us_even_when_we_are_killed() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_holds_servers_until_killed"])
        .env("MILEPOST_TEST_HOLD_SERVERS", &report)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let wait_for = |what: &str, condition: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !condition() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    wait_for("the child starts its servers", &|| report.exists());
    let words = std::fs::read_to_string(&report).unwrap();
    let words: Vec<&str> = words.split(' ').collect();
    let alive = |pid: &str| {
        // A zombie waits for its parent to look; it runs no more.
        let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !status.is_empty() && !status.contains(") Z ")
    };
    assert!(alive(words[0]) && alive(words[1]));
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("both servers are gone", &|| {
        !alive(words[0]) && !alive(words[1])
    });
    wait_for("the directory is gone", &|| !Path::new(words[2]).exists());
}
