//! Putting a bundle of the cloud in place: judged as a whole first, then written file by file.
//!
//! Invariants: nothing is written unless every part of the bundle was found good; a reader sees a
//! file before the import or after it; the file before is kept as `.bak`; a second import of the same
//! bundle changes nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown, fchown};
use std::path::{Path, PathBuf};

use contract::bundle::{AUTHORITY, Bundle, BundleError, CERTIFICATE, KEY, SETTINGS};
use settings::Settings;

use super::{Config, ENV_PREFIX, KEYS};
use crate::chain::chain;
use crate::check::{Level, Look, cert, clock};
use crate::explain::bundle as pages;
use crate::explain::cert as cert_pages;
use crate::spool::written::date;

/// What the import does with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// There was none.
    New,
    /// Other contents were there; they are kept as `.bak`.
    Replaced,
    /// It is there already.
    Same,
}

impl Change {
    /// `new`, `replaced`, `same`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Replaced => "replaced",
            Self::Same => "same",
        }
    }
}

/// One file and what becomes of it.
pub struct Target {
    /// Where it goes.
    pub path: PathBuf,
    /// What the import does.
    pub change: Change,
    /// Permissions, as for chmod.
    pub mode: u32,
    name: &'static str,
    contents: Vec<u8>,
}

/// The user that the gateway runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    uid: u32,
    gid: u32,
}

impl Owner {
    /// A user of `/etc/passwd`; `None` for a name that is not there.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::in_passwd(&fs::read_to_string("/etc/passwd").ok()?, name)
    }

    fn in_passwd(passwd: &str, name: &str) -> Option<Self> {
        let line = passwd
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let mut fields = line.split(':').skip(1);
        let mut id = || fields.next()?.parse().ok();
        Some(Self {
            uid: id()?,
            gid: id()?,
        })
    }
}

/// Reads a bundle; what is wrong with it is a finding.
/// # Errors
/// The finding.
pub fn read(bytes: &[u8], place: &Path) -> Result<Bundle, Look> {
    Bundle::read(bytes).map_err(|error| {
        let mut look = Look::new("bundle");
        let (page, remedy) = match &error {
            BundleError::Format { .. } => (&pages::NEWER, "update this gateway first"),
            _ => (&pages::UNREADABLE, "fetch it again, or have it made again"),
        };
        look.bad(
            page,
            "the bundle cannot be used",
            place.display().to_string(),
            chain(&error),
            remedy,
        );
        look
    })
}

/// Judges every part of a bundle that is to go to `dir`. `now_ms`: milliseconds since 1970 UTC.
#[must_use]
pub fn judge(bundle: &Bundle, place: &Path, dir: &Path, now_ms: u64) -> Vec<Look> {
    let mut of_certificate = cert::look_at_pem(
        &bundle.certificate,
        &bundle.key,
        &bundle.authority,
        place,
        now_ms,
    );
    for finding in &mut of_certificate.findings {
        // A warning where the files come from two hands; here they come from one.
        if finding
            .page
            .is_some_and(|page| page.code == cert_pages::OTHER_CA.code)
        {
            finding.page = Some(&pages::AUTHORITY);
            finding.level = Level::Error;
            finding.remedy = "have the bundle made again".to_owned();
        }
    }
    vec![
        manifest(bundle, place, now_ms),
        of_settings(bundle, place, dir),
        of_certificate,
        clock::look(now_ms, None),
    ]
}

fn manifest(bundle: &Bundle, place: &Path, now_ms: u64) -> Look {
    let mut look = Look::new("bundle");
    let manifest = &bundle.manifest;
    let (site, gateway) = (&manifest.site, &manifest.gateway);
    let (made, until) = (date(manifest.created_ms), date(manifest.expires_ms));
    if now_ms >= manifest.expires_ms {
        look.bad(
            &pages::OLD,
            format!("the bundle was to be used until {until}"),
            place.display().to_string(),
            format!("made on {made}; today is {}", date(now_ms)),
            "have a new one made",
        );
    } else {
        look.good(format!(
            "site {site}, gateway {gateway}, made {made}, to be used until {until}"
        ));
    }
    look
}

fn of_settings(bundle: &Bundle, place: &Path, dir: &Path) -> Look {
    let mut look = Look::new("settings");
    let mut bad = |why: String, remedy: &str| {
        look.bad(
            &pages::SETTINGS,
            "the settings in the bundle do not fit",
            format!("{SETTINGS} in {}", place.display()),
            why,
            remedy,
        );
    };
    let none: [(String, String); 0] = [];
    let read = Settings::read(KEYS, ENV_PREFIX, Some((SETTINGS, &bundle.settings)), none);
    let settings = match read {
        Ok(settings) => settings,
        Err(error) => {
            bad(
                chain(&error),
                "update this gateway, or have the bundle made again",
            );
            return look;
        }
    };
    if let Err(error) = Config::check_values(&settings) {
        bad(chain(&error), "have the bundle made again");
        return look;
    }
    let id = settings.optional_text("gateway.id").ok().flatten();
    if id != Some(bundle.manifest.gateway.as_str()) {
        let id = id.unwrap_or("not set");
        let why = format!(
            "gateway.id is {id}, bundle.json says {}",
            bundle.manifest.gateway
        );
        bad(why, "have the bundle made again");
        return look;
    }
    for (key, name) in [
        ("uplink.cert", CERTIFICATE),
        ("uplink.key", KEY),
        ("uplink.ca", AUTHORITY),
    ] {
        let named = settings.optional_path(key).ok().flatten();
        let written = dir.join(name);
        if named.as_deref() != Some(&*written) {
            let named = named.map_or("not set".to_owned(), |path| path.display().to_string());
            let why = format!(
                "{key} is {named}, and the import would write {}",
                written.display()
            );
            bad(
                why,
                "name the directory it was made for with --dir, or have it made for this one",
            );
            return look;
        }
    }
    look.good(format!("{SETTINGS} is understood"));
    look
}

/// What the import would do in `dir`.
#[must_use]
pub fn plan(bundle: &Bundle, dir: &Path) -> Vec<Target> {
    // The key before its certificate, the settings last: whoever starts in between finds files.
    let files = [
        (AUTHORITY, 0o644, bundle.authority.clone()),
        (KEY, 0o600, bundle.key.clone()),
        (CERTIFICATE, 0o644, bundle.certificate.clone()),
        (SETTINGS, 0o640, bundle.settings.clone().into_bytes()),
    ];
    let targets = files.into_iter().map(|(name, mode, contents)| {
        let path = dir.join(name);
        let change = match fs::read(&path) {
            Ok(found) if found == contents => Change::Same,
            Ok(_) => Change::Replaced,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Change::New,
            // It is there, whatever it is: the write says what is wrong.
            Err(_) => Change::Replaced,
        };
        Target {
            path,
            change,
            mode,
            name,
            contents,
        }
    });
    targets.collect()
}

/// Would anything of an operator's be replaced?
#[must_use]
pub fn replaces(targets: &[Target]) -> bool {
    targets
        .iter()
        .any(|target| target.change == Change::Replaced)
}

/// Writes what is not the same already. `owner` gets the key, and may read the rest.
/// # Errors
/// What the system said, and about which file; those not reached are as they were.
pub fn apply(
    targets: &[Target],
    dir: &Path,
    owner: Option<Owner>,
) -> Result<(), (PathBuf, io::Error)> {
    let changed = || {
        targets
            .iter()
            .filter(|target| target.change != Change::Same)
    };
    if changed().next().is_none() {
        return Ok(());
    }
    for dir in [dir.to_owned(), dir.join("tls")] {
        make_dir(&dir, owner).map_err(|error| (dir, error))?;
    }
    let beside = |target: &Target| with_ending(&target.path, ".new");
    let staged = changed().try_for_each(|target| {
        let path = beside(target);
        stage(target, &path, owner).map_err(|error| (path, error))
    });
    let placed = staged.and_then(|()| {
        changed().try_for_each(|target| {
            place(&beside(target), &target.path).map_err(|error| (target.path.clone(), error))
        })
    });
    if placed.is_err() {
        for target in changed() {
            let _ = fs::remove_file(beside(target));
        }
    }
    placed
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

/// One that is there keeps its permissions.
fn make_dir(dir: &Path, owner: Option<Owner>) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o750))?;
    match owner {
        Some(owner) => chown(dir, None, Some(owner.gid)),
        None => Ok(()),
    }
}

fn stage(target: &Target, path: &Path, owner: Option<Owner>) -> io::Result<()> {
    // A rest of an import that was cut off, with whatever permissions.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    if let Some(owner) = owner {
        // The key is the gateway's own; the rest it may read and not change.
        let uid = (target.name == KEY).then_some(owner.uid);
        fchown(&file, uid, Some(owner.gid))?;
    }
    file.write_all(&target.contents)?;
    file.set_permissions(fs::Permissions::from_mode(target.mode))?;
    file.sync_all()
}

fn place(staged: &Path, path: &Path) -> io::Result<()> {
    let kept = with_ending(path, ".bak");
    match fs::remove_file(&kept) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match fs::hard_link(path, &kept) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(staged, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn users_are_found_by_their_whole_name() {
        let passwd =
            "root:x:0:0:root:/:/bin/sh\nmilepost2:x:7:8::/:/x\nmilepost:x:993:991::/:/x\nodd:x\n";
        let found = |name| Owner::in_passwd(passwd, name);
        assert_eq!(found("milepost"), Some(Owner { uid: 993, gid: 991 }));
        assert_eq!(found("root"), Some(Owner { uid: 0, gid: 0 }));
        assert_eq!((found("mile"), found("odd"), found("")), (None, None, None));
    }

    #[test]
    fn what_cannot_be_placed_leaves_nothing_half() {
        let dir = tempfile::tempdir().unwrap();
        let target = |name: &'static str, path: PathBuf| Target {
            path,
            change: Change::New,
            mode: 0o600,
            name,
            contents: b"new".to_vec(),
        };
        let (good, bad) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&good, "old").unwrap();
        // A directory stands where the second file would be staged.
        fs::create_dir(dir.path().join("b.new")).unwrap();
        let targets = [target(KEY, good.clone()), target(KEY, bad)];
        let (path, _) = apply(&targets, dir.path(), None).unwrap_err();
        assert_eq!(path, dir.path().join("b.new"));
        assert_eq!(fs::read_to_string(&good).unwrap(), "old");
        assert!(!dir.path().join("a.new").exists() && !dir.path().join("a.bak").exists());
    }
}
