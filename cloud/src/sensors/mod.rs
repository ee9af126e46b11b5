//! Readings of sensors: streams `<prefix>:<device>:<sensor type>` into the table `sensor_readings`.
//!
//! Why beside telemetry and not as a kind of it: nothing here comes from a gateway. There is no spool
//! that keeps what is not stored, so there are no positions, no floors and nothing that is sent again;
//! Redis has the only copy until COMMIT. What is the same is used: finding, claiming, the door to the
//! processors, acknowledging, the mirror of dead letters.
//!
//! Invariants: an entry is acknowledged only with a [`crate::store::ReadingsCommitted`] in hand; an
//! entry that is delivered twice is one row; the stream of dead letters is never read, whatever the
//! pattern.

pub mod letter;
pub mod name;
pub mod processor;
pub mod reading;
pub mod sweep;
pub mod watch;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config::{SensorConfig, StoreConfig, StreamConfig};
use crate::metrics::Metrics;
use crate::patience::Patience;
use crate::store::{Database, ReadingsWriter};
use crate::stream::{Acks, Intake, Link, Mirror, Quarry, Stream, Streams, finder};
use processor::Processor;
use sweep::Sweep;

/// Batches gathered and written side by side: while one is written, the next is gathered.
pub(crate) const PROCESSORS: usize = 2;

/// Their numbers among the writers begin behind those of telemetry.
const FIRST_NUMBER: usize = 100;

impl Quarry for SensorConfig {
    fn named(&self) -> Vec<Stream> {
        Vec::new()
    }

    fn patterns(&self) -> Vec<String> {
        vec![self.pattern.clone()]
    }

    fn takes(&self, key: &str, _: &str) -> bool {
        name::sensor(key, self).is_ok()
    }

    fn look_every(&self) -> Duration {
        self.look_every
    }
}

/// What sensors need.
#[derive(Clone, Debug)]
pub struct Sensors {
    /// Which streams.
    pub config: SensorConfig,
    /// As which group and consumer.
    pub stream: StreamConfig,
    /// How to gather.
    pub store: StoreConfig,
    /// How to reach Redis.
    pub link: Link,
    /// Where rows go.
    pub database: Database,
    /// Which streams are read; filled here.
    pub streams: Streams,
    /// Where dead letters are copied to, if anywhere.
    pub mirror: Option<Mirror>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// A task, and what it is called when it ends by itself.
type Part = (&'static str, Pin<Box<dyn Future<Output = ()> + Send>>);

impl Sensors {
    /// Everything that runs, until `stop`.
    #[must_use]
    pub fn parts(self, stop: &CancellationToken) -> Vec<Part> {
        let (intake, deliveries) = Intake::new();
        let acks = Acks {
            link: Some(self.link.clone()),
            group: self.stream.group.as_str().into(),
            intake: intake.clone(),
            metrics: self.metrics.clone(),
        };
        let mut parts: Vec<Part> = Vec::new();
        for number in 0..PROCESSORS {
            let processor = Processor {
                number: FIRST_NUMBER + number,
                deliveries: deliveries.clone(),
                writer: ReadingsWriter::new(self.database.clone()),
                patience: Patience {
                    database: self.database.clone(),
                    metrics: self.metrics.clone(),
                },
                acks: acks.clone(),
                config: self.store,
                sensors: self.config.clone(),
                mirror: self.mirror.clone(),
                metrics: self.metrics.clone(),
            };
            parts.push(("sensors processor", Box::pin(processor.run(stop.clone()))));
        }
        let finder = finder::run(
            self.link.clone(),
            self.config.clone(),
            self.streams.clone(),
            self.metrics.clone(),
            |_| {},
            stop.clone(),
        );
        parts.push(("sensors finder", Box::pin(finder)));
        let claims = watch::claims(
            self.link.clone(),
            self.streams.clone(),
            self.stream.clone(),
            intake.clone(),
            self.metrics.clone(),
            stop.clone(),
        );
        parts.push(("sensors claimer", Box::pin(claims)));
        if let Some(keep) = self.config.keep {
            let trims = watch::trims(
                self.link.clone(),
                self.streams.clone(),
                keep,
                self.metrics.clone(),
                stop.clone(),
            );
            parts.push(("sensors trimmer", Box::pin(trims)));
        }
        let sweep = Sweep {
            link: self.link,
            streams: self.streams,
            config: self.stream,
            intake,
            metrics: self.metrics,
        };
        parts.push(("sensors reader", Box::pin(sweep.run(stop.clone()))));
        parts
    }
}
