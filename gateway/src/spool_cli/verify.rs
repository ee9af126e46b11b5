//! `verify`: for each damage what it is, where, what is lost by it, and what to do.

use std::path::Path;

use ::spool::SpoolError;
use ::spool::fs::{OpenError, RealFs};
use ::spool::inspect::{self, Damage, DamageKind, View};
use contract::GapReason;
use serde_json::json;

use super::{SpoolCliError, look, print};

pub(super) fn verify(dir: &Path, as_json: bool) -> Result<(), SpoolCliError> {
    look(dir)?;
    let verified = inspect::verify(|| View::open(RealFs::read_only(dir).map_err(gone)?))?;
    for damage in &verified.damages {
        print(&if as_json {
            damage_json(damage)
        } else {
            damage_text(damage)
        });
    }
    // What the policy gave up was reported then and is no damage.
    let gaps = verified.gaps.iter();
    let gaps: Vec<_> = gaps
        .filter(|(_, gap)| gap.reason != GapReason::Dropped)
        .collect();
    for (spool, gap) in &gaps {
        let text = format!("{spool}:{}-{}", gap.first, gap.last);
        print(&if as_json {
            format!(
                "{}
",
                json!({ "damage": "known", "file": null, "offset": null, "lost": [text] })
            )
        } else {
            format!(
                "what   positions are lost, found at an earlier start
lost   {text}
do     nothing: the gateway reports it to the cloud until the cloud has noted it
"
            )
        });
    }
    let count = |first: contract::SpoolSeq, last: contract::SpoolSeq| last.get() - first.get() + 1;
    let in_gaps = gaps.iter().map(|(_, gap)| count(gap.first, gap.last));
    let missing = verified.damages.iter().flat_map(|damage| &damage.missing);
    let lost = in_gaps.sum::<u64>() + missing.map(|&(_, f, l)| count(f, l)).sum::<u64>();
    let damaged = verified.damages.len();
    if as_json {
        let value = json!({
            "segments": verified.segments,
            "commits": verified.commits,
            "frames": verified.envelopes,
            "damaged": damaged,
            "lost": lost,
        });
        print(&format!(
            "{value}
"
        ));
    }
    if damaged > 0 || lost > 0 {
        return Err(SpoolCliError::Damaged { damaged, lost });
    }
    if !as_json {
        print(&format!(
            "ok     {} segments, {} commits, {} frames
",
            verified.segments, verified.commits, verified.envelopes
        ));
    }
    Ok(())
}

/// The directory went away between two looks.
fn gone(error: OpenError) -> SpoolError {
    SpoolError::Open {
        file: String::new(),
        source: std::sync::Arc::new(std::io::Error::other(error)),
    }
}

fn lost(damage: &Damage) -> Vec<String> {
    let missing = damage.missing.iter();
    let missing = missing.map(|(spool, first, last)| format!("{spool}:{first}-{last}"));
    missing.collect()
}

/// A word, what it is, and what to do.
fn advice(kind: &DamageKind) -> (&'static str, String, &'static str) {
    const COPY: &str = "keep a copy of the file if you want to know why; the gateway reports the loss at its next \
         start and goes on; look at the disk (dmesg, smartctl)";
    match kind {
        DamageKind::Commit => (
            "commit",
            "a commit is missing or its checksum is wrong".to_owned(),
            COPY,
        ),
        DamageKind::Beginning => (
            "beginning",
            "the header or the first commit is damaged; the rest was found by its key".to_owned(),
            COPY,
        ),
        DamageKind::Unreadable(why) => (
            "unreadable",
            format!("the system does not give it: {why}"),
            "copy the directory to a good disk (ddrescue), set spool.dir to the copy",
        ),
        DamageKind::Segment => (
            "segment",
            "a segment that held acknowledged frames is gone".to_owned(),
            "put the file back if it was moved away; else the gateway reports the loss at its next start",
        ),
    }
}

fn damage_text(damage: &Damage) -> String {
    let (_, what, remedy) = advice(&damage.what);
    let place = match &damage.file {
        Some(file) => format!("where  {file} from byte {}\n", damage.offset),
        None => String::new(),
    };
    let lost = match lost(damage) {
        lost if lost.is_empty() => "nothing that waits".to_owned(),
        lost => lost.join(", "),
    };
    format!("what   {what}\n{place}lost   {lost}\ndo     {remedy}\n")
}

fn damage_json(damage: &Damage) -> String {
    let (word, what, remedy) = advice(&damage.what);
    let value = json!({
        "damage": word,
        "file": damage.file,
        "offset": damage.file.as_ref().map(|_| damage.offset),
        "lost": lost(damage),
        "what": what,
        "do": remedy,
    });
    format!("{value}\n")
}
