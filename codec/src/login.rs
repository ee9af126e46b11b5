//! The first thing a device says on TCP: its identity, as text behind a length.
//!
//! `u16 length`, then that many ASCII bytes, then silence until one byte comes back:
//! [`ACCEPT`] or [`REFUSE`]. The length is nearly always 15 but it is the length that
//! counts, so a login that is no IMEI is still cut cleanly and the caller can refuse it
//! in the protocol instead of hanging up.
//! Source: wiki "Codec", communication with server.

use crate::frame::{CloseReason, Cut, Limits, PING};
use crate::imei::{Imei, ImeiError};

/// The one-byte answer that lets the device send frames.
pub const ACCEPT: u8 = 0x01;
/// The one-byte answer that sends the device away.
pub const REFUSE: u8 = 0x00;

/// Bytes of the length in front of the identity.
pub(crate) const PREFIX_BYTES: usize = 2;

/// A whole login, still in the caller's buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Login<'a> {
    raw: &'a [u8],
}

impl<'a> Login<'a> {
    /// The identity exactly as sent, without its length. Seldom anything but 15 digits.
    #[must_use]
    pub const fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The identity as an IMEI.
    ///
    /// # Errors
    /// [`ImeiError`] if it is not fifteen digits: answer [`REFUSE`].
    pub fn imei(&self) -> Result<Imei, ImeiError> {
        Imei::parse(self.raw)
    }

    /// How many bytes of the input the login takes, length included.
    #[must_use]
    pub const fn consumed(&self) -> usize {
        PREFIX_BYTES + self.raw.len()
    }
}

// An identity is personal data even when it is malformed: logs get its length.
impl core::fmt::Debug for Login<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.imei() {
            Ok(imei) => f.debug_tuple("Login").field(&imei).finish(),
            Err(_) => write!(f, "Login({} bytes, no IMEI)", self.raw.len()),
        }
    }
}

pub(crate) fn cut(input: &[u8], limits: Limits) -> Cut<'_> {
    match input {
        [] => Cut::NeedMore { needed: 1 },
        // Any length that begins with FF is far above every limit: no login is lost.
        [PING, ..] => Cut::Ping,
        [_] => Cut::NeedMore {
            needed: PREFIX_BYTES,
        },
        [0, 0, ..] => Cut::Close {
            offset: 0,
            reason: CloseReason::FrameBeforeLogin,
        },
        [high, low, identity @ ..] => {
            let length = u16::from_be_bytes([*high, *low]);
            if usize::from(length) > limits.login_bytes_max.saturating_sub(PREFIX_BYTES) {
                let reason = CloseReason::LoginOverLimit {
                    length,
                    login_bytes_max: limits.login_bytes_max,
                };
                return Cut::Close { offset: 0, reason };
            }
            match identity.get(..usize::from(length)) {
                Some(raw) => Cut::Login(Login { raw }),
                None => Cut::NeedMore {
                    needed: PREFIX_BYTES + usize::from(length),
                },
            }
        }
    }
}
