//! A bundle put in place on a bare box: what is taken, what is refused, and what is left alone.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use contract::bundle::{AUTHORITY, Bundle, CERTIFICATE, FORMAT, KEY, Manifest, SETTINGS};
use tests::servers::Pki;

use super::gateway_box::{Ran, program};

const DAY_MS: u64 = 86_400_000;

/// A site with its authority, the bundle for its gateway, and the box it goes to.
struct Site {
    dir: tempfile::TempDir,
    pki: Pki,
    bundle: Bundle,
}

/// A good bundle that is to go to `target`.
fn made(pki: &Pki, target: &Path) -> Result<Bundle> {
    let identity = pki.client("depot-1")?;
    let now_ms = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let path = |name: &str| target.join(name).display().to_string();
    let settings = format!(
        "[gateway]\nid = \"depot-1\"\n[uplink]\nurl = \"rediss://redis.example:6380/\"\ncert = \"{}\"\nkey = \"{}\"\nca = \"{}\"\n",
        path(CERTIFICATE),
        path(KEY),
        path(AUTHORITY)
    );
    Ok(Bundle {
        manifest: Manifest {
            format: FORMAT,
            site: "Depot".to_owned(),
            gateway: "depot-1".to_owned(),
            created_ms: now_ms - DAY_MS,
            expires_ms: now_ms + DAY_MS,
        },
        settings,
        certificate: fs::read(identity.cert)?,
        key: fs::read(identity.key)?,
        authority: fs::read(pki.ca())?,
    })
}

/// A file with a good bundle for `dir`/imported.
pub(super) fn for_docs(pki: &Pki, dir: &Path) -> Result<PathBuf> {
    let file = dir.join("depot-1.bundle");
    fs::write(&file, made(pki, &dir.join("imported"))?.write(true)?)?;
    Ok(file)
}

impl Site {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        fs::create_dir(dir.path().join("pki"))?;
        let pki = Pki::new(&dir.path().join("pki"))?;
        let bundle = made(&pki, &dir.path().join("etc"))?;
        Ok(Self { dir, pki, bundle })
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("etc")
    }

    fn import_bytes(&self, bytes: &[u8], words: &[&str]) -> Result<Ran> {
        let file = self.dir.path().join("a.bundle");
        fs::write(&file, bytes)?;
        let mut command = program()?;
        command
            .args(["config", "import"])
            .arg(&file)
            .arg("--dir")
            .arg(self.target())
            .args(words);
        Ran::of(command.output()?)
    }

    fn import(&self, bundle: &Bundle, words: &[&str]) -> Result<Ran> {
        self.import_bytes(&bundle.write(true)?, words)
    }

    /// Name, inode and permissions of everything in the box.
    fn files(&self) -> Result<Vec<(String, u64, u32)>> {
        let mut all = Vec::new();
        let mut dirs = vec![self.target()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).into_iter().flatten() {
                let (path, meta) = (entry.as_ref().unwrap().path(), entry?.metadata()?);
                if meta.is_dir() {
                    dirs.push(path.clone());
                }
                let name = path.strip_prefix(self.target())?.display().to_string();
                all.push((name, meta.ino(), meta.permissions().mode() & 0o777));
            }
        }
        all.sort();
        Ok(all)
    }
}

fn mode(path: &Path) -> Result<u32> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o777)
}

#[test]
fn a_bundle_makes_a_bare_box_a_gateway_and_a_second_import_changes_nothing() -> Result<()> {
    let site = Site::new()?;
    let dry = site.import(&site.bundle, &["--dry-run"])?;
    assert_eq!(dry.code, 0, "{}{}", dry.out, dry.err);
    assert!(dry.out.contains("tls/box.key would be new"), "{}", dry.out);
    assert!(!site.target().exists());

    let ran = site.import(&site.bundle, &[])?;
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    for words in [
        "site Depot, gateway depot-1",
        "our certificate is valid from ",
        "key and certificate belong together",
        "signed by uplink.ca",
        "UTC is plausible",
        "systemctl enable --now milepost-gateway",
    ] {
        assert!(ran.out.contains(words), "{words}: {}", ran.out);
    }
    let target = site.target();
    assert_eq!(mode(&target)?, 0o750);
    assert_eq!(mode(&target.join("tls"))?, 0o750);
    assert_eq!(mode(&target.join(KEY))?, 0o600);
    assert_eq!(mode(&target.join(SETTINGS))?, 0o640);
    assert_eq!(fs::read(target.join(KEY))?, site.bundle.key);
    assert_eq!(fs::read(target.join(CERTIFICATE))?, site.bundle.certificate);
    assert_eq!(fs::read(target.join(AUTHORITY))?, site.bundle.authority);
    // The program reads what it wrote.
    let shown = program()?
        .args(["config", "show", "--config"])
        .arg(target.join(SETTINGS))
        .output()?;
    let shown = Ran::of(shown)?;
    assert_eq!(shown.code, 0, "{}", shown.err);
    assert!(shown.out.contains("depot-1"), "{}", shown.out);

    let before = site.files()?;
    assert_eq!(before.len(), 5, "{before:?}");
    // Not compressed, and with --yes: it is the same all the same.
    for (compress, words) in [(true, &[][..]), (false, &["--yes"])] {
        let again = site.import_bytes(&site.bundle.write(compress)?, words)?;
        assert_eq!(again.code, 0, "{}", again.err);
        assert!(again.out.contains("nothing to do"), "{}", again.out);
        assert_eq!(site.files()?, before, "not even written anew");
    }
    Ok(())
}

#[test]
fn a_renewed_bundle_replaces_with_yes_alone_and_keeps_what_was_there() -> Result<()> {
    let site = Site::new()?;
    assert_eq!(site.import(&site.bundle, &[])?.code, 0);
    let renewed = site.pki.client("depot-1-renewed")?;
    let mut next = site.bundle.clone();
    next.certificate = fs::read(renewed.cert)?;
    next.key = fs::read(renewed.key)?;
    let before = site.files()?;
    let shy = site.import(&next, &[])?;
    assert_eq!(shy.code, 2);
    assert!(
        shy.err.contains("E-BUN-006") && shy.err.contains("--yes"),
        "{}",
        shy.err
    );
    assert_eq!(site.files()?, before);

    let ran = site.import(&next, &["--yes"])?;
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(
        ran.out
            .ends_with("next: systemctl reload milepost-gateway\n"),
        "{}",
        ran.out
    );
    let target = site.target();
    assert_eq!(fs::read(target.join(KEY))?, next.key);
    assert_eq!(fs::read(target.join("tls/box.key.bak"))?, site.bundle.key);
    assert_eq!(mode(&target.join("tls/box.key.bak"))?, 0o600);
    assert_eq!(
        fs::read(target.join("tls/box.crt.bak"))?,
        site.bundle.certificate
    );
    let names: Vec<String> = site.files()?.into_iter().map(|(name, ..)| name).collect();
    assert_eq!(
        names,
        [
            "gateway.toml",
            "tls",
            "tls/box.crt",
            "tls/box.crt.bak",
            "tls/box.key",
            "tls/box.key.bak",
            "tls/ca.crt"
        ]
    );
    // Settings are read at the start alone.
    let mut other = next.clone();
    other.settings += "[log]\nlevel = \"debug\"\n";
    let json = site.import(&other, &["--yes", "--json"])?.json()?;
    let file = json
        .iter()
        .find(|line| line["change"] == "replaced")
        .expect("one is replaced");
    assert!(
        file["file"]
            .as_str()
            .is_some_and(|name| name.ends_with("gateway.toml")),
        "{file}"
    );
    let back = site.import(&next, &["--yes"])?;
    assert!(
        back.out.contains("systemctl restart milepost-gateway"),
        "{}",
        back.out
    );
    Ok(())
}

#[test]
fn nothing_of_a_bundle_that_is_not_right_is_written() -> Result<()> {
    let site = Site::new()?;
    let with = |change: &dyn Fn(&mut Bundle) -> Result<()>| -> Result<Vec<u8>> {
        let mut bundle = site.bundle.clone();
        change(&mut bundle)?;
        Ok(bundle.write(true)?)
    };
    let identity = |bundle: &mut Bundle, identity: tests::servers::Identity| -> Result<()> {
        bundle.certificate = fs::read(identity.cert)?;
        bundle.key = fs::read(identity.key)?;
        Ok(())
    };
    let good = site.bundle.write(true)?;
    let mut newer = site.bundle.clone();
    newer.manifest.format = FORMAT + 1;
    for (bytes, code, exit) in [
        (b"no tar at all".to_vec(), "E-BUN-001", 2),
        (Vec::new(), "E-BUN-001", 2),
        (good[..good.len() / 2].to_vec(), "E-BUN-001", 2),
        (newer.write(false)?, "E-BUN-002", 2),
        (
            with(&|b| {
                b.settings += "[uplonk]\n";
                Ok(())
            })?,
            "E-BUN-003",
            2,
        ),
        (
            with(&|b| {
                b.settings += "[spool]\nbytes_max = \"much\"\n";
                Ok(())
            })?,
            "E-BUN-003",
            2,
        ),
        (
            with(&|b| {
                b.settings = b.settings.replace("depot-1", "depot-2");
                Ok(())
            })?,
            "E-BUN-003",
            2,
        ),
        (
            with(&|b| {
                b.settings = b.settings.replace("box.key", "other.key");
                Ok(())
            })?,
            "E-BUN-003",
            2,
        ),
        (
            with(&|b| {
                b.settings = b.settings.replace("rediss:", "redis:");
                Ok(())
            })?,
            "E-BUN-003",
            2,
        ),
        (
            with(&|b| {
                b.manifest.expires_ms = b.manifest.created_ms;
                Ok(())
            })?,
            "E-BUN-004",
            1,
        ),
        (
            with(&|b| identity(b, site.pki.foreign_client("x")?))?,
            "E-BUN-005",
            2,
        ),
        (
            with(&|b| identity(b, site.pki.expired_client("x")?))?,
            "E-CRT-004",
            1,
        ),
        (
            with(&|b| identity(b, site.pki.server("x")?))?,
            "E-CRT-006",
            1,
        ),
        (
            with(&|b| {
                b.key = fs::read(site.pki.client("y")?.key)?;
                Ok(())
            })?,
            "E-CRT-003",
            2,
        ),
        (
            with(&|b| {
                b.key = b.certificate.clone();
                Ok(())
            })?,
            "E-CRT-002",
            2,
        ),
        (
            with(&|b| {
                b.authority = b"-----".to_vec();
                Ok(())
            })?,
            "E-CRT-002",
            2,
        ),
    ] {
        let ran = site.import_bytes(&bytes, &["--yes"])?;
        let said = format!("{}{}", ran.out, ran.err);
        assert!(said.contains(code), "{code}: {said}");
        assert_eq!(ran.code, exit, "{code}: {said}");
        assert!(!site.target().exists(), "{code}");
        assert!(!said.contains("PRIVATE KEY"), "{said}");
    }
    let missing = program()?
        .args(["config", "import", "/nonexistent/x.bundle"])
        .output()?;
    assert_eq!(missing.status.code(), Some(2));
    Ok(())
}

#[test]
fn a_place_that_cannot_be_written_is_named() -> Result<()> {
    let site = Site::new()?;
    // Where the directory of the certificates would be stands a file.
    fs::create_dir(site.target())?;
    fs::write(site.target().join("tls"), "x")?;
    let ran = site.import(&site.bundle, &["--yes"])?;
    assert_eq!(ran.code, 2, "{}", ran.out);
    assert!(
        ran.err.contains("E-BUN-007") && ran.err.contains("/tls"),
        "{}",
        ran.err
    );
    assert_eq!(site.files()?.len(), 1, "nothing else was made");
    Ok(())
}
