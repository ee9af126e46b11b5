//! Settings of what is shown: the pages and the log.

use std::net::SocketAddr;

use settings::{Key, Settings};

use super::ConfigError;
use crate::logbook::ImeiStyle;

/// How IMEIs are shown.
pub(super) const LOG_IMEI: Key = Key::new(
    "log.imei",
    "IMEIs in the log and on the pages: short (35630…013) or full.",
)
.default("short");

pub(super) fn imei_style(settings: &Settings) -> Result<ImeiStyle, ConfigError> {
    Ok(match settings.choice("log.imei", &["short", "full"])? {
        "full" => ImeiStyle::Full,
        _ => ImeiStyle::Short,
    })
}

/// Where the pages are; `None` when there are none.
/// # Errors
/// [`ConfigError::Settings`]: no address and port.
pub fn http_addr(settings: &Settings) -> Result<Option<SocketAddr>, ConfigError> {
    Ok(match settings.optional_text("http.listen")? {
        None => None,
        Some(_) => Some(settings.socket("http.listen")?),
    })
}
