//! What was typed.

use anyhow::Result;

use super::stage::{Case, Stage, remove, set};

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_the_settings_are_named() -> Result<()> {
    let stage = Stage::start().await?;
    stage.expect(&[
        Case::new("key", "E-CNF-003")
            .edit(vec![set("redis.hots", "x")])
            .says("redis.host"),
        Case::new("table", "E-CNF-003")
            .tail("[databaes]\nurl = 1\n")
            .says("[database]"),
        Case::new("variable", "E-CNF-003")
            .env("CLOUD__STREAM__GRUOP", "x")
            .says("CLOUD__STREAM__GROUP"),
        Case::new("value", "E-CNF-004")
            .edit(vec![set("store.writers", 99)])
            .says("1 to 16"),
        Case::new("founding value", "E-CNF-004")
            .env("BATCH_TIMEOUT_SEC", "soon")
            .says("seconds"),
        Case::new("another table", "E-CNF-004")
            .env("TABLE_NAME", "sensor_readings")
            .says("make a view"),
        Case::new("log level", "E-CNF-004")
            .env("LOG_LEVEL", "loud")
            .says("loud"),
        Case::new("half an identity", "E-CNF-004")
            .edit(vec![remove("redis.key")])
            .says("redis.key"),
        Case::new("file", "E-CNF-001")
            .file("/nowhere/cloud.toml")
            .says("/nowhere/cloud.toml"),
        Case::new("TOML", "E-CNF-002")
            .tail("[log]\nlevel = info\n")
            .says("line"),
        Case::new("secret's file", "E-CNF-005")
            .env("REDIS_PASSWORD_FILE", "/nowhere/pw")
            .says("/nowhere/pw"),
        Case::new("two secrets", "E-CNF-005")
            .env("REDIS_PASSWORD_FILE", "/nowhere/pw")
            .env("REDIS_PASSWORD", "x")
            .says("REDIS_PASSWORD"),
        Case::new("part beside the address", "W-CNF-101")
            .env("REDIS_HOST", "elsewhere")
            .says("redis.url wins"),
        Case::new("pool", "W-CNF-101")
            .env("REDIS_MAX_CONNECTIONS", "20")
            .says("no pool"),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn config_show_tells_where_each_value_came_from() -> Result<()> {
    let stage = Stage::start().await?;
    let (rows, exit) = stage.run(&["config", "show", "--origin"])?;
    let origin = |key: &str| {
        let row = rows.iter().find(|row| row["key"] == key).unwrap();
        row["origin"].as_str().unwrap().to_owned()
    };
    assert_eq!(exit, 0);
    assert_eq!(origin("stream.name"), "default");
    let url = origin("redis.url");
    assert!(url.contains("cloud.toml:"), "{url}");
    let shown = rows.iter().find(|row| row["key"] == "redis.url").unwrap();
    let value = shown["value"].as_str().unwrap();
    assert!(value.contains("processor:***@"), "{value}");
    let output = std::process::Command::new(tests::processes::program_path("cloud")?)
        .args(["config", "show", "--origin"])
        .env_clear()
        .envs([
            ("REDIS_HOST", "redis.internal"),
            ("REDIS_PASSWORD", "p@ss"),
            ("BATCH_SIZE", "500"),
        ])
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    for words in [
        "env REDIS_HOST",
        "env BATCH_SIZE",
        "redis.url is made of redis.host, redis.password: redis://:***@redis.internal:6379/0",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    assert!(!text.contains("p@ss") && !text.contains("p%40ss"), "{text}");
    Ok(())
}
