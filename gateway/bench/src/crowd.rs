//! The generator: many trackers in one thread, each of which sends the next frame when the last one
//! was acknowledged, or at its own pace.
//!
//! Why one thread around epoll and nothing else: it shares the processors with what it measures,
//! so it must be cheap, and the same for the floor and the gateway.
//!
//! Invariant: a frame counts when all four bytes of its ACK were read and say as many records as it
//! has; any other answer ends the measurement.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use hdrhistogram::Histogram;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};

use crate::frames::{self, Pool};

/// Nobody waits longer for an answer, or something is broken.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Longest sleep of the loop: how late it sees that it shall stop.
const LOOK_MAX: Duration = Duration::from_millis(100);

/// Events taken from the system at once.
const EVENTS: usize = 1024;

/// Trackers that are logged in.
pub struct Crowd {
    epoll: OwnedFd,
    trackers: Vec<Tracker>,
}

struct Tracker {
    stream: TcpStream,
    /// Number of the next frame.
    next: usize,
    /// When the frame on its way was sent.
    sent_at: Option<Instant>,
    answer: [u8; 4],
    answered: usize,
}

/// What a stretch of time brought.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// Records acknowledged before its end.
    pub records: u64,
    /// With those that were on their way at its end.
    pub records_in_all: u64,
    /// How long it was.
    pub took: Duration,
    /// From the frame to its ACK, in microseconds.
    pub delays_us: Histogram<u64>,
}

impl Stretch {
    fn new() -> Result<Self> {
        Ok(Self {
            records: 0,
            records_in_all: 0,
            took: Duration::ZERO,
            delays_us: Histogram::new_with_max(ANSWER_MAX.as_micros() as u64 * 2, 3)?,
        })
    }

    /// Records acknowledged in a second.
    #[must_use]
    pub fn records_per_s(&self) -> f64 {
        self.records as f64 / self.took.as_secs_f64()
    }
}

impl Crowd {
    /// Connects and logs in `count` trackers, one after the other, IMEIs counting from
    /// `first_imei`.
    /// # Errors
    /// When the server refuses one.
    pub fn enter(to: SocketAddr, count: usize, first_imei: u64) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut trackers = Vec::with_capacity(count);
        for number in 0..count {
            let entered = enter(to, first_imei + number as u64);
            let stream = entered.with_context(|| format!("tracker {number} of {count}"))?;
            epoll::add(
                &epoll,
                &stream,
                EventData::new_u64(number as u64),
                EventFlags::IN,
            )?;
            trackers.push(Tracker {
                stream,
                next: number * 7,
                sent_at: None,
                answer: [0; 4],
                answered: 0,
            });
        }
        Ok(Self { epoll, trackers })
    }

    /// Each sends its next frame as soon as the last one was acknowledged, for `duration`.
    /// # Errors
    /// A wrong answer, or none.
    pub fn hurry(&mut self, pool: &Pool, duration: Duration) -> Result<Stretch> {
        self.run(pool, Pace::Hurry, &|_, elapsed| elapsed >= duration)
    }

    /// The same until `records` were acknowledged; `progress` hears how many there are.
    /// # Errors
    /// A wrong answer, or none.
    pub fn hurry_until(
        &mut self,
        pool: &Pool,
        records: u64,
        progress: &dyn Fn(u64),
    ) -> Result<Stretch> {
        self.run(pool, Pace::Hurry, &|so_far, _| {
            progress(so_far);
            so_far >= records
        })
    }

    /// Each sends a frame every `interval`, evenly dealt out over it, until `stop`.
    /// # Errors
    /// A wrong answer, or none.
    pub fn stroll(
        &mut self,
        pool: &Pool,
        interval: Duration,
        stop: &AtomicBool,
    ) -> Result<Stretch> {
        self.run(pool, Pace::Stroll(interval), &|_, _| {
            stop.load(Ordering::Relaxed)
        })
    }

    fn run(
        &mut self,
        pool: &Pool,
        pace: Pace,
        is_over: &dyn Fn(u64, Duration) -> bool,
    ) -> Result<Stretch> {
        let mut stretch = Stretch::new()?;
        let mut due = Due::new(pace, self.trackers.len());
        let mut events = Vec::with_capacity(EVENTS);
        let began = Instant::now();
        let mut over_at = None;
        if matches!(pace, Pace::Hurry) {
            for tracker in &mut self.trackers {
                tracker.send(pool)?;
            }
        }
        loop {
            let now = Instant::now();
            if over_at.is_none() && is_over(stretch.records, now - began) {
                stretch.took = now - began;
                over_at = Some(now);
            }
            if let Some(over_at) = over_at {
                if self
                    .trackers
                    .iter()
                    .all(|tracker| tracker.sent_at.is_none())
                {
                    return Ok(stretch);
                }
                ensure!(now - over_at < ANSWER_MAX, "a frame was never acknowledged");
            } else {
                while let Some(number) = due.pop(now - began) {
                    // Whoever still waits sends with its next turn: a tracker has one frame out.
                    if self.trackers[number].sent_at.is_none() {
                        self.trackers[number].send(pool)?;
                    }
                }
            }
            let sleep = due.in_time(now - began).min(LOOK_MAX);
            let sleep = Timespec {
                tv_sec: 0,
                tv_nsec: i64::from(sleep.subsec_nanos()),
            };
            events.clear();
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                Some(&sleep),
            ) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("epoll"),
            }
            for event in &events {
                let data = event.data;
                let tracker = &mut self.trackers[usize::try_from(data.u64())?];
                let Some(delay) = tracker.read(pool)? else {
                    continue;
                };
                stretch.records_in_all += u64::from(pool.records());
                if over_at.is_some() {
                    continue;
                }
                stretch.records += u64::from(pool.records());
                stretch
                    .delays_us
                    .saturating_record(delay.as_micros() as u64);
                if matches!(pace, Pace::Hurry) {
                    tracker.send(pool)?;
                }
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Pace {
    Hurry,
    Stroll(Duration),
}

/// Whose turn is next, and when: tracker `n` of `count` at `n / count` of each interval.
struct Due {
    interval: Option<Duration>,
    count: u32,
    turns: u32,
}

impl Due {
    fn new(pace: Pace, count: usize) -> Self {
        Self {
            interval: match pace {
                Pace::Hurry => None,
                Pace::Stroll(interval) => Some(interval),
            },
            count: u32::try_from(count).unwrap_or(u32::MAX).max(1),
            turns: 0,
        }
    }

    fn at(&self) -> Option<Duration> {
        Some(self.interval? * self.turns / self.count)
    }

    fn pop(&mut self, elapsed: Duration) -> Option<usize> {
        self.at().filter(|at| *at <= elapsed)?;
        self.turns += 1;
        Some(((self.turns - 1) % self.count) as usize)
    }

    fn in_time(&self, elapsed: Duration) -> Duration {
        self.at().map_or(LOOK_MAX, |at| at.saturating_sub(elapsed))
    }
}

impl Tracker {
    fn send(&mut self, pool: &Pool) -> Result<()> {
        let mut rest = pool.frame(self.next);
        self.next += 1;
        self.sent_at = Some(Instant::now());
        // One frame alone is on its way, so it fits the socket's buffer but for rare moments.
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => return Err(error).context("send a frame"),
            }
        }
        Ok(())
    }

    /// How long the ACK took, once it is complete.
    fn read(&mut self, pool: &Pool) -> Result<Option<Duration>> {
        match self.stream.read(&mut self.answer[self.answered..]) {
            Ok(0) => bail!("the server hung up"),
            Ok(read) => self.answered += read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("read an ACK"),
        }
        if self.answered < self.answer.len() {
            return Ok(None);
        }
        self.answered = 0;
        let count = u32::from_be_bytes(self.answer);
        ensure!(
            count == u32::from(pool.records()),
            "an ACK says {count} records instead of {}",
            pool.records()
        );
        let sent_at = self
            .sent_at
            .take()
            .context("an ACK that nobody waits for")?;
        Ok(Some(sent_at.elapsed()))
    }
}

fn enter(to: SocketAddr, imei: u64) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.write_all(&frames::login(imei)?)?;
    let mut said = [0];
    stream
        .read_exact(&mut said)
        .context("no answer to the login")?;
    ensure!(said == [codec::login::ACCEPT], "login refused");
    stream.set_nonblocking(true)?;
    Ok(stream)
}
