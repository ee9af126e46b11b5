//! Between the queue and everything that does I/O: feeds it, obeys it, decides nothing.
//!
//! Invariants: events are judged one at a time and their effects are passed on in that order;
//! nothing done under the lock waits.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc as jobs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use codec::Imei;
use contract::Order;
use tokio::sync::{Notify, oneshot};

use super::intents::{self, Job};
use super::line::{Command, Line, Mailbox};
use super::outbox::{Item, Outbox};
use super::queue::{Effect, EntryId, Now, OrderView, Queue, Reason, Report};
use super::recent::{Outcome, Recent};
use super::{DownlinkConfig, OpenError};
use crate::clock;
use crate::logbook;
use crate::metrics::Metrics;
use crate::spool::{Begun, Spool};

/// A handle on the downlink; clones share it.
#[derive(Clone, Debug)]
pub struct Downlink {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) outbox: Outbox,
    jobs: jobs::Sender<Job>,
    /// The next deadline may have come nearer.
    pub(super) sooner: Notify,
    /// Redis may have forgotten who is here.
    pub(super) nudge: Arc<Notify>,
    pub(super) metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    /// The living connection of each device, by its epoch.
    lines: HashMap<Imei, (u64, Arc<Mailbox>)>,
    recent: Recent,
}

/// What came of taking an order back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakenBack {
    /// It was waiting; its outcome is `nack` with the reason `cancelled`.
    Yes,
    /// Too late: it is `starting`, `writing` or `sent`.
    OnItsWay(&'static str),
    /// Too late: this became of it.
    Ended(Outcome),
    /// No order of this id is here, nor was one lately.
    Unknown,
}

impl Downlink {
    /// Opens the intent log and starts its thread.
    /// # Errors
    /// [`OpenError`]: without the log no command may be sent.
    pub fn open(
        config: &DownlinkConfig,
        spool: &Spool,
        metrics: Arc<Metrics>,
    ) -> Result<Self, OpenError> {
        let (log, recovered) = spool.intents()?;
        if !recovered.is_empty() {
            tracing::warn!(
                commands = recovered.len(),
                "commands were on their way when the gateway ended; they are reported as unknown and not sent again"
            );
        }
        let (sender, receiver) = jobs::channel();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                queue: Queue::new(config.reply_timeout, recovered),
                lines: HashMap::new(),
                recent: Recent::default(),
            }),
            outbox: Outbox::default(),
            jobs: sender,
            sooner: Notify::new(),
            nudge: Arc::default(),
            metrics,
        });
        let (weak, spool) = (Arc::downgrade(&shared), spool.clone());
        std::thread::Builder::new()
            .name("intents".to_owned())
            .spawn(move || intents::work(log, spool, &receiver, &weak))
            .map_err(OpenError::Thread)?;
        Ok(Self { shared })
    }

    /// A connection is open for commands. `epoch` grows with every connection of a device.
    #[must_use]
    pub fn attach(&self, imei: Imei, epoch: u64) -> Line {
        let mailbox = Arc::<Mailbox>::default();
        let mut state = self.state();
        state.lines.insert(imei, (epoch, Arc::clone(&mailbox)));
        self.feed_locked(&mut state, |queue, now| queue.seated(imei, epoch, now));
        drop(state);
        Line {
            downlink: self.clone(),
            imei,
            epoch,
            mailbox,
        }
    }

    /// Orders that wait or are on their way, by device.
    #[must_use]
    pub fn snapshot(&self) -> Vec<OrderView> {
        self.state().queue.view()
    }

    /// What became of the last orders, the latest first.
    #[must_use]
    pub fn outcomes(&self) -> Vec<Outcome> {
        self.state().recent.list()
    }

    /// Takes an order back while it waits.
    #[must_use]
    pub fn take_back(&self, cid: &str) -> TakenBack {
        let mut state = self.state();
        if let Some(effects) = state.queue.cancel(cid, now()) {
            self.obey(&mut state, effects.into());
            return TakenBack::Yes;
        }
        let orders = state.queue.view();
        match orders.iter().find(|order| order.cid == cid) {
            Some(order) => TakenBack::OnItsWay(order.state),
            None => match state.recent.of(cid) {
                Some(outcome) => TakenBack::Ended(outcome.clone()),
                None => TakenBack::Unknown,
            },
        }
    }

    pub(super) fn detach(&self, imei: Imei, epoch: u64) {
        let mut state = self.state();
        if state.lines.get(&imei).is_some_and(|(at, _)| *at == epoch) {
            state.lines.remove(&imei);
        }
        self.feed_locked(&mut state, |queue, now| queue.left(imei, epoch, now));
    }

    pub(super) fn heard(&self, imei: Imei, data: &[u8]) {
        self.feed(|queue, now| queue.frame(imei, data, now));
    }

    pub(super) fn written(&self, cid: &str, epoch: u64) {
        self.shared.metrics.downlink.written();
        self.feed(|queue, now| queue.written(cid, epoch, now));
    }

    pub(super) fn unwritten(&self, cid: &str, epoch: u64) {
        self.feed(|queue, now| queue.unwritten(cid, epoch, now));
    }

    pub(super) fn broken(&self, cid: &str, epoch: u64) {
        self.feed(|queue, now| queue.broken(cid, epoch, now));
    }

    pub(super) fn begun(&self, begun: Begun) {
        let mut state = self.state();
        let cid = begun.cid().to_owned();
        let (write, effects) = state.queue.begun(&cid, begun, now());
        let mut effects: VecDeque<_> = effects.into();
        if let Some(write) = write {
            let line = state.lines.get(&write.imei);
            let line = line.filter(|(epoch, _)| *epoch == write.epoch);
            let command = Command::new(self.clone(), write);
            let refused = match line {
                Some((_, mailbox)) => mailbox.put(command).err(),
                None => Some(command),
            };
            if let Some(command) = refused {
                let (cid, epoch) = command.forget();
                effects.extend(state.queue.unwritten(&cid, epoch, now()));
            }
        }
        self.obey(&mut state, effects);
    }

    pub(super) fn not_begun(&self, cid: &str, reason: Reason) {
        self.feed(|queue, now| queue.not_begun(cid, reason, now));
    }

    pub(super) fn order(&self, order: Order, entry: EntryId) {
        self.feed(|queue, now| queue.order(order, entry, now));
    }

    pub(super) fn unreadable(&self, entry: EntryId, known: Option<(String, Imei, u32)>) {
        self.feed(|queue, now| queue.unreadable(entry, known, now));
    }

    pub(super) fn pending_read(&self) {
        self.feed(Queue::pending_read);
    }

    pub(super) fn is_here(&self, imei: Imei) -> bool {
        self.state().queue.is_here(imei)
    }

    /// Redis has this.
    pub(super) fn told(&self, item: &Item) {
        if let Some(entry) = item.entry() {
            self.state().queue.released(entry);
        }
        if let Item::Report(report) = item
            && report.settles
        {
            // A thread that is gone leaves it to the next process, which says `unknown`.
            let _ = self.shared.jobs.send(Job::Finish(report.cid.clone()));
        }
    }

    /// The connections are gone: reports everything that nobody waits for any more.
    pub fn stop(&self) {
        self.feed(Queue::stop);
    }

    /// Returns when the intent log has heard of everything.
    pub(super) async fn end(&self) {
        let (done, ended) = oneshot::channel();
        if self.shared.jobs.send(Job::End(done)).is_ok() {
            // A thread that is gone has nothing to do.
            let _ = ended.await;
        }
    }

    /// Calls the queue when it wants to be called. Never returns.
    pub(super) async fn keep_time(&self) {
        loop {
            let sooner = self.shared.sooner.notified();
            let deadline = self.state().queue.deadline(now());
            match deadline {
                Some(at) if at <= Instant::now() => {
                    self.feed(Queue::tick);
                    tokio::task::yield_now().await;
                }
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => {}
                    () = sooner => {}
                },
                None => sooner.await,
            }
        }
    }

    fn feed(&self, event: impl FnOnce(&mut Queue, Now) -> Vec<Effect>) {
        self.feed_locked(&mut self.state(), event);
    }

    fn feed_locked(&self, state: &mut State, event: impl FnOnce(&mut Queue, Now) -> Vec<Effect>) {
        let effects = event(&mut state.queue, now());
        self.obey(state, effects.into());
    }

    fn obey(&self, state: &mut State, mut effects: VecDeque<Effect>) {
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Begin(intent) => {
                    if let Err(refused) = self.shared.jobs.send(Job::Begin(intent))
                        && let Job::Begin(intent) = refused.0
                    {
                        let reason = Reason::Storage;
                        effects.extend(state.queue.not_begun(&intent.cid, reason, now()));
                    }
                }
                Effect::Report(report) => {
                    say(&report);
                    state.recent.note(&report);
                    self.shared.metrics.downlink.reported(&report);
                    self.post(Item::Report(report));
                }
                Effect::Release(entry) => self.post(Item::Release(entry)),
            }
        }
        let (waiting, on_the_way) = state.queue.counts();
        self.shared.metrics.downlink.queued(waiting, on_the_way);
        self.shared.sooner.notify_one();
    }

    fn post(&self, item: Item) {
        if !self.shared.outbox.push(item) {
            self.shared.metrics.downlink.response_lost();
            tracing::error!(
                "too many command responses wait for Redis: one is lost, its outcome is reported as unknown after a restart"
            );
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }
}

fn say(report: &Report) {
    let (cid, imei) = (&report.cid, report.imei);
    let (status, reason) = (report.status.as_str(), report.reason);
    tracing::info!(
        cid,
        imei = %logbook::imei(imei),
        status,
        ?reason,
        attempt = report.attempt,
        "command"
    );
}

fn now() -> Now {
    Now {
        at: Instant::now(),
        wall_ms: clock::now_ms(),
    }
}
