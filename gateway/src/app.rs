//! Puts the parts together and takes them apart in the order of the data.
//!
//! Stop order: doors first (no new frames), then sessions (the frame begun is kept and
//! acknowledged), then the uplink (hands over for a while), last the spool.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{self, Admin};
use crate::attendant::Attendant;
use crate::config::Config;
use crate::events::Kind;
use crate::listen::{ListenError, TcpDoor};
use crate::metrics::Metrics;
use crate::session::Admission;
use crate::spool::{OpenError, Spool};
use crate::systemd::Manager;
use crate::uplink::Uplink;

/// Why the gateway cannot run.
#[derive(Debug, Error)]
pub enum AppError {
    /// The spool cannot be opened.
    #[error("spool cannot be opened")]
    Spool(#[from] OpenError),
    /// A tracker address is taken or not ours.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The address of the pages is taken or not ours.
    #[error("cannot serve http.listen = {addr}: set another address, or \"\" for none")]
    Http {
        /// The address.
        addr: std::net::SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// No random bits for the spool id.
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
    let stage = spool.stage().clone();
    let progress = &metrics.panel.progress;
    progress.watch("spool", SPOOL_SILENCE_MAX, stage);
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
        pages.spawn(admin.serve(listener));
    }
    let admission = Arc::new(config.admission);
    let (doors, sessions) = (TaskTracker::new(), TaskTracker::new());
    for addr in config.tcp {
        let door = TcpDoor::open(
            addr,
            config.listen.clone(),
            Arc::clone(&admission),
            spool.clone(),
            Arc::clone(&metrics),
            stop.clone(),
        );
        let door = door.await?;
        tracing::info!(addr = %door.local_addr().unwrap_or(addr), "listening for trackers over TCP");
        doors.spawn(door.run(sessions.clone()));
    }
    let who = match &*admission {
        Admission::Open => "every well-formed IMEI".to_owned(),
        Admission::List(imeis) => format!("{} listed IMEIs", imeis.len()),
    };
    let usage = spool.usage();
    tracing::info!(
        gateway = %config.gateway,
        forward_to = %config.uplink.redis.shown(),
        stream = %config.uplink.stream,
        accept = who,
        spool = %spool_dir.display(),
        spool_used_bytes = usage.used_bytes,
        spool_bytes_max = usage.bytes_max,
        backlog = found.backlog,
        "gateway started"
    );
    let drain = config.uplink.drain;
    let uplink_stop = CancellationToken::new();
    let uplink = Uplink::new(config.uplink, spool.clone(), Arc::clone(&metrics));
    let uplink = tokio::spawn(uplink.run(uplink_stop.clone()));
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
    };
    pages.spawn(attendant.run(pages_stop.clone()));

    stop.cancelled().await;
    panel.stopping();
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
    uplink_stop.cancel();
    // It ends by itself within its drain time, or when an answer of Redis is long in coming.
    let _ = timeout(drain + PART_STOP_MAX, uplink).await;
    let backlog = spool.usage().backlog();
    pages_stop.cancel();
    pages.close();
    let _ = timeout(PART_STOP_MAX, pages.wait()).await;
    tracing::info!(
        backlog,
        "gateway stopped; what is unsettled stays in the spool"
    );
    Ok(())
}
