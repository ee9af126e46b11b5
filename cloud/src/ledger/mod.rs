//! `cloud ledger`: what became of every record that was acknowledged to a tracker.
//!
//! Why: "nothing is lost" is a sum, and a sum can be checked. Of all gateways it is checked against
//! the dead letters and the low edges; of one tracker against every record of its raw frames.
//!
//! Invariant: read only. Exit code 4 only for what is gone for good.

pub(crate) mod in_flight;
pub mod judge;

use std::collections::HashSet;
use std::io::Write as _;

use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::json;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use self::judge::{Balance, Fate, InFlight};
use crate::config::Config;
use crate::decode;
use crate::metrics::now_ms;
use crate::operator::progress::Progress;
use crate::operator::{VerbError, moment, tracker};
use crate::store::Database;
use crate::store::accounts::{self, Sums};
use crate::store::frames::{self, Span, Stored};
use crate::stream::RedisFailure;
use crate::stream::consumer::chained;

/// Records of a tracker that are named when they are missing.
const NAMED_MAX: usize = 20;

/// Data at risk.
const AT_RISK: u8 = 4;

/// Of what.
#[derive(Debug, Args)]
pub struct LedgerArgs {
    /// Only of this tracker (IMEI): every record of its raw frames is looked for.
    #[arg(long, value_name = "IMEI")]
    device: Option<String>,
    /// Of the last so long: 90s, 24h, 7d; `all` for ever.
    #[arg(long, value_name = "AGE", default_value = "24h")]
    since: String,
}

/// Draws it up. Returns the exit code: 4 when it does not balance.
/// # Errors
/// [`VerbError`].
pub async fn run(config: &Config, args: &LedgerArgs, json: bool) -> Result<u8, VerbError> {
    let since_ms = match args.since.trim() {
        "all" => None,
        text => {
            let age = settings::duration(text).ok_or_else(|| VerbError::Option {
                option: "--since",
                given: args.since.clone(),
                expected: "a duration such as 90s, 30m, 24h or 7d, or all".to_owned(),
            })?;
            Some(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
        }
    };
    let database = Database::new(&config.database)?;
    let mut on = database.connect().await?;
    let code = match &args.device {
        Some(imei) => of_tracker(config, &mut on, imei, since_ms, json).await?,
        None => of_all(config, &mut on, since_ms, json).await?,
    };
    let _ = on.close().await;
    Ok(code)
}

async fn of_all(
    config: &Config,
    on: &mut PgConnection,
    since_ms: Option<i64>,
    json: bool,
) -> Result<u8, VerbError> {
    // The streams first: what is settled meanwhile then counts on both sides, and not on neither.
    let (in_flight, silent) = match in_flight::of(config).await? {
        Ok(in_flight) => (in_flight, None),
        Err(failure) => (InFlight::default(), Some(failure)),
    };
    let balance = Balance {
        sums: accounts::sums(on, since_ms).await?,
        in_flight,
        letters_gone: accounts::letters_gone(on).await?,
        positions_gone: accounts::positions_gone(on).await?,
    };
    let unaccounted = balance.unaccounted();
    let total = balance.total();
    let mut out = std::io::stdout().lock();
    if json {
        for sums in &balance.sums {
            let mut line = judge::columns(sums);
            line.insert("gateway".to_owned(), json!(sums.gateway));
            writeln!(out, "{}", json!(line))?;
        }
        let mut line = judge::columns(&total);
        line.insert("in_flight".to_owned(), json!(in_flight.records));
        line.insert("in_flight_estimated".to_owned(), json!(in_flight.estimated));
        line.insert("balanced".to_owned(), json!(unaccounted.is_empty()));
        line.insert("unaccounted".to_owned(), json!(unaccounted));
        writeln!(out, "{}", json!(line))?;
    } else {
        writeln!(out, "{}", judge::equation(&total, in_flight))?;
        if balance.sums.len() > 1 {
            for sums in &balance.sums {
                let none = InFlight {
                    records: Some(0),
                    estimated: false,
                };
                let equation = judge::equation(sums, none);
                let equation = equation.trim_end_matches(" + in flight 0");
                writeln!(out, "  {}: {equation}", sums.gateway)?;
            }
        }
        match unaccounted.is_empty() {
            true => writeln!(out, "✓ nothing unaccounted")?,
            false => {
                for sentence in &unaccounted {
                    writeln!(out, "✗ {sentence}")?;
                }
            }
        }
    }
    Ok(match (unaccounted.is_empty(), silent) {
        (false, _) => AT_RISK,
        (true, None) => 0,
        (true, Some(failure)) => without_redis(&failure),
    })
}

/// The tables are told all the same.
fn without_redis(failure: &RedisFailure) -> u8 {
    let _ = writeln!(
        std::io::stderr().lock(),
        "what is in flight is not known: {}",
        chained(failure)
    );
    3
}

#[derive(Debug, Default)]
struct Found {
    sums: Sums,
    expired: u64,
    missing: u64,
    named: Vec<String>,
}

async fn of_tracker(
    config: &Config,
    on: &mut PgConnection,
    imei: &str,
    since_ms: Option<i64>,
    json: bool,
) -> Result<u8, VerbError> {
    let device = tracker::find(on, imei).await?;
    let now = moment::at_ms(now_ms());
    let Some(oldest) = frames::oldest(on).await? else {
        let what = "the ledger of a tracker cannot be drawn up";
        return Err(VerbError::NoFrames { what });
    };
    let wanted = match since_ms {
        Some(ms) => now.checked_sub_signed(chrono::Duration::milliseconds(ms)),
        None => None,
    };
    let retention = config
        .policies
        .retention
        .and_then(|age| chrono::Duration::from_std(age).ok());
    let kept_from = retention.and_then(|age| now.checked_sub_signed(age));
    let from = wanted.map_or(oldest, |from| from.max(oldest));
    if wanted.is_some_and(|wanted| wanted < oldest) || since_ms.is_none() {
        let oldest = moment::text(oldest);
        let _ = writeln!(
            std::io::stderr().lock(),
            "note: raw frames are kept since {oldest}; what came before is not looked at"
        );
    }
    let span = Span {
        from,
        // A gateway's clock may be ahead of ours.
        to: DateTime::<Utc>::MAX_UTC.min(now + chrono::Duration::days(1)),
        device: Some(device),
    };
    let mut found = Found::default();
    let mut progress = Progress::new("frames");
    let (mut after, mut count) = (None, 0);
    loop {
        let page = frames::page(on, &span, after).await?;
        count += page.frames.len() as u64;
        add(on, device, page.frames, kept_from, &mut found).await?;
        progress.tell(count, None, "");
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    progress.clear();
    let mut out = std::io::stdout().lock();
    let (imei, sums) = (imei.trim(), &found.sums);
    if json {
        let mut line = judge::columns(sums);
        line.insert("device".to_owned(), json!(imei));
        line.insert("from".to_owned(), json!(moment::text(from)));
        line.insert("frames".to_owned(), json!(count));
        line.insert("expired".to_owned(), json!(found.expired));
        line.insert("missing".to_owned(), json!(found.missing));
        line.insert("balanced".to_owned(), json!(found.missing == 0));
        writeln!(out, "{}", json!(line))?;
    } else {
        writeln!(
            out,
            "{imei} since {}: {} frames, {} records = stored {} + quarantined {} + duplicate {} + dead letters {} + dropped {} + expired {}",
            moment::text(from),
            count,
            sums.received,
            sums.stored,
            sums.quarantined,
            sums.duplicate,
            sums.dead,
            sums.dropped,
            found.expired,
        )?;
        for record in &found.named {
            writeln!(out, "✗ missing: {record}")?;
        }
        match found.missing {
            0 => writeln!(out, "✓ nothing unaccounted")?,
            missing => writeln!(
                out,
                "✗ {missing} records have no row; `cloud replay --from {} --imei {imei}` puts them back",
                moment::text(from)
            )?,
        }
    }
    Ok(if found.missing == 0 { 0 } else { AT_RISK })
}

async fn add(
    on: &mut PgConnection,
    device: i32,
    frames: Vec<Stored>,
    kept_from: Option<DateTime<Utc>>,
    found: &mut Found,
) -> Result<(), VerbError> {
    let mut records = Vec::new();
    for stored in frames {
        let received_at = stored.at.0;
        let count = i64::from(stored.frame.record_count);
        if stored.dead.contains(&-1) {
            found.sums.received += count;
            found.sums.dead += count;
            continue;
        }
        let unit = decode::frame(stored.place, stored.frame, stored.seen_ms);
        // Nobody can read it and it is no dead letter: an operator dropped that one. Letters that
        // went any other way show in the ledger of all gateways.
        if !unit.dead_letters.is_empty() {
            found.sums.received += count;
            found.sums.dropped += count;
            continue;
        }
        records.extend(unit.records.iter().map(|record| {
            let key = (record.device_time_ms.cast_signed(), record.hash);
            let index = i32::try_from(record.index).unwrap_or(i32::MAX);
            (key, received_at, stored.dead.contains(&index))
        }));
    }
    let keys: HashSet<_> = records.iter().map(|(key, ..)| *key).collect();
    let rows = accounts::rows(on, device, &keys).await?;
    let mut seen = HashSet::new();
    for (key, received_at, is_dead) in records {
        let is_repeated = !seen.insert((key, received_at));
        found.sums.received += 1;
        match judge::fate(key, received_at, is_dead, is_repeated, &rows, kept_from) {
            Fate::Stored => found.sums.stored += 1,
            Fate::Quarantined => found.sums.quarantined += 1,
            Fate::Duplicate => found.sums.duplicate += 1,
            Fate::Dead => found.sums.dead += 1,
            Fate::Expired => found.expired += 1,
            Fate::Missing => {
                found.missing += 1;
                let time = DateTime::from_timestamp_millis(key.0)
                    .map_or_else(|| format!("{} ms", key.0), moment::text);
                name(
                    found,
                    format!("record of {time}, received {}", moment::text(received_at)),
                );
            }
        }
    }
    Ok(())
}

fn name(found: &mut Found, record: String) {
    if found.named.len() < NAMED_MAX {
        found.named.push(record);
    }
}
