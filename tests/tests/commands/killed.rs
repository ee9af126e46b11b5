//! The cloud is killed at every place of the list that a command passes. Each tracker hears each
//! command at most once, and every command comes to an end.

use anyhow::{Context as _, Result};
use tests::fail_points::{Scenario, arm, died, of};
use tests::tables::eventually;

use super::yard::{IMEI, Obedient, Yard};

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_place_a_command_passes_it_is_said_at_most_once_and_comes_to_an_end()
-> Result<()> {
    let mut yard = Yard::new(&[("commands.answer_max", "3s".into())]).await?;
    let gateway = yard.gateway("gw-a", &[]).await?;
    let tracker = yard.tracker(&gateway, "gw-a", IMEI).await?;
    let tracker = Obedient::new(tracker);
    let mut said = Vec::new();
    for name in of(Scenario::Commands)? {
        arm(&mut yard.cloud, name, 1).await;
        let cid = yard.insert(IMEI, name).await?;
        died(&mut yard.cloud, name).await?;
        yard.cloud.restart().await?;
        // Committed and not given: nothing proves that nobody was told, so nobody is.
        let end = match name {
            "command-taken" => "unknown",
            _ => "acked",
        };
        let row = yard.until(&cid, end).await.context(name)?;
        assert_eq!(row.attempt, 1, "{name}");
        if end == "acked" {
            said.push(name.to_owned());
        }
    }
    assert_eq!(tracker.told(), said);
    eventually("no response is left", async || {
        Ok(yard.cloud.status().await?["trouble"].is_null())
    })
    .await?;
    let letters = yard.count("SELECT count(*) FROM dead_letters").await?;
    assert_eq!(letters, 0);
    Ok(())
}
