//! Pure: no I/O, no clock.
//!
//! Which orders have been written to a socket lately: Redis may deliver them again, after a
//! failover for example, and a tracker must not hear them twice.

use std::collections::{HashMap, VecDeque};

use contract::command::Order;

/// Orders remembered; older ones have long been released.
const REMEMBERED_MAX: usize = 4096;

#[derive(Clone, Debug, Default)]
pub(super) struct Spent {
    attempts: HashMap<String, u32>,
    oldest_first: VecDeque<String>,
}

impl Spent {
    pub(super) fn note(&mut self, cid: &str, attempt: u32) {
        if self.attempts.insert(cid.to_owned(), attempt).is_some() {
            return;
        }
        self.oldest_first.push_back(cid.to_owned());
        if self.oldest_first.len() > REMEMBERED_MAX
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.attempts.remove(&oldest);
        }
    }

    /// An idempotent order may come again as a new attempt, no other one ever.
    pub(super) fn forbids(&self, order: &Order) -> bool {
        let attempt = self.attempts.get(&order.cid);
        attempt.is_some_and(|attempt| !order.idempotent || order.attempt <= *attempt)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn memory_is_bounded_and_forgets_the_oldest() {
        let mut spent = Spent::default();
        for number in 0..=REMEMBERED_MAX {
            spent.note(&number.to_string(), 1);
            spent.note(&number.to_string(), 1);
        }
        assert_eq!(spent.attempts.len(), REMEMBERED_MAX);
        assert_eq!(spent.oldest_first.len(), REMEMBERED_MAX);
        assert!(!spent.attempts.contains_key("0") && spent.attempts.contains_key("1"));
    }
}
