//! `cloud site`: reads what was asked for, calls one thing, says what became of it and what is left
//! to do.

use std::io::Write;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Subcommand;
use cloud::config::Config;
use cloud::site::act::{self, Added, ShutOut, Standing, User, Wanted};
use cloud::site::users::Kept;
use cloud::site::{SiteError, date};
use contract::keys;
use serde_json::json;

const DAY_MS: u64 = 86_400_000;

/// Below, it is time to renew: a box that nobody visits takes a while to reach.
const SOON_DAYS: u64 = 30;

#[derive(Subcommand)]
pub(crate) enum SiteVerb {
    /// Let a new box in: certificate, Redis user and settings in one bundle.
    ///
    /// The bundle is for `gateway config import`. Hand it over as you would a password. The user in
    /// Redis is made with site.admin_url; where that may not make users, or with --no-redis, the line
    /// to run is printed. Asking again says that the site is there, and makes its user again where
    /// Redis has lost it.
    ///
    /// Examples:
    ///   cloud site add depot-vilnius-1 --url rediss://redis.example:6380
    ///   cloud site add depot-vilnius-1 --renew         a new certificate before the old one ends
    ///   cloud site add depot-vilnius-1 --dry-run
    ///   cloud site add depot-2 --ca-cert ca.crt --ca-key ca.key --days 30
    #[command(verbatim_doc_comment)]
    Add {
        /// Its name; also its gateway.id and its user in Redis.
        name: String,
        /// Where the bundle will be imported to on the box.
        #[arg(long, value_name = "DIR", default_value = "/etc/milepost")]
        dir: PathBuf,
        /// How long its certificate lasts.
        #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3_650))]
        days: u32,
        /// Sign with this authority instead of the one in site.dir: its certificate, PEM.
        #[arg(long, value_name = "FILE", requires = "ca_key")]
        ca_cert: Option<PathBuf>,
        /// Its key, PEM (PKCS #8); it is read and not kept.
        #[arg(long, value_name = "FILE", requires = "ca_cert")]
        ca_key: Option<PathBuf>,
        /// Where gateways reach Redis, rediss://host:port, without a login. Default: site.url.
        #[arg(long, value_name = "URL")]
        url: Option<String>,
        /// The bundle. Default: NAME.bundle here.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// A new certificate and a new password for a site that is there or was shut out.
        #[arg(long)]
        renew: bool,
        /// Leave Redis alone and print the line for its administrator.
        #[arg(long)]
        no_redis: bool,
        /// It is a Redis Cluster: one right more.
        #[arg(long)]
        cluster: bool,
        /// Say what would be done, change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// List the sites: certificate, Redis user, last sign of life.
    Ls,
    /// Shut a box out, at once: remove its Redis user, cut its connections, revoke its certificates.
    ///
    /// What it has spooled stays with it. `cloud site add NAME --renew` lets it in again.
    ///
    /// Examples:
    ///   cloud site revoke depot-vilnius-1 --dry-run
    ///   cloud site revoke depot-vilnius-1 --yes
    #[command(verbatim_doc_comment)]
    Revoke {
        /// Its name.
        name: String,
        /// The authority that signed it, if it is not the one in site.dir: its certificate, PEM.
        #[arg(long, value_name = "FILE", requires = "ca_key")]
        ca_cert: Option<PathBuf>,
        /// Its key, PEM.
        #[arg(long, value_name = "FILE", requires = "ca_cert")]
        ca_key: Option<PathBuf>,
        /// Its user was removed from Redis by hand.
        #[arg(long)]
        no_redis: bool,
        /// Do it.
        #[arg(long)]
        yes: bool,
        /// Say what would be done, change nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// Does what was asked for. Returns the exit code.
pub(crate) async fn act(config: &Config, verb: &SiteVerb, json: bool) -> Result<u8, SiteError> {
    match verb {
        SiteVerb::Add {
            name,
            dir,
            days,
            ca_cert,
            ca_key,
            url,
            out,
            renew,
            no_redis,
            cluster,
            dry_run,
        } => {
            let here = || PathBuf::from(format!("{name}.bundle"));
            let wanted = Wanted {
                name: name.clone(),
                dir: dir.clone(),
                days: *days,
                authority: ca_cert.clone().zip(ca_key.clone()),
                url: url.clone(),
                out: out.clone().unwrap_or_else(here),
                renew: *renew,
                no_redis: *no_redis,
                in_cluster: *cluster,
                dry_run: *dry_run,
            };
            let added = act::add(config, &wanted, now_ms()).await?;
            let told = if json {
                added_json(&added, *dry_run)
            } else {
                added_text(&added, &wanted)
            };
            told.map_err(SiteError::Output)?;
            Ok(0)
        }
        SiteVerb::Ls => {
            let (standings, failure) = act::list(config).await?;
            listed(&standings, json).map_err(SiteError::Output)?;
            // The list stands, and what Redis would have added is missing.
            failure.map_or(Ok(0), |failure| Err(SiteError::Redis(failure)))
        }
        SiteVerb::Revoke {
            name,
            ca_cert,
            ca_key,
            no_redis,
            yes,
            dry_run,
        } => {
            let (_, site) = act::known(config, name)?;
            if *dry_run {
                would_revoke(&site, json).map_err(SiteError::Output)?;
                return Ok(0);
            }
            if !*yes {
                let name = name.clone();
                return Err(SiteError::Yes { name });
            }
            let authority = ca_cert.clone().zip(ca_key.clone());
            let done = act::revoke(config, name, authority.as_ref(), *no_redis, now_ms()).await;
            if let Err(SiteError::StillIn { .. }) = &done {
                by_hand(name, json).map_err(SiteError::Output)?;
            }
            revoked(&done?, json).map_err(SiteError::Output)?;
            Ok(0)
        }
    }
}

fn added_json(added: &Added, dry_run: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let (user, line) = match &added.user {
        User::There => ("there", None),
        User::Made(Kept::Saved) => ("made", None),
        User::Made(Kept::Unsaved) => ("made, not saved", None),
        User::ToDo(words) => ("to do", Some(words.join(" "))),
    };
    let site = &added.site;
    let line = json!({
        "site": site.name, "gateway": site.name, "redis_user": site.name, "url": site.url,
        "exists": added.bundle.is_none(), "dry_run": dry_run,
        "bundle": added.bundle.as_ref().map(|path| path.display().to_string()),
        "certificate_until": site.ends_ms().map(date), "user": user, "to_run": line,
        "new_authority": added.new_authority.as_ref().map(|path| path.display().to_string()),
    });
    writeln!(out, "{line}")
}

fn added_text(added: &Added, wanted: &Wanted) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let site = &added.site;
    let name = &site.name;
    let until = site.ends_ms().map_or_else(|| "?".to_owned(), date);
    match (&added.bundle, wanted.dry_run) {
        (None, _) => writeln!(
            out,
            "site {name} is there already; its certificate lasts until {until}. --renew makes a new bundle"
        )?,
        (Some(bundle), true) => {
            if let Some(path) = &added.new_authority {
                writeln!(out, "authority    {} would be made", path.display())?;
            }
            writeln!(out, "certificate  would last {} days", wanted.days)?;
            writeln!(out, "bundle       {} would be written", bundle.display())?;
            let says = if wanted.no_redis { "printed" } else { "made" };
            writeln!(out, "Redis user   {name} would be {says}")?;
            return Ok(());
        }
        (Some(bundle), false) => {
            writeln!(out, "certificate  lasts until {until}")?;
            writeln!(
                out,
                "bundle       {}  (it holds a key and a password: hand it over as such)",
                bundle.display()
            )?;
        }
    }
    match &added.user {
        User::There => {}
        User::Made(Kept::Saved) => writeln!(out, "Redis user   {name} is made and saved")?,
        User::Made(Kept::Unsaved) => writeln!(
            out,
            "Redis user   {name} is made until Redis restarts: it did not save its ACL. Add the line of `ACL LIST` to its file"
        )?,
        User::ToDo(words) => {
            writeln!(
                out,
                "Redis user   to be made by an administrator of Redis, in redis-cli:"
            )?;
            writeln!(out, "{}", words.join(" "))?;
            writeln!(out, "ACL SAVE")?;
        }
    }
    if added.is_cut_short {
        writeln!(
            out,
            "note         the certificate ends with its authority, before {} days",
            wanted.days
        )?;
    }
    if added.is_loopback {
        writeln!(
            out,
            "note         {} is reached from this machine alone: give --url or set site.url",
            site.url
        )?;
    }
    if let Some(path) = &added.new_authority {
        writeln!(
            out,
            "authority    {} is new: have Redis trust it (tls-ca-cert-file), and back up its directory",
            path.display()
        )?;
    }
    if let Some(bundle) = &added.bundle {
        writeln!(
            out,
            "next: on the box, sudo gateway config import{} {}",
            if wanted.renew { " --yes" } else { "" },
            bundle.display()
        )?;
    }
    Ok(())
}

fn listed(standings: &[Standing], json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let now_ms = now_ms();
    let widest = standings.iter().map(|s| s.site.name.len()).max();
    let width = widest.unwrap_or(0).max("site".len());
    if !json {
        writeln!(out, "{:width$}  certificate     user     seen", "site")?;
    }
    for standing in standings {
        let site = &standing.site;
        let days = site
            .ends_ms()
            .map(|ends| ends.saturating_sub(now_ms) / DAY_MS);
        let seen_s = standing
            .seen_ms
            .map(|seen| now_ms.saturating_sub(seen) / 1_000);
        if json {
            let line = json!({
                "site": site.name, "url": site.url, "days_left": days,
                "certificate_until": site.ends_ms().map(date), "has_user": standing.has_user,
                "seen_seconds_ago": seen_s, "revoked": site.revoked_ms.map(date),
            });
            writeln!(out, "{line}")?;
            continue;
        }
        let certificate = match days {
            None => "revoked".to_owned(),
            Some(0) => "ended !".to_owned(),
            Some(days) if days < SOON_DAYS => format!("{days} d left !"),
            Some(days) => format!("{days} d left"),
        };
        let user = match standing.has_user {
            Some(true) => "yes",
            Some(false) => "none",
            None => "?",
        };
        let seen = match seen_s {
            Some(seconds) => format!("{seconds} s ago"),
            None if standing.was_asked => format!("not within {} s", keys::HEARTBEAT_EXPIRY_S),
            None => "?".to_owned(),
        };
        writeln!(
            out,
            "{:width$}  {certificate:14}  {user:7}  {seen}",
            site.name
        )?;
    }
    out.flush()
}

fn would_revoke(site: &cloud::site::book::Site, json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let valid = site.certificates.iter().filter(|c| c.revoked_ms.is_none());
    let valid = valid.count();
    if json {
        let line = json!({"site": site.name, "dry_run": true, "certificates": valid, "redis_user": site.name});
        return writeln!(out, "{line}");
    }
    writeln!(
        out,
        "Redis user   {} would be removed, its connections cut",
        site.name
    )?;
    writeln!(out, "certificates {valid} would be revoked")
}

/// What an administrator has to do where we may not.
fn by_hand(name: &str, json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let lines = act::lines(name);
    if json {
        return writeln!(out, "{}", json!({"site": name, "to_run": lines}));
    }
    lines.iter().try_for_each(|line| writeln!(out, "{line}"))
}

fn revoked(done: &ShutOut, json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let name = &done.site.name;
    let list = done.list.as_ref().map(|path| path.display().to_string());
    if json {
        let removed = done.removed.as_ref();
        let line = json!({
            "site": name, "dry_run": false, "revoked": done.site.revoked_ms.map(date),
            "was_revoked": done.before_ms.map(date),
            "user_removed": removed.map(|removed| removed.was_there),
            "connections_cut": removed.map(|removed| removed.cut),
            "saved": removed.map(|removed| removed.kept == Kept::Saved), "list": list,
        });
        return writeln!(out, "{line}");
    }
    if let Some(before) = done.before_ms {
        writeln!(out, "site {name} was shut out on {} already", date(before))?;
    }
    match &done.removed {
        None => writeln!(out, "Redis user   not looked at (--no-redis)")?,
        Some(removed) => {
            let what = if removed.was_there {
                "removed"
            } else {
                "was gone"
            };
            writeln!(
                out,
                "Redis user   {name} {what}, {} connections cut",
                removed.cut
            )?;
            if removed.kept == Kept::Unsaved {
                writeln!(
                    out,
                    "to do        Redis did not save its ACL: remove the line of {name} from its file, or a restart lets it in again"
                )?;
            }
        }
    }
    match list {
        Some(list) => writeln!(
            out,
            "certificates revoked in {list}\nto do        reload whatever checks certificates in front of Redis with that list; Redis itself reads none, the missing user is what keeps the box out"
        ),
        None => writeln!(
            out,
            "to do        its certificate is in no list of revoked ones: its authority is not at hand, give --ca-cert and --ca-key"
        ),
    }
}
