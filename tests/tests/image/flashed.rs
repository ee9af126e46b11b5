//! A box with an image of ours, provisioned for a road of its own, with trackers that drive to it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tests::fleet::{Fleet, FleetConfig};
use tests::ledger::Ledger;
use tests::machine::{HOST, Machine, Parts, Typed};
use tests::processes::{Road, RoadOptions};
use tests::servers::Redis;

use super::program::{Office, Ran};

const SITE: &str = "box-1";

/// Where the boot partition begins on the disk, in bytes: `IMAGE_BOOT_START` in tests/setup/image.sh.
const BOOT_OFFSET: u64 = 4 << 20;

const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A machine under emulation, with a whole road behind it.
pub(super) struct Flashed {
    pub(super) machine: Machine,
    fleet: Fleet,
    road: Road,
    _dir: tempfile::TempDir,
}

/// What `./dev image` made for this kind of processor; `None` when nothing is named.
pub(super) fn parts(machine: &str) -> Result<Option<Parts>> {
    let dir = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let Some(images) = dir("MILEPOST_IMAGE_DIR").map(PathBuf::from) else {
        return Ok(None);
    };
    let (board, qemu, cpu, loader) = match machine {
        "armv7" => (
            "qemu-virt-armv7",
            "qemu-system-arm",
            "cortex-a15",
            "qemu_arm",
        ),
        _ => (
            "qemu-virt",
            "qemu-system-aarch64",
            "cortex-a53",
            "qemu_arm64",
        ),
    };
    let disk = images.join(format!("milepost-{board}.img"));
    if !disk.is_file() {
        return Ok(None);
    }
    let tools = dir("MILEPOST_IMAGE_TOOLS").context("MILEPOST_IMAGE_TOOLS is not set")?;
    let loaders = dir("MILEPOST_IMAGE_LOADERS").context("MILEPOST_IMAGE_LOADERS is not set")?;
    let mut kind = vec![format!("-M virt -cpu {cpu}")];
    if machine == "aarch64" {
        kind.push("-device i6300esb".to_owned());
    }
    let stick = images.join("stick.img");
    let parts = Parts {
        qemu: Path::new(&tools).join(qemu),
        kind,
        firmware: Path::new(&loaders).join(loader).join("u-boot.bin"),
        disk,
        stick: (machine == "aarch64").then_some(stick),
    };
    let files = [&parts.qemu, &parts.firmware];
    for file in files.into_iter().chain(&parts.stick) {
        ensure!(file.is_file(), "there is no {}", file.display());
    }
    Ok(Some(parts))
}

fn done(command: &mut Command) -> Result<()> {
    Ran::of(command.output()?)?.ok()?;
    Ok(())
}

impl Flashed {
    /// Starts a road, lets the box in, puts its bundle on the boot partition, switches it on and has
    /// trackers drive. `None`, and says so, where no image is named.
    pub(super) async fn start(machine: &str) -> Result<Option<Self>> {
        let Some(mut parts) = parts(machine)? else {
            eprintln!("SKIPPED: no image for {machine}; `./dev image qemu-virt --test` makes one");
            return Ok(None);
        };
        let road = Road::start(RoadOptions::default()).await?;
        let dir = tempfile::tempdir()?;
        let disk = dir.path().join("disk.img");
        let copy = Command::new("cp")
            .arg("--sparse=always")
            .args([&parts.disk, &disk])
            .output();
        Ran::of(copy?)?.ok()?;
        parts.disk = disk;
        provision(&road, &parts)?;
        let mut machine = Machine::new(parts)?;
        machine.start()?;
        let fleet = Fleet::start(FleetConfig {
            to: machine.tcp_addr().to_string(),
            devices: 8,
            rate: "4".parse()?,
            records_per_frame: 2,
            ack_timeout: Duration::from_secs(10),
            backoff: (Duration::from_millis(200), Duration::from_secs(2)),
            ..road.fleet_config()
        })
        .await?;
        Ok(Some(Self {
            machine,
            fleet,
            road,
            _dir: dir,
        }))
    }

    /// The Redis it sends to.
    pub(super) fn redis(&mut self) -> Result<&mut Redis> {
        self.road.redis.as_mut().context("the Redis is ours")
    }

    /// Waits until trackers have so many more records acknowledged.
    pub(super) async fn acked(&self, more: u64) -> Result<()> {
        let wanted = self.fleet.stats().acked + more;
        let deadline = Instant::now() + super::PATIENCE;
        while self.fleet.stats().acked < wanted {
            if Instant::now() > deadline {
                let stats = self.fleet.stats();
                bail!("no ACKs: {stats:?}\n{}", self.machine.last_words());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// `gateway update …` on its console.
    pub(super) async fn update(&mut self, words: &str) -> Result<Typed> {
        let command = format!("gateway update {words} 2>&1");
        self.machine.run(&command).await
    }

    /// As an operator does it.
    pub(super) async fn reboot(&mut self) -> Result<()> {
        self.machine.run("reboot").await?.with(0, "")?;
        Ok(())
    }

    /// Everything acknowledged is in the database, once; nothing else is.
    pub(super) async fn judge(&self, patience: Duration) -> Result<Ledger> {
        ensure!(
            self.fleet.drain(patience).await,
            "trackers still wait for ACKs: {:?}\n{}",
            self.fleet.stats(),
            self.machine.last_words()
        );
        let ledger = self.road.clean_ledger(&self.fleet.truth(), patience).await;
        let ledger = ledger.with_context(|| self.machine.last_words())?;
        ensure!(ledger.acked > 0, "{ledger}");
        Ok(ledger)
    }
}

/// As the cloud lets a new box in, signed by the authority that Redis trusts already.
fn provision(road: &Road, parts: &Parts) -> Result<()> {
    let redis = road.redis.as_ref().context("the Redis is ours")?;
    let office = Office::at(redis, road.database_url())?;
    let url = format!("rediss://{HOST}:{}", redis.port());
    let (ca, key) = (redis.ca().to_owned(), redis.pki().ca_key()?);
    let (ca, key) = (
        ca.to_str().context("a path")?,
        key.to_str().context("a path")?,
    );
    let words = [
        "site",
        "add",
        SITE,
        "--url",
        &url,
        "--ca-cert",
        ca,
        "--ca-key",
        key,
    ];
    office.run(&words)?.ok()?;
    let tools = parts.qemu.parent().context("a directory")?;
    let partition = format!("{}@@{BOOT_OFFSET}", parts.disk.display());
    let bundle = office.path(&format!("{SITE}.bundle"));
    done(
        Command::new(tools.join("mcopy"))
            .arg("-i")
            .arg(partition)
            .arg(bundle)
            .arg("::"),
    )
}
