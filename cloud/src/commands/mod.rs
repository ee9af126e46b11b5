//! Commands: from a row in the table to a tracker, and back to the row.
//!
//! Why the table is the truth and Redis only the way: Redis may be emptied at any time, and people
//! look where they inserted.
//!
//! ```text
//! commands ─NOTIFY─► router ─► commands:outbound:<gateway id> ─► (gateway, tracker)
//!     ▲                                                               │
//!     └──────── responses ◄────────── commands:responses ◄────────────┘
//! ```
//!
//! Invariants: [`state`] alone decides what a command becomes, and the table's triggers hold to the
//! same rules; a row is `routed`, with its attempt counted, before its entry is written, so a crash
//! between the two leaves a doubt and never a second execution; a response is acknowledged only after
//! COMMIT.

pub mod cli;
pub mod give;
pub mod janitor;
mod listen;
mod outbound;
mod responses;
mod router;
pub mod state;
mod table;

use std::pin::Pin;
use std::sync::Arc;

use contract::keys;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::config::{CommandsConfig, StreamConfig};
use crate::metrics::Metrics;
use crate::store::Database;
use crate::stream::claimer::{self, Claimer};
use crate::stream::consumer::Consumer;
use crate::stream::{Intake, Link, Redis, Stream, Streams, trimmer};

pub(crate) use responses::uuid;

/// A part and its name.
pub type Part = (&'static str, Pin<Box<dyn Future<Output = ()> + Send>>);

/// What the parts are made of.
pub struct Commands {
    /// For the blocking reader.
    pub redis: Arc<Redis>,
    /// For everything else.
    pub link: Link,
    /// The tables.
    pub database: Database,
    /// As whom telemetry is read.
    pub stream: StreamConfig,
    /// The telemetry streams, whose idle consumers the janitor removes.
    pub streams: Streams,
    /// Patience.
    pub config: CommandsConfig,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Rung when Redis lost data.
    pub lost: Arc<Notify>,
}

impl Commands {
    /// Everything that runs, until `stop`.
    #[must_use]
    pub fn parts(self, stop: &CancellationToken) -> Vec<Part> {
        let responses = StreamConfig {
            names: vec![keys::COMMAND_RESPONSES.to_owned()],
            vendors: Vec::new(),
            group: keys::GROUP_COMMANDS.to_owned(),
            ..self.stream.clone()
        };
        let stream = Stream {
            name: keys::COMMAND_RESPONSES.into(),
            named: true,
        };
        let (intake, deliveries) = Intake::new();
        let reader = Consumer {
            redis: self.redis,
            stream: stream.clone(),
            config: responses.clone(),
            intake: intake.clone(),
            metrics: self.metrics.clone(),
            lost: self.lost,
        };
        let claimer = Claimer {
            link: self.link.clone(),
            stream: stream.clone(),
            config: responses.clone(),
            intake: intake.clone(),
            metrics: self.metrics.clone(),
            newer: claimer::newer_envelopes,
        };
        let trimmer = trimmer::run(
            self.link.clone(),
            stream,
            responses.keep,
            self.metrics.clone(),
            stop.clone(),
        );
        let recorder = responses::Recorder {
            deliveries,
            intake,
            database: self.database.clone(),
            link: self.link.clone(),
            metrics: self.metrics.clone(),
        };
        let bell = Arc::new(listen::Bell::default());
        let listener = listen::run(self.database.clone(), bell.clone(), stop.clone());
        let router = router::Router::new(
            self.database,
            self.link.clone(),
            self.config,
            self.metrics.clone(),
            bell,
        );
        let groups = janitor::Groups {
            telemetry: self.streams,
            reader: self.stream,
            responses,
        };
        let janitor = janitor::run(self.link, groups, self.metrics, stop.clone());
        vec![
            ("commands reader", Box::pin(reader.run(stop.clone()))),
            ("commands claimer", Box::pin(claimer.run(stop.clone()))),
            ("commands trimmer", Box::pin(trimmer)),
            ("commands recorder", Box::pin(recorder.run(stop.clone()))),
            ("commands listener", Box::pin(listener)),
            ("commands router", Box::pin(router.run(stop.clone()))),
            ("janitor", Box::pin(janitor)),
        ]
    }
}
