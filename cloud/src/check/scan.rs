//! Looks through the names of keys, a step at a time, so that Redis is not held up.

use redis::cmd;

use crate::stream::{Link, RedisFailure};

/// Keys looked at per step.
const STEP: usize = 1_000;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) keys: Vec<String>,
    /// Everything was looked at.
    pub(super) is_complete: bool,
}

/// Keys that match `pattern` and are of `kind`, until there are `max` of them. A key that is no text
/// is shown with replacement characters.
/// # Errors
/// [`RedisFailure`].
pub(super) async fn scan(
    link: &Link,
    pattern: &str,
    kind: Option<&str>,
    max: usize,
) -> Result<Found, RedisFailure> {
    let mut found = Found::default();
    let mut cursor = "0".to_owned();
    while found.keys.len() < max {
        let mut scan = cmd("SCAN");
        scan.arg(&cursor).arg("MATCH").arg(pattern);
        scan.arg("COUNT").arg(STEP);
        if let Some(kind) = kind {
            scan.arg("TYPE").arg(kind);
        }
        let (next, some): (String, Vec<Vec<u8>>) = link.ask("SCAN", &scan).await?;
        let some = some.iter();
        found
            .keys
            .extend(some.map(|key| String::from_utf8_lossy(key).into_owned()));
        if next == "0" {
            found.is_complete = true;
            break;
        }
        cursor = next;
    }
    Ok(found)
}
