//! The dictionary of IO elements that this program carries: what each id means, by family.
//!
//! Why a table of text and not code: it is read by people, corrected by people, and loaded into the
//! database, where names and scales are applied when somebody reads.
//!
//! Pure. Invariant: what [`read`] returns passed every check of this file; a row that is wrong is an
//! error with its line, never left out.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

/// The file as it stands in the repository.
pub const CSV: &str = include_str!("../../dictionary/avl_ids.csv");

/// The meaning for every family that has none of its own.
pub const ANY_FAMILY: &str = "*";

/// Families of trackers that share their ids.
pub const FAMILIES: [&str; 10] = [
    "fmb", "fmx150", "fmx6", "ft", "tat", "tst", "tft", "gh", "fm63", "fm36",
];

const HEADER: [&str; 15] = [
    "family",
    "id",
    "name",
    "size",
    "kind",
    "min",
    "max",
    "multiplier",
    "unit",
    "values",
    "description",
    "sources",
    "source_tags",
    "families",
    "notes",
];

/// Longest name: it becomes a label in charts.
const NAME_CHARS_MAX: usize = 72;

const DESCRIPTION_CHARS_MAX: usize = 90;

/// One meaning of one id.
#[derive(Clone, Debug, PartialEq)]
pub struct Meaning {
    /// One of [`FAMILIES`], or [`ANY_FAMILY`].
    pub family: String,
    /// Id of the IO element.
    pub io_id: u16,
    /// Lower-case words with `_` between, unique within a family.
    pub name: String,
    /// Bytes on the wire; `None` for variable length.
    pub size_bytes: Option<u8>,
    /// `bool`, `unsigned`, `signed`, `hex`, `ascii` or `flags`.
    pub kind: String,
    /// Least raw value, if documented.
    pub minimum: Option<String>,
    /// Greatest raw value, if documented.
    pub maximum: Option<String>,
    /// Raw value times this is the value in `unit`; a decimal number as text, to stay exact.
    pub multiplier: String,
    /// Unit of the scaled value; empty for none.
    pub unit: String,
    /// Raw values that have a name.
    pub values: BTreeMap<i64, String>,
    /// A phrase for people.
    pub description: String,
    /// Families in whose documents this meaning was found.
    pub families: Vec<String>,
}

/// A line that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line} of the dictionary: {what}: {found:?}")]
pub struct DictionaryError {
    /// Counted from 1, the header being the first.
    pub line: usize,
    /// What is wrong.
    pub what: &'static str,
    /// What stands there.
    pub found: String,
}

/// Reads and checks the whole file.
/// # Errors
/// [`DictionaryError`] for the first line that does not fit.
pub fn read(csv: &str) -> Result<Vec<Meaning>, DictionaryError> {
    let mut lines = csv.lines().zip(1..);
    let header = lines.next().map(|(header, _)| fields(header));
    if header.as_deref() != Some(&HEADER.map(str::to_owned)[..]) {
        return Err(wrong(
            1,
            "not the columns that are known",
            csv.lines().next().unwrap_or(""),
        ));
    }
    let mut meanings = Vec::new();
    let mut keys = BTreeSet::new();
    let mut names: BTreeSet<(String, String)> = BTreeSet::new();
    for (text, line) in lines {
        let meaning = meaning(text, line)?;
        if !keys.insert((meaning.family.clone(), meaning.io_id)) {
            return Err(wrong(line, "this family and id stand there twice", text));
        }
        for family in families_of(&meaning) {
            if !names.insert((family.clone(), meaning.name.clone())) {
                return Err(wrong(
                    line,
                    "the name is used twice in one family",
                    &meaning.name,
                ));
            }
        }
        meanings.push(meaning);
    }
    Ok(meanings)
}

/// In which families the name must be unique.
fn families_of(meaning: &Meaning) -> Vec<String> {
    match meaning.family.as_str() {
        ANY_FAMILY => meaning.families.clone(),
        family => vec![family.to_owned()],
    }
}

fn wrong(line: usize, what: &'static str, found: &str) -> DictionaryError {
    let found = found.chars().take(100).collect();
    DictionaryError { line, what, found }
}

/// Splits at commas; quotes hold commas and, doubled, quotes.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let field = fields
            .last_mut()
            .expect("it begins with one and only grows");
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                field.extend(chars.next());
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => field.push(c),
        }
    }
    fields
}

fn meaning(text: &str, line: usize) -> Result<Meaning, DictionaryError> {
    let fields = fields(text);
    let Ok(
        [
            family,
            id,
            name,
            size,
            kind,
            min,
            max,
            multiplier,
            unit,
            values,
            description,
            _,
            _,
            families,
            _,
        ],
    ) = <[String; 15]>::try_from(fields)
    else {
        return Err(wrong(line, "not fifteen fields", text));
    };
    let check = |good: bool, what, found: &str| match good {
        true => Ok(()),
        false => Err(wrong(line, what, found)),
    };
    let known = |family: &str| FAMILIES.contains(&family);
    check(known(&family) || family == ANY_FAMILY, "no family", &family)?;
    let io_id = id.parse().ok().filter(|id| *id != 0);
    let io_id = io_id.ok_or_else(|| wrong(line, "no id from 1 to 65535", &id))?;
    check(
        is_name(&name) && name.len() <= NAME_CHARS_MAX,
        "no name",
        &name,
    )?;
    let sizes = ["1", "2", "4", "8", "var"];
    check(
        sizes.contains(&size.as_str()),
        "no size of an IO element",
        &size,
    )?;
    let kinds = ["bool", "unsigned", "signed", "hex", "ascii", "flags"];
    check(kinds.contains(&kind.as_str()), "no kind of value", &kind)?;
    check(
        is_decimal(&multiplier) && !multiplier.starts_with('-') && multiplier != "0",
        "no factor above zero",
        &multiplier,
    )?;
    for bound in [&min, &max] {
        check(bound.is_empty() || is_decimal(bound), "no number", bound)?;
    }
    let counts = ["unsigned", "signed"].contains(&kind.as_str());
    check(
        counts || (multiplier == "1" && unit.is_empty()),
        "a scale or unit for what is no number",
        text,
    )?;
    check(
        kind != "bool" || ["1", "2"].contains(&size.as_str()),
        "a yes or no of this size",
        &size,
    )?;
    let described = (1..=DESCRIPTION_CHARS_MAX).contains(&description.chars().count());
    check(described, "no description, or a long one", &description)?;
    let families: Vec<String> = families.split_whitespace().map(str::to_owned).collect();
    check(
        families.iter().all(|family| known(family)),
        "no families",
        text,
    )?;
    let bound = |text: String| (!text.is_empty()).then_some(text);
    Ok(Meaning {
        values: named_values(&values)
            .ok_or_else(|| wrong(line, "no list of number=name", &values))?,
        size_bytes: size.parse().ok(),
        minimum: bound(min),
        maximum: bound(max),
        family,
        io_id,
        name,
        kind,
        multiplier,
        unit,
        description,
        families,
    })
}

/// `0=low|1=high`
fn named_values(text: &str) -> Option<BTreeMap<i64, String>> {
    let mut values = BTreeMap::new();
    for part in text.split('|').filter(|_| !text.is_empty()) {
        let (number, name) = part.split_once('=')?;
        let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let good = name.starts_with(is_word) && name.chars().all(|c| is_word(c) || c == '_');
        if !good
            || values
                .insert(number.parse().ok()?, name.to_owned())
                .is_some()
        {
            return None;
        }
    }
    Some(values)
}

/// Lower-case words, digits in them, one `_` between.
fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.split('_').all(|word| {
            !word.is_empty()
                && word
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        })
}

/// Digits, at most one point among them, perhaps a minus before them.
fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let number = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    number(whole) && number(part)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_dictionary_keeps_its_own_rules() {
        let meanings = read(CSV).unwrap();
        let ids: BTreeSet<u16> = meanings.iter().map(|m| m.io_id).collect();
        assert_eq!((meanings.len(), ids.len()), (3_369, 2_424));
        // Every id has a meaning for families that nobody thought of.
        let any = meanings.iter().filter(|m| m.family == ANY_FAMILY);
        assert_eq!(any.count(), ids.len());
        for family in FAMILIES {
            assert!(
                meanings
                    .iter()
                    .any(|m| m.families.iter().any(|f| f == family)),
                "{family}"
            );
        }
    }

    #[test]
    fn the_columns_of_positions_mean_what_the_dictionary_says() {
        let meanings = read(CSV).unwrap();
        let names = [
            (239, "ignition"),
            (240, "movement"),
            (16, "total_odometer"),
            (66, "external_voltage"),
            (67, "battery_voltage"),
            (21, "gsm_signal"),
        ];
        for (io_id, name) in names {
            assert!(super::super::io::HOT.iter().any(|(id, _)| *id == io_id));
            let found = meanings
                .iter()
                .find(|m| m.io_id == io_id && m.family == ANY_FAMILY);
            assert_eq!(found.unwrap().name, name);
        }
    }

    fn with(line: &str) -> Result<Vec<Meaning>, DictionaryError> {
        read(&format!("{}\n{line}", HEADER.join(",")))
    }

    #[test]
    fn a_line_becomes_a_meaning() {
        let line = r#"fmx6,6,dallas_temperature_5,2,signed,-550,1150,0.1,°C,850=not_ready|-1=b_2,"a, ""b""",3,E,fmx6 ft,"x""#;
        let meanings = with(line).unwrap();
        let wanted = Meaning {
            family: "fmx6".into(),
            io_id: 6,
            name: "dallas_temperature_5".into(),
            size_bytes: Some(2),
            kind: "signed".into(),
            minimum: Some("-550".into()),
            maximum: Some("1150".into()),
            multiplier: "0.1".into(),
            unit: "°C".into(),
            values: BTreeMap::from([(850, "not_ready".into()), (-1, "b_2".into())]),
            description: "a, \"b\"".into(),
            families: vec!["fmx6".into(), "ft".into()],
        };
        assert_eq!(meanings, [wanted]);
    }

    #[test]
    fn every_rule_refuses_what_breaks_it() {
        let good = "*,1,a_1,1,unsigned,0,1,1,V,0=x,d,1,E,fmb,";
        assert!(with(good).is_ok());
        let spoiled = [
            (0, "fmz", "no family"),
            (1, "0", "no id"),
            (1, "65536", "no id"),
            (2, "A", "no name"),
            (2, "a__b", "no name"),
            (2, "1a", "no name"),
            (3, "3", "no size"),
            (4, "float", "no kind"),
            (4, "bool", "a scale or unit"),
            (5, "x", "no number"),
            (6, "1.", "no number"),
            (7, "0", "no factor"),
            (7, "-1", "no factor"),
            (7, "1e3", "no factor"),
            (9, "0=x|0=y", "no list"),
            (9, "0:x", "no list"),
            (9, "0=X", "no list"),
            (10, "", "no description"),
            (13, "fmz", "no families"),
        ];
        for (column, value, wanted) in spoiled {
            let mut fields: Vec<&str> = good.split(',').collect();
            fields[column] = value;
            let error = with(&fields.join(",")).unwrap_err();
            assert!(error.what.starts_with(wanted) && error.line == 2, "{error}");
        }
        let long = "a".repeat(NAME_CHARS_MAX + 1);
        assert!(with(&good.replace("a_1", &long)).is_err());
        assert!(with("*,1").is_err());
        assert!(read("id,name").is_err());
        assert!(read("").is_err());
        let twice = |second: &str| with(&format!("{good}\n{second}")).unwrap_err().what;
        assert!(twice(good).contains("twice"));
        assert!(twice("fmb,2,a_1,1,unsigned,0,1,1,V,0=x,d,1,E,fmb,").contains("name"));
        assert!(
            with("*,1,a,4,bool,0,1,1,,,d,1,E,fmb,")
                .unwrap_err()
                .what
                .contains("yes or no")
        );
    }
}
