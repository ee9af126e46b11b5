//! Without Redis: can the socket be served, or is it being served?

use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::{Access, access};

use super::Look;
use crate::explain::socket as pages;

/// Looks at the socket that `spool.socket` names.
#[must_use]
pub fn look(path: &Path) -> Look {
    let mut look = Look::new("socket");
    let shown = path.display();
    let there = std::fs::symlink_metadata(path);
    if there.is_ok_and(|there| !there.file_type().is_socket()) {
        let remedy = "remove it if nobody needs it, or name another path in spool.socket";
        look.bad(&pages::NO_SOCKET, format!("{shown} is no socket"), remedy);
        return look;
    }
    match UnixStream::connect(path) {
        Ok(_) => look.good(format!("a cloud serves {shown}")),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            look.skipped(format!("another user's cloud may serve {shown}: {error}"));
        }
        // Nobody does now: may we?
        Err(_) => {
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
            let dir = dir.unwrap_or(Path::new("."));
            match access(dir, Access::WRITE_OK | Access::EXEC_OK) {
                Ok(()) => look.good(format!("nobody serves {shown} yet, and `cloud run` may")),
                Err(error) => look.bad(
                    &pages::DIRECTORY,
                    format!("cannot make {shown}: {error}"),
                    "make its directory and give it to this user: RuntimeDirectory= in the unit, or `install -d -o milepost DIR`",
                ),
            }
        }
    }
    look
}
