//! Where trackers arrive: sockets in, sessions fed, answers out.

mod tcp;

pub use tcp::{ListenConfig, ListenError, TcpDoor};
