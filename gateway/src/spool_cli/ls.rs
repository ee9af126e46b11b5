//! `ls`: one line for a segment.

use ::spool::inspect::SegmentView;
use serde_json::json;

fn positions(segment: &SegmentView) -> String {
    let parts = segment.positions.iter();
    let parts = parts.map(|(spool, first, last)| format!("{spool}:{first}-{last}"));
    parts.collect::<Vec<_>>().join(",")
}

pub(super) fn text(segment: &SegmentView) -> String {
    let kind = if segment.is_compacted {
        "compacted"
    } else {
        "log"
    };
    let damage = if segment.damage.is_some() {
        "  DAMAGED"
    } else {
        ""
    };
    format!(
        "{}  {:<6} {kind:<9} id {} order {}  {} commits, {} bytes, {} of {} frames settled  {}{damage}\n",
        segment.file,
        segment.lane.as_str(),
        segment.id,
        segment.order,
        segment.commits,
        segment.used_bytes,
        segment.closed,
        segment.envelopes,
        positions(segment),
    )
}

pub(super) fn json(segment: &SegmentView) -> String {
    let value = json!({
        "file": segment.file,
        "lane": segment.lane.as_str(),
        "compacted": segment.is_compacted,
        "key": segment.key.to_string(),
        "id": segment.id,
        "order": segment.order,
        "positions": positions(segment),
        "commits": segment.commits,
        "used_bytes": segment.used_bytes,
        "frames": segment.envelopes,
        "settled": segment.closed,
        "damaged": segment.damage.is_some(),
    });
    format!("{value}\n")
}
