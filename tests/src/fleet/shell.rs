//! Sockets and clocks for the devices: one small task each.
//!
//! Invariant: the task does what the machine says in the order it says it, and notes the
//! truth in between: before a frame's first byte, and before anything follows an ACK.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use codec::Imei;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::TaskTracker;

use super::config::FleetConfig;
use super::device::{Device, Output, Patience, Source, Why};
use super::dice::Dice;
use super::drive::{Drive, DriveSettings};
use super::replay;
use super::stats::{Counters, FleetStats};
use super::truth::Truth;

/// Ten thousand devices knock within five seconds, not at once.
const FIRST_CONNECTS_PER_S: u64 = 2_000;
/// A device does not wait longer than this for a connection to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What a process has open besides its trackers' sockets: log files, database, servers.
const OTHER_FILES_MAX: u64 = 256;
/// Answers have one or four bytes; anything longer is read in pieces.
const READ_BYTES: usize = 64;

/// What devices are asked to do, from above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Drive,
    SayTheRest,
    Stop,
}

/// A running fleet. Dropping it hangs up every tracker where it stands.
#[derive(Debug)]
pub struct Fleet {
    shared: Arc<Shared>,
    phase: watch::Sender<Phase>,
    tasks: TaskTracker,
    devices: u64,
}

#[derive(Debug)]
struct Shared {
    to: SocketAddr,
    began: Instant,
    write_timeout: Duration,
    counters: Counters,
    truth: Arc<Truth>,
}

impl Fleet {
    /// Starts the trackers. Whether the gateway is there does not matter: they keep trying.
    ///
    /// # Errors
    /// When the address does not resolve, the replay or truth file is not usable, or the
    /// configuration contradicts itself.
    pub async fn start(config: FleetConfig) -> Result<Fleet> {
        ensure!(
            !config.profiles.is_empty(),
            "a fleet needs at least one profile"
        );
        let mut addresses = tokio::net::lookup_host(&config.to)
            .await
            .with_context(|| format!("gateway address `{}`", config.to))?;
        let to = addresses
            .next()
            .with_context(|| format!("gateway address `{}` has no address", config.to))?;
        let truth = match &config.truth_file {
            Some(path) => Truth::with_file(path)?,
            None => Truth::new(),
        };
        let devices = devices(&config)?;
        allow_sockets(devices.len() as u64)?;
        let fleet = Fleet {
            shared: Arc::new(Shared {
                to,
                began: Instant::now(),
                write_timeout: config.ack_timeout,
                counters: Counters::new(),
                truth: Arc::new(truth),
            }),
            phase: watch::Sender::new(Phase::Drive),
            tasks: TaskTracker::new(),
            devices: devices.len() as u64,
        };
        for (imei, device) in devices {
            let task = Task {
                imei,
                device,
                shared: Arc::clone(&fleet.shared),
                socket: None,
                logged_in: false,
                connections: 0,
                waiting: 0,
            };
            fleet.tasks.spawn(task.run(fleet.phase.subscribe()));
        }
        fleet.tasks.close();
        Ok(fleet)
    }

    /// The numbers at this moment.
    #[must_use]
    pub fn stats(&self) -> FleetStats {
        self.shared.counters.look(self.devices)
    }

    /// What was said and answered so far; goes on changing while the fleet runs.
    #[must_use]
    pub fn truth(&self) -> Arc<Truth> {
        Arc::clone(&self.shared.truth)
    }

    /// No new records from now on. What is in the devices' memories is still sent, and sent
    /// again, until it is ACKed; a device with nothing left to say hangs up.
    pub fn stop_producing(&self) {
        self.phase.send_if_modified(|phase| {
            let driving = *phase == Phase::Drive;
            if driving {
                *phase = Phase::SayTheRest;
            }
            driving
        });
    }

    /// True once every device has hung up with nothing left to say.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Returns when [`Fleet::is_finished`] turns true: after [`Fleet::stop_producing`], or at
    /// the end of a replay.
    pub async fn finished(&self) {
        self.tasks.wait().await;
    }

    /// Stops producing, waits until everything is ACKed or `patience` is over, then stops
    /// every device. True if everything was ACKed.
    pub async fn drain(&self, patience: Duration) -> bool {
        self.stop_producing();
        let drained = timeout(patience, self.tasks.wait()).await.is_ok();
        self.stop().await;
        drained && self.stats().waiting == 0
    }

    /// Hangs up every device where it stands.
    pub async fn stop(&self) {
        self.phase.send_replace(Phase::Stop);
        self.tasks.wait().await;
    }
}

/// The IMEI of a simulated tracker: 35000000 and seven digits, different for every device of
/// a seed and for most seeds.
#[must_use]
pub fn synthetic_imei(seed: u64, index: u64) -> Imei {
    let offset = Dice::new(seed, 0, 0).below(10_000_000);
    let digits = (offset + index) % 10_000_000;
    Imei::from_u64(350_000_000_000_000 + digits).expect("fifteen digits")
}

fn devices(config: &FleetConfig) -> Result<Vec<(Imei, Device)>> {
    let patience = Patience {
        answer_ms: millis(config.ack_timeout),
        ping_after_ms: millis(config.ping_after),
        backoff_min_ms: millis(config.backoff.0),
        backoff_max_ms: millis(config.backoff.1),
    };
    let device = |index: u64, imei, source| {
        let first_at_ms = index * 1_000 / FIRST_CONNECTS_PER_S;
        (
            imei,
            Device::new(imei, source, patience, config.seed, first_at_ms),
        )
    };
    if let Some(replay) = &config.replay {
        let tapes = replay::load(&replay.file, replay.speed)?;
        let tapes = (0..).zip(tapes);
        return Ok(tapes
            .map(|(index, (imei, tape))| device(index, imei, Source::Replay(tape)))
            .collect());
    }
    let sources = (0..config.devices as u64).zip(config.profiles.iter().cycle());
    Ok(sources
        .map(|(index, profile)| {
            let drive = Drive::new(DriveSettings {
                seed: config.seed,
                device: index,
                profile: *profile,
                interval_ms: config.rate.interval_ms(),
                records_per_frame: config.records_per_frame,
                start_ms: config.start_ms,
            });
            let imei = synthetic_imei(config.seed, index);
            device(index, imei, Source::Drive(Box::new(drive)))
        })
        .collect())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX / 4)
        .min(u64::MAX / 4)
}

/// Each device needs a socket. A soft limit below that is a habit of the shell, not a wall.
fn allow_sockets(devices: u64) -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = devices + OTHER_FILES_MAX;
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    if let Some(maximum) = limit.maximum.filter(|maximum| *maximum < wanted) {
        anyhow::bail!(
            "{devices} trackers need {wanted} open files, the limit is {maximum}: raise it (ulimit -Hn) or drive fewer"
        );
    }
    let current = Some(wanted);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current,
            maximum: limit.maximum,
        },
    )
    .with_context(|| format!("raise the limit of open files to {wanted}"))
}

struct Task {
    imei: Imei,
    device: Device,
    shared: Arc<Shared>,
    socket: Option<TcpStream>,
    logged_in: bool,
    connections: u64,
    waiting: u64,
}

impl Task {
    async fn run(mut self, mut phase: watch::Receiver<Phase>) {
        let mut buffer = [0; READ_BYTES];
        loop {
            match *phase.borrow_and_update() {
                Phase::Drive => {}
                Phase::SayTheRest => self.device.stop_producing(),
                Phase::Stop => break,
            }
            let finished = tokio::select! {
                finished = self.obey() => finished,
                () = stopped(phase.clone()) => break,
            };
            self.gauge_waiting();
            if finished {
                break;
            }
            let wake = self.device.wake_at_ms();
            let wake = wake.map(|wake_ms| self.shared.began + Duration::from_millis(wake_ms));
            tokio::select! {
                read = read(&mut self.socket, &mut buffer) => self.on_read(read, &buffer),
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
                changed = phase.changed() => if changed.is_err() { break },
            }
        }
        self.hang_up();
    }

    fn now_ms(&self) -> u64 {
        millis(self.shared.began.elapsed())
    }

    fn on_read(&mut self, read: std::io::Result<usize>, buffer: &[u8]) {
        let now_ms = self.now_ms();
        match read {
            Ok(0) | Err(_) => {
                self.hang_up();
                self.device.on_closed(now_ms);
            }
            Ok(bytes) => self.device.on_bytes(now_ms, &buffer[..bytes]),
        }
    }

    /// Does all there is to do now. True at the end of the device's life.
    async fn obey(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let counters = &shared.counters;
        loop {
            let now_ms = self.now_ms();
            let Some(output) = self.device.poll(now_ms) else {
                self.count_login();
                return false;
            };
            match output {
                Output::Connect => self.connect().await,
                Output::Login(bytes) => self.write(&bytes).await,
                Output::Ping => {
                    counters.pings.fetch_add(1, Relaxed);
                    self.write(&[codec::frame::PING]).await;
                }
                Output::Frame { frame, again } => {
                    self.count_login();
                    let records = if again {
                        &counters.resent
                    } else {
                        &counters.sent
                    };
                    if !again && shared.truth.sent(self.imei, &frame.keys).is_err() {
                        // Unrecorded is unsent: better a silent device than a false oracle.
                        return true;
                    }
                    records.fetch_add(frame.records(), Relaxed);
                    counters.frames.fetch_add(1, Relaxed);
                    self.write(&frame.bytes).await;
                }
                Output::Acked { frame, delay_ms } => {
                    if shared.truth.acked(self.imei, &frame.keys).is_err() {
                        return true;
                    }
                    counters.acked.fetch_add(frame.records(), Relaxed);
                    counters.ack_delay(delay_ms);
                }
                Output::Close(why) => {
                    let counter = match why {
                        Why::Refused => Some(&counters.refused),
                        Why::WrongCount { .. } => Some(&counters.wrong_counts),
                        Why::Timeout => Some(&counters.timeouts),
                        Why::Done => None,
                    };
                    counter.map(|counter| counter.fetch_add(1, Relaxed));
                    self.hang_up();
                }
                Output::Finished => return true,
            }
        }
    }

    async fn connect(&mut self) {
        let counters = &self.shared.counters;
        let socket = timeout(CONNECT_TIMEOUT, TcpStream::connect(self.shared.to)).await;
        match socket {
            Ok(Ok(socket)) => {
                // Small frames that each wait for an answer: nothing to gain from waiting.
                let _ = socket.set_nodelay(true);
                if self.connections > 0 {
                    counters.reconnects.fetch_add(1, Relaxed);
                }
                self.connections += 1;
                self.socket = Some(socket);
                self.device.on_connected(self.now_ms());
            }
            Ok(Err(_)) | Err(_) => {
                counters.connects_failed.fetch_add(1, Relaxed);
                self.device.on_closed(self.now_ms());
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) {
        let Some(socket) = &mut self.socket else {
            return;
        };
        match timeout(self.shared.write_timeout, socket.write_all(bytes)).await {
            Ok(Ok(())) => {
                self.shared
                    .counters
                    .bytes
                    .fetch_add(bytes.len() as u64, Relaxed);
            }
            Ok(Err(_)) | Err(_) => {
                self.hang_up();
                self.device.on_closed(self.now_ms());
            }
        }
    }

    fn hang_up(&mut self) {
        self.socket = None;
        if std::mem::take(&mut self.logged_in) {
            self.shared.counters.connected.fetch_sub(1, Relaxed);
        }
    }

    fn count_login(&mut self) {
        if self.device.is_logged_in() && !std::mem::replace(&mut self.logged_in, true) {
            self.shared.counters.connected.fetch_add(1, Relaxed);
        }
    }

    fn gauge_waiting(&mut self) {
        let now = self.device.waiting_records();
        let gauge: &AtomicU64 = &self.shared.counters.waiting;
        if now >= self.waiting {
            gauge.fetch_add(now - self.waiting, Relaxed);
        } else {
            gauge.fetch_sub(self.waiting - now, Relaxed);
        }
        self.waiting = now;
    }
}

async fn read(socket: &mut Option<TcpStream>, buffer: &mut [u8]) -> std::io::Result<usize> {
    match socket {
        Some(socket) => socket.read(buffer).await,
        None => std::future::pending().await,
    }
}

async fn stopped(mut phase: watch::Receiver<Phase>) {
    // An error means that the fleet was dropped: that stops a device just as well.
    let _ = phase.wait_for(|phase| *phase == Phase::Stop).await;
}
