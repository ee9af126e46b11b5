//! Sensor streams: what matches the pattern, what should not, and what the user may do there.

use anyhow::Result;

use super::stage::{Case, Row, Stage, set};

const SENSOR: &str = "mqtt_stream:room-1:temperature";

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_with_sensor_streams_are_named() -> Result<()> {
    let mut stage = Stage::start().await?;
    stage.set("sensors.pattern", "mqtt_stream:*".into());
    // Its user was made before anybody thought of sensors.
    let right = Case::new("no right", "E-RDS-011").says("~mqtt_stream:*");
    stage.expect(&[right])?;
    let grown = "ACL SETUSER processor ~mqtt_stream:*";
    let make = format!("XGROUP CREATE {SENSOR} processor 0 MKSTREAM");
    stage.redis.admin_does(&[grown, &make]).await?;
    stage.is_good()?;
    let gone = format!("DEL {SENSOR}");
    let written = format!("XADD {SENSOR} * value 1 timestamp 2026-01-01T00:00:00Z");
    let rows: &[Row] = &[
        (
            "nobody writes",
            &[&gone],
            "W-SNS-101",
            "mqtt_stream:*",
            &[&make],
        ),
        (
            "nobody read",
            &[&gone, &written],
            "W-SNS-105",
            SENSOR,
            &[&gone, &make],
        ),
        (
            "a name of no sensor",
            &["XADD mqtt_stream:failed * value 1"],
            "W-SNS-103",
            "mqtt_stream:failed",
            &["DEL mqtt_stream:failed"],
        ),
        (
            "a text",
            &["SET mqtt_stream:room-2:temperature 21"],
            "W-SNS-104",
            "room-2",
            &["DEL mqtt_stream:room-2:temperature"],
        ),
    ];
    stage.expect_in_redis(rows).await?;
    // The founding dead-letter stream is known, and left out.
    stage.set("stream.dead_letter", "mqtt_stream:failed".into());
    stage
        .redis
        .admin_does(&["XADD mqtt_stream:failed * error x"])
        .await?;
    stage.is_good()?;
    stage.expect(&[
        Case::new("everything", "W-SNS-102")
            .edit(vec![set("sensors.pattern", "*")])
            .says("telemetry:teltonika"),
        Case::new("telemetry", "E-CNF-004")
            .edit(vec![set("sensors.pattern", "telemetry:*")])
            .says("stream.pattern"),
    ])
}
