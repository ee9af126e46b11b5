//! How full each node is stands in the metrics, so that an alert can name the one that fills.

use std::collections::BTreeSet;

use anyhow::Result;
use tests::processes::get;
use tests::tables::eventually;

use super::stage::{cluster, road};

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_of_every_master_is_told_under_its_address() -> Result<()> {
    let cluster = cluster().await?;
    let mut road = road(&cluster, &[]).await?;
    let page = road.cloud.http_addr();
    eventually("one row for each master", async || {
        let (_, text) = get(page, "/metrics").await?;
        let rows = text.lines().filter_map(|line| {
            let row = line.strip_prefix("milepost_cloud_redis_memory_used_bytes{node=\"")?;
            let (node, bytes) = row.split_once("\"} ")?;
            bytes.parse::<u64>().ok().filter(|bytes| *bytes > 0)?;
            node.contains(':').then(|| node.to_owned())
        });
        Ok(rows.collect::<BTreeSet<_>>().len() == cluster.masters())
    })
    .await?;
    road.stop().await
}
