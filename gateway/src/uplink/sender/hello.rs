//! What is said and asked at the beginning of a connection and twice a minute: that we live, and
//! whether the cloud reads what we write.

use std::sync::Arc;

use contract::version::{self, VersionsRead};
use contract::{direct, keys};
use redis::{AsyncCommands as _, SetExpiry, SetOptions};

use super::{Trouble, Uplink};
use crate::uplink::link::Link;
use crate::vitals::Vitals;

impl Uplink {
    /// Heartbeat, and whether the cloud reads what we write.
    pub(super) async fn say_hello(&mut self, redis: &mut Link) -> Result<(), Trouble> {
        let heartbeat = keys::heartbeat(&self.config.gateway);
        let expiry = SetExpiry::EX(keys::HEARTBEAT_EXPIRY_S);
        let options = SetOptions::default().with_expiration(expiry);
        let beat = Vitals::new(self.spool.clone(), Arc::clone(&self.metrics)).beat();
        let () = redis
            .set_options(heartbeat, beat.to_string(), options)
            .await?;
        let reads: Option<String> = redis.hget(keys::CONTRACT, version::FIELD_READS).await?;
        let reads = reads.as_deref().map(VersionsRead::parse);
        self.reads_exact =
            matches!(&reads, Some(Some(reads)) if reads.contains(version::ENTRY_VERSION_EXACT));
        match reads {
            Some(Some(reads)) if !reads.contains(version::ENTRY_VERSION_WRITTEN) => {
                return Err(Trouble::Contract(reads));
            }
            Some(Some(_)) => self.contract_missing_said = false,
            Some(None) | None if !self.contract_missing_said => {
                self.contract_missing_said = true;
                tracing::warn!("no cloud processor has published the contract yet; going on");
            }
            _ => {}
        }
        Ok(())
    }

    /// A cloud that takes entries itself holds them in memory: behind another one than before,
    /// everything that is not settled goes up anew, and not only when it is overdue.
    pub(super) async fn look_who_holds(&mut self, redis: &mut Link) -> Result<(), Trouble> {
        if !self.config.redis.is_direct() {
            return Ok(());
        }
        let holder: Option<String> = redis.hget(keys::CONTRACT, direct::FIELD_HOLDER).await?;
        if holder != self.holder {
            self.reading = None;
            self.holder = holder;
        }
        Ok(())
    }
}
