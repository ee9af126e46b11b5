//! Commands from a row in the table to a tracker and back, through the real programs and servers,
//! with each of them dying, pausing or forgetting on the way.
#![allow(clippy::unwrap_used)]

#[path = "commands/killed.rs"]
mod killed;
#[path = "commands/yard.rs"]
mod yard;

use std::time::Duration;

use anyhow::Result;
use contract::{Order, keys};
use redis::AsyncCommands as _;
use tests::fleet::Tracker;
use tests::tables::eventually;

use yard::{IMEI, Obedient, Yard, ready, reply};

/// Long enough to notice something that should not come.
const SILENCE: Duration = Duration::from_millis(400);

#[tokio::test(flavor = "multi_thread")]
async fn a_row_reaches_the_tracker_and_its_reply_the_row() -> Result<()> {
    let mut yard = Yard::new(&[]).await?;
    let gateway = yard.gateway("gw-a", &[]).await?;
    let mut tracker = yard.tracker(&gateway, "gw-a", IMEI).await?;
    let first = yard.insert(IMEI, "getinfo").await?;
    let second = yard.insert(IMEI, "getver").await?;
    assert_eq!(tracker.read_order().await?, (0x0C, "getinfo".to_owned()));
    yard.until(&first, "sent").await?;
    // One at a time: a reply says not which command it answers.
    assert!(tracker.stays_silent(SILENCE).await?);
    assert_eq!(yard.row(&second).await?.status, "queued");
    reply(&mut tracker, "RTC:2026").await?;
    let row = yard.until(&first, "acked").await?;
    assert_eq!(row.reply.as_deref(), Some("RTC:2026"));
    assert_eq!((row.gateway.as_deref(), row.attempt), (Some("gw-a"), 1));
    assert_eq!(tracker.read_order().await?.1, "getver");
    reply(&mut tracker, "Ver:1\0\u{1}").await?;
    let row = yard.until(&second, "acked").await?;
    assert_eq!(row.reply.as_deref(), Some("Ver:1\u{FFFD}\u{1}"));
    for cid in [&first, &second] {
        let history = ["queued", "routed", "sent", "acked"];
        assert_eq!(yard.history(cid).await?, history);
    }
    let page = tests::processes::get(yard.cloud.http_addr(), "/metrics")
        .await?
        .1;
    for line in [
        "commands_routed_total 2",
        "commands_acked_total 2",
        "command_responses_total 4",
    ] {
        assert!(
            page.contains(&format!("\nmilepost_cloud_{line}\n")),
            "{page}"
        );
    }
    eventually("every response is released", async || {
        let pending: (i64, Option<String>, Option<String>, redis::Value) = redis::cmd("XPENDING")
            .arg(keys::COMMAND_RESPONSES)
            .arg(keys::GROUP_COMMANDS)
            .query_async(&mut yard.admin)
            .await?;
        Ok(pending.0 == 0)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_waits_for_its_tracker_or_expires() -> Result<()> {
    let mut yard = Yard::new(&[]).await?;
    let gateway = yard.gateway("gw-a", &[]).await?;
    let waits = yard.insert(IMEI, "getinfo").await?;
    let late: String = sqlx::query_scalar(
        "INSERT INTO commands (imei, payload, expires_at) \
         VALUES (350000000000025, 'getinfo', now() + interval '1 second') RETURNING id::text",
    )
    .fetch_one(&yard.pool)
    .await?;
    let row = yard.until(&late, "expired").await?;
    assert_eq!(row.attempt, 0);
    assert_eq!(yard.row(&waits).await?.status, "queued");
    let mut tracker = yard.tracker(&gateway, "gw-a", IMEI).await?;
    assert_eq!(tracker.read_order().await?.1, "getinfo");
    reply(&mut tracker, "here").await?;
    yard.until(&waits, "acked").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_follows_its_tracker_to_another_gateway() -> Result<()> {
    let mut yard = Yard::new(&[]).await?;
    let mut a = yard.gateway("gw-a", &[]).await?;
    let b = yard.gateway("gw-b", &[]).await?;
    drop(yard.tracker(&a, "gw-a", IMEI).await?);
    let _still = yard.tracker(&a, "gw-a", IMEI).await?;
    // It dies without a word: its registry fields and its heartbeat stay.
    a.kill9()?;
    let cid = yard.insert(IMEI, "getinfo").await?;
    let row = yard.until(&cid, "routed").await?;
    assert_eq!(row.gateway.as_deref(), Some("gw-a"));
    let mut tracker = yard.tracker(&b, "gw-b", IMEI).await?;
    assert_eq!(tracker.read_order().await?.1, "getinfo");
    reply(&mut tracker, "here").await?;
    let row = yard.until(&cid, "acked").await?;
    assert_eq!((row.gateway.as_deref(), row.attempt), (Some("gw-b"), 2));
    // The first one comes back, and the tracker to it: nothing waits there any more.
    a.restart().await?;
    ready(&a).await?;
    let mut tracker = yard.tracker(&a, "gw-a", IMEI).await?;
    assert!(tracker.stays_silent(SILENCE).await?);
    let history = ["queued", "routed", "queued", "routed", "sent", "acked"];
    assert_eq!(yard.history(&cid).await?, history);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_dies_after_sending_leaves_it_unknown_and_nobody_says_it_again() -> Result<()>
{
    let mut yard = Yard::new(&[("commands.answer_max", "30s".into())]).await?;
    let mut a = yard.gateway("gw-a", &[]).await?;
    let b = yard.gateway("gw-b", &[]).await?;
    let mut tracker = yard.tracker(&a, "gw-a", IMEI).await?;
    let cid = yard.insert(IMEI, "setdigout 1").await?;
    assert_eq!(tracker.read_order().await?.1, "setdigout 1");
    yard.until(&cid, "sent").await?;
    a.kill9()?;
    let mut tracker = yard.tracker(&b, "gw-b", IMEI).await?;
    // What it began stands in its intent log, and its next life tells.
    a.restart().await?;
    let row = yard.until(&cid, "unknown").await?;
    assert_eq!((row.reason.as_deref(), row.attempt), (Some("restarted"), 1));
    assert!(tracker.stays_silent(SILENCE).await?);
    // The next one for this tracker goes on.
    let next = yard.insert(IMEI, "getver").await?;
    assert_eq!(tracker.read_order().await?.1, "getver");
    reply(&mut tracker, "Ver:1").await?;
    yard.until(&next, "acked").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_falls_silent_for_good_leaves_it_unknown_and_a_late_reply_still_counts()
-> Result<()> {
    let mut yard = Yard::new(&[("commands.answer_max", "2s".into())]).await?;
    let mut a = yard.gateway("gw-a", &[]).await?;
    let b = yard.gateway("gw-b", &[]).await?;
    let mut tracker = yard.tracker(&a, "gw-a", IMEI).await?;
    let once = yard.insert(IMEI, "setdigout 1").await?;
    assert_eq!(tracker.read_order().await?.1, "setdigout 1");
    yard.until(&once, "sent").await?;
    a.pause()?;
    yard.expire_heartbeat("gw-a").await?;
    yard.until(&once, "unknown").await?;
    // Elsewhere the tracker is told what may be repeated, and nothing else.
    let mut elsewhere = yard.tracker(&b, "gw-b", IMEI).await?;
    let harmless = yard.insert_harmless(IMEI, "getinfo").await?;
    assert_eq!(elsewhere.read_order().await?.1, "getinfo");
    reply(&mut elsewhere, "here").await?;
    yard.until(&harmless, "acked").await?;
    // The mast is back, and the reply was on its way all the time.
    reply(&mut tracker, "DOUT1:1").await?;
    a.resume()?;
    let row = yard.until(&once, "acked").await?;
    assert_eq!((row.reply.as_deref(), row.attempt), (Some("DOUT1:1"), 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_harmless_command_is_given_again_at_most_three_times() -> Result<()> {
    let mut yard = Yard::new(&[("commands.answer_max", "1s".into())]).await?;
    let a = yard.gateway("gw-a", &[]).await?;
    let mut tracker = yard.tracker(&a, "gw-a", IMEI).await?;
    let cid = yard.insert_harmless(IMEI, "getinfo").await?;
    // The tracker never replies, and its gateway would wait for 30 s.
    assert_eq!(tracker.read_order().await?.1, "getinfo");
    let row = yard.until(&cid, "unknown").await?;
    assert_eq!((row.attempt, row.resends), (4, 3));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_that_dies_at_any_step_goes_on_where_it_was() -> Result<()> {
    let mut yard = Yard::new(&[]).await?;
    let mut a = yard.gateway("gw-a", &[]).await?;
    let mut tracker = yard.tracker(&a, "gw-a", IMEI).await?;

    // Before it has looked.
    yard.cloud.kill9()?;
    let cid = yard.insert(IMEI, "one").await?;
    yard.cloud.restart().await?;
    assert_eq!(tracker.read_order().await?.1, "one");
    // After it was sent; the reply comes to nobody.
    yard.until(&cid, "sent").await?;
    yard.cloud.kill9()?;
    reply(&mut tracker, "did one").await?;
    yard.cloud.restart().await?;
    yard.until(&cid, "acked").await?;

    // After it was given, before it was sent.
    a.pause()?;
    let cid = yard.insert(IMEI, "two").await?;
    yard.until(&cid, "routed").await?;
    yard.cloud.kill9()?;
    a.resume()?;
    assert_eq!(tracker.read_order().await?.1, "two");
    reply(&mut tracker, "did two").await?;
    yard.cloud.restart().await?;
    let row = yard.until(&cid, "acked").await?;
    assert_eq!(row.attempt, 1);
    assert!(tracker.stays_silent(SILENCE).await?);
    assert_eq!(
        yard.history(&cid).await?,
        ["queued", "routed", "sent", "acked"]
    );
    Ok(())
}

/// The row as a router leaves it that dies between COMMIT and XADD.
async fn commit_as_routed(yard: &Yard, cid: &str) -> Result<()> {
    let routed = sqlx::query(
        "UPDATE commands SET status = 'routed', gateway = 'gw-a', attempt = attempt + 1 \
         WHERE id = $1::uuid",
    );
    routed.bind(cid).execute(&yard.pool).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_between_commit_and_entry_is_a_doubt_and_never_a_second_time() -> Result<()> {
    let mut yard = Yard::new(&[("commands.answer_max", "2s".into())]).await?;
    let mut a = yard.gateway("gw-a", &[]).await?;
    let mut tracker = yard.tracker(&a, "gw-a", IMEI).await?;
    yard.cloud.kill9()?;

    // It died before the entry: nothing proves that, so nobody is told.
    let before = yard.insert(IMEI, "setdigout 1").await?;
    commit_as_routed(&yard, &before).await?;
    yard.cloud.restart().await?;
    let row = yard.until(&before, "unknown").await?;
    assert_eq!(
        (row.reason.as_deref(), row.attempt),
        (Some("entry-lost"), 1)
    );
    assert!(tracker.stays_silent(SILENCE).await?);

    // What may be repeated is given again.
    yard.cloud.kill9()?;
    let harmless = yard.insert_harmless(IMEI, "getinfo").await?;
    commit_as_routed(&yard, &harmless).await?;
    yard.cloud.restart().await?;
    assert_eq!(tracker.read_order().await?.1, "getinfo");
    reply(&mut tracker, "here").await?;
    let row = yard.until(&harmless, "acked").await?;
    assert_eq!((row.attempt, row.resends), (2, 1));

    // It died after the entry, which nobody noted: the look into the stream finds it.
    yard.cloud.kill9()?;
    a.kill9()?;
    let after = yard.insert(IMEI, "setdigout 0").await?;
    commit_as_routed(&yard, &after).await?;
    let order = Order {
        cid: after.clone(),
        imei: IMEI.to_string().parse()?,
        codec: 12,
        payload: "setdigout 0".to_owned(),
        created_ms: 1,
        expires_ms: 1 << 50,
        attempt: 1,
        idempotent: false,
    };
    let mut add = redis::cmd("XADD");
    add.arg(keys::commands_outbound(&"gw-a".parse()?))
        .arg("NOMKSTREAM")
        .arg("*");
    for (name, value) in order.to_fields() {
        add.arg(name).arg(value);
    }
    let entry: String = add.query_async(&mut yard.admin).await?;
    yard.cloud.restart().await?;
    eventually("its entry is noted", async || {
        Ok(yard.row(&after).await?.entry_id.as_deref() == Some(&*entry))
    })
    .await?;
    assert_eq!(
        yard.row(&after).await?.status,
        "routed",
        "it is unread, so nothing is overdue"
    );
    yard.expire_heartbeat("gw-a").await?;
    // Unread at a dead gateway: taken back, and given where the tracker is.
    let b = yard.gateway("gw-b", &[]).await?;
    let mut tracker = yard.tracker(&b, "gw-b", IMEI).await?;
    assert_eq!(tracker.read_order().await?.1, "setdigout 0");
    reply(&mut tracker, "DOUT1:0").await?;
    let row = yard.until(&after, "acked").await?;
    assert_eq!((row.attempt, row.resends), (2, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_redis_loses_no_command_and_repeats_none() -> Result<()> {
    let mut yard = Yard::new(&[("commands.answer_max", "3s".into())]).await?;
    let mut a = yard.gateway("gw-a", &[]).await?;
    let waits = yard.insert(350_000_000_000_025, "getinfo").await?;
    let _tracker = yard.tracker(&a, "gw-a", IMEI).await?;
    // Given, and lost before anybody read it.
    a.kill9()?;
    let lost = yard.insert(IMEI, "setdigout 1").await?;
    eventually("its entry is noted", async || {
        Ok(yard.row(&lost).await?.entry_id.is_some())
    })
    .await?;
    yard.empty_redis().await?;
    a.restart().await?;
    ready(&a).await?;
    let mut tracker = yard.tracker(&a, "gw-a", IMEI).await?;
    let row = yard.until(&lost, "unknown").await?;
    assert_eq!(
        (row.reason.as_deref(), row.attempt),
        (Some("entry-lost"), 1)
    );
    assert!(tracker.stays_silent(SILENCE).await?);
    // What was in the queue is there still, and the responses find their way again.
    let mut late = yard.tracker(&a, "gw-a", 350_000_000_000_025).await?;
    assert_eq!(late.read_order().await?.1, "getinfo");
    reply(&mut late, "here").await?;
    yard.until(&waits, "acked").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_database_is_listened_to_again() -> Result<()> {
    let mut yard = Yard::new(&[]).await?;
    let a = yard.gateway("gw-a", &[]).await?;
    let tracker = Obedient::new(yard.tracker(&a, "gw-a", IMEI).await?);
    let cid = yard.insert(IMEI, "one").await?;
    yard.until(&cid, "acked").await?;
    yard.postgres.kill9()?;
    yard.postgres.restart().await?;
    let mut cid = String::new();
    eventually("the database takes rows", async || {
        cid = yard.insert(IMEI, "two").await?;
        Ok(true)
    })
    .await?;
    yard.until(&cid, "acked").await?;
    // The listener alone is cut off: its notifications are lost without a word.
    // After a reconnect the client writes a semicolon behind it.
    let killed = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                  WHERE query LIKE 'LISTEN \"commands\"%'";
    eventually("the listener is there again", async || {
        Ok(yard.count(killed).await? == 1)
    })
    .await?;
    let cid = yard.insert(IMEI, "three").await?;
    yard.until(&cid, "acked").await?;
    assert_eq!(tracker.told(), ["one", "two", "three"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn clouds_side_by_side_that_are_killed_in_turn_tell_each_tracker_everything_once()
-> Result<()> {
    const TRACKERS: u64 = 4;
    const COMMANDS: u64 = 6;
    let mut yard = Yard::new(&[("commands.answer_max", "5s".into())]).await?;
    let mut other = yard.another_cloud().await?;
    let a = yard.gateway("gw-a", &[]).await?;
    let mut trackers = Vec::new();
    for n in 0..TRACKERS {
        trackers.push(Obedient::new(yard.tracker(&a, "gw-a", IMEI + n).await?));
    }
    for k in 0..COMMANDS {
        for n in 0..TRACKERS {
            yard.insert(IMEI + n, &format!("do {k}")).await?;
        }
        match k % 4 {
            1 => {
                yard.cloud.kill9()?;
                yard.cloud.restart().await?;
            }
            3 => {
                other.kill9()?;
                other.restart().await?;
            }
            _ => {}
        }
    }
    eventually("everything has come to an end", async || {
        let open = "SELECT count(*) FROM commands WHERE command_rank(status) < 4";
        Ok(yard.count(open).await? == 0)
    })
    .await?;
    let expected: Vec<String> = (0..COMMANDS).map(|k| format!("do {k}")).collect();
    let unknown = yard
        .count("SELECT count(*) FROM commands WHERE status <> 'acked'")
        .await?;
    for tracker in &trackers {
        let told = tracker.told();
        // In their order, none twice; one whose router was killed in the act may be missing.
        let mut rest = expected.iter();
        assert!(
            told.iter().all(|text| rest.any(|one| one == text)),
            "{told:?}"
        );
    }
    let told: usize = trackers.iter().map(|tracker| tracker.told().len()).sum();
    let all = usize::try_from(TRACKERS * COMMANDS)?;
    assert!(
        all - told <= usize::try_from(unknown)?,
        "{told} told, {unknown} unknown"
    );
    let resent = "SELECT count(*) FROM commands WHERE resends > 0";
    assert_eq!(yard.count(resent).await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_a_stream_gives_the_command_back() -> Result<()> {
    let mut yard = Yard::new(&[]).await?;
    // What a gateway leaves that was removed, until its heartbeat expires.
    let () = yard.admin.hset(keys::CONNECTIONS, IMEI, "gw-b").await?;
    let beat = keys::heartbeat(&"gw-b".parse()?);
    let () = yard.admin.set(beat, 1).await?;
    let cid = yard.insert(IMEI, "getinfo").await?;
    eventually("it was tried twice", async || {
        Ok(yard.row(&cid).await?.attempt >= 2)
    })
    .await?;
    let stream = keys::commands_outbound(&"gw-b".parse()?);
    let is_there: bool = yard.admin.exists(&stream).await?;
    assert!(!is_there, "nobody would ever read it");
    let row = yard.until(&cid, "queued").await?;
    assert_eq!(row.reason.as_deref(), Some("gateway-gone"));
    let b = yard.gateway("gw-b", &[]).await?;
    let mut tracker = yard.tracker(&b, "gw-b", IMEI).await?;
    assert_eq!(tracker.read_order().await?.1, "getinfo");
    reply(&mut tracker, "here").await?;
    assert_eq!(yard.until(&cid, "acked").await?.resends, 0);
    Ok(())
}

async fn respond(yard: &mut Yard, fields: &[(&str, &str)]) -> Result<()> {
    let add: String = yard
        .admin
        .xadd(keys::COMMAND_RESPONSES, "*", fields)
        .await?;
    assert!(!add.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_that_say_nothing_are_kept_with_the_reason_and_hold_up_nothing() -> Result<()> {
    let mut yard = Yard::new(&[]).await?;
    let a = yard.gateway("gw-a", &[]).await?;
    let mut tracker = yard.tracker(&a, "gw-a", IMEI).await?;
    let cid = yard.insert(IMEI, "getinfo").await?;
    tracker.read_order().await?;
    yard.until(&cid, "sent").await?;
    let imei = IMEI.to_string();
    let fields = |cid, status, attempt| {
        [
            ("cid", cid),
            ("imei", "350000000000017"),
            ("instance", "gw-a"),
            ("status", status),
            ("reason", ""),
            ("reply", "x"),
            ("ts", "1"),
            ("attempt", attempt),
        ]
    };
    assert_eq!(imei, fields("", "", "")[1].1);
    let nobody = "01936f4e-7c00-7000-8000-0000000000aa";
    respond(&mut yard, &[("hello", "world")]).await?;
    respond(&mut yard, &fields("c-1", "ack", "1")).await?;
    respond(&mut yard, &fields(nobody, "ack", "1")).await?;
    respond(&mut yard, &fields(&cid, "done", "1")).await?;
    let mut other = fields(&cid, "ack", "1");
    other[1].1 = "350000000000025";
    respond(&mut yard, &other).await?;
    reply(&mut tracker, "here").await?;
    yard.until(&cid, "acked").await?;
    let reasons: Vec<String> = sqlx::query_scalar(
        "SELECT reason FROM dead_letters WHERE error_class = 'command-response' ORDER BY id",
    )
    .fetch_all(&yard.pool)
    .await?;
    let parts = [
        "no field",
        "not a UUID",
        nobody,
        "\"status\" is \"done\"",
        "another tracker",
    ];
    assert_eq!(reasons.len(), parts.len(), "{reasons:?}");
    for (reason, part) in reasons.iter().zip(parts) {
        assert!(reason.contains(part), "{reason}");
    }
    // Copies and laggards change nothing; what is news is noted once.
    for _ in 0..2 {
        respond(&mut yard, &fields(&cid, "sent", "1")).await?;
        respond(&mut yard, &fields(&cid, "ack", "1")).await?;
        respond(&mut yard, &fields(&cid, "timeout", "1")).await?;
    }
    let next = yard.insert(IMEI, "getver").await?;
    tracker.read_order().await?;
    reply(&mut tracker, "Ver:1").await?;
    yard.until(&next, "acked").await?;
    let history = ["queued", "routed", "sent", "acked", "[timeout]"];
    assert_eq!(yard.history(&cid).await?, history);
    assert_eq!(yard.row(&cid).await?.reply.as_deref(), Some("here"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_that_wait_hold_up_nobody_and_ask_little() -> Result<()> {
    let mut yard = Yard::new(&[]).await?;
    let a = yard.gateway("gw-a", &[]).await?;
    let many = "INSERT INTO commands (imei, payload) SELECT 860000000000000 + n, 'getinfo' \
                FROM generate_series(1, 10000) n";
    sqlx::query(many).execute(&yard.pool).await?;
    let metrics = yard.cloud.http_addr();
    eventually("all of them were looked at", async || {
        let page = tests::processes::get(metrics, "/metrics").await?.1;
        Ok(page.contains("\nmilepost_cloud_commands_queued 10000\n"))
    })
    .await?;
    let mut tracker = yard.tracker(&a, "gw-a", IMEI).await?;
    let cid = yard.insert(IMEI, "getinfo").await?;
    assert_eq!(tracker.read_order().await?.1, "getinfo");
    reply(&mut tracker, "here").await?;
    yard.until(&cid, "acked").await?;
    let waiting = "SELECT count(*) FROM commands WHERE status = 'queued' AND attempt = 0";
    assert_eq!(yard.count(waiting).await?, 10_000);
    let stats: String = redis::cmd("INFO")
        .arg("commandstats")
        .query_async(&mut yard.admin)
        .await?;
    let calls = stats
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_hmget:calls="));
    let calls: u64 = calls.unwrap().split(',').next().unwrap().parse()?;
    assert!(
        (10..1_000).contains(&calls),
        "{calls} questions about ten thousand commands"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_commands_the_cloud_leaves_them_alone() -> Result<()> {
    let mut yard = Yard::new(&[("commands.enabled", false.into())]).await?;
    let a = yard.gateway("gw-a", &[]).await?;
    let mut tracker: Tracker = yard.tracker(&a, "gw-a", IMEI).await?;
    let cid = yard.insert(IMEI, "getinfo").await?;
    assert!(tracker.stays_silent(SILENCE).await?);
    assert_eq!(yard.row(&cid).await?.status, "queued");
    Ok(())
}
