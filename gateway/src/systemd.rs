//! What we tell the service manager, and how often it wants to hear it.
//!
//! Why our own: the protocol is one datagram of `NAME=value` lines to the socket in
//! `$NOTIFY_SOCKET`, and it needs no C library. Source: sd_notify(3), systemd.service(5).
//!
//! Invariants: nothing here ever waits or fails the gateway; without a service manager every call
//! does nothing.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The service manager, if there is one.
#[derive(Debug)]
pub struct Manager {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Manager {
    /// The one named in the environment, by which service managers introduce themselves.
    #[must_use]
    pub fn of_environment() -> Self {
        let of = |name| std::env::var_os(name);
        let text = |name| of(name).and_then(|value| value.into_string().ok());
        Self::new(
            of("NOTIFY_SOCKET").as_deref(),
            text("WATCHDOG_USEC").as_deref(),
            text("WATCHDOG_PID").as_deref(),
        )
    }

    /// From the values of `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    #[must_use]
    pub fn new(socket: Option<&OsStr>, usec: Option<&str>, pid: Option<&str>) -> Self {
        let socket = socket.filter(|name| !name.is_empty()).and_then(|name| {
            connect(name)
                .inspect_err(|error| tracing::warn!(%error, socket = ?name, "service manager cannot be told anything: NOTIFY_SOCKET is not usable"))
                .ok()
        });
        // Meant for another process when it names one.
        let is_ours = pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
        let watchdog = usec.filter(|_| is_ours && socket.is_some());
        let watchdog = watchdog
            .and_then(|usec| usec.parse().ok())
            .filter(|&usec| usec > 0)
            .map(Duration::from_micros);
        Self { socket, watchdog }
    }

    /// Without a word for so long, the manager restarts us.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Everything is open.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// We are reading anew; [`Manager::ready`] ends it.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let usec = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={usec}"));
    }

    /// We are on the way out.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Still moving.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// A line for `systemctl status`.
    pub fn status(&self, line: &str) {
        let line = line.replace('\n', " ");
        self.tell(&format!("STATUS={line}"));
    }

    fn tell(&self, lines: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(lines.as_bytes())
        {
            tracing::debug!(%error, lines, "service manager did not take a message");
        }
    }
}

/// A path, or `@name` for an abstract socket.
fn connect(name: &OsStr) -> std::io::Result<UnixDatagram> {
    let addr = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&addr)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 512];
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn every_word_arrives_on_a_path_and_on_an_abstract_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("milepost-test-{}", std::process::id());
        let abstract_addr = SocketAddr::from_abstract_name(&name).unwrap();
        let sockets = [
            (path.clone().into_os_string(), UnixDatagram::bind(&path)),
            (
                format!("@{name}").into(),
                UnixDatagram::bind_addr(&abstract_addr),
            ),
        ];
        for (name, socket) in sockets {
            let socket = socket.unwrap();
            let manager = Manager::new(Some(&name), Some("250000"), None);
            assert_eq!(manager.watchdog(), Some(Duration::from_millis(250)));
            manager.status("two\nlines");
            assert_eq!(heard(&socket), "STATUS=two lines");
            manager.reloading();
            let reloading = heard(&socket);
            let usec = reloading
                .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
                .unwrap();
            assert!(usec.parse::<u64>().unwrap() > 0);
            for (say, word) in [
                (Manager::ready as fn(&Manager), "READY=1"),
                (Manager::alive, "WATCHDOG=1"),
                (Manager::stopping, "STOPPING=1"),
            ] {
                say(&manager);
                assert_eq!(heard(&socket), word);
            }
        }
    }

    #[test]
    fn a_watchdog_is_only_ours_when_it_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let _socket = UnixDatagram::bind(&path).unwrap();
        let me = std::process::id().to_string();
        let watchdog = |usec, pid| Manager::new(Some(path.as_os_str()), usec, pid).watchdog();
        assert_eq!(
            watchdog(Some("1000"), Some(&*me)),
            Some(Duration::from_millis(1))
        );
        assert_eq!(watchdog(Some("1000"), Some("1")), None);
        assert_eq!(watchdog(Some("1000"), Some("x")), None);
        assert_eq!(watchdog(Some("0"), None), None);
        assert_eq!(watchdog(None, None), None);
        assert_eq!(Manager::new(None, Some("1000"), None).watchdog(), None);
    }

    #[test]
    fn without_a_manager_nothing_happens_and_nothing_fails() {
        for name in ["", "/no/such/socket", "@nobody-listens-here"] {
            let manager = Manager::new(Some(OsStr::new(name)), None, None);
            manager.ready();
            manager.stopping();
        }
    }
}
