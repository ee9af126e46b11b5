//! Which layer wins, what is refused, and what people get to see.
#![allow(clippy::unwrap_used)]

use settings::{Key, Origin, Problem, Settings, SettingsError};

static KEYS: &[Key] = &[
    Key::new("gateway.id", "The name of this box.").aliases(&["GATEWAY_ID"]),
    Key::new("listen.tcp", "Where trackers connect.").default("0.0.0.0:5027"),
    Key::new("spool.dir", "Where frames are kept.").default("/var/lib/milepost/spool"),
    Key::new("spool.bytes_max", "What the spool may fill.").default("4GiB"),
    Key::new("uplink.url", "Where the stream lives.")
        .aliases(&["REDIS_URL", "REDIS_ADDR"])
        .default("redis://localhost")
        .secret(),
    Key::new("uplink.token", "Admin token.").secret(),
    Key::new("uplink.tls.ca", "Whom to trust."),
];

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(own).collect()
}

fn read(file: Option<&str>, pairs: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let file = file.map(|text| ("gateway.toml", text));
    Settings::read(KEYS, "GATEWAY", file, env(pairs))
}

fn refusal(file: &str, pairs: &[(&str, &str)]) -> String {
    read(Some(file), pairs).unwrap_err().to_string()
}

#[test]
fn every_subset_of_layers_is_won_by_the_highest() {
    let layers = [
        ("REDIS_ADDR", "redis://second-alias"),
        ("REDIS_URL", "redis://first-alias"),
        ("GATEWAY__UPLINK__URL", "redis://own"),
    ];
    for chosen in 0..16_usize {
        let file = (chosen & 1 == 1).then_some("[uplink]\nurl = \"redis://file\"");
        let pairs: Vec<_> = (0..3)
            .filter(|bit| chosen >> (bit + 1) & 1 == 1)
            .map(|bit| layers[bit])
            .collect();
        let settings = read(file, &pairs).unwrap();
        let (value, origin) = match (pairs.last(), file) {
            (Some((name, value)), _) => (*value, Origin::Env((*name).to_owned())),
            (None, Some(_)) => (
                "redis://file",
                Origin::File {
                    name: "gateway.toml".into(),
                    line: 2,
                },
            ),
            (None, None) => ("redis://localhost", Origin::Default),
        };
        assert_eq!(settings.text("uplink.url").unwrap(), value, "{chosen:04b}");
        assert_eq!(settings.origin("uplink.url"), &origin, "{chosen:04b}");
    }
}

#[test]
fn all_ways_to_write_a_table_in_toml_mean_the_same() {
    for file in [
        "[uplink]\nurl = 'redis://a'\n[uplink.tls]\nca = 'x'",
        "uplink.url = 'redis://a'\nuplink.tls.ca = 'x'",
        "uplink = { url = 'redis://a', tls = { ca = 'x' } }",
        "[uplink]\nurl = 'redis://a'\ntls.ca = 'x'",
        "[uplink.tls]\r\nca = 'x'\r\n[uplink]\r\nurl = 'redis://a'\r\n",
    ] {
        let settings = read(Some(file), &[]).unwrap();
        assert_eq!(settings.text("uplink.url").unwrap(), "redis://a", "{file}");
        assert_eq!(settings.text("uplink.tls.ca").unwrap(), "x", "{file}");
    }
}

#[test]
fn the_line_in_the_design_comes_out_word_for_word() {
    let file = format!("{}[uplink]\nulr = \"redis://x\"\n", "# box\n".repeat(12));
    assert_eq!(
        refusal(&file, &[]),
        "`uplink.ulr` (line 14 of gateway.toml): no such key; did you mean `uplink.url`?"
    );
}

#[test]
fn everything_unknown_is_reported_at_once_in_order_of_line() {
    let file = "\
zzz = 1
[uplnk]
url = 'redis://secret'
cert = 'a'
[spool]
dri = '/x'
colour = 'red'
[listen]
tcp = { port = 5027 }
[uplink]
url = [['a']]
tls = 'yes'
[[gateway]]
id = 'x'
";
    let found = refusal(
        file,
        &[
            ("GATEWAY__UPLINK__ULR", "s3cret"),
            ("GATEWAY__XYZZY", "s3cret"),
            ("GATEWAY__UPLINK__TOKEN", "a"),
            ("GATEWAY__UPLINK__TOKEN_FILE", "b"),
            ("GATEWAY__SPOOL__DIR_FILE", "not a secret key"),
            ("GATEWAY_SERVICE_HOST", "ten.0.0.1 is Kubernetes, not us"),
            ("PATH", "/bin"),
        ],
    );
    let expected = "\
`zzz` (line 1 of gateway.toml): no such key; `gateway config show` lists the ones there are
`[uplnk]` (line 2 of gateway.toml): no such table; did you mean `[uplink]`?
`spool.dri` (line 6 of gateway.toml): no such key; did you mean `spool.dir`?
`spool.colour` (line 7 of gateway.toml): no such key; `gateway config show` lists the ones there are
`listen.tcp` (line 9 of gateway.toml): found a table; write one value: `listen.tcp = …`
`uplink.url` (line 11 of gateway.toml): found a list of lists or tables; write one value: `uplink.url = …`
`uplink.tls` (line 12 of gateway.toml): found a single value; this is a table, write `[uplink.tls]` and its keys below
`gateway` (line 13 of gateway.toml): found a list; this is a table, write `[gateway]` and its keys below
GATEWAY__UPLINK__TOKEN and GATEWAY__UPLINK__TOKEN_FILE are both set: they name one secret; unset one of them
environment variable GATEWAY__SPOOL__DIR_FILE: no such key; `gateway config show` lists the ones there are
environment variable GATEWAY__UPLINK__ULR: no such key; did you mean `GATEWAY__UPLINK__URL`?
environment variable GATEWAY__XYZZY: no such key; `gateway config show` lists the ones there are";
    assert_eq!(found, expected);
}

#[test]
fn a_quoted_dot_is_not_a_level() {
    assert_eq!(
        refusal("\"uplink.url\" = 'redis://x'", &[]),
        "`\"uplink.url\"` (line 1 of gateway.toml): no such key; did you mean `uplink.url`?"
    );
}

#[test]
fn broken_toml_says_line_column_and_why() {
    for (file, line, column) in [
        ("[uplink\nurl = 'x'\n", 1, 8),
        ("[uplink]\nurl = \n", 2, 7),
        ("[uplink]\nurl = 'x'\nurl = 'y'\n", 3, 1),
        ("[uplink]\n\n  url 'x'\n", 3, 7),
    ] {
        let error = read(Some(file), &[]).unwrap_err();
        let SettingsError::Syntax {
            file: name,
            line: l,
            column: c,
            what,
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!(
            (name.as_str(), *l, *c),
            ("gateway.toml", line, column),
            "{file}: {what}"
        );
        assert!(!what.is_empty());
        let shown = error.to_string();
        assert!(
            shown.starts_with(&format!(
                "gateway.toml is not valid TOML\n  where  line {line}, column {column}\n  why    "
            )),
            "{shown}"
        );
    }
}

#[test]
fn every_truncation_of_a_good_file_is_read_or_refused_without_panic() {
    let file = "# box\n[uplink]\nurl = \"redis://ä\"\ntls = { ca = \"x\" }\n[listen]\ntcp = [\"[::]:1\", 'b']\n";
    for (end, _) in file.char_indices() {
        let _ = read(Some(&file[..end]), &[]);
    }
    read(Some(file), &[]).unwrap();
}

#[test]
fn an_empty_founding_name_is_unset_and_an_empty_own_variable_is_empty() {
    let settings = read(None, &[("REDIS_URL", ""), ("GATEWAY__LISTEN__TCP", "")]).unwrap();
    assert_eq!(settings.origin("uplink.url"), &Origin::Default);
    assert_eq!(settings.list("listen.tcp").unwrap(), Vec::<String>::new());
}

#[test]
fn only_secrets_come_from_files() {
    let settings = read(None, &[("GATEWAY_ID_FILE", "/etc/hostname")]).unwrap();
    assert_eq!(settings.origin("gateway.id"), &Origin::Unset);
    assert_eq!(settings.secret_files().count(), 0);
}

#[test]
fn a_prefix_is_not_shared_between_binaries() {
    read(None, &[("CLOUD__UPLINK__ULR", "x"), ("GATEWAYS__X", "y")]).unwrap();
}

#[test]
fn secrets_wait_in_files_until_the_caller_read_them() {
    for (name, own) in [
        ("GATEWAY__UPLINK__URL_FILE", true),
        ("REDIS_URL_FILE", false),
    ] {
        let mut settings =
            read(Some("uplink.url = 'redis://file'"), &[(name, "/run/url")]).unwrap();
        assert_eq!(
            settings.secret_files().collect::<Vec<_>>(),
            [("uplink.url", "/run/url")]
        );
        assert!(settings.is_set("uplink.url"));
        let unread = settings.text("uplink.url").unwrap_err();
        assert!(
            matches!(unread, SettingsError::SecretUnread { .. }),
            "{unread}"
        );
        assert!(unread.to_string().contains(name), "{unread}");

        settings.resolve_secret("uplink.url", "redis://:pw@host\r\n");
        assert_eq!(settings.text("uplink.url").unwrap(), "redis://:pw@host");
        assert_eq!(settings.secret_files().count(), 0);
        assert_eq!(
            settings.origin("uplink.url").to_string(),
            format!("env {name}=/run/url")
        );

        // The own variable wins over the founding name, whichever of the two is a file.
        let both = read(
            None,
            &[(name, "/run/url"), ("GATEWAY__UPLINK__URL", "redis://own")],
        );
        if own {
            let Err(SettingsError::Refused { problems }) = both else {
                panic!("both forms of one variable")
            };
            assert_eq!(
                problems,
                [Problem::SetTwice {
                    variable: "GATEWAY__UPLINK__URL".into()
                }]
            );
        } else {
            assert_eq!(both.unwrap().text("uplink.url").unwrap(), "redis://own");
        }
    }
}

#[test]
#[should_panic(expected = "does not wait in a file")]
fn a_secret_that_waits_nowhere_cannot_be_resolved() {
    read(None, &[]).unwrap().resolve_secret("spool.dir", "x");
}

#[test]
#[should_panic(expected = "`uplink.ulr`")]
fn asking_for_a_key_outside_the_table_is_a_bug() {
    let _ = read(None, &[]).unwrap().text("uplink.ulr");
}

#[test]
fn rows_follow_the_table_and_show_no_secret() {
    let settings = read(
        Some("[listen]\ntcp = ['[::]:1', '[::]:2']\n[spool]\nbytes_max = 0x1000"),
        &[
            ("REDIS_URL", "rediss://box:geheim@redis:6380/0"),
            ("GATEWAY__UPLINK__TOKEN", "geheim"),
            ("GATEWAY_ID", "depot-1"),
        ],
    )
    .unwrap();
    let rows = settings.rows();
    let shown: Vec<String> = rows
        .iter()
        .map(|row| format!("{}|{}|{}", row.name, row.value, row.origin))
        .collect();
    assert_eq!(
        shown,
        [
            "gateway.id|depot-1|env GATEWAY_ID",
            "listen.tcp|[::]:1, [::]:2|file gateway.toml:2",
            "spool.dir|/var/lib/milepost/spool|default",
            "spool.bytes_max|4096|file gateway.toml:4",
            "uplink.url|rediss://box:***@redis:6380/0|env REDIS_URL",
            "uplink.token|***|env GATEWAY__UPLINK__TOKEN",
            "uplink.tls.ca||not set",
        ]
    );
    assert_eq!(rows[0].help, "The name of this box.");
    assert!(!format!("{settings:?}").contains("geheim"));
}

#[test]
fn errors_about_secrets_do_not_tell_them() {
    let settings = read(
        None,
        &[
            ("GATEWAY__UPLINK__TOKEN", "geheim"),
            ("REDIS_URL", "redis://u:geheim@h"),
        ],
    )
    .unwrap();
    for name in ["uplink.token", "uplink.url"] {
        for error in [
            settings.bytes(name).unwrap_err(),
            settings.duration(name).unwrap_err(),
            settings.flag(name).unwrap_err(),
            settings.integer(name, 0..=9u8).unwrap_err(),
            settings.choice(name, &["a"]).unwrap_err(),
            settings.socket(name).unwrap_err(),
            settings.socket_list(name).unwrap_err(),
        ] {
            assert!(!error.to_string().contains("geheim"), "{error}");
            assert!(!format!("{error:?}").contains("geheim"), "{error:?}");
        }
    }
}
