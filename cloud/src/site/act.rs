//! What is done when somebody asks: let a site in, tell how the sites are, shut one out.
//!
//! Invariants: Redis is reached before anything is written; the bundle is written before the record
//! and the record before the user, so that asking again finishes what broke off; a site that is shut
//! out loses its user first.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::access::{self, RESERVED, Streams};
use contract::{Beat, GatewayId, keys};
use redis::cmd;

use super::authority::{self, Authority, REVOKED};
use super::book::{Book, Given, Site};
use super::issue::{Address, Parts, Password};
use super::users::{self, Kept, Outcome, Removed};
use super::{SiteError, date, private};
use crate::config::Config;
use crate::stream::{Link, Redis, RedisFailure};

/// A certificate that ends sooner is no help to anybody.
const DAY_MS: u64 = 86_400_000;

/// How somebody asks for a site to be let in.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// Where the bundle goes on the box.
    pub dir: PathBuf,
    /// How long its certificate lasts.
    pub days: u32,
    /// Another authority than the one that is kept: certificate and key.
    pub authority: Option<(PathBuf, PathBuf)>,
    /// Where gateways reach Redis.
    pub url: Option<String>,
    /// The bundle.
    pub out: PathBuf,
    /// A new certificate and a new password for one that is there.
    pub renew: bool,
    /// Leave Redis alone.
    pub no_redis: bool,
    /// It is a Redis Cluster.
    pub in_cluster: bool,
    /// Only tell.
    pub dry_run: bool,
}

/// What became of the user in Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// It was there.
    There,
    /// It was made or changed.
    Made(Kept),
    /// Somebody has to run this: the words behind `ACL`.
    ToDo(Vec<String>),
}

/// What became of the wish.
#[derive(Clone, Debug)]
pub struct Added {
    /// The record.
    pub site: Site,
    /// The bundle, unless the site was there already.
    pub bundle: Option<PathBuf>,
    /// Its user.
    pub user: User,
    /// The certificate of an authority that was made for this: servers have to trust it.
    pub new_authority: Option<PathBuf>,
    /// The certificate ends with its authority, before the days that were asked for.
    pub is_cut_short: bool,
    /// Only this machine reaches that address.
    pub is_loopback: bool,
}

fn link(config: &Config) -> Result<Link, RedisFailure> {
    Ok(Link::new(Arc::new(Redis::new(&config.site.admin)?)))
}

fn id(name: &str) -> Result<GatewayId, SiteError> {
    let id = GatewayId::new(name).map_err(|error| SiteError::name(name, &error))?;
    if RESERVED.contains(&name) {
        return Err(SiteError::Name {
            name: name.to_owned(),
            why: "Redis has a user of that name, or the cloud uses it".to_owned(),
        });
    }
    Ok(id)
}

/// The streams that are read here are the ones that gateways write.
/// # Errors
/// [`SiteError::Access`].
pub fn streams(config: &Config) -> Result<Streams, SiteError> {
    let names = config.stream.names.iter().chain(&config.stream.vendors);
    Ok(Streams::named(names.map(String::as_str))?)
}

/// The rules of a site's user behind `ACL`, with the passwords it is to have and no other.
fn words(config: &Config, site: &Site, in_cluster: bool) -> Result<Vec<String>, SiteError> {
    let id = id(&site.name)?;
    let mut passwords = vec!["resetpass".to_owned()];
    passwords.extend(site.passwords.iter().map(|hash| format!("#{hash}")));
    let rules = access::gateway(&id, &streams(config)?, in_cluster);
    Ok(access::setuser(&site.name, &passwords, &rules))
}

fn to_do(words: Vec<String>) -> User {
    let before = ["ACL", "SETUSER"].map(str::to_owned);
    User::ToDo(before.into_iter().chain(words).collect())
}

/// Lets a site in.
/// # Errors
/// [`SiteError`].
pub async fn add(config: &Config, wanted: &Wanted, now_ms: u64) -> Result<Added, SiteError> {
    let id = id(&wanted.name)?;
    let address = match wanted.url.as_ref().or(config.site.url.as_ref()) {
        Some(url) => Address::given(url)?,
        None => Address::of_ours(&config.redis.url)?,
    };
    let dir = &config.site.dir;
    let book = Book::of(dir);
    let _alone = match wanted.dry_run {
        true => None,
        false => {
            private::make_dir(dir).map_err(SiteError::file("make", dir))?;
            Some(private::lock(dir).map_err(SiteError::file("lock", dir))?)
        }
    };
    let known = book.read(&id)?;
    let redis = match wanted.no_redis {
        true => None,
        false => {
            let link = link(config)?;
            users::reach(&link).await?;
            Some(link)
        }
    };
    let is_there = match &redis {
        Some(link) => users::is_there(link, id.as_str()).await?,
        None => Outcome::NotAllowed,
    };
    match &known {
        Some(site) if !wanted.renew => {
            if let Some(ms) = site.revoked_ms {
                let (name, on) = (site.name.clone(), date(ms));
                return Err(SiteError::Revoked { name, on });
            }
            let user = match is_there {
                Outcome::Done(true) => User::There,
                _ => give(config, redis.as_ref(), site, wanted).await?,
            };
            return Ok(Added {
                site: site.clone(),
                bundle: None,
                user,
                new_authority: None,
                is_cut_short: false,
                is_loopback: false,
            });
        }
        None if is_there == Outcome::Done(true) => {
            return Err(SiteError::Taken {
                user: id.to_string(),
            });
        }
        _ => {}
    }
    if !wanted.renew && wanted.out.exists() {
        let path = wanted.out.clone();
        return Err(SiteError::OutThere { path });
    }
    let (authority, is_new) = signer(dir, wanted, now_ms)?;
    make(
        config,
        wanted,
        now_ms,
        &id,
        known,
        &address,
        authority.as_ref(),
        redis.as_ref(),
    )
    .await
    .map(|mut added| {
        added.new_authority = is_new.then(|| authority::kept_certificate(dir));
        added.is_loopback =
            address.is_loopback() && wanted.url.is_none() && config.site.url.is_none();
        added
    })
}

/// Who signs, and whether it was made now. None in a dry run that would make one.
fn signer(
    dir: &Path,
    wanted: &Wanted,
    now_ms: u64,
) -> Result<(Option<Authority>, bool), SiteError> {
    if let Some((certificate, key)) = &wanted.authority {
        return Ok((Some(Authority::read(certificate, key)?), false));
    }
    match Authority::kept(dir)? {
        Some(kept) => Ok((Some(kept), false)),
        None if wanted.dry_run => Ok((None, true)),
        None => Ok((Some(Authority::create(dir, now_ms)?), true)),
    }
}

#[allow(clippy::too_many_arguments)]
async fn make(
    config: &Config,
    wanted: &Wanted,
    now_ms: u64,
    id: &GatewayId,
    known: Option<Site>,
    address: &Address,
    authority: Option<&Authority>,
    redis: Option<&Link>,
) -> Result<Added, SiteError> {
    let ends_with = authority.map_or(u64::MAX, |authority| authority.ends_ms);
    if ends_with < now_ms + DAY_MS {
        return Err(SiteError::Days {
            days: wanted.days,
            why: format!("the authority ends on {}", date(ends_with)),
        });
    }
    let mut site = known.unwrap_or_else(|| Site {
        name: id.to_string(),
        url: String::new(),
        passwords: Vec::new(),
        certificates: Vec::new(),
        revoked_ms: None,
    });
    site.url = address.shown();
    site.revoked_ms = None;
    let mut added = Added {
        site,
        bundle: Some(wanted.out.clone()),
        user: User::There,
        new_authority: None,
        is_cut_short: ends_with < now_ms + u64::from(wanted.days) * DAY_MS,
        is_loopback: false,
    };
    let (Some(authority), false) = (authority, wanted.dry_run) else {
        return Ok(added);
    };
    let site = &mut added.site;
    let issued = authority.issue(id.as_str(), now_ms, wanted.days)?;
    let password = Password::new()?;
    // A box that is renewed goes on with its old password until it has the new bundle.
    let used = site.passwords.pop();
    site.passwords = used.into_iter().chain([password.hash()]).collect();
    site.certificates.push(Given {
        serial: issued.serial.clone(),
        authority: authority.id.clone(),
        made_ms: now_ms,
        ends_ms: issued.ends_ms,
        revoked_ms: None,
    });
    let bundle = Parts {
        name: id,
        address,
        password: &password,
        dir: &wanted.dir,
        stream: config
            .stream
            .names
            .first()
            .map_or(keys::STREAM_TELTONIKA, String::as_str),
        issued: &issued,
        authorities: authorities(config, authority)?,
        now_ms,
    };
    let packed = bundle.bundle()?.write(true);
    packed
        .and_then(|bytes| private::write(&wanted.out, &bytes))
        .map_err(SiteError::file("write", &wanted.out))?;
    Book::of(&config.site.dir).write(id, site)?;
    added.user = give(config, redis, &added.site, wanted).await?;
    Ok(added)
}

/// Who signed the gateway's certificate, and who signed that of Redis where it is another.
fn authorities(config: &Config, authority: &Authority) -> Result<String, SiteError> {
    let servers = match &config.redis.ca {
        Some(path) => std::fs::read_to_string(path).map_err(SiteError::file("read", path))?,
        None => String::new(),
    };
    let mut all = String::new();
    let blocks = authority::pem_blocks(&authority.pem).chain(authority::pem_blocks(&servers));
    for block in blocks.map(str::trim_end) {
        if !all.contains(block) {
            all.push_str(block);
            all.push('\n');
        }
    }
    Ok(all)
}

async fn give(
    config: &Config,
    redis: Option<&Link>,
    site: &Site,
    wanted: &Wanted,
) -> Result<User, SiteError> {
    let words = words(config, site, wanted.in_cluster)?;
    let Some(link) = redis.filter(|_| !wanted.dry_run) else {
        return Ok(to_do(words));
    };
    Ok(match users::set(link, &words).await? {
        Outcome::Done(kept) => User::Made(kept),
        Outcome::NotAllowed => to_do(words),
    })
}

/// How one site is.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The record.
    pub site: Site,
    /// Is its user there? `None`: Redis does not tell.
    pub has_user: Option<bool>,
    /// Its gateway's clock at its last sign of life, milliseconds since 1970 UTC; it goes after
    /// [`keys::HEARTBEAT_EXPIRY_S`].
    pub seen_ms: Option<u64>,
    /// Did Redis answer?
    pub was_asked: bool,
}

/// Every site, by name; and why Redis was not asked, if it was not.
/// # Errors
/// [`SiteError`].
pub async fn list(config: &Config) -> Result<(Vec<Standing>, Option<RedisFailure>), SiteError> {
    let sites = Book::of(&config.site.dir).all()?;
    let mut standings: Vec<Standing> = sites
        .into_iter()
        .map(|site| Standing {
            site,
            has_user: None,
            seen_ms: None,
            was_asked: false,
        })
        .collect();
    let asked = match link(config) {
        Ok(link) => ask(&link, &mut standings).await,
        Err(failure) => Err(failure),
    };
    Ok((standings, asked.err()))
}

async fn ask(link: &Link, standings: &mut [Standing]) -> Result<(), RedisFailure> {
    for standing in standings {
        if let Outcome::Done(is_there) = users::is_there(link, &standing.site.name).await? {
            standing.has_user = Some(is_there);
        }
        let Ok(id) = GatewayId::new(&*standing.site.name) else {
            continue;
        };
        let mut get = cmd("GET");
        get.arg(keys::heartbeat(&id));
        let beat: Option<String> = link.ask("GET", &get).await?;
        standing.seen_ms = beat
            .and_then(|beat| Beat::parse(&beat))
            .map(|beat| beat.at_ms);
        standing.was_asked = true;
    }
    Ok(())
}

/// What became of a site that is to be shut out.
#[derive(Clone, Debug)]
pub struct ShutOut {
    /// The record.
    pub site: Site,
    /// When it was shut out before, if it was.
    pub before_ms: Option<u64>,
    /// Its user; `None`: Redis was not asked, or this login may not.
    pub removed: Option<Removed>,
    /// The list that its certificates are in, if one could be signed.
    pub list: Option<PathBuf>,
}

/// The lines that shut a user out by hand.
#[must_use]
pub fn lines(name: &str) -> [String; 3] {
    [
        format!("ACL DELUSER {name}"),
        format!("CLIENT KILL USER {name}"),
        "ACL SAVE".to_owned(),
    ]
}

/// Shuts a site out. With `no_redis` somebody has removed its user already.
/// # Errors
/// [`SiteError`]; [`SiteError::StillIn`] when the login may not remove users.
pub async fn revoke(
    config: &Config,
    name: &str,
    authority: Option<&(PathBuf, PathBuf)>,
    no_redis: bool,
    now_ms: u64,
) -> Result<ShutOut, SiteError> {
    let dir = &config.site.dir;
    let (id, mut site) = known(config, name)?;
    let _alone = private::lock(dir).map_err(SiteError::file("lock", dir))?;
    let removed = match no_redis {
        true => None,
        false => match users::remove(&link(config)?, name).await? {
            Outcome::Done(removed) => Some(removed),
            Outcome::NotAllowed => {
                return Err(SiteError::StillIn {
                    name: name.to_owned(),
                    why: "the login of site.admin_url may not ACL DELUSER",
                });
            }
        },
    };
    let before_ms = site.revoked_ms;
    site.revoked_ms = before_ms.or(Some(now_ms));
    site.passwords.clear();
    for certificate in &mut site.certificates {
        certificate.revoked_ms = certificate.revoked_ms.or(Some(now_ms));
    }
    Book::of(dir).write(&id, &site)?;
    let list = revocation_list(dir, authority, &site, now_ms)?;
    Ok(ShutOut {
        site,
        before_ms,
        removed,
        list,
    })
}

/// A site that is in the book.
/// # Errors
/// [`SiteError::NoSite`].
pub fn known(config: &Config, name: &str) -> Result<(GatewayId, Site), SiteError> {
    let book = Book::of(&config.site.dir);
    let id = GatewayId::new(name).map_err(|error| SiteError::name(name, &error))?;
    let site = book.read(&id)?.ok_or_else(|| SiteError::NoSite {
        name: name.to_owned(),
        place: book.place().to_owned(),
    })?;
    Ok((id, site))
}

/// Signs the list of everything that this site's authority ever revoked, if it is at hand.
fn revocation_list(
    dir: &Path,
    given: Option<&(PathBuf, PathBuf)>,
    site: &Site,
    now_ms: u64,
) -> Result<Option<PathBuf>, SiteError> {
    let (authority, path) = match given {
        Some((certificate, key)) => {
            let authority = Authority::read(certificate, key)?;
            // One list for each authority: a reader asks for the one of a certificate's own.
            let path = dir.join(format!("revoked-{}.pem", &authority.id[..8]));
            (Some(authority), path)
        }
        None => (Authority::kept(dir)?, dir.join(REVOKED)),
    };
    let Some(authority) = authority else {
        return Ok(None);
    };
    if !site
        .certificates
        .iter()
        .any(|c| c.authority == authority.id)
    {
        return Ok(None);
    }
    let mut revoked = Vec::new();
    for certificate in Book::of(dir)
        .all()?
        .iter()
        .flat_map(|site| &site.certificates)
    {
        if let (Some(at_ms), true) = (
            certificate.revoked_ms,
            certificate.authority == authority.id,
        ) {
            // One that no longer decodes was edited by hand; nothing can be signed for it.
            revoked.extend(hex::decode(&certificate.serial).map(|serial| (serial, at_ms)));
        }
    }
    let text = authority.revocation_list(&revoked, now_ms)?;
    private::write(&path, text.as_bytes()).map_err(SiteError::file("write", &path))?;
    Ok(Some(path))
}
