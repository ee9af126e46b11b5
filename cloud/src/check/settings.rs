//! What was typed.

use settings::{Settings, SettingsError};

use super::Look;
use crate::config;
use crate::explain::settings as pages;

/// Settings that can be used: what has no effect among them.
#[must_use]
pub fn look(settings: &Settings) -> Look {
    let mut look = Look::new("settings");
    for (name, origin, why) in config::without_effect(settings) {
        look.bad(
            &pages::IDLE,
            format!("{name} ({}) has no effect: {why}", origin.place()),
            "remove it",
        );
    }
    if look.findings.is_empty() {
        look.good("every key and variable is known and counts");
    }
    look
}

/// Settings that cannot be used.
#[must_use]
pub fn refused(error: &SettingsError) -> Look {
    let mut look = Look::new("settings");
    let (page, remedy) = match error {
        SettingsError::Syntax { .. } => (&pages::SYNTAX, "correct the line"),
        SettingsError::Refused { problems } => {
            let is_secret =
                |problem: &settings::Problem| matches!(problem, settings::Problem::SetTwice { .. });
            if problems.iter().all(is_secret) {
                (&pages::SECRET, "give it once")
            } else {
                (
                    &pages::UNKNOWN,
                    "write the name that was meant; `cloud config show` lists all",
                )
            }
        }
        SettingsError::SecretUnread { .. } => (&pages::SECRET, "let this user read the file"),
        _ => (&pages::VALUE, "correct it where it stands"),
    };
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    look.bad(page, lines.join("; "), remedy);
    look
}

/// A file that cannot be read: that of the settings, or one with a secret.
#[must_use]
pub fn unread(path: &str, is_secret: bool, why: &std::io::Error) -> Look {
    let mut look = Look::new("settings");
    let page = if is_secret {
        &pages::SECRET
    } else {
        &pages::FILE
    };
    look.bad(
        page,
        format!("cannot read {path}: {why}"),
        "correct the path, or let this user read the file",
    );
    look
}

/// A value that its reader refuses.
#[must_use]
pub fn unfit(error: &str) -> Look {
    let mut look = Look::new("settings");
    look.bad(&pages::VALUE, error, "correct it where it stands");
    look
}
