//! `cloud lag`: one line for each stream, once or again and again.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use cloud::config::Config;
use cloud::stream::{Link, Redis, RedisFailure, Standing, finder, lag};

/// Between two looks.
const AGAIN: Duration = Duration::from_secs(2);

/// Prints until done; with `watch` that is never. The inner error is that of the terminal.
pub(crate) async fn act(
    config: &Config,
    watch: bool,
    json: bool,
) -> Result<io::Result<()>, RedisFailure> {
    let link = Link::new(Arc::new(Redis::new(&config.redis)?));
    loop {
        let mut streams = finder::named(&config.stream);
        streams.extend(finder::find(&link, &config.stream).await?);
        if let Some(sensors) = &config.sensors {
            streams.extend(finder::find(&link, sensors).await?);
        }
        let mut told = Vec::with_capacity(streams.len());
        lag::several(&link, streams.clone(), &config.stream.group, |it| {
            told.push(it);
        })
        .await;
        let mut standings = told.into_iter().collect::<Result<Vec<Standing>, _>>()?;
        // As they were found: telemetry before sensors.
        standings.sort_by_key(|it| streams.iter().position(|stream| *stream == it.stream));
        let printed = print(&standings, json);
        if printed.is_err() || !watch {
            return Ok(printed);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn print(standings: &[Standing], json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        for standing in standings {
            writeln!(out, "{}", standing.to_json())?;
        }
        return out.flush();
    }
    let widest = standings.iter().map(|s| s.stream.name.chars().count());
    let name = widest.max().unwrap_or(0).max("stream".len());
    writeln!(
        out,
        "{:name$}  {:>12}  {:>12}  {:>12}  {:>10}",
        "stream", "lag entries", "lag records", "pending", "oldest s"
    )?;
    for standing in standings {
        let records = told(standing.lag_records);
        let about = if standing.estimated { "~" } else { "" };
        writeln!(
            out,
            "{:name$}  {:>12}  {:>12}  {:>12}  {:>10}",
            standing.stream.name,
            told(standing.lag_entries),
            format!("{about}{records}"),
            told(standing.pending_entries),
            told(standing.age_s),
        )?;
    }
    out.flush()
}

fn told(number: Option<u64>) -> String {
    number.map_or_else(|| "?".to_owned(), |number| number.to_string())
}
