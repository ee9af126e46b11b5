//! Puts the parts together and takes them apart in the order of the data.
//!
//! Stop order: doors first (no new frames, no new orders), then sessions (the frame begun is kept
//! and acknowledged), then the downlink (writes outcomes), then the uplink (hands over for a
//! while), last the spool.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::{Access, AccessError};
use crate::admin::{self, Admin, Parts};
use crate::attendant::Attendant;
use crate::board::Board;
use crate::chain::chain;
use crate::check::{offline_promise, when_full};
use crate::config::Config;
use crate::downlink::{Downlink, DownlinkConfig, Orders};
use crate::events::Kind;
#[cfg(feature = "ingest")]
use crate::ingest::{IngestDoors, IngestError};
use crate::listen::{Doors, Hall, ListenError};
use crate::metrics::Metrics;
use crate::roster::Roster;
use crate::spool::{OpenError, Spool};
use crate::support;
use crate::systemd::Manager;
use crate::uplink::{self, Uplink};
use crate::vitals::Vitals;

/// Why the gateway cannot run.
#[derive(Debug, Error)]
pub enum AppError {
    /// The spool cannot be opened.
    #[error("spool cannot be opened")]
    Spool(#[from] OpenError),
    /// A tracker address is taken or not ours.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The HTTP doors cannot be opened.
    #[cfg(feature = "ingest")]
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// The files of `access` cannot be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The address of the pages is taken or not ours.
    #[error("cannot serve http.listen = {addr}: set another address, or \"\" for none")]
    Http {
        /// The address.
        addr: std::net::SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// No random bits for the spool ids and the first connection epoch.
    #[error("the system gives no random numbers")]
    Random(#[source] getrandom::Error),
}

/// A stopping gateway waits this long for each of its parts; what is unfinished then was never
/// acknowledged.
const PART_STOP_MAX: Duration = Duration::from_secs(10);

/// A commit on a worn SD card takes seconds; one that takes longer than this is a disk that hangs.
const SPOOL_SILENCE_MAX: Duration = Duration::from_secs(60);

/// Runs until `stop`, then stops in the order of the data.
/// # Errors
/// [`AppError`]: an address or the spool cannot be had.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), AppError> {
    let manager = Arc::new(Manager::of_environment());
    // Before anything slow: unheard, the signal would end the process.
    let hangup = signal(SignalKind::hangup())
        .inspect_err(|error| tracing::warn!(%error, "SIGHUP will not reload"))
        .ok();
    let mut random = [0; 3];
    for bits in &mut random {
        *bits = getrandom::u64().map_err(AppError::Random)?;
    }
    let spool_dir = config.spool.dir.clone();
    let when_full = when_full(config.spool.full);
    let (spool, found) = Spool::open(config.spool, random)?;
    for (of, gap) in &found.gaps {
        tracing::error!(spool = %of, %gap, "damaged place in the spool: these positions are lost and will be reported");
    }
    for file in &found.strangers {
        tracing::warn!(file, "none of ours in the spool's directory; left as it is");
    }
    for file in &found.quarantined {
        tracing::warn!(file, "copy of a damaged segment kept");
    }
    let metrics = Arc::new(Metrics::default());
    let access = Access::open(config.access)?;
    let stage = spool.stage().clone();
    let progress = &metrics.panel.progress;
    progress.watch("spool", SPOOL_SILENCE_MAX, stage);
    let board = Board::start(
        config.board,
        spool_dir.clone(),
        spool.supply().clone(),
        Arc::clone(&metrics),
    );
    let downlink = config.commands.and_then(|commands| {
        let downlink = open_downlink(&commands, &spool, &metrics)?;
        Some((downlink, commands))
    });
    let handle = downlink.as_ref().map(|(downlink, _)| downlink.clone());
    let parts = Parts {
        access: Some(access.clone()),
        downlink: handle.clone(),
        identity: Arc::default(),
        settings: Arc::new(support::settings(&config.shown)),
        spool_dir: spool_dir.clone(),
        forward_to: config.uplink.redis.shown(),
    };
    let pages = TaskTracker::new();
    let pages_stop = CancellationToken::new();
    if let Some(addr) = config.http {
        let listener = admin::bind(addr).await;
        let listener = listener.map_err(|source| AppError::Http { addr, source })?;
        let admin = Admin::new(
            config.gateway.clone(),
            spool.clone(),
            Arc::clone(&metrics),
            config.log.imei,
            pages_stop.clone(),
        );
        pages.spawn(admin.with(parts.clone()).serve(listener));
    }
    let (doors, sessions) = (TaskTracker::new(), TaskTracker::new());
    // 53 bits: what every reader of Redis can hold as a number.
    let roster = Roster::new(getrandom::u64().map_err(AppError::Random)? >> 11);
    let hall = Hall::new(
        config.listen,
        access.clone(),
        spool.clone(),
        Arc::clone(&metrics),
        roster.clone(),
        stop.clone(),
    );
    let hall = Arc::new(hall.with_downlink(handle));
    // All of them before anybody is let in: a door that cannot be opened ends the start, and who came
    // in by then would be cut off.
    let open = Doors::open(&config.doors, &hall).await?;
    if let Some(identity) = open.identity() {
        // The first of them: nothing else sets it.
        let _ = parts.identity.set(identity);
    }
    #[cfg(feature = "ingest")]
    if let Some(config) = config.ingest {
        let open = IngestDoors::open(config, &hall).await?;
        // Not held: the bell outlives the doors, and the spool ends with whoever holds it.
        let ingest = Arc::downgrade(&open.ingest());
        metrics
            .panel
            .reload
            .hook("the tokens for HTTP", move || match ingest.upgrade() {
                Some(ingest) => ingest.reload().map_err(Into::into),
                None => Ok(()),
            });
        open.run(&doors, &sessions, stop.clone());
    }
    open.run(&doors, &sessions, stop.clone());
    let accept = access.status().to_words();
    doors.spawn(access.watch(stop.clone()));
    hook_reload(&metrics, &parts, config.uplink.reload.clone());
    let usage = spool.usage();
    tracing::info!(
        gateway = %config.gateway,
        forward_to = parts.forward_to,
        stream = %config.uplink.stream,
        accept = accept,
        spool = %spool_dir.display(),
        spool_used_bytes = usage.used_bytes,
        spool_bytes_max = usage.bytes_max,
        backlog = found.backlog,
        offline = offline_promise(usage.bytes_max),
        when_full,
        "gateway started"
    );
    if config.uplink.redis.is_direct() {
        tracing::info!(
            "records go straight to a cloud on this machine; commands are not carried without Redis"
        );
    }
    let drain = config.uplink.drain;
    let uplink_stop = CancellationToken::new();
    let uplink = Uplink::new(config.uplink, spool.clone(), Arc::clone(&metrics));
    let uplink = tokio::spawn(uplink.run(uplink_stop.clone()));
    let downlink = downlink.map(|(downlink, commands)| {
        Orders::start(
            downlink,
            commands,
            roster,
            Vitals::new(spool.clone(), Arc::clone(&metrics)),
            Arc::clone(&metrics),
            stop.clone(),
        )
    });
    let panel = &metrics.panel;
    panel.serving();
    let started = format!("gateway {} started", env!("CARGO_PKG_VERSION"));
    panel.events.note(Kind::Started, None, started);
    manager.ready();
    let attendant = Attendant {
        spool: spool.clone(),
        metrics: Arc::clone(&metrics),
        manager: Arc::clone(&manager),
        hangup,
        identity: Arc::clone(&parts.identity),
    };
    pages.spawn(attendant.run(pages_stop.clone()));

    stop.cancelled().await;
    panel.stopping();
    spool.supply().give_up();
    manager.stopping();
    panel
        .events
        .note(Kind::Stopping, None, "gateway is stopping");
    doors.close();
    doors.wait().await;
    sessions.close();
    if timeout(PART_STOP_MAX, sessions.wait()).await.is_err() {
        tracing::warn!(
            connections = sessions.len(),
            "connections that do not end are left behind"
        );
    }
    tracing::info!("trackers are gone; handing over what waits");
    let registry = match downlink {
        Some(orders) => Some(orders.end().await),
        None => None,
    };
    uplink_stop.cancel();
    // It ends by itself within its drain time, or when an answer of Redis is long in coming.
    let _ = timeout(drain + PART_STOP_MAX, uplink).await;
    if let Some(registry) = registry {
        registry.end().await;
    }
    let backlog = spool.usage().backlog();
    pages_stop.cancel();
    pages.close();
    let _ = timeout(PART_STOP_MAX, pages.wait()).await;
    // The spool ends with its last handle, under the eyes of the watchdog, which is disarmed then.
    drop((hall, spool));
    drop(board);
    tracing::info!(
        backlog,
        "gateway stopped; what is unsettled stays in the spool"
    );
    Ok(())
}

/// Without it trackers are served all the same: what they send matters more.
fn open_downlink(
    config: &DownlinkConfig,
    spool: &Spool,
    metrics: &Arc<Metrics>,
) -> Option<Downlink> {
    match Downlink::open(config, spool, Arc::clone(metrics)) {
        Ok(downlink) => Some(downlink),
        Err(error) => {
            let error = chain(&error);
            tracing::error!(error, "commands are off until the next start");
            None
        }
    }
}

/// What SIGHUP reads anew.
fn hook_reload(metrics: &Metrics, parts: &Parts, uplink: uplink::Reload) {
    let reload = &metrics.panel.reload;
    if let Some(access) = parts.access.clone() {
        reload.hook("the list of IMEIs", move || {
            access.reload().map(drop).map_err(Into::into)
        });
    }
    if let Some(identity) = parts.identity.get().cloned() {
        reload.hook("the certificate for trackers", move || {
            identity.reload().map_err(Into::into)
        });
    }
    // It looks at its files by itself, and says so itself when they do not work.
    reload.hook("the certificate for Redis", move || {
        uplink.now();
        Ok(())
    });
}
