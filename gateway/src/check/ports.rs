//! Can every address we listen on be had?

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use ::settings::Settings;

use super::{Look, serial};
use crate::config::KEYS;
use crate::explain::net as pages;

/// Settings that list addresses for trackers; those that this build does not have are skipped.
const TRACKERS: [&str; 4] = ["listen.tcp", "listen.udp", "listen.nmea", "listen.tls"];

/// The same for positions over HTTP, where a loopback address is as good as any.
const POSITIONS: [&str; 2] = ["listen.http", "listen.https"];

/// `is_running`: a gateway holds our spool, so our own ports are taken by it.
pub(super) fn look(settings: &Settings, is_running: bool) -> Look {
    let mut look = Look::new("listen");
    let known = |name: &&&'static str| KEYS.iter().any(|key| key.name == **name);
    let (mut doors, mut is_known) = (0, true);
    for name in TRACKERS.iter().chain(&POSITIONS).filter(known) {
        if !settings.is_set(name) {
            continue;
        }
        let Ok(addrs) = settings.socket_list(name) else {
            look.skipped(format!("{name} not looked at: its value cannot be used"));
            is_known = false;
            continue;
        };
        for addr in addrs {
            doors += 1;
            one(&mut look, settings, name, addr, is_running);
        }
    }
    match serial::look(&mut look, settings, is_running) {
        Some(lines) => doors += lines,
        None => is_known = false,
    }
    if doors == 0 && is_known {
        look.bad(
            &pages::NOBODY,
            "no tracker could connect",
            settings.origin("listen.tcp").place(),
            "no address to listen on is set",
            "set listen.tcp = [\"0.0.0.0:5027\"]",
        );
    }
    if settings.is_set("http.listen") {
        match settings.socket("http.listen") {
            Ok(addr) => one(&mut look, settings, "http.listen", addr, is_running),
            Err(_) => look.skipped("http.listen not looked at: its value cannot be used"),
        }
    }
    look
}

fn one(look: &mut Look, settings: &Settings, name: &'static str, addr: SocketAddr, running: bool) {
    let place = format!("{name}, {}", settings.origin(name).place());
    let bound = if name == "listen.udp" {
        UdpSocket::bind(addr).map(drop)
    } else {
        TcpListener::bind(addr).map(drop)
    };
    match bound {
        Ok(()) => look.good(format!("{name} {addr} can be had")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && running => {
            look.good(format!("{name} {addr} is held by our running gateway"));
            return;
        }
        Err(error) => return refused(look, name, addr, place, &error),
    }
    let is_loopback = addr.ip().is_loopback();
    if name == "http.listen" && !is_loopback {
        look.bad(
            &pages::PAGES_OPEN,
            format!("the pages at {addr} are open to the network"),
            place,
            "they ask for no password",
            "set http.listen = \"127.0.0.1:8080\", or put a firewall before it",
        );
    } else if TRACKERS.contains(&name) && is_loopback {
        look.bad(
            &pages::LOOPBACK,
            format!("trackers cannot reach {addr} from outside"),
            place,
            "this is an address for use inside this machine",
            "listen on 0.0.0.0, unless a proxy or tunnel stands before it",
        );
    }
}

fn refused(look: &mut Look, name: &str, addr: SocketAddr, place: String, error: &io::Error) {
    let why = format!("binding says: {error}");
    let port = addr.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => look.bad(
            &pages::TAKEN,
            format!("{name} {addr} is taken by another program"),
            place,
            why,
            format!("stop it (`ss -lntup 'sport = :{port}'` shows which), or set another port"),
        ),
        io::ErrorKind::AddrNotAvailable => look.bad(
            &pages::NOT_OURS,
            format!("{name} {addr} is no address of this machine"),
            place,
            why,
            format!("listen on 0.0.0.0:{port}, or on an address that `ip addr` shows"),
        ),
        io::ErrorKind::PermissionDenied if port < 1024 => look.bad(
            &pages::RIGHTS,
            format!("{name} {addr}: ports below 1024 need a right"),
            place,
            why,
            "use a port above 1023, or AmbientCapabilities=CAP_NET_BIND_SERVICE",
        ),
        _ => look.bad(
            &pages::REFUSED,
            format!("{name} {addr} cannot be had"),
            place,
            why,
            "set another address",
        ),
    }
}
