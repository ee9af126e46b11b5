//! Pure: no I/O, no clock.
//!
//! A device that sends sentences of NMEA 0183 over TCP: it says who it is, then where it is.
//!
//! Accepted as the first line: `$PGID,<IMEI>*hh`, or the fifteen digits alone. Behind it every sentence
//! RMC whose checksum holds is kept, as received; other sentences and damaged lines are left out.
//! Nothing is ever answered: these devices expect nothing and repeat nothing, so what is lost between
//! their socket and our disk is lost. A gateway keeps that short: it reads on when the disk has what
//! came before.
//!
//! Invariants: nothing is kept before the login is accepted; while a login waits for its verdict or
//! sentences for their receipt no further line is looked at.

use codec::{Imei, nmea};

/// Sentences in one envelope at most.
pub const SENTENCES_MAX: u32 = 64;

/// The standard says 82; some devices have longer ones of their own.
pub const LINE_BYTES_MAX: usize = 256;

/// What the shell is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Find out whether this one may talk, then call [`Session::admit`].
    Ask(Imei),
    /// Keep these sentences, so many; then go on. If they cannot be kept, hang up.
    Keep(Vec<u8>, u32),
    /// Hang up, and why.
    Close(&'static str),
}

/// One connection.
#[derive(Debug, Default)]
pub struct Session {
    device: Option<Imei>,
    /// Lines that were left out because their checksum does not hold.
    damaged: u64,
}

impl Session {
    /// Who is talking, once admitted.
    #[must_use]
    pub fn imei(&self) -> Option<Imei> {
        self.device
    }

    /// Damaged lines so far.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// This one may talk.
    pub fn admit(&mut self, imei: Imei) {
        self.device = Some(imei);
    }

    /// Takes whole lines off the front of `pending`. Call again until `None`: then more bytes are
    /// needed.
    pub fn on_bytes(&mut self, pending: &mut Vec<u8>) -> Option<Effect> {
        let (mut taken, mut kept, mut count) = (0, Vec::new(), 0);
        let mut effect = None;
        while let Some(length) = pending[taken..].iter().position(|byte| *byte == b'\n') {
            let line = &pending[taken..=taken + length];
            taken += line.len();
            if line.trim_ascii().is_empty() {
                continue;
            }
            if self.device.is_none() {
                effect = Some(match login(line.trim_ascii()) {
                    Some(imei) => Effect::Ask(imei),
                    None => Effect::Close("the first line is no login"),
                });
                break;
            }
            match nmea::checked(line) {
                Ok(body) if nmea::is_rmc(body.split(',').next().unwrap_or_default()) => {
                    kept.extend_from_slice(line);
                    count += 1;
                }
                Ok(_) => {}
                Err(_) => self.damaged += 1,
            }
            if count == SENTENCES_MAX {
                break;
            }
        }
        pending.drain(..taken);
        if effect.is_none() && count > 0 {
            return Some(Effect::Keep(kept, count));
        }
        let is_too_long = pending.len() > LINE_BYTES_MAX && !pending.contains(&b'\n');
        effect.or(is_too_long.then_some(Effect::Close("a line without an end")))
    }
}

fn login(line: &[u8]) -> Option<Imei> {
    let digits = match nmea::checked(line) {
        Ok(body) => body.strip_prefix("PGID,")?.as_bytes(),
        Err(_) => line,
    };
    Imei::parse(digits).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const IMEI: &str = "356307042441013";

    fn sealed(body: &str) -> String {
        let sum = body.bytes().fold(0, |sum, byte| sum ^ byte);
        format!("${body}*{sum:02X}\r\n")
    }

    fn admitted() -> Session {
        let mut session = Session::default();
        session.admit(IMEI.parse().unwrap());
        session
    }

    fn rmc(second: usize) -> String {
        sealed(&format!(
            "GPRMC,2254{second:02},A,4916.45,N,12311.12,W,0,0,191194"
        ))
    }

    #[test]
    fn either_login_is_taken_and_nothing_else() {
        for line in [
            sealed(&format!("PGID,{IMEI}")),
            format!("{IMEI}\r\n"),
            format!("\r\n{IMEI}\n"),
        ] {
            let mut pending = (line.clone() + &rmc(1)).into_bytes();
            let effect = Session::default().on_bytes(&mut pending);
            assert_eq!(effect, Some(Effect::Ask(IMEI.parse().unwrap())), "{line:?}");
            assert_eq!(
                pending,
                rmc(1).into_bytes(),
                "what follows waits for the verdict"
            );
        }
        let bad = sealed(&format!("PGID,{IMEI}")).replace("*", "*0");
        for line in [rmc(1), bad, "35630704244101\n".into(), "hello\n".into()] {
            let effect = Session::default().on_bytes(&mut line.clone().into_bytes());
            assert!(matches!(effect, Some(Effect::Close(_))), "{line:?}");
        }
    }

    #[test]
    fn sentences_are_kept_as_they_came_and_others_left_out() {
        let mut session = admitted();
        let other = sealed("GPGGA,225446,,,,,,");
        let broken = rmc(2).replace("GPRMC", "GPRMD");
        let mut pending = [rmc(1), other, broken, rmc(3), "$GPRMC,22".into()]
            .concat()
            .into_bytes();
        let kept = (rmc(1) + &rmc(3)).into_bytes();
        assert_eq!(session.on_bytes(&mut pending), Some(Effect::Keep(kept, 2)));
        assert_eq!(
            (pending.as_slice(), session.damaged()),
            (&b"$GPRMC,22"[..], 1)
        );
        assert_eq!(session.on_bytes(&mut pending), None);
    }

    #[test]
    fn a_line_without_an_end_is_not_waited_for() {
        let mut pending = vec![b'x'; LINE_BYTES_MAX + 1];
        let effect = admitted().on_bytes(&mut pending);
        assert!(matches!(effect, Some(Effect::Close(_))), "{effect:?}");
    }

    proptest! {
        /// However the bytes are cut on their way, every sentence is kept once and in order.
        #[test]
        fn cuts_change_nothing(
            count in 1_usize..200,
            cuts in proptest::collection::vec(1_usize..100, 1..100),
        ) {
            let all: String = (0..count).map(|n| rmc(n % 60)).collect();
            let (mut session, mut pending, mut kept) = (admitted(), Vec::new(), Vec::new());
            let mut rest = all.as_bytes();
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                rest = later;
                pending.extend_from_slice(now);
                while let Some(effect) = session.on_bytes(&mut pending) {
                    let Effect::Keep(bytes, sentences) = effect else { panic!("{effect:?}") };
                    prop_assert!(sentences <= SENTENCES_MAX);
                    prop_assert_eq!(bytes.split(|byte| *byte == b'\n').count() as u32 - 1, sentences);
                    kept.extend(bytes);
                }
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(kept, all.into_bytes());
        }
    }
}
