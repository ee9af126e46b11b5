//! The way to a cloud on this machine that takes entries itself.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;

use contract::direct;

use super::rights;
use crate::chain::chain;
use crate::check::Look;
use crate::explain::direct as pages;
use crate::uplink::{Link, RedisConfig};

/// Is somebody there, may we, and is it a cloud that reads what we write?
pub(super) async fn look(look: &mut Look, config: &RedisConfig) {
    let place = format!("uplink.url = {}", config.shown());
    let path = config.url.trim_start_matches(direct::SCHEME);
    let path = path.strip_prefix("//").unwrap_or(path);
    if let Err(error) = UnixStream::connect(path) {
        let (page, remedy) = if error.kind() == ErrorKind::PermissionDenied {
            (
                &pages::NO_WAY,
                "make the gateway's user a member of the cloud's group, and restart it",
            )
        } else {
            (
                &pages::NOBODY,
                "start `cloud run` with this path as spool.socket or --from-spool",
            )
        };
        look.bad(page, page.title, place, format!("{path}: {error}"), remedy);
        return;
    }
    match config.connect().await {
        Ok(cloud) => {
            look.good(format!("a cloud takes entries at {}", config.shown()));
            rights::contract(look, &mut Link::Server(cloud)).await;
        }
        Err(error) => look.bad(
            &pages::STRANGER,
            pages::STRANGER.title,
            place,
            chain(&error),
            "name the socket of the cloud; for a Redis at a socket write redis+unix:///path",
        ),
    }
    look.skipped("commands are not carried without Redis");
}
