//! Has the kernel send at once what goes to the database (`TCP_NODELAY`).
//!
//! Why: a COPY ends with a message of five bytes. Without this the kernel holds it back until the
//! server has confirmed what came before, which servers put off for 40 ms: a third of a batch of ten
//! thousand rows. sqlx did it until 0.8 and does it again after 0.9.0 (transact-rs/sqlx, issue 4335,
//! mended by pull request 4336): with the next release this file goes.
//!
//! Why this way: sqlx shows its socket to nobody, so every TCP connection of this process is set; the
//! others are none that would rather wait. A second descriptor of a connection, from `pidfd_getfd`, is
//! safe to use even when its owner closes the first meanwhile.
//!
//! Invariant: nothing but the option is changed, and nothing fails when it cannot be.

use std::fs;
use std::io;
use std::net::TcpStream;

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// Sets the option on every TCP connection of this process that lacks it; says on how many.
/// # Errors
/// When the kernel does not let us: older than 5.6, or a container that forbids `pidfd_getfd`.
pub(super) fn everywhere() -> io::Result<usize> {
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    let mut changed = 0;
    for entry in fs::read_dir("/proc/self/fd")? {
        let path = entry?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        let is_socket = |path| {
            let to = fs::read_link(path);
            to.is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))
        };
        let Some(number) = number.filter(|_| is_socket(&path)) else {
            continue;
        };
        let copy = match pidfd_getfd(&this, number, PidfdGetfdFlags::empty()) {
            Ok(copy) => TcpStream::from(copy),
            // Closed meanwhile.
            Err(rustix::io::Errno::BADF) => continue,
            Err(refused) => return Err(refused.into()),
        };
        // A socket of another kind knows no such option.
        if copy.peer_addr().is_ok() && copy.nodelay().is_ok_and(|is_set| !is_set) {
            copy.set_nodelay(true)?;
            changed += 1;
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn both_ends_of_a_connection_send_at_once() {
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(door.local_addr().unwrap()).unwrap();
        let far = door.accept().unwrap().0;
        assert!(!near.nodelay().unwrap() && !far.nodelay().unwrap());
        assert!(everywhere().unwrap() >= 2);
        assert!(near.nodelay().unwrap() && far.nodelay().unwrap());
    }
}
