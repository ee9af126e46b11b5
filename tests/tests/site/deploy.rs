//! The files an operator copies are the ones that are tested: servers start with them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tests::processes::{Road, RoadOptions};
use tests::servers::{ADMIN, Redis, RedisAccess, RedisOptions};

use super::program::Office;

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(name)
}

/// `UPDATE_DOCS=1` writes it anew.
#[test]
fn the_users_file_is_what_acl_print_prints() -> Result<()> {
    let office = Office::new("")?;
    let printed = office.users_file(&["depot-1"])?.out;
    let file = deploy("users.acl");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, &printed)?;
    }
    assert_eq!(
        fs::read_to_string(file)?,
        printed,
        "UPDATE_DOCS=1 writes it anew"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_with_the_delivered_settings_passes_every_check() -> Result<()> {
    let redis = Redis::start(RedisOptions {
        base: Some(deploy("redis.conf").canonicalize()?),
        ..RedisOptions::default()
    })
    .await?;
    let mut admin = redis
        .client(ADMIN)?
        .get_multiplexed_async_connection()
        .await?;
    for (name, wanted) in [
        ("port", "0"),
        ("tls-auth-clients", "yes"),
        ("protected-mode", "yes"),
        ("appendonly", "yes"),
        ("appendfsync", "everysec"),
        ("save", ""),
        ("maxmemory-policy", "noeviction"),
        ("maxmemory", "2147483648"),
        ("tcp-backlog", "1024"),
    ] {
        let mut get = redis::cmd("CONFIG");
        let (_, value): (String, String) = get.arg("GET").arg(name).query_async(&mut admin).await?;
        assert_eq!(value, wanted, "{name}");
    }
    let mut road = Road::start(RoadOptions {
        redis: Some(RedisAccess::clone(&redis)),
        ..RoadOptions::default()
    })
    .await?;
    // The processor makes its group within moments of its start.
    tests::tables::eventually("the stream is there", async || {
        let said = road.cloud.call(&["check", "--json"]).await?;
        Ok(said.contains("lag 0"))
    })
    .await?;
    let checked = road.cloud.call(&["check", "--json"]).await?;
    for line in checked.lines() {
        let finding: serde_json::Value = serde_json::from_str(line)?;
        assert_ne!(finding["mark"], "failed", "{finding}");
    }
    ensure!(
        checked.contains("noeviction") && checked.contains("appendonly yes"),
        "{checked}"
    );
    road.stop().await
}

#[test]
fn kernel_settings_exist_and_fit_the_redis_beside_them() -> Result<()> {
    let text = fs::read_to_string(deploy("sysctl.conf"))?;
    let mut set = BTreeMap::new();
    for line in text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        let (name, value) = line.split_once(" = ").with_context(|| line.to_owned())?;
        let file = Path::new("/proc/sys").join(name.replace('.', "/"));
        // A network of its own hides some of them from a container.
        let hidden = name.starts_with("net.") && !Path::new("/proc/sys/net/core").exists();
        ensure!(hidden || file.exists(), "the kernel has no {name}");
        set.insert(name.to_owned(), value.parse::<u64>()?);
    }
    assert_eq!(set["vm.overcommit_memory"], 1);
    let redis = fs::read_to_string(deploy("redis.conf"))?;
    let backlog = redis
        .lines()
        .find_map(|line| line.strip_prefix("tcp-backlog "));
    let backlog: u64 = backlog.context("a backlog")?.parse()?;
    ensure!(
        set["net.core.somaxconn"] >= backlog,
        "the kernel would cut it"
    );
    Ok(())
}
