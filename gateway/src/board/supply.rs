//! The word about the supply, between the board that hears it and the spool that obeys.
//!
//! Why the spool obeys and not each door: an acknowledgement comes from a receipt and nothing else,
//! so whoever holds back receipts holds back every acknowledgement, through whichever door.
//!
//! Invariants: from the moment the supply fails until it holds again no receipt is handed out; who
//! waits for one meanwhile waits on, and hears that it ended when the gateway stops.

use std::sync::Arc;

use hardware::power::Power;
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, Default)]
struct State {
    power: Power,
    is_over: bool,
}

/// A handle; clones share one word. A new one holds.
#[derive(Clone, Debug)]
pub struct Supply(Arc<watch::Sender<State>>);

impl Default for Supply {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(State::default())))
    }
}

/// The gateway stops while the supply fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenUp;

impl Supply {
    /// How it is now.
    #[must_use]
    pub fn power(&self) -> Power {
        self.0.borrow().power
    }

    /// It changed.
    pub fn set(&self, power: Power) {
        self.0.send_modify(|state| state.power = power);
    }

    /// Whoever waits for a failing supply waits no longer, now and later.
    pub fn give_up(&self) {
        self.0.send_modify(|state| state.is_over = true);
    }

    /// Returns at once while it holds, else once it holds again.
    /// # Errors
    /// [`GivenUp`].
    pub async fn holds(&self) -> Result<(), GivenUp> {
        let state = *self.0.borrow();
        match state.power {
            Power::Good => Ok(()),
            Power::Failing if state.is_over => Err(GivenUp),
            // Rare, and larger than what every waiting connection should carry.
            Power::Failing => Box::pin(self.waits()).await,
        }
    }

    async fn waits(&self) -> Result<(), GivenUp> {
        let mut changes = self.0.subscribe();
        let changed = changes.wait_for(|state| state.power == Power::Good || state.is_over);
        match changed.await {
            Ok(state) if state.power == Power::Good => Ok(()),
            // The sender lives in `self`.
            Ok(_) | Err(_) => Err(GivenUp),
        }
    }

    /// Returns once it fails.
    pub async fn fails(&self) {
        let mut changes = self.0.subscribe();
        if changes
            .wait_for(|state| state.power == Power::Failing)
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn who_waits_goes_on_when_it_holds_again() {
        let supply = Supply::default();
        assert_eq!(supply.holds().await, Ok(()));
        supply.set(Power::Failing);
        supply.fails().await;
        let waiting = supply.clone();
        let mut waiting = tokio::spawn(async move { waiting.holds().await });
        let soon = std::time::Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, &mut waiting).await.is_err());
        supply.set(Power::Good);
        assert_eq!(waiting.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn a_stop_ends_the_waiting_before_and_after_the_supply_fails() {
        let supply = Supply::default();
        supply.set(Power::Failing);
        let waiting = supply.clone();
        let waiting = tokio::spawn(async move { waiting.holds().await });
        supply.give_up();
        assert_eq!(waiting.await.unwrap(), Err(GivenUp));
        assert_eq!(supply.holds().await, Err(GivenUp));
        supply.set(Power::Good);
        assert_eq!(
            supply.holds().await,
            Ok(()),
            "a stop acknowledges what was begun"
        );
        supply.set(Power::Failing);
        assert_eq!(supply.holds().await, Err(GivenUp));
    }
}
