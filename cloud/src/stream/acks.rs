//! Tells Redis what is in the database.
//!
//! Invariants: what Redis does not take now is told again later; until then its ids stay inside, so
//! that nothing is worked on twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use redis::cmd;
use tracing::warn;

use super::consumer::chained;
use super::intake::Intake;
use super::link::Link;
use crate::batch::EntryId;
use crate::fail_point::fail_point;
use crate::metrics::Metrics;

/// Acknowledges for one group.
#[derive(Clone, Debug)]
pub struct Acks {
    /// How to reach Redis; `None` where no Redis holds anything.
    pub link: Option<Link>,
    /// Which group.
    pub group: Arc<str>,
    /// To let items out.
    pub intake: Intake,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Acks {
    /// Acknowledges, and leaves in `entries` what Redis did not take. Returns how many it took.
    pub async fn tell(&self, entries: &mut Vec<EntryId>) -> u64 {
        let Some(link) = &self.link else {
            let told = entries.len() as u64;
            self.metrics.messages_written.add(told);
            self.intake.let_out(&*entries);
            entries.clear();
            return told;
        };
        let mut by_stream: BTreeMap<Arc<str>, Vec<EntryId>> = BTreeMap::new();
        for entry in entries.drain(..) {
            let stream = entry.stream.clone();
            by_stream.entry(stream).or_default().push(entry);
        }
        let mut told = 0;
        for (stream, of_stream) in by_stream {
            let mut ack = cmd("XACK");
            ack.arg(&*stream).arg(&*self.group);
            for entry in &of_stream {
                ack.arg(entry.id.to_string());
            }
            fail_point!("before-xack");
            match link.ask::<u64>("XACK", &ack).await {
                Ok(_) => {
                    fail_point!("after-xack");
                    told += of_stream.len() as u64;
                    self.metrics.messages_written.add(of_stream.len() as u64);
                    self.intake.let_out(&of_stream);
                }
                Err(failure) => {
                    self.metrics.error();
                    warn!(
                        %stream,
                        error = chained(&failure),
                        messages = of_stream.len(),
                        "cannot acknowledge yet; the rows are stored"
                    );
                    entries.extend(of_stream);
                }
            }
        }
        told
    }
}
