//! One life that uses everything, in the same order each time, so that every call of it can be made
//! to fail.

use contract::{Lane, SettledRanges};

use super::ledger::Ledger;
use super::life::{Ended, Lives};
use super::payload::FRAME_BYTES_MIN;
use super::{Outcome, Trouble, options};
use crate::fs::sim::{Chance, End, Faults, SimFs};
use crate::{FullPolicy, Geometry};

/// One scripted life with `faults`, then `end`, then the quiet one that asks for everything owed.
/// Answers how many calls the script made.
pub(super) fn scripted(faults: Faults, end: End, full: FullPolicy) -> Result<u64, String> {
    let mut lives = Lives {
        fs: SimFs::new(7),
        options: options(8, 3 * 4096, full),
        ledger: Ledger::new(full, true),
        trouble: Trouble::Anything {
            sync_per_mille: 0,
            other_per_mille: 0,
        },
        compacts: false,
        outcome: Outcome::default(),
        chance: Chance::new(7),
    };
    lives.fs.set_faults(faults);
    for _ in 0..2 {
        match lives.script() {
            Ok(()) => {}
            Err(Ended::Crashed) => return Err("the power went without being cut".to_owned()),
            Err(Ended::Broken(what)) => return Err(what),
        }
    }
    let calls = lives.fs.calls();
    if lives.fs.faults_hit() == 0 && lives.outcome.compacted == 0 {
        return Err("the script compacts nothing".to_owned());
    }
    lives.fs.set_faults(Faults::None);
    lives.fs.end(end);
    lives.last()?;
    Ok(calls)
}

impl Lives {
    /// Opens, fills all lanes until they refuse, settles and writes, and fills again.
    fn script(&mut self) -> Result<(), Ended> {
        let Some(mut life) = self.open()? else {
            return Ok(());
        };
        let large = self.options.geometry.envelope_bytes_max - 320;
        for round in 0..2 {
            for lane in Lane::ALL {
                let group = [(lane, large), (lane, FRAME_BYTES_MIN)];
                // Filled beside the commits, and taken in when some more were made.
                let mut filling = life.writer.begin_filling();
                let mut filled = None;
                for _ in 0..2 {
                    self.commit(&mut life, &group)?;
                    filled = filled.or(filling
                        .take()
                        .map(|filling| filling.fill(|| Geometry::BLOCK_BYTES)));
                    self.commit(&mut life, &group)?;
                }
                if let Some(filled) = filled {
                    self.adopt(&mut life, filled)?;
                }
                self.upkeep(&mut life)?;
            }
            for _ in 0..3 {
                self.compact(&mut life)?;
            }
            for at in 0..3 {
                self.read_on(&mut life, at, 8192)?;
            }
            let waiting = self.ledger.unsettled();
            for &(spool, seq) in waiting.iter().filter(|(_, seq)| seq % 7 != round) {
                let mut ranges = SettledRanges::new();
                ranges.insert(seq, seq);
                self.tell(&mut life, spool, &ranges);
            }
            self.write_cursor(&mut life)?;
        }
        if life.given_up && !life.writer.has_failed() {
            return Err("storage was given up and is trusted again"
                .to_owned()
                .into());
        }
        Ok(())
    }
}
