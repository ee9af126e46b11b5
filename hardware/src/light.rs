//! The light of a board: one lamp or two colours, told a state and the time.

use std::time::Duration;

use crate::blink::{LedState, Lit, lit};
use crate::pin::{Output, PinError};

/// A light. Of one lamp, if there is no red half.
pub struct Light {
    green: Output,
    red: Option<Output>,
    /// What the lamps show, once that is known.
    shown: Option<Lit>,
}

impl Light {
    /// Of these lamps; nothing is written yet.
    #[must_use]
    pub fn new(green: Output, red: Option<Output>) -> Self {
        Self {
            green,
            red,
            shown: None,
        }
    }

    /// Lights what `state` asks for, `at` so long after the light was opened. Writes only what
    /// changes. Call it every [`TICK_MAX`](crate::blink::TICK_MAX).
    ///
    /// # Errors
    /// [`PinError`]; the next call tries again.
    pub fn show(&mut self, state: LedState, at: Duration) -> Result<(), PinError> {
        let lit = lit(state, at);
        if self.shown == Some(lit) {
            return Ok(());
        }
        self.shown = None;
        match &mut self.red {
            Some(red) => {
                self.green.set_state(lit.green.into())?;
                red.set_state(lit.red.into())?;
            }
            None => self.green.set_state(lit.single().into())?,
        }
        self.shown = Some(lit);
        Ok(())
    }
}
