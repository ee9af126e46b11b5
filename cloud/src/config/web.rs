//! The web app and its API: who may see it.

use std::net::SocketAddr;
use std::path::PathBuf;

use settings::{Settings, SettingsError};

/// Who may see the web app, and with which map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebConfig {
    /// The file of tokens; then nobody is let in without one.
    pub tokens: Option<PathBuf>,
    /// What anybody may who can reach the door, where there is no file of tokens.
    pub open: Open,
    /// Where the map's tiles come from; `None`: from the app itself.
    pub tiles: Option<TilesUrl>,
}

/// What a door without tokens lets in. Anything but `No` only on a loopback address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Open {
    /// Nobody.
    #[default]
    No,
    /// Anybody, to look.
    Read,
    /// Anybody, to look and to act.
    Operator,
}

/// Address of raster tiles with `{z}`, `{x}` and `{y}` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TilesUrl {
    /// As typed.
    pub template: String,
    /// `https://tiles.example:8443`: what a page has to be allowed to ask.
    pub origin: String,
}

/// Reads the address of tiles. `None`: it is none. It ends up in a header, so nothing but letters,
/// digits, `.`, `-` and a port may stand in its host.
fn tiles(text: &str) -> Option<TilesUrl> {
    let (scheme, rest) = text.split_once("://")?;
    if !matches!(scheme, "http" | "https") {
        return None;
    }
    let (authority, path) = rest.split_once('/')?;
    let (host, port) = authority.split_once(':').unwrap_or((authority, "443"));
    let is_host = !host.is_empty()
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
    let is_whole = ["{z}", "{x}", "{y}"].iter().all(|part| path.contains(part));
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_host || port.parse::<u16>().is_err() || !is_whole || !is_plain {
        return None;
    }
    Some(TilesUrl {
        template: text.to_owned(),
        origin: format!("{scheme}://{authority}"),
    })
}

pub(super) fn web(
    settings: &Settings,
    http: Option<SocketAddr>,
) -> Result<WebConfig, SettingsError> {
    let tokens = settings.optional_path("web.tokens")?;
    let open = match settings.choice("web.open", &["no", "read", "operator"])? {
        "read" => Open::Read,
        "operator" => Open::Operator,
        _ => Open::No,
    };
    let is_loopback = http.is_none_or(|http| http.ip().is_loopback());
    if open != Open::No && tokens.is_none() && !is_loopback {
        let expected = "no, since http.listen is no loopback address: anybody in the network could come in. Make tokens with `cloud web token new` and set web.tokens";
        return Err(settings.invalid("web.open", expected, None));
    }
    let tiles = match settings.optional_text("web.tiles")? {
        None => None,
        Some(text) => {
            let expected = "an address such as https://tiles.example/{z}/{x}/{y}.png";
            let found = tiles(text.trim());
            Some(found.ok_or_else(|| settings.invalid("web.tiles", expected, None))?)
        }
    };
    Ok(WebConfig {
        tokens,
        open,
        tiles,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{Config, ENV_PREFIX, KEYS};

    fn read(file: &str) -> Result<WebConfig, SettingsError> {
        let settings = Settings::read(KEYS, ENV_PREFIX, Some(("cloud.toml", file)), [])?;
        Config::new(&settings, "box").map(|config| config.web)
    }

    #[test]
    fn nobody_comes_in_unless_told_otherwise_and_never_from_the_network_without_a_token() {
        assert_eq!(read("").unwrap(), WebConfig::default());
        assert_eq!(read("[web]\nopen = \"read\"").unwrap().open, Open::Read);
        let wide = "[http]\nlisten = \"0.0.0.0:8081\"\n[web]\nopen = \"operator\"\n";
        let refused = read(wide).unwrap_err().to_string();
        assert!(
            refused.contains("web.open") && refused.contains("token new"),
            "{refused}"
        );
        let with_tokens = format!("{wide}tokens = \"tokens.txt\"\n");
        assert_eq!(
            read(&with_tokens).unwrap().tokens,
            Some("tokens.txt".into())
        );
        assert!(read("[web]\nopen = \"yes\"").is_err());
    }

    #[test]
    fn tiles_are_an_address_that_can_stand_in_a_header() {
        let found = read("[web]\ntiles = \"https://t.example:8443/a/{z}/{x}/{y}.png\"");
        let found = found.unwrap().tiles.unwrap();
        assert_eq!(found.origin, "https://t.example:8443");
        for text in [
            "t.example/{z}/{x}/{y}",
            "ftp://t.example/{z}/{x}/{y}",
            "https:///{z}/{x}/{y}",
            "https://t.example/{z}/{x}",
            "https://t.example; script-src */{z}/{x}/{y}",
            "https://t.example:x/{z}/{x}/{y}",
            "https://u@t.example/{z}/{x}/{y}",
            "https://t.example/{z}/{x}/{y}\\nx",
        ] {
            let refused = read(&format!("[web]\ntiles = \"{text}\""));
            assert!(refused.is_err(), "{text}");
        }
    }
}
