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
            .env("TABLE_NAME", "readings")
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
async fn who_may_see_the_web_app_is_looked_at() -> Result<()> {
    let stage = Stage::start().await?;
    let wide = || set("http.listen", "0.0.0.0:8081");
    stage.expect(&[
        Case::new("no file of tokens", "E-WEB-001")
            .edit(vec![set("web.tokens", "/nowhere/tokens.txt")])
            .says("/nowhere/tokens.txt"),
        Case::new("no tokens in it", "E-WEB-001")
            .edit(vec![set("web.tokens", "/etc/passwd")])
            .says("line 1"),
        Case::new("without TLS", "W-WEB-101")
            .edit(vec![set("web.tokens", "/dev/null"), wide()])
            .says("0.0.0.0:8081"),
        Case::new("open to the network", "E-CNF-004")
            .edit(vec![set("web.open", "read"), wide()])
            .says("cloud web token new"),
        Case::new("open beside tokens", "W-CNF-101")
            .edit(vec![
                set("web.open", "read"),
                set("web.tokens", "/dev/null"),
            ])
            .says("everybody needs a token"),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_the_socket_is_looked_at_instead() -> Result<()> {
    let stage = Stage::start().await?;
    let at = |path: &str| vec![set("spool.socket", path)];
    stage.expect(&[
        Case::new("no directory", "E-SOC-002")
            .edit(at("/nowhere/uplink.sock"))
            .says("No such file"),
        Case::new("another file", "E-SOC-001")
            .edit(at("/etc/passwd"))
            .says("is no socket"),
        Case::new("copies of dead letters", "W-CNF-101")
            .edit(vec![
                set("spool.socket", "/tmp/milepost-nobody.sock"),
                set("stream.dead_letter", "dead-letter:telemetry"),
            ])
            .says("no Redis for copies"),
    ])?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("uplink.sock");
    let case = Case::new("nobody yet", "").edit(at(path.to_str().unwrap()));
    let (found, exit) = stage.check(&case)?;
    let of = |part: &str| found.iter().filter(|it| it["part"] == part).count();
    assert_eq!(
        (exit, of("socket"), of("redis"), of("stream")),
        (0, 1, 1, 1),
        "{found:?}"
    );
    Ok(())
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
