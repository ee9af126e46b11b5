//! Trackers as rows of text: for people, CSV and JSON.
//!
//! Pure: no I/O, no clock.

use serde_json::{Value, json};

use crate::operator::moment;
use crate::store::roster::Tracker;

/// Which family its values are read by, and who said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A person.
    Set,
    /// The ids it sends.
    Guessed,
    /// Nobody: the common meaning.
    Common,
}

impl Source {
    fn as_str(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Guessed => "guessed",
            Self::Common => "common",
        }
    }
}

/// As `device_family(id)` decides it in the database.
pub(super) fn family(tracker: &Tracker) -> (&str, Source) {
    match (&tracker.family, &tracker.family_guess) {
        (Some(family), _) => (family, Source::Set),
        (None, Some(family)) => (family, Source::Guessed),
        (None, None) => ("*", Source::Common),
    }
}

/// IMEI, or the name of what has none.
pub(super) fn ident(tracker: &Tracker) -> String {
    match (tracker.imei, &tracker.ident) {
        (Some(imei), _) => format!("{imei:015}"),
        (None, ident) => ident.clone().unwrap_or_default(),
    }
}

pub(super) fn json(tracker: &Tracker) -> Value {
    let (family, source) = family(tracker);
    json!({
        "device": ident(tracker),
        "imei": tracker.imei.map(|imei| format!("{imei:015}")),
        "name": tracker.name,
        "vendor": tracker.vendor,
        "model": tracker.model,
        "family": family,
        "family_source": source.as_str(),
        "family_guess": tracker.family_guess,
        "family_confidence": tracker.family_confidence,
        "first_seen": moment::text(tracker.first_seen),
        "last_seen": moment::text(tracker.last_seen),
        "fix_time": tracker.fix_time.map(moment::text),
        "latitude": tracker.latitude,
        "longitude": tracker.longitude,
        "speed_kmh": tracker.speed_kmh,
    })
}

/// Names of the columns of CSV, in the order of [`csv`].
const COLUMNS: [&str; 14] = [
    "device",
    "name",
    "vendor",
    "model",
    "family",
    "family_source",
    "family_guess",
    "family_confidence",
    "first_seen",
    "last_seen",
    "fix_time",
    "latitude",
    "longitude",
    "speed_kmh",
];

pub(super) fn csv_header() -> String {
    COLUMNS.join(",")
}

/// One line of CSV (RFC 4180).
pub(super) fn csv(tracker: &Tracker) -> String {
    let row = json(tracker);
    let cells = COLUMNS.map(|column| match &row[column] {
        Value::Null => String::new(),
        Value::String(text) => quoted(text),
        other => other.to_string(),
    });
    cells.join(",")
}

/// A cell that a spreadsheet would take for a formula is kept from it by an apostrophe.
fn quoted(text: &str) -> String {
    let text = match text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => format!("'{text}"),
        false => text.to_owned(),
    };
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

pub(super) fn line_header() -> String {
    format!(
        "{:15}  {:8} {:8} {:24}  name",
        "device", "family", "", "last seen"
    )
}

pub(super) fn line(tracker: &Tracker) -> String {
    let (family, source) = family(tracker);
    let (ident, source) = (ident(tracker), source.as_str());
    let seen = moment::text(tracker.last_seen);
    let name = tracker.name.as_deref().unwrap_or_default();
    format!("{ident:15}  {family:8} {source:8} {seen}  {name}")
        .trim_end()
        .to_owned()
}

pub(super) fn text(tracker: &Tracker) -> String {
    let (family, source) = family(tracker);
    let source = match (source, tracker.family_confidence) {
        (Source::Set, _) => match &tracker.family_guess {
            Some(guess) => format!("set by an operator; the ids it sends speak for {guess}"),
            None => "set by an operator".to_owned(),
        },
        (Source::Guessed, Some(sure)) => {
            format!("guessed from the ids it sends, {:.0} % sure", sure * 100.0)
        }
        (Source::Guessed, None) => "guessed from the ids it sends".to_owned(),
        (Source::Common, _) => {
            "the common meaning: nobody set a family, and what it sends fits several".to_owned()
        }
    };
    let position = match (tracker.latitude, tracker.longitude, tracker.fix_time) {
        (Some(latitude), Some(longitude), Some(at)) => {
            let speed = tracker.speed_kmh.unwrap_or(0);
            format!(
                "{latitude:.5}, {longitude:.5} at {speed} km/h, {}",
                moment::text(at)
            )
        }
        _ => "none with a fix".to_owned(),
    };
    let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    format!(
        "{}\n  name        {}\n  model       {}\n  family      {family} ({source})\n  first seen  {}\n  last seen   {}\n  position    {position}\n",
        ident(tracker),
        dash(&tracker.name),
        dash(&tracker.model),
        moment::text(tracker.first_seen),
        moment::text(tracker.last_seen),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracker() -> Tracker {
        let at = moment::at_ms(1_790_000_000_000);
        Tracker {
            id: 1,
            imei: Some(350_000_000_000_017),
            ident: None,
            vendor: "teltonika".into(),
            name: Some("van, \"old\"".into()),
            model: None,
            family: None,
            family_guess: Some("fmx6".into()),
            family_confidence: Some(0.97),
            first_seen: at,
            last_seen: at,
            fix_time: None,
            latitude: None,
            longitude: None,
            speed_kmh: None,
        }
    }

    #[test]
    fn what_a_person_set_wins_and_the_source_is_told() {
        let mut tracker = tracker();
        assert_eq!(family(&tracker), ("fmx6", Source::Guessed));
        assert!(text(&tracker).contains("fmx6 (guessed from the ids it sends, 97 % sure)"));
        tracker.family = Some("fmb".into());
        assert_eq!(family(&tracker), ("fmb", Source::Set));
        assert!(
            text(&tracker).contains("fmb (set by an operator; the ids it sends speak for fmx6)")
        );
        (tracker.family, tracker.family_guess) = (None, None);
        assert_eq!(family(&tracker), ("*", Source::Common));
        assert!(line(&tracker).contains("common"));
    }

    #[test]
    fn csv_has_a_cell_for_each_column_whatever_a_name_holds() {
        let mut tracker = tracker();
        let row = csv(&tracker);
        assert!(
            row.starts_with("350000000000017,\"van, \"\"old\"\"\",teltonika,,fmx6,guessed,"),
            "{row}"
        );
        assert!(row.ends_with(",,,,"), "{row}");
        tracker.name = Some("=HYPERLINK(1)".into());
        assert!(csv(&tracker).contains(",'=HYPERLINK(1),"));
        assert_eq!(
            csv(&tracker).split(',').count(),
            csv_header().split(',').count()
        );
    }
}
