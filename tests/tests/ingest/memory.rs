//! Whatever comes in, the gateway's memory stays within what was set.

use anyhow::{Context as _, Result, ensure};
use tests::poster::{Poster, head};

use super::door::{BEARER, Door, JSON, batch};
use super::statuses::gzip;

/// The most that the process ever had in memory, in bytes.
fn high_water(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.context("VmHWM")?.trim().trim_end_matches(" kB");
    Ok(kib.trim().parse::<u64>()? * 1_024)
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_are_refused_within_the_memory_that_was_set() -> Result<()> {
    let door = Door::open(&[
        ("ingest.body_bytes_max", "4MiB".into()),
        ("ingest.memory_bytes_max", "16MiB".into()),
    ])
    .await?;
    let pid = door.gateway.pid().context("it runs")?;
    let warm = door.post("/v1/batch", &batch("van", 0, 100)).await?;
    ensure!(warm.status == 202);
    let before = high_water(pid)?;
    // A gigabyte of brackets: many times what is allowed, in a megabyte.
    let bomb = gzip(&vec![b'['; 1 << 30])?;
    ensure!(bomb.len() < 3 << 20, "{}", bomb.len());
    let bomb = std::sync::Arc::new(bomb);
    let posting = (0..16).map(|_| {
        let (bomb, addr) = (std::sync::Arc::clone(&bomb), door.addr);
        tokio::spawn(async move {
            let mut poster = Poster::connect(addr).await?;
            let headers = [BEARER, JSON, ("Content-Encoding", "gzip")];
            let answer = poster.ask("POST", "/v1/batch", &headers, &bomb).await?;
            anyhow::Ok(answer.status)
        })
    });
    let posting: Vec<_> = posting.collect();
    for one in posting {
        let status = one.await??;
        ensure!(status == 413 || status == 503, "{status}");
    }
    let grown = high_water(pid)?.saturating_sub(before);
    // What is counted, what the allocator keeps beside it, and buffers of sixteen connections.
    ensure!(grown < 48 << 20, "{grown} bytes more than before");
    let after = door.post("/v1/batch", &batch("van", 100, 100)).await?;
    ensure!(after.status == 202, "it goes on: {after:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_beside_the_others_is_told_to_come_again() -> Result<()> {
    let door = Door::open(&[("ingest.memory_bytes_max", "2MiB".into())]).await?;
    let size = 900 << 10;
    let mut slow = Poster::connect(door.addr).await?;
    slow.say(&head("POST", "/v1/batch", &[BEARER, JSON], Some(size)))
        .await?;
    slow.say(&vec![b' '; size - 1]).await?;
    // Until the gateway has read it, the others would have the memory, and the slow one be sent away.
    tests::tables::eventually("the memory is in use", async || {
        let status = door.gateway.status().await?;
        Ok(status["ingest"]["memory_bytes"].as_u64() >= Some(size as u64 - 1))
    })
    .await?;
    let small = format!("{}{}", " ".repeat(200 << 10), batch("van", 0, 1));
    let busy = door
        .ask("POST", "/v1/batch", &[BEARER, JSON], small.as_bytes())
        .await?;
    ensure!(busy.status == 503, "{busy:?}");
    ensure!(
        busy.json()["type"] == "urn:milepost:problem:busy",
        "{busy:?}"
    );
    ensure!(busy.header("retry-after") == Some("1"), "{busy:?}");
    drop(slow);
    tests::tables::eventually("there is room again", async || {
        let answer = door
            .ask("POST", "/v1/batch", &[BEARER, JSON], small.as_bytes())
            .await?;
        Ok(answer.status == 202)
    })
    .await
}
