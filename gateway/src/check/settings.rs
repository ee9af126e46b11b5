//! Can the settings be read, and do they mean something?

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use ::settings::{Origin, Problem, Settings, SettingsError};

use super::Look;
use crate::access::ListFileError;
use crate::chain::chain;
use crate::config::{self, Config, ConfigError, redis_address};
use crate::explain::{board as board_pages, cert as cert_pages, settings as pages};
use crate::uplink::ConnectError;

/// The findings, and the settings if they can be read at all.
pub(super) fn look(file: Option<&Path>) -> (Look, Option<Settings>) {
    let mut look = Look::new("settings");
    let settings = match config::read(file) {
        Ok(settings) => settings,
        Err(error) => {
            report(&mut look, &error, file);
            return (look, None);
        }
    };
    match Config::new(&settings) {
        Ok(_) => look.good(summary(&settings, file)),
        // The spool's owner is the disk's matter.
        Err(ConfigError::Spool(_)) => {}
        // So is a cap that is too small to work.
        Err(ConfigError::Settings(SettingsError::Invalid(it)))
            if it.key == "spool.bytes_max" && settings.bytes("spool.bytes_max").is_ok() => {}
        Err(error) => report(&mut look, &error, file),
    }
    for (name, origin, why) in redis_address::without_effect(&settings) {
        let what = format!("{name} has no effect");
        look.bad(
            &pages::NO_EFFECT,
            what,
            origin.place(),
            why,
            "remove it there",
        );
    }
    if let Some(file) = file {
        passwords(&mut look, &settings, file);
    }
    (look, Some(settings))
}

fn of_list(look: &mut Look, error: &ListFileError) {
    match error {
        ListFileError::Line { path, source } => look.bad(
            &pages::ACCESS_LINE,
            format!("line {} of the IMEI list is no IMEI", source.line),
            format!("{}:{}", path.display(), source.line),
            format!(
                "it says {:?}; an IMEI has 15 digits, the last is a check digit",
                source.found
            ),
            "correct the line, or put a # before it",
        ),
        ListFileError::Read { path, source } | ListFileError::Write { path, source } => look.bad(
            &pages::ACCESS,
            "the list of IMEIs cannot be used",
            path.display().to_string(),
            source.to_string(),
            "correct access.list, or let the gateway's user have the file",
        ),
    }
}

fn summary(settings: &Settings, file: Option<&Path>) -> String {
    let rows = settings.rows();
    let count = |wanted: fn(&Origin) -> bool| rows.iter().filter(|row| wanted(&row.origin)).count();
    let of_file = count(|origin| matches!(origin, Origin::File { .. }));
    let of_env = count(|origin| matches!(origin, Origin::Env(_) | Origin::SecretFile { .. }));
    let file = file.map_or("no file".to_owned(), |file| file.display().to_string());
    format!("{of_file} set by {file}, {of_env} by the environment, the rest as delivered")
}

/// A file with a password is not for everybody's eyes.
fn passwords(look: &mut Look, settings: &Settings, file: &Path) {
    let is_here = |name| matches!(settings.origin(name), Origin::File { .. });
    let url = settings
        .optional_text("uplink.url")
        .ok()
        .flatten()
        .unwrap_or_default();
    let in_url = is_here("uplink.url") && ::settings::without_password(url) != url;
    let mode = std::fs::metadata(file).map_or(0, |meta| meta.permissions().mode());
    if (in_url || is_here("uplink.password")) && mode & 0o004 != 0 {
        let place = file.display().to_string();
        look.bad(
            &pages::FILE_MODE,
            "everybody on this machine may read the password of Redis",
            &place,
            format!("its mode is {:04o}", mode & 0o7777),
            format!("chmod 0640 {place}, and chgrp to the gateway's group"),
        );
    }
}

fn report(look: &mut Look, error: &ConfigError, file: Option<&Path>) {
    match error {
        ConfigError::File { path, source } => {
            let (page, what) = if Some(path.as_path()) == file {
                (&pages::FILE, "the settings file cannot be read")
            } else {
                (&pages::SECRET, "the file of a secret cannot be read")
            };
            look.bad(
                page,
                what,
                path.display().to_string(),
                source.to_string(),
                "correct the path, or let the gateway's user read it",
            );
        }
        ConfigError::Settings(error) => of_settings(look, error),
        ConfigError::Redis(error) => of_redis(look, error),
        ConfigError::GatewayId(source) => look.bad(
            &pages::GATEWAY,
            "this gateway has no usable name",
            "gateway.id, or the host name",
            source.to_string(),
            "set gateway.id, for example to \"depot-1\"",
        ),
        ConfigError::List(error) => of_list(look, error),
        ConfigError::Board(error) => look.bad(
            &board_pages::PROFILE,
            "the board cannot be used",
            "board.profile, board.file",
            chain(error),
            "name one of those, or correct the file",
        ),
        #[cfg(feature = "ingest")]
        ConfigError::Ingest(error) => super::ingest::report(look, error),
        ConfigError::HalfTls => look.bad(
            &cert_pages::DOOR,
            "listen.tls has no certificate to show to trackers",
            "listen.tls_cert, listen.tls_key",
            error.to_string(),
            "set both, or take the addresses out of listen.tls",
        ),
        ConfigError::Tls(source) => look.bad(
            &cert_pages::DOOR,
            "the certificate for trackers cannot be used",
            "listen.tls_cert, listen.tls_key, listen.tls_client_ca",
            chain(source),
            "correct the file that is named; both belong into one bundle",
        ),
        other => look.bad(
            &pages::VALUE,
            "a setting cannot be used",
            "",
            chain(other),
            "correct it; `gateway config show --origin` says where it is set",
        ),
    }
}

fn of_settings(look: &mut Look, error: &SettingsError) {
    match error {
        SettingsError::Syntax {
            file,
            line,
            column,
            what,
        } => look.bad(
            &pages::SYNTAX,
            "the settings file is not TOML",
            format!("{file}, line {line}, column {column}"),
            what,
            "correct that line; texts stand in quotes",
        ),
        SettingsError::Refused { problems } => problems.iter().for_each(|it| of_problem(look, it)),
        SettingsError::Missing {
            key,
            variable,
            file,
            help,
        } => look.bad(
            &pages::VALUE,
            format!("{key} is not set"),
            file.clone().unwrap_or_else(|| "the environment".to_owned()),
            format!("it has no default. {help}"),
            format!("set it there, or as {variable}"),
        ),
        SettingsError::Invalid(it) => look.bad(
            &pages::VALUE,
            format!("{} cannot be {}", it.key, it.found),
            it.origin.place(),
            format!("it wants {}", it.expected),
            match it.nearest {
                Some(nearest) => format!("write \"{nearest}\"?"),
                None => format!("correct it there, or set {}", it.variable),
            },
        ),
        SettingsError::SecretUnread {
            key,
            variable,
            path,
        } => look.bad(
            &pages::SECRET,
            format!("the file with {key} was not read"),
            path,
            format!("named by {variable}"),
            "let the gateway's user read it",
        ),
    }
}

fn of_problem(look: &mut Look, problem: &Problem) {
    let known = |nearest: &Option<String>, list: &str| match nearest {
        Some(name) => format!("did you mean {name}?"),
        None => format!("`{list}` lists the ones there are"),
    };
    match problem {
        Problem::UnknownKey {
            name,
            origin,
            nearest,
            list_with,
        } => look.bad(
            &pages::UNKNOWN,
            format!("there is no setting {name}"),
            origin.place(),
            "a mistyped key would silently do nothing, so it is refused",
            known(nearest, list_with),
        ),
        Problem::UnknownTable {
            name,
            origin,
            nearest,
            list_with,
        } => look.bad(
            &pages::UNKNOWN,
            format!("there is no table [{name}]"),
            origin.place(),
            "no setting lives in it",
            known(nearest, list_with),
        ),
        Problem::UnknownVariable {
            variable,
            nearest,
            list_with,
        } => look.bad(
            &pages::UNKNOWN,
            format!("there is no setting for {variable}"),
            format!("environment variable {variable}"),
            "it begins like ours and names no setting",
            known(nearest, list_with),
        ),
        Problem::SetTwice { variable } => look.bad(
            &pages::SECRET,
            "one secret is given twice",
            format!("environment variables {variable} and {variable}_FILE"),
            "both are set, and one of two secrets is old",
            "unset one of them",
        ),
        Problem::WantsValue { .. } | Problem::WantsTable { .. } => look.bad(
            &pages::VALUE,
            "a key and a table are mixed up",
            "",
            problem.to_string(),
            "write it as it says",
        ),
    }
}

fn of_redis(look: &mut Look, error: &ConnectError) {
    match error {
        ConnectError::HalfIdentity => look.bad(
            &pages::IDENTITY,
            "only one of uplink.cert and uplink.key is set",
            "uplink.cert, uplink.key",
            error.to_string(),
            "set both, or neither",
        ),
        ConnectError::NotTls { url } => look.bad(
            &pages::IDENTITY,
            "certificates are set for a connection without TLS",
            format!("uplink.url = {url}"),
            "the address does not begin with rediss://",
            "write rediss:// (with two s), or remove uplink.cert, uplink.key and uplink.ca",
        ),
        other => look.bad(
            &pages::ADDRESS,
            "uplink.url is no address of a Redis",
            "uplink.url",
            chain(other),
            "write rediss://user:password@host:port/ and percent-encode @ / # in the password",
        ),
    }
}
