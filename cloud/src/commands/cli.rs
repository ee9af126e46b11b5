//! `cloud cmd`: give a tracker a command, see what became of it, take it back.
//!
//! Why only the database is asked: the table is the truth, and whoever may write there may give
//! commands, with or without this program.

use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use clap::Subcommand;
use codec::Imei;
use serde_json::{Value, json};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use thiserror::Error;

use super::give::{self, GiveError, Given};
use super::responses::uuid;
use super::state::Status;
use crate::store::{Database, DatabaseError, StoreError};

/// Between two looks while waiting for an outcome.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// More digits apart is another tracker, not a slip.
const SLIPS_MAX: usize = 3;

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub enum CmdVerb {
    /// Give a tracker a command. Prints its id; with --wait also what becomes of it.
    ///
    /// It waits in the table until the tracker is connected, and goes out at most once unless it is
    /// --idempotent. Exit codes with --wait: 0 the tracker answered, 1 anything else.
    Send {
        /// The 15 digits that stand on the tracker.
        imei: String,
        /// The command as the tracker reads it, for example getinfo.
        text: String,
        /// 12, or 14 to let the tracker compare its IMEI.
        #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(i16).range(12..=14))]
        codec: i16,
        /// How long it may wait for the tracker: 90s, 30m, 12h, 7d.
        #[arg(long, default_value = "24h")]
        expires: String,
        /// May be said twice without harm: repeated when nobody knows whether it arrived.
        #[arg(long)]
        idempotent: bool,
        /// Wait for the outcome and print each step.
        #[arg(long)]
        wait: bool,
        /// The tracker has never sent anything yet.
        #[arg(long)]
        new_device: bool,
    },
    /// List commands, the newest first.
    Ls {
        /// Of one tracker only.
        #[arg(long)]
        imei: Option<String>,
        /// In one status only: queued, routed, sent, unknown, timeout, expired, nacked or acked.
        #[arg(long)]
        status: Option<String>,
        /// This many at most.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=100_000))]
        most: i64,
    },
    /// Take a command back while it is queued.
    Cancel {
        /// Its id.
        cid: String,
    },
    /// Print the history of a command.
    Show {
        /// Its id.
        cid: String,
    },
}

/// Why it was not done.
#[derive(Debug, Error)]
pub enum CmdError {
    /// Correct the IMEI.
    #[error(
        "{given:?} is not an IMEI\n  why  an IMEI has 15 digits{}\n  do   give the number that stands on the tracker{}",
        counted(.given), did_you_mean(.nearest.as_ref())
    )]
    Imei {
        /// As typed.
        given: String,
        /// A tracker we know whose IMEI is like it.
        nearest: Option<String>,
    },
    /// Correct the IMEI, or say that the tracker is new.
    #[error(
        "no tracker {imei} is known\n  why  it is not in the table devices: it has never sent anything\n  do   correct the IMEI, or add --new-device{}",
        did_you_mean(.nearest.as_ref())
    )]
    NoDevice {
        /// As typed.
        imei: String,
        /// A tracker we know whose IMEI is like it.
        nearest: Option<String>,
    },
    /// Correct an option.
    #[error("--{option} {given:?} is not {expected}")]
    Option {
        /// Its name.
        option: &'static str,
        /// As typed.
        given: String,
        /// What it takes.
        expected: &'static str,
    },
    /// Correct the id.
    #[error(
        "there is no command {cid}\n  where  table commands in {url}\n  do     see `cloud cmd ls`"
    )]
    NoCommand {
        /// As typed.
        cid: String,
        /// Without its password.
        url: String,
    },
    /// Nothing can be done any more.
    #[error(
        "command {cid} cannot be cancelled\n  why  it is {status}: {}\n  do   see `cloud cmd show {cid}`",
        too_late(status)
    )]
    TooLate {
        /// Its id.
        cid: String,
        /// How far it is.
        status: &'static str,
    },
    /// The table refused the command.
    #[error(transparent)]
    Give(#[from] GiveError),
    /// Reach the database first.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The database refused something.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody reads our output.
    #[error("cannot write the result")]
    Output(#[from] std::io::Error),
}

impl CmdError {
    /// 1 failed, 2 usage, 3 cannot reach.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Imei { .. } | Self::NoDevice { .. } | Self::Option { .. } => 2,
            Self::Database(DatabaseError::Url { .. }) => 2,
            Self::Database(DatabaseError::Unreachable { .. } | DatabaseError::Silent { .. })
            | Self::Store(StoreError::Unreachable { .. }) => 3,
            _ => 1,
        }
    }
}

fn counted(given: &str) -> String {
    match given.bytes().filter(u8::is_ascii_digit).count() {
        count if count == given.len() => format!(", this has {count}"),
        _ => ", and nothing else".to_owned(),
    }
}

fn did_you_mean(imei: Option<&String>) -> String {
    imei.map_or_else(String::new, |imei| format!("; did you mean {imei}?"))
}

fn too_late(status: &str) -> &'static str {
    match Status::parse(status) {
        Some(status) if status.is_final() => "it is over",
        _ => "a gateway has it, and its tracker may have been told",
    }
}

/// Does what was asked for. Returns the exit code.
/// # Errors
/// [`CmdError`].
pub async fn run(database: &Database, verb: &CmdVerb, json: bool) -> Result<u8, CmdError> {
    let mut on = database.connect().await?;
    let code = match verb {
        CmdVerb::Send { .. } => send(&mut on, verb, json).await?,
        CmdVerb::Ls { imei, status, most } => {
            list(&mut on, imei.as_deref(), status.as_deref(), *most, json).await?
        }
        CmdVerb::Cancel { cid } => cancel(database, &mut on, cid, json).await?,
        CmdVerb::Show { cid } => show(database, &mut on, cid, json).await?,
    };
    // Politeness: the server would log a lost connection otherwise.
    let _ = on.close().await;
    Ok(code)
}

async fn send(on: &mut PgConnection, verb: &CmdVerb, json: bool) -> Result<u8, CmdError> {
    let CmdVerb::Send {
        imei,
        text,
        codec,
        expires,
        idempotent,
        wait,
        new_device,
    } = verb
    else {
        return Ok(2);
    };
    if *codec == 13 {
        return Err(CmdError::Option {
            option: "codec",
            given: "13".to_owned(),
            expected: "12 or 14 (Codec 13 goes from the tracker only)",
        });
    }
    let Some(expires_in) = settings::duration(expires) else {
        return Err(CmdError::Option {
            option: "expires",
            given: expires.clone(),
            expected: "a duration such as 90s, 30m, 12h or 7d",
        });
    };
    let number = known_imei(on, imei, *new_device).await?;
    let given = Given {
        imei: number,
        payload: text,
        codec: *codec,
        idempotent: *idempotent,
        expires_in,
        requested_by: std::env::var("USER").ok().filter(|name| !name.is_empty()),
    };
    let cid = give::give(&mut *on, &given).await?;
    let mut out = std::io::stdout();
    if json {
        let line = json!({"cid": cid, "imei": imei, "status": "queued"});
        writeln!(out, "{line}")?;
    } else {
        writeln!(out, "{cid}")?;
    }
    if *wait {
        follow(on, &cid, json).await
    } else {
        Ok(0)
    }
}

async fn known_imei(on: &mut PgConnection, given: &str, is_new: bool) -> Result<i64, CmdError> {
    let given = given.trim();
    let imei = Imei::parse(given.as_bytes());
    let number = imei.ok().and_then(|imei| i64::try_from(imei.as_u64()).ok());
    if let (Some(number), true) = (number, is_new) {
        return Ok(number);
    }
    let known: Vec<i64> = sqlx::query_scalar("SELECT imei FROM devices WHERE imei IS NOT NULL")
        .fetch_all(on)
        .await
        .map_err(|source| StoreError::new("reading devices", source))?;
    let nearest = || closest(given, &known);
    match number {
        Some(number) if known.contains(&number) => Ok(number),
        Some(_) => Err(CmdError::NoDevice {
            imei: given.to_owned(),
            nearest: nearest(),
        }),
        None => Err(CmdError::Imei {
            given: given.to_owned(),
            nearest: nearest(),
        }),
    }
}

/// The known IMEI that takes the fewest slips of the finger to `given`.
pub(crate) fn closest(given: &str, known: &[i64]) -> Option<String> {
    let known = known.iter().map(|imei| format!("{imei:015}"));
    let measured = known.map(|imei| (strsim::osa_distance(given, &imei), imei));
    let (slips, imei) = measured.min()?;
    (slips <= SLIPS_MAX).then_some(imei)
}

type Event = (
    i64,
    String,
    String,
    i32,
    Option<String>,
    Option<String>,
    Option<String>,
    bool,
);

/// Prints each step until the last one.
async fn follow(on: &mut PgConnection, cid: &str, json: bool) -> Result<u8, CmdError> {
    let mut out = std::io::stdout();
    let mut after = 0;
    loop {
        for event in events(on, cid, after).await? {
            after = event.0;
            print_event(&mut out, &event, json)?;
            let status = Status::parse(&event.2).filter(|_| event.7);
            if let Some(status) = status.filter(|status| status.is_final()) {
                return Ok(u8::from(status != Status::Acked));
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn events(on: &mut PgConnection, cid: &str, after: i64) -> Result<Vec<Event>, CmdError> {
    let events = sqlx::query_as(
        "SELECT id, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), status, \
             attempt, gateway, reason, reply, applied \
         FROM command_events WHERE command_id = $1::uuid AND id > $2 ORDER BY id",
    )
    .bind(cid)
    .bind(after)
    .fetch_all(on)
    .await
    .map_err(|source| StoreError::new("reading the history of a command", source))?;
    Ok(events)
}

fn print_event(out: &mut impl Write, event: &Event, json: bool) -> std::io::Result<()> {
    let (_, at, status, attempt, gateway, reason, reply, applied) = event;
    if json {
        let line = json!({
            "at": at, "status": status, "attempt": attempt, "gateway": gateway,
            "reason": reason, "reply": reply, "applied": applied,
        });
        return writeln!(out, "{line}");
    }
    write!(out, "{at}  {status:8}")?;
    if let Some(gateway) = gateway {
        write!(out, "  {gateway}")?;
    }
    if *attempt > 1 {
        write!(out, "  attempt {attempt}")?;
    }
    if let Some(reason) = reason {
        write!(out, "  ({reason})")?;
    }
    if !applied {
        write!(out, "  [too late to count]")?;
    }
    if let Some(reply) = reply {
        write!(out, "  {reply}")?;
    }
    writeln!(out)
}

async fn list(
    on: &mut PgConnection,
    imei: Option<&str>,
    status: Option<&str>,
    most: i64,
    json: bool,
) -> Result<u8, CmdError> {
    let imei = match imei.map(|given| (given, Imei::parse(given.trim().as_bytes()))) {
        Some((given, Err(_))) => {
            return Err(CmdError::Imei {
                given: given.to_owned(),
                nearest: None,
            });
        }
        Some((_, Ok(imei))) => i64::try_from(imei.as_u64()).ok(),
        None => None,
    };
    if let Some(given) = status.filter(|word| Status::parse(word).is_none()) {
        return Err(CmdError::Option {
            option: "status",
            given: given.to_owned(),
            expected: "queued, routed, sent, unknown, timeout, expired, nacked or acked",
        });
    }
    let rows: Vec<(Value,)> = sqlx::query_as(
        "SELECT to_jsonb(c) - '{seq,entry_id,retry_at}'::text[] \
             || jsonb_build_object('imei', lpad(imei::text, 15, '0')) \
         FROM commands c WHERE ($1::int8 IS NULL OR imei = $1) AND ($2::text IS NULL OR status = $2) \
         ORDER BY seq DESC LIMIT $3",
    )
    .bind(imei)
    .bind(status)
    .bind(most)
    .fetch_all(on)
    .await
    .map_err(|source| StoreError::new("listing commands", source))?;
    let mut out = std::io::stdout().lock();
    if rows.is_empty() && !json {
        writeln!(out, "no commands")?;
    }
    for (row,) in &rows {
        if json {
            writeln!(out, "{row}")?;
            continue;
        }
        let text = |name: &str| row[name].as_str().unwrap_or_default();
        let said = match text("reply") {
            "" => text("reason"),
            reply => reply,
        };
        let (id, imei, status, payload) =
            (text("id"), text("imei"), text("status"), text("payload"));
        writeln!(out, "{id}  {imei}  {status:8}  {payload}  {said}")?;
    }
    Ok(0)
}

async fn status_of(
    database: &Database,
    on: &mut PgConnection,
    cid: &str,
) -> Result<(String, &'static str), CmdError> {
    let missing = || CmdError::NoCommand {
        cid: cid.to_owned(),
        url: database.url().to_owned(),
    };
    let id = uuid(cid.trim()).ok_or_else(missing)?;
    let status: Option<String> =
        sqlx::query_scalar("SELECT status FROM commands WHERE id = $1::uuid")
            .bind(&id)
            .fetch_optional(on)
            .await
            .map_err(|source| StoreError::new("reading a command", source))?;
    let status = status.as_deref().and_then(Status::parse);
    Ok((id, status.ok_or_else(missing)?.as_str()))
}

async fn cancel(
    database: &Database,
    on: &mut PgConnection,
    cid: &str,
    json: bool,
) -> Result<u8, CmdError> {
    let (id, _) = status_of(database, on, cid).await?;
    if !give::cancel(&mut *on, &id).await? {
        let (cid, status) = status_of(database, on, &id).await?;
        return Err(CmdError::TooLate { cid, status });
    }
    let mut out = std::io::stdout().lock();
    if json {
        let line = json!({"cid": id, "status": "nacked", "reason": "cancelled"});
        writeln!(out, "{line}")?;
    } else {
        writeln!(out, "cancelled {id}")?;
    }
    Ok(0)
}

async fn show(
    database: &Database,
    on: &mut PgConnection,
    cid: &str,
    json: bool,
) -> Result<u8, CmdError> {
    let (id, _) = status_of(database, on, cid).await?;
    let (row,): (Value,) = sqlx::query_as(
        "SELECT to_jsonb(c) || jsonb_build_object('imei', lpad(imei::text, 15, '0')) \
         FROM commands c WHERE id = $1::uuid",
    )
    .bind(&id)
    .fetch_one(&mut *on)
    .await
    .map_err(|source| StoreError::new("reading a command", source))?;
    let events = events(on, &id, 0).await?;
    let mut out = std::io::stdout().lock();
    if !json {
        let fields: HashMap<&str, &str> = ["imei", "payload", "requested_by", "expires_at"]
            .map(|name| (name, row[name].as_str().unwrap_or_default()))
            .into();
        writeln!(
            out,
            "{id}\n  tracker  {}\n  command  {} (Codec {}{})\n  by       {}\n  expires  {}",
            fields["imei"],
            fields["payload"],
            row["codec"],
            if row["idempotent"] == true {
                ", may be repeated"
            } else {
                ""
            },
            fields["requested_by"],
            fields["expires_at"],
        )?;
    }
    for event in &events {
        print_event(&mut out, event, json)?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_tracker_that_was_meant_and_another_number_finds_none() {
        let known = [350_000_000_000_017, 356_307_042_441_013];
        let find = |given| closest(given, &known);
        assert_eq!(find("356307042441031").as_deref(), Some("356307042441013"));
        assert_eq!(find("35630704244101").as_deref(), Some("356307042441013"));
        assert_eq!(find("350000000000018").as_deref(), Some("350000000000017"));
        assert_eq!(find("867648042441555"), None);
        assert_eq!(closest("356307042441013", &[]), None);
    }

    #[test]
    fn errors_say_what_why_and_what_to_do() {
        let error = CmdError::Imei {
            given: "35630704244101".to_owned(),
            nearest: Some("356307042441013".to_owned()),
        };
        let text = error.to_string();
        for part in ["why", "do ", "this has 14", "did you mean 356307042441013?"] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(error.exit_code(), 2);
        let late = CmdError::TooLate {
            cid: "c".to_owned(),
            status: "sent",
        };
        assert!(late.to_string().contains("a gateway has it"), "{late}");
        assert_eq!(late.exit_code(), 1);
    }
}
