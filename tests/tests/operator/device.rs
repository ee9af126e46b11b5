//! Trackers: listed, shown, exported, and read by the family that a person says.

use anyhow::{Context as _, Result, ensure};
use tests::batches::SpoolOf;

use super::stage::{IMEI, OTHER, Stage, record};

#[tokio::test(flavor = "multi_thread")]
async fn the_family_that_a_person_sets_beats_the_guess() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut spool = SpoolOf::new("depot", 1)?;
    stage
        .send(&mut spool, &[record(IMEI, 0)?, record(OTHER, 1)?])
        .await?;
    stage
        .tables
        .wait_for("SELECT count(*) FROM positions", 2)
        .await?;
    stage.tables.run("UPDATE devices SET family_guess = 'fmx150', family_confidence = 0.95 WHERE imei = 350000000000017").await?;
    let family = "SELECT device_family(id) FROM devices WHERE imei = 350000000000017";
    let said = stage
        .ask(&["device", "show", "350000000000017"])
        .await?
        .ended(0)?;
    said.has(&[
        "fmx150 (guessed from the ids it sends, 95 % sure)",
        "54.68701, -25.27970",
        "2026-09-21T14:13:20.000Z",
    ])?;

    let said = stage
        .ask(&[
            "device",
            "set-model",
            "350000000000017",
            "FMX6",
            "--model",
            "FMC650",
            "--name",
            "van, 7",
        ])
        .await?;
    said.ended(0)?.has(&[
        "fmx6 (set by an operator; the ids it sends speak for fmx150)",
        "FMC650",
    ])?;
    let (set,): (String,) = stage.tables.one(family).await?;
    ensure!(set == "fmx6", "{set}");
    let told = stage
        .ask(&["--json", "device", "show", "350000000000017"])
        .await?
        .ended(0)?
        .json()?;
    ensure!(
        told["family"] == "fmx6"
            && told["family_source"] == "set"
            && told["family_guess"] == "fmx150",
        "{told}"
    );

    stage.ask(&["device", "ls"]).await?.ended(0)?.has(&[
        "350000000000017  fmx6     set",
        "350000000000025  *        common",
    ])?;
    let said = stage
        .ask(&["device", "export", "--format", "csv"])
        .await?
        .ended(0)?;
    let mut lines = said.out.lines();
    ensure!(
        lines
            .next()
            .context("a header")?
            .starts_with("device,name,vendor,model,family,")
    );
    ensure!(
        lines
            .next()
            .context("a row")?
            .starts_with("350000000000017,\"van, 7\",teltonika,FMC650,fmx6,set,"),
        "{said:?}"
    );
    ensure!(lines.count() == 1);
    let said = stage.ask(&["device", "export"]).await?.ended(0)?;
    ensure!(
        said.out.lines().count() == 2 && said.json()?["imei"] == "350000000000025",
        "{said:?}"
    );

    stage
        .ask(&["device", "set-model", "350000000000017", "auto"])
        .await?
        .ended(0)?
        .has(&["fmx150 (guessed"])?;
    let (guessed,): (String,) = stage.tables.one(family).await?;
    ensure!(guessed == "fmx150", "{guessed}");
    let (model,): (String,) = stage
        .tables
        .one("SELECT model FROM devices WHERE imei = 350000000000017")
        .await?;
    ensure!(model == "FMC650", "what was not named stays");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn slips_of_the_finger_are_caught() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut spool = SpoolOf::new("depot", 1)?;
    stage.send(&mut spool, &[record(IMEI, 0)?]).await?;
    stage
        .tables
        .wait_for("SELECT count(*) FROM positions", 1)
        .await?;
    let cases: [(&[&str], i32, &str); 4] = [
        (&["device", "show", "35000000000001"], 2, "15 digits"),
        (
            &["device", "show", "350000000000071"],
            1,
            "did you mean 350000000000017?",
        ),
        (
            &["device", "set-model", "350000000000017", "FMC650"],
            2,
            "fmx150",
        ),
        (&["device", "export", "--format", "xml"], 2, "ndjson"),
    ];
    for (words, code, part) in cases {
        stage.ask(words).await?.ended(code)?.has(&[part])?;
    }
    let (set,): (Option<String>,) = stage.tables.one("SELECT family FROM devices").await?;
    ensure!(set.is_none(), "{set:?}");
    // Nobody is there to ask.
    stage.postgres.stop().await?;
    stage
        .ask(&["device", "ls"])
        .await?
        .ended(3)?
        .has(&["cannot reach"])?;
    Ok(())
}
