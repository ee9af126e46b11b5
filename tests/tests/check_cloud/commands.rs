//! The way of commands.

use anyhow::Result;

use super::stage::{Case, Row, Stage, set};

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_on_the_way_of_commands_are_named() -> Result<()> {
    let stage = Stage::start().await?;
    let triggers: &[Row] = &[
        (
            "a trigger is off",
            &["ALTER TABLE commands DISABLE TRIGGER commands_told"],
            "E-CMD-001",
            "ENABLE TRIGGER commands_told",
            &["ALTER TABLE commands ENABLE TRIGGER commands_told"],
        ),
        (
            "a trigger is gone",
            &["ALTER TABLE commands RENAME TO kept; CREATE TABLE commands (LIKE kept)"],
            "E-CMD-001",
            "commands_guard",
            &["DROP TABLE commands; ALTER TABLE kept RENAME TO commands"],
        ),
    ];
    stage.expect_in_database(triggers).await?;
    let rows: &[Row] = &[
        (
            "a registry of another kind",
            &["SET connections:registry x"],
            "E-CMD-002",
            "connections:registry is a string",
            &["DEL connections:registry"],
        ),
        (
            "responses of another kind",
            &["RPUSH commands:responses x"],
            "E-CMD-002",
            "commands:responses is a list",
            &["DEL commands:responses"],
        ),
        (
            "no scripts",
            &["ACL SETUSER processor -eval"],
            "E-CMD-003",
            "+eval",
            &["ACL LOAD"],
        ),
        (
            "no heartbeats to read",
            &["ACL SETUSER processor -mget"],
            "E-CMD-003",
            "%R~instance:heartbeat:* +mget",
            &["ACL LOAD"],
        ),
        (
            "no registry to read",
            &["ACL SETUSER processor -hscan"],
            "E-CMD-003",
            "HSCAN connections:registry",
            &["ACL LOAD"],
        ),
        (
            "nobody records responses",
            &["XADD commands:responses * v 1"],
            "W-CMD-101",
            "no group commands",
            &["DEL commands:responses"],
        ),
        (
            "responses wait",
            &[
                "XADD commands:responses 7-1 v 1",
                "XGROUP CREATE commands:responses commands 0",
            ],
            "W-CMD-102",
            "the oldest for",
            &["DEL commands:responses"],
        ),
        (
            "a gateway is gone",
            &["HSET connections:registry 356307042441013 gw-gone"],
            "W-CMD-103",
            "gw-gone",
            &["DEL connections:registry"],
        ),
    ];
    stage.expect_in_redis(rows).await?;
    // Where no commands are wanted, none of it matters.
    stage
        .redis
        .admin_does(&["SET connections:registry x"])
        .await?;
    let off = Case::new("off", "").edit(vec![set("commands.enabled", false)]);
    let (found, exit) = stage.check(&off)?;
    assert_eq!(exit, 0, "{found:#?}");
    let part: Vec<_> = found.iter().filter(|it| it["part"] == "commands").collect();
    assert!(part.len() == 1 && part[0]["mark"] == "skipped", "{part:?}");
    Ok(())
}
