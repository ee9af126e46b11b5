//! Ports for private servers, chosen so that nobody else takes them while a server is down.
//!
//! They lie below the range the kernel hands out to outgoing connections
//! (`/proc/sys/net/ipv4/ip_local_port_range`, usually 32768-60999). Asking the kernel for "any" port
//! would give one from inside that range, and a client that keeps reconnecting to a stopped server
//! on such a port can end up connected to itself, holding the port the server needs to come back.
//!
//! Invariant: no port is handed out twice in one process. Another process may still be faster;
//! servers are therefore started again on another port when the first turns out to be taken.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{LazyLock, Mutex, PoisonError};

use anyhow::{Result, bail};

/// Well above the services people know, well below every usual outgoing range.
const LOWEST: u16 = 15_000;
const HIGHEST: u16 = 32_000;
const TRIES_MAX: usize = 1_000;

static TAKEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// A TCP port on 127.0.0.1, ours until dropped.
#[derive(Debug)]
pub struct Port(u16);

impl Port {
    /// A port on which nobody listens at this moment.
    ///
    /// # Errors
    /// When a thousand random ports were all taken: look what is listening on this machine.
    pub fn free() -> Result<Self> {
        for _ in 0..TRIES_MAX {
            let random = getrandom::u32()? % u32::from(HIGHEST - LOWEST);
            let port = LOWEST + u16::try_from(random)?;
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
                && TAKEN
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(port)
            {
                return Ok(Self(port));
            }
        }
        bail!("no free port on 127.0.0.1 between {LOWEST} and {HIGHEST} in {TRIES_MAX} tries")
    }

    /// The number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.0
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        TAKEN
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.0);
    }
}
