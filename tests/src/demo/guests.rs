//! Whoever looks on may post positions of their own: the gateway's HTTP door, open on this machine.
//!
//! Why apart from the trackers: nobody here knows what was posted, so it is counted and not compared.

use anyhow::{Context, Result};
use serde_json::json;
use sqlx::{Connection, PgConnection};

use crate::processes::Setting;
use crate::servers::Port;

/// The door.
#[derive(Debug)]
pub(super) struct Guests {
    port: Port,
}

impl Guests {
    pub(super) fn invite() -> Result<Self> {
        let port = Port::free()?;
        Ok(Self { port })
    }

    /// For `gateway.toml`.
    pub(super) fn settings(&self) -> Vec<Setting> {
        vec![
            (
                "listen.http",
                json!([format!("127.0.0.1:{}", self.port.number())]),
            ),
            ("ingest.open", json!(true)),
        ]
    }

    /// A line to copy: a position of somebody in Vilnius, now.
    pub(super) fn how_to_post(&self) -> String {
        format!(
            "curl \"http://127.0.0.1:{}/?id=me&lat=54.6872&lon=25.2797&timestamp=$(date +%s)\"",
            self.port.number()
        )
    }
}

/// Rows of devices that were heard over HTTP first.
pub(super) async fn rows(database_url: &str) -> Result<u64> {
    let mut connection = PgConnection::connect(database_url).await?;
    let query = "SELECT count(*) FROM devices d \
                 JOIN (SELECT device_id FROM positions \
                       UNION ALL SELECT device_id FROM positions_quarantine) p ON p.device_id = d.id \
                 WHERE d.vendor = 'http'";
    let rows: i64 = sqlx::query_scalar(query)
        .fetch_one(&mut connection)
        .await
        .context("count what was posted")?;
    Ok(rows.cast_unsigned())
}
