//! The packages: installed, upgraded, removed and purged in a private root; the archive likewise.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::given;
use super::root::{Root, run};

const SETTINGS: &str = "/etc/milepost/gateway.toml";
const PROGRAM: &str = "/usr/bin/milepost-gateway";
const UNIT: &str = "/usr/lib/systemd/system/milepost-gateway.service";
const DROP_IN: &str = "/usr/share/doc/milepost-gateway/board.conf";
/// Of a segment in the spool, as far as a package is concerned.
const KEPT: &str = "/var/lib/milepost/spool/0000000000000001.seg";

/// What `systemd-analyze security` may find at most, of 100; the unit has 14.
const EXPOSURE_MAX: &str = "20";

fn dist() -> Option<PathBuf> {
    given("MILEPOST_DIST", "./dev package").map(PathBuf::from)
}

/// Files of `dist` that begin and end so, in order.
fn made(dist: &Path, begin: &str, end: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dist).with_context(|| dist.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(begin) && name.ends_with(end) {
            found.push(path);
        }
    }
    ensure!(!found.is_empty(), "{} has no {begin}…{end}", dist.display());
    found.sort();
    Ok(found)
}

fn debs(dist: &Path) -> Result<Vec<PathBuf>> {
    made(dist, "milepost-gateway_", ".deb")
}

/// The same package as a later version: what changes is the version, and what `change` changes.
fn later(deb: &Path, dir: &Path, change: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let tree = dir.join("tree");
    run(Command::new("dpkg-deb").arg("-R").args([deb, &tree]))?;
    let control = tree.join("DEBIAN/control");
    let text = std::fs::read_to_string(&control)?;
    let version = text.lines().find(|line| line.starts_with("Version: "));
    let version = version.context("a version")?;
    std::fs::write(&control, text.replace(version, &format!("{version}+later")))?;
    change(&tree)?;
    let made = dir.join("later.deb");
    run(Command::new("dpkg-deb")
        .args(["-Zgzip", "--root-owner-group", "--build"])
        .args([&tree, &made]))?;
    std::fs::remove_dir_all(&tree)?;
    Ok(made)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path of UTF-8")
}

#[test]
fn a_box_is_installed_upgraded_and_cleared_without_a_question() -> Result<()> {
    let Some(dist) = dist() else { return Ok(()) };
    for deb in debs(&dist)? {
        let root = Root::new()?;
        root.dpkg(&["-i", text(&deb)?])?;
        assert!(root.read("/etc/passwd")?.contains("milepost:"), "{deb:?}");
        assert_eq!(root.mode(PROGRAM)?, 0o755);
        assert!(root.has(DROP_IN), "{deb:?}");
        // Who runs this as root sees what a box sees: nobody but the service reads the settings.
        if rustix::process::geteuid().is_root() {
            assert_eq!(root.mode(SETTINGS)?, 0o640);
            assert_eq!(root.mode("/etc/milepost")?, 0o750);
            let group = std::fs::metadata(root.path(SETTINGS))?.gid();
            assert!(
                root.read("/etc/group")?
                    .contains(&format!("milepost:x:{group}:"))
            );
        }

        // In use: settings of a bundle, records that Redis has not got.
        let settings = "[gateway]\nid = \"depot-1\"\n";
        root.write(SETTINGS, settings)?;
        root.write(KEPT, "records")?;
        let dir = tempfile::tempdir()?;
        let newer = later(&deb, dir.path(), |tree| {
            Ok(std::fs::write(
                tree.join("usr/bin/milepost-gateway"),
                "the later program",
            )?)
        })?;
        root.dpkg(&["-i", text(&newer)?])?;
        assert_eq!(root.read(PROGRAM)?, "the later program");
        assert_eq!(root.read(SETTINGS)?, settings);
        assert_eq!(root.read(KEPT)?, "records");
        assert!(!root.has(&format!("{SETTINGS}.dpkg-dist")));

        root.dpkg(&["-r", "milepost-gateway"])?;
        assert!(!root.has(PROGRAM) && !root.has(UNIT));
        assert_eq!(root.read(SETTINGS)?, settings);
        assert_eq!(root.read(KEPT)?, "records");

        root.write("/var/lib/milepost/learned.txt", "")?;
        root.write("/etc/milepost/tls/box.key", "")?;
        root.dpkg(&["-P", "milepost-gateway"])?;
        assert!(!root.has("/var/lib/milepost") && !root.has("/etc/milepost"));
    }
    Ok(())
}

#[test]
fn what_the_cloud_has_beside_it_outlives_the_gateway() -> Result<()> {
    let Some(dist) = dist() else { return Ok(()) };
    let root = Root::new()?;
    let deb = debs(&dist)?.remove(0);
    root.dpkg(&["-i", text(&deb)?])?;
    let of_cloud = [
        "/etc/milepost/cloud.toml",
        "/etc/milepost/tls/ca.crt",
        "/var/lib/milepost/site/ca.key",
    ];
    for file in of_cloud {
        root.write(file, "")?;
    }
    root.write(KEPT, "records")?;
    root.dpkg(&["-P", "milepost-gateway"])?;
    assert!(of_cloud.iter().all(|file| root.has(file)));
    assert!(!root.has(KEPT) && !root.has(SETTINGS));
    Ok(())
}

#[test]
fn the_authority_of_the_boxes_outlives_the_cloud() -> Result<()> {
    let Some(dist) = dist() else { return Ok(()) };
    let Ok(debs) = made(&dist, "milepost-cloud_", ".deb") else {
        eprintln!("SKIPPED: dist has no cloud; ./dev package --all makes it");
        return Ok(());
    };
    for deb in debs {
        let root = Root::new()?;
        root.dpkg(&["-i", text(&deb)?])?;
        assert_eq!(root.mode("/usr/bin/milepost-cloud")?, 0o755);
        let unit = root.read("/usr/lib/systemd/system/milepost-cloud.service")?;
        assert!(unit.contains("ExecStart=/usr/bin/milepost-cloud run"));
        root.write("/var/lib/milepost/site/ca.key", "key")?;
        root.dpkg(&["-P", "milepost-cloud"])?;
        assert!(!root.has("/usr/bin/milepost-cloud") && !root.has("/etc/milepost"));
        assert_eq!(root.read("/var/lib/milepost/site/ca.key")?, "key");
    }
    Ok(())
}

/// The units as they are in the repository, those of the packages differ by a path.
#[test]
fn both_units_expose_little() -> Result<()> {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        return tests::servers::skipped("units: there is no systemd-analyze");
    }
    for name in ["gateway", "cloud"] {
        let unit = format!("{}/../deploy/{name}.service", env!("CARGO_MANIFEST_DIR"));
        let exposure = format!("--threshold={EXPOSURE_MAX}");
        run(Command::new("systemd-analyze").args([
            "security",
            "--offline=true",
            "--no-pager",
            &exposure,
            &unit,
        ]))?;
    }
    Ok(())
}

/// The unit and its drop-in for boards, as systemd reads them together.
#[test]
fn the_drop_in_for_boards_is_understood_and_opens_no_more_than_devices() -> Result<()> {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let drop_in = std::fs::read_to_string(deploy.join("board.conf"))?;
    let mut loosened: Vec<&str> = drop_in
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with(['#', '[']))
        .filter_map(|line| line.split_once('=').map(|(key, _)| key))
        .collect();
    loosened.sort_unstable();
    loosened.dedup();
    let expected = [
        "DeviceAllow",
        "DevicePolicy",
        "PrivateDevices",
        "PrivateUsers",
        "ProtectKernelTunables",
        "SupplementaryGroups",
    ];
    assert_eq!(loosened, expected);
    assert!(drop_in.contains("\nDevicePolicy=closed\n"));
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        return tests::servers::skipped("the drop-in for boards: there is no systemd-analyze");
    }
    let dir = tempfile::tempdir()?;
    let unit = dir.path().join("milepost-gateway.service");
    let text = std::fs::read_to_string(deploy.join("gateway.service"))?;
    // `verify` looks for the program on this machine.
    std::fs::write(&unit, text.replace("/usr/local/bin/gateway", "/bin/true"))?;
    let beside = dir.path().join("milepost-gateway.service.d");
    std::fs::create_dir(&beside)?;
    std::fs::write(beside.join("board.conf"), drop_in)?;
    let output = run(Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .arg(&unit))?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("board.conf"), "{said}");
    let exposure = format!("--threshold={EXPOSURE_MAX}");
    let output = run(Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager", &exposure])
        .arg(&unit))?;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("char-ttyUSB:rw") && said.contains("/dev/watchdog0:rw"),
        "{said}"
    );
    Ok(())
}

/// A user who changed the settings is asked by dpkg as soon as the packaged ones change as well, and a box
/// nobody sits at cannot answer. So they are an example that has no reason to change.
#[test]
fn the_packaged_settings_set_nothing() -> Result<()> {
    for name in ["gateway", "cloud"] {
        let path = format!(
            "{}/../deploy/package/{name}.toml",
            env!("CARGO_MANIFEST_DIR")
        );
        let text = std::fs::read_to_string(path)?;
        assert!(text.lines().all(|line| line.starts_with('#')), "{name}");
        // What the example shows is understood by the program: every key is one of its own.
        let shown: String = text
            .lines()
            .filter_map(|line| line.strip_prefix("# "))
            .filter(|line| line.starts_with('[') || line.contains(" = \""))
            .map(|line| format!("{line}\n"))
            .collect();
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("settings.toml");
        std::fs::write(&file, shown)?;
        run(Command::new(tests::processes::program_path(name)?)
            .args(["config", "show", "--config"])
            .arg(&file))?;
    }
    Ok(())
}

#[test]
fn the_unit_of_the_package_is_valid_and_exposes_little() -> Result<()> {
    let Some(dist) = dist() else { return Ok(()) };
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        return tests::servers::skipped("units of the packages: there is no systemd-analyze");
    }
    let root = Root::new()?;
    root.dpkg(&["-i", text(&debs(&dist)?.remove(0))?])?;
    // The unit alone: what it wants of a whole system is not here.
    let unit = root.path(UNIT);
    let exposure = format!("--threshold={EXPOSURE_MAX}");
    run(Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager", &exposure])
        .arg(&unit))?;
    let there = root.read(UNIT)?;
    let start = there
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    let program = start.and_then(|start| start.split(' ').next());
    assert_eq!(program, Some(PROGRAM));
    // For `verify` the program must be where the unit says; it is looked for on this machine.
    let here = there.replace(PROGRAM, text(&root.path(PROGRAM))?);
    let dir = tempfile::tempdir()?;
    let copy = dir.path().join("milepost-gateway.service");
    std::fs::write(&copy, here)?;
    let output = run(Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .arg(&copy))?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("milepost-gateway"), "{said}");
    Ok(())
}

#[test]
fn every_file_is_in_the_list_of_sums_and_fits_it() -> Result<()> {
    let Some(dist) = dist() else { return Ok(()) };
    run(Command::new("sha256sum")
        .args(["--check", "--strict", "SHA256SUMS"])
        .current_dir(&dist))?;
    let sums = std::fs::read_to_string(dist.join("SHA256SUMS"))?;
    let mut named: Vec<&str> = sums.lines().filter_map(|line| line.get(66..)).collect();
    named.push("SHA256SUMS");
    named.sort_unstable();
    let files = made(&dist, "", "")?;
    let files: Vec<_> = files
        .iter()
        .filter_map(|path| path.file_name()?.to_str())
        .collect();
    let mut files = files;
    files.sort_unstable();
    assert_eq!(named, files);
    Ok(())
}

#[test]
fn the_list_of_contents_names_what_is_linked_and_nothing_else() -> Result<()> {
    let Some(dist) = dist() else { return Ok(()) };
    let Ok(lists) = made(&dist, "milepost-gateway-", ".cdx.json") else {
        eprintln!("SKIPPED: dist has no list of contents; ./dev package makes it");
        return Ok(());
    };
    assert_eq!(lists.len(), debs(&dist)?.len());
    for list in lists {
        let text = std::fs::read_to_string(&list)?;
        // A place on the machine it was made on is nobody's business.
        assert!(!text.contains(env!("CARGO_MANIFEST_DIR").trim_end_matches("/tests")));
        let list: Value = serde_json::from_str(&text)?;
        assert_eq!(list["bomFormat"], "CycloneDX");
        let components = list["components"].as_array().context("components")?;
        let has = |name: &str| components.iter().any(|one| one["name"] == name);
        for linked in ["codec", "spool", "ring", "zstd-sys", "redis", "tokio"] {
            assert!(has(linked), "{linked}");
        }
        for other in ["tests", "cloud", "sqlx", "proptest", "rcgen"] {
            assert!(!has(other), "{other}");
        }
        // Everything of others says under which licence it came.
        let bare = |one: &&Value| one["purl"].is_string() && !one["licenses"].is_array();
        let bare: Vec<_> = components
            .iter()
            .filter(bare)
            .map(|one| &one["name"])
            .collect();
        assert!(bare.is_empty(), "{bare:?}");
    }
    Ok(())
}

/// Unpacks an archive; the directory in it.
fn unpacked(archive: &Path, dir: &Path) -> Result<PathBuf> {
    run(Command::new("tar")
        .arg("--zstd")
        .arg("-xf")
        .arg(archive)
        .arg("-C")
        .arg(dir))?;
    let entry = std::fs::read_dir(dir)?.next().context("a directory")??;
    Ok(entry.path())
}

#[test]
fn the_archive_installs_itself_and_keeps_what_is_there() -> Result<()> {
    let Some(dist) = dist() else { return Ok(()) };
    for archive in made(&dist, "milepost-gateway-", ".tar.zst")? {
        let dir = tempfile::tempdir()?;
        let from = unpacked(&archive, dir.path())?;
        let root = Root::new()?;
        // Making a user is for root; whoever is not finds it made.
        root.write(
            "/etc/passwd",
            "milepost:x:990:990::/var/lib/milepost:/usr/sbin/nologin\n",
        )?;
        root.write("/etc/group", "milepost:x:990:\n")?;
        let install = |words: &[&str]| {
            run(Command::new(from.join("install.sh"))
                .arg("--root")
                .arg(root.dir())
                .args(words))
        };
        install(&["--dry-run"])?;
        assert!(!root.has("/usr/local"));
        install(&[])?;
        let program = std::fs::read(from.join("gateway"))?;
        assert_eq!(std::fs::read(root.path("/usr/local/bin/gateway"))?, program);
        assert!(root.has("/etc/systemd/system/milepost-gateway.service"));
        assert_eq!(root.mode(SETTINGS)?, 0o640);
        // Again, over settings that somebody gave.
        root.write(SETTINGS, "[gateway]\nid = \"depot-1\"\n")?;
        root.write(KEPT, "records")?;
        install(&[])?;
        assert!(root.read(SETTINGS)?.contains("depot-1"));
        install(&["--uninstall"])?;
        assert!(!root.has("/usr/local/bin/gateway") && root.has(SETTINGS) && root.has(KEPT));
        // A file that is not as it was packed is refused before anything is written.
        std::fs::write(from.join("gateway"), "something else")?;
        let refused = install(&[]).unwrap_err().to_string();
        assert!(refused.contains("not as it was packed"), "{refused}");
        assert!(!root.has("/usr/local/bin/gateway"));
    }
    Ok(())
}
