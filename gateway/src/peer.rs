//! Who is at the other end: an address, or a wire.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Serialize, Serializer};

/// One end of a conversation, as people are shown it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// With port 0 the address alone.
    Address(SocketAddr),
    /// The device of a serial line.
    Line(&'static str),
}

impl Peer {
    /// Without what changes from one connection to the next: the port.
    #[must_use]
    pub fn place(self) -> Self {
        match self {
            Self::Address(addr) => addr.ip().into(),
            line @ Self::Line(_) => line,
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(addr: SocketAddr) -> Self {
        Self::Address(addr)
    }
}

impl From<IpAddr> for Peer {
    fn from(ip: IpAddr) -> Self {
        Self::Address(SocketAddr::new(ip.to_canonical(), 0))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(addr) if addr.port() == 0 => addr.ip().fmt(f),
            Self::Address(addr) => addr.fmt(f),
            Self::Line(name) => f.write_str(name),
        }
    }
}

/// As it is shown.
impl Serialize for Peer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_has_a_port_until_only_its_place_matters() {
        let shown = |peer: Peer| (peer.to_string(), serde_json::to_value(peer).unwrap());
        for (text, place) in [
            ("192.0.2.7:5027", "192.0.2.7"),
            ("[2001:db8::7]:5027", "2001:db8::7"),
        ] {
            let peer = Peer::from(text.parse::<SocketAddr>().unwrap());
            assert_eq!(shown(peer), (text.to_owned(), text.into()));
            assert_eq!(shown(peer.place()), (place.to_owned(), place.into()));
        }
        let mapped: SocketAddr = "[::ffff:192.0.2.7]:5027".parse().unwrap();
        assert_eq!(Peer::from(mapped).place().to_string(), "192.0.2.7");
        let line = Peer::Line("/dev/ttyUSB0");
        assert_eq!(
            shown(line.place()),
            ("/dev/ttyUSB0".to_owned(), "/dev/ttyUSB0".into())
        );
    }
}
