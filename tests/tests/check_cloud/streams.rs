//! The streams: what is in them, who reads them, and whether anything arrives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use tests::servers::ADMIN;

use super::stage::{Case, Row, Stage, set};

const FRESH: &[&str] = &[
    "DEL telemetry:teltonika",
    "XGROUP CREATE telemetry:teltonika processor 0 MKSTREAM",
];

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_with_streams_are_named() -> Result<()> {
    let stage = Stage::start().await?;
    let ours = contract::version::VersionsRead::ours();
    let publish = format!("HSET contract reads {ours} writes 1");
    let rows: &[Row] = &[
        (
            "older cloud beside",
            &["HSET contract reads 1-1"],
            "E-STR-001",
            "1-1",
            &[&publish],
        ),
        (
            "no contract",
            &["DEL contract"],
            "W-STR-101",
            "cloud run",
            &[&publish],
        ),
        (
            "newer gateway",
            &["XADD telemetry:teltonika * v 9"],
            "E-STR-002",
            "version 9",
            FRESH,
        ),
        (
            "a text, no stream",
            &["DEL telemetry:teltonika", "SET telemetry:teltonika x"],
            "E-STR-003",
            "rename",
            FRESH,
        ),
        (
            "group at $",
            &[
                "DEL telemetry:teltonika",
                "XADD telemetry:teltonika * v 1",
                "XGROUP CREATE telemetry:teltonika processor $",
            ],
            "E-STR-004",
            "XGROUP SETID telemetry:teltonika processor 0",
            FRESH,
        ),
        (
            "group set forward by hand",
            &[
                "XADD telemetry:teltonika 1-1 v 1",
                "XADD telemetry:teltonika 2-1 v 1",
                "XGROUP SETID telemetry:teltonika processor 1-1",
            ],
            "E-STR-004",
            "stands at 1-1",
            FRESH,
        ),
        (
            "MAXLEN before anything was read",
            &[
                "XADD telemetry:teltonika * v 1",
                "XADD telemetry:teltonika * v 1",
                "XADD telemetry:teltonika MAXLEN 1 * v 1",
            ],
            "E-STR-005",
            "2 entries",
            FRESH,
        ),
        (
            "XTRIM between two readings",
            &[
                "XADD telemetry:teltonika * v 1",
                "XREADGROUP GROUP processor box-0 STREAMS telemetry:teltonika >",
                "XADD telemetry:teltonika * v 1",
                "XADD telemetry:teltonika * v 1",
                "XTRIM telemetry:teltonika MAXLEN 1",
            ],
            "E-STR-005",
            "MAXLEN",
            FRESH,
        ),
        (
            "a loss that was read over",
            &[
                "XADD telemetry:teltonika * v 1",
                "XADD telemetry:teltonika 9999999999998-1 v 1",
                "XTRIM telemetry:teltonika MAXLEN 1",
                "XREADGROUP GROUP processor box-0 STREAMS telemetry:teltonika >",
                "XACK telemetry:teltonika processor 9999999999998-1",
                "XADD telemetry:teltonika 9999999999999-1 v 1",
                "XADD telemetry:teltonika 9999999999999-2 v 1",
                "XADD telemetry:teltonika 9999999999999-3 v 1",
                "XADD telemetry:teltonika 9999999999999-4 v 1",
                "XTRIM telemetry:teltonika MAXLEN 1",
                "XREADGROUP GROUP processor box-0 STREAMS telemetry:teltonika >",
                "XACK telemetry:teltonika processor 9999999999999-4",
            ],
            "W-STR-103",
            "some time ago",
            FRESH,
        ),
        (
            "pending entries gone",
            &[
                "XADD telemetry:teltonika 5-1 v 1",
                "XREADGROUP GROUP processor box-0 STREAMS telemetry:teltonika >",
                "XTRIM telemetry:teltonika MAXLEN 0",
            ],
            "E-STR-006",
            "entry 5-1",
            FRESH,
        ),
        (
            "no group",
            &[
                "XADD telemetry:teltonika * v 1",
                "XGROUP DESTROY telemetry:teltonika processor",
            ],
            "W-STR-102",
            "no group processor",
            FRESH,
        ),
        (
            "another name",
            &["XADD telemetry:t * v 1", "SET instance:heartbeat:gw-1 1"],
            "E-STR-007",
            "gw-1",
            &["DEL telemetry:t instance:heartbeat:gw-1"],
        ),
        (
            "shards of another name",
            &["XADD telemetry:fleet:3 * v 1"],
            "E-STR-007",
            "set stream.name to telemetry:fleet:3",
            &["DEL telemetry:fleet:3"],
        ),
        (
            "left over from a renaming",
            &["XADD telemetry:old 7-1 v 1"],
            "W-STR-104",
            "telemetry:old has 1 entries",
            &["DEL telemetry:old"],
        ),
        (
            "nothing has ever come",
            &["SET instance:heartbeat:gw-1 1"],
            "W-STR-105",
            "gw-1",
            &["DEL instance:heartbeat:gw-1"],
        ),
        (
            "nobody reads",
            &["XADD telemetry:teltonika * v 1"],
            "W-STR-107",
            "1 entries",
            FRESH,
        ),
    ];
    stage.expect_in_redis(rows).await?;
    // A consumer that was handed entries two patiences ago; XCLAIM sets back the pending entry, and
    // the consumer that has asked for nothing since is known by its own idle time.
    let make = [
        "XADD telemetry:teltonika * v 1",
        "XREADGROUP GROUP processor dead-box STREAMS telemetry:teltonika >",
    ];
    stage.redis.admin_does(&make).await?;
    let patient = Case::new("left behind", "W-STR-106")
        .edit(vec![set("stream.claim_after", "1s")])
        .says("dead-box");
    tests::tables::eventually("the consumer is silent for two seconds", async || {
        let (found, _) = stage.check(&patient)?;
        Ok(found.iter().any(|it| it["code"] == "W-STR-106"))
    })
    .await?;
    stage.expect(&[patient])
}

/// As long as somebody writes with MAXLEN and everything is read in time, nothing is lost: the
/// trimming itself must be seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_with_maxlen_is_caught_before_it_costs_anything() -> Result<()> {
    let stage = Stage::start().await?;
    let client = stage.redis.client(ADMIN)?;
    let mut admin = client.get_multiplexed_async_connection().await?;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let writer = tokio::spawn(async move {
        let mut rounds = 0_u32;
        while !stopped.load(Ordering::Relaxed) {
            // A reader that keeps up, and behind it a writer that trims.
            let _: redis::Value = redis::cmd("XREADGROUP")
                .arg(&["GROUP", "processor", "box-0", "NOACK", "STREAMS"])
                .arg(&["telemetry:teltonika", ">"])
                .query_async(&mut admin)
                .await?;
            let _: redis::Value = redis::cmd("XADD")
                .arg(&["telemetry:teltonika", "MAXLEN", "5", "*", "v", "1"])
                .query_async(&mut admin)
                .await?;
            rounds += 1;
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        anyhow::Ok(rounds)
    });
    let seen = tests::tables::eventually("the trimming is seen", async || {
        let (found, _) = stage.check(&Case::new("maxlen", ""))?;
        let mut failed = found.iter().filter(|it| it["mark"] == "failed");
        Ok(failed.any(|it| {
            it["code"] == "E-STR-006" && it["text"].as_str().is_some_and(|t| t.contains("vanished"))
        }))
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    assert!(writer.await?? > 5);
    seen
}
