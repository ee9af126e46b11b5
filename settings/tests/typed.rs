//! What each typed reader takes and refuses, from the file and from the environment.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::time::Duration;

use settings::{Key, Settings, SettingsError};

static KEYS: &[Key] = &[
    Key::new("a.value", "The one under test."),
    Key::new("a.default", "One with a bad default.").default("4 Gigs"),
];

/// The value as it stands in a file.
fn filed(toml: &str) -> Settings {
    let text = format!("[a]\nvalue = {toml}\n");
    Settings::read(KEYS, "X", Some(("x.toml", &text)), []).unwrap()
}

/// The value as it stands in the environment.
fn set(text: &str) -> Settings {
    let pair = ("X__A__VALUE".to_owned(), text.to_owned());
    Settings::read(KEYS, "X", None, [pair]).unwrap()
}

fn unset() -> Settings {
    Settings::read(KEYS, "X", None, []).unwrap()
}

fn refused<T: std::fmt::Debug>(result: Result<T, SettingsError>) -> String {
    match result {
        Err(error @ SettingsError::Invalid(_)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn unset_and_empty_are_missing_for_every_reader_that_needs_a_value() {
    for settings in [unset(), set("")] {
        let name = "a.value";
        let mut errors = vec![
            settings.text(name).map(drop),
            settings.integer(name, 0..=1u8).map(drop),
            settings.bytes(name).map(drop),
            settings.duration(name).map(drop),
            settings.flag(name).map(drop),
            settings.choice(name, &["x"]).map(drop),
            settings.path(name).map(drop),
            settings.socket(name).map(drop),
        ];
        if settings.origin(name) == &settings::Origin::Unset {
            errors.push(settings.list(name).map(drop));
            errors.push(settings.socket_list(name).map(drop));
        }
        for error in errors {
            assert!(
                matches!(error, Err(SettingsError::Missing { key: "a.value", .. })),
                "{error:?}"
            );
        }
        assert_eq!(settings.optional_text(name).unwrap(), None);
        assert_eq!(settings.optional_path(name).unwrap(), None);
        assert!(!settings.is_set(name));
    }
}

#[test]
fn what_is_missing_says_where_to_put_it() {
    assert_eq!(
        unset().text("a.value").unwrap_err().to_string(),
        "`a.value` is not set\n  what   The one under test.\n  do     set it in the settings file, or as X__A__VALUE"
    );
    let error = Settings::read(KEYS, "X", Some(("/etc/x.toml", "")), [])
        .unwrap()
        .text("a.value")
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("set it in /etc/x.toml, or as X__A__VALUE"),
        "{error}"
    );
}

#[test]
fn a_refusal_has_what_where_wants_do() {
    assert_eq!(
        refused(filed("\"4 Gigs\"").bytes("a.value")),
        "`a.value` cannot be \"4 Gigs\"\n  where  line 2 of x.toml\n  wants  a size such as 4GiB, 64KiB or 4096 (whole numbers)\n  do     correct it there, or set X__A__VALUE"
    );
    assert!(
        refused(set("q").flag("a.value")).contains("\n  where  environment variable X__A__VALUE\n")
    );
    let default = refused(unset().bytes("a.default"));
    assert!(
        default.contains("\n  where  the built-in default\n"),
        "{default}"
    );
    assert!(
        default.ends_with("\n  do     set X__A__DEFAULT"),
        "{default}"
    );
}

#[test]
fn text() {
    assert_eq!(filed("\"a, b\"").text("a.value").unwrap(), "a, b");
    assert_eq!(filed("5").text("a.value").unwrap(), "5");
    assert_eq!(
        filed("true").optional_text("a.value").unwrap(),
        Some("true")
    );
    assert_eq!(filed("2026-11-21").text("a.value").unwrap(), "2026-11-21");
    assert_eq!(filed("1.50").text("a.value").unwrap(), "1.50");
    let list = refused(filed("[\"a\", \"b\"]").text("a.value"));
    assert!(list.starts_with("`a.value` cannot be [a, b]\n"), "{list}");
}

#[test]
fn list() {
    for settings in [
        filed("[\"a\", \" b \", \"\"]"),
        filed("\"a, b,\""),
        set(" a,,b "),
    ] {
        assert_eq!(settings.list("a.value").unwrap(), ["a", "b"]);
    }
    assert_eq!(filed("[\"a,b\"]").list("a.value").unwrap(), ["a,b"]);
    assert_eq!(filed("[1, true]").list("a.value").unwrap(), ["1", "true"]);
    assert_eq!(filed("[]").list("a.value").unwrap(), Vec::<String>::new());
    assert!(filed("[]").is_set("a.value"));
}

#[test]
fn integer() {
    assert_eq!(filed("0x10").integer("a.value", 0..=16u8).unwrap(), 16);
    assert_eq!(
        filed("1_000").integer("a.value", 0..=1_000usize).unwrap(),
        1_000
    );
    assert_eq!(filed("-3").integer("a.value", -3..=3i64).unwrap(), -3);
    assert_eq!(set(" 7 ").integer("a.value", 1..=7u16).unwrap(), 7);
    for text in [
        "0",
        "8",
        "-1",
        "1.0",
        "x",
        "99999999999999999999999999999999999999999999",
    ] {
        let error = refused(set(text).integer("a.value", 1..=7u16));
        assert!(error.contains("a whole number from 1 to 7"), "{error}");
        if text != "x" {
            refused(filed(text).integer("a.value", 1..=7u16));
        }
    }
}

#[test]
fn bytes_and_duration() {
    assert_eq!(filed("4096").bytes("a.value").unwrap(), 4096);
    assert_eq!(set("4GiB").bytes("a.value").unwrap(), 1 << 32);
    refused(set("4G").bytes("a.value"));
    assert_eq!(
        set("10m").duration("a.value").unwrap(),
        Duration::from_secs(600)
    );
    refused(filed("60").duration("a.value"));
}

#[test]
fn flag() {
    for (text, value) in [
        ("true", true),
        ("YES", true),
        ("1", true),
        ("false", false),
        ("No", false),
        ("0", false),
    ] {
        assert_eq!(set(text).flag("a.value").unwrap(), value, "{text}");
    }
    assert!(filed("true").flag("a.value").unwrap());
    assert!(!filed("0").flag("a.value").unwrap());
    for text in ["2", "y", "tru", "enabled"] {
        refused(set(text).flag("a.value"));
    }
}

#[test]
fn choice() {
    let choices = &["open", "list", "learn"];
    assert_eq!(set("list").choice("a.value", choices).unwrap(), "list");
    let near = refused(set("lsit").choice("a.value", choices));
    assert!(
        near.contains("\n  wants  one of open, list, learn\n"),
        "{near}"
    );
    assert!(near.ends_with("\n  do     write \"list\"?"), "{near}");
    let case = refused(set("OPEN").choice("a.value", choices));
    assert!(case.ends_with("write \"open\"?"), "{case}");
    let far = refused(set("quux").choice("a.value", choices));
    assert!(
        far.ends_with("correct it there, or set X__A__VALUE"),
        "{far}"
    );
}

#[test]
fn path() {
    assert_eq!(
        filed("'/var/lib/x y'").path("a.value").unwrap(),
        PathBuf::from("/var/lib/x y")
    );
    assert_eq!(
        set("./x").optional_path("a.value").unwrap(),
        Some(PathBuf::from("./x"))
    );
}

#[test]
fn sockets() {
    assert_eq!(set("[::]:5027").socket("a.value").unwrap().port(), 5027);
    let two = filed("[\"0.0.0.0:5027\", \"[::1]:5028\"]")
        .socket_list("a.value")
        .unwrap();
    assert_eq!(
        two.iter().map(|s| s.port()).collect::<Vec<_>>(),
        [5027, 5028]
    );
    assert_eq!(
        set("127.0.0.1:1,127.0.0.1:2")
            .socket_list("a.value")
            .unwrap()
            .len(),
        2
    );
    assert!(filed("[]").socket_list("a.value").unwrap().is_empty());
    for text in [
        "5027",
        ":5027",
        "localhost:5027",
        "127.0.0.1",
        "127.0.0.1:70000",
    ] {
        refused(set(text).socket("a.value"));
        let error = refused(set(&format!("127.0.0.1:1,{text}")).socket_list("a.value"));
        assert!(
            error.starts_with(&format!("`a.value` cannot be {text:?}\n")),
            "{error}"
        );
    }
}

#[test]
fn a_part_that_knows_more_refuses_in_the_same_words() {
    let error = set("/nowhere").invalid("a.value", "a directory this user can write", None);
    assert_eq!(
        error.to_string(),
        "`a.value` cannot be \"/nowhere\"\n  where  environment variable X__A__VALUE\n  wants  a directory this user can write\n  do     correct it there, or set X__A__VALUE"
    );
}
