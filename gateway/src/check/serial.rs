//! Can every serial line be had?
//!
//! Invariant: a line that our running gateway reads is left alone.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use ::settings::Settings;
use hardware::{SerialError, SerialPort};

use super::Look;
use crate::chain::chain;
use crate::config;
use crate::listen::page_of;

/// `is_running`: a gateway holds our spool, so our lines are held by it. Returns how many lines
/// there are; `None` when the setting cannot be used.
pub(super) fn look(look: &mut Look, settings: &Settings, is_running: bool) -> Option<usize> {
    let Ok(lines) = config::serial_lines(settings) else {
        look.skipped("listen.serial not looked at: its value cannot be used");
        return None;
    };
    let place = format!(
        "listen.serial, {}",
        settings.origin("listen.serial").place()
    );
    for line in &lines {
        let error = match SerialPort::open(line) {
            Ok(_) => {
                look.good(format!("listen.serial {line} can be had"));
                continue;
            }
            Err(SerialError::Busy) if is_running => {
                look.good(format!(
                    "listen.serial {line} is held by our running gateway"
                ));
                continue;
            }
            Err(error) => error,
        };
        let remedy = match &error {
            SerialError::Missing => {
                "plug it in, or name one that `ls /dev/serial/by-id` shows".to_owned()
            }
            SerialError::Denied => of_group(&line.path),
            SerialError::Busy => format!("stop it: `fuser -v {}` shows which", line.path.display()),
            SerialError::NoPort => "correct the path".to_owned(),
            SerialError::Speed => {
                "set a speed behind the @ that the port has, such as 9600 or 115200".to_owned()
            }
            SerialError::System(_) => "name another device".to_owned(),
        };
        let page = page_of(&error);
        look.bad(
            page,
            format!("{}: {}", page.title, line.path.display()),
            &place,
            format!("opening says: {}", chain(&error)),
            remedy,
        );
    }
    Some(lines.len())
}

/// Who may use it, by the name of its group.
fn of_group(path: &Path) -> String {
    let gid = std::fs::metadata(path).map(|of_file| of_file.gid());
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let name = gid.ok().and_then(|gid| group_name(&groups, gid));
    let name = name.unwrap_or("dialout");
    format!(
        "let the gateway's user into the group {name}: `usermod -aG {name} milepost`, and restart it"
    )
}

/// The group with this number, in the words of `/etc/group`.
fn group_name(groups: &str, gid: u32) -> Option<&str> {
    groups.lines().find_map(|line| {
        let mut parts = line.split(':');
        let (name, _, number) = (parts.next()?, parts.next()?, parts.next()?);
        (number.parse() == Ok(gid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_by_number() {
        let groups = "root:x:0:\n\ntty:x:5:\ndialout:x:20:ann,bob\n";
        assert_eq!(group_name(groups, 20), Some("dialout"));
        assert_eq!(group_name(groups, 0), Some("root"));
        assert_eq!(group_name(groups, 2), None);
    }
}
