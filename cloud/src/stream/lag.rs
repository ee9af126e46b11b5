//! How far behind the group is, stream by stream.
//!
//! Invariant: what Redis cannot tell is told as unknown, never as nothing.

use super::finder::Stream;
use super::link::{Link, RedisFailure};
use super::trimmer;

/// How one stream stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which stream.
    pub stream: Stream,
    /// Items the group has not read; `None` when Redis cannot tell, or there is no group.
    pub lag_entries: Option<u64>,
    /// Items read and not acknowledged; `None` when there is no group.
    pub pending_entries: Option<u64>,
}

/// Asks about one stream.
/// # Errors
/// [`RedisFailure`].
pub async fn standing(link: &Link, stream: &Stream, group: &str) -> Result<Standing, RedisFailure> {
    let groups = trimmer::groups(link, &stream.name).await?;
    let ours = groups.into_iter().find(|state| state.name == group);
    Ok(Standing {
        stream: stream.clone(),
        lag_entries: ours.as_ref().and_then(|group| group.lag),
        pending_entries: ours.map(|group| group.pending),
    })
}

/// A sum that is unknown as soon as one part is.
#[must_use]
pub fn total(standings: &[Standing], of: impl Fn(&Standing) -> Option<u64>) -> Option<u64> {
    standings.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_unknown_makes_the_sum_unknown() {
        let standing = |lag_entries| Standing {
            stream: Stream {
                name: "a".into(),
                named: true,
            },
            lag_entries,
            pending_entries: Some(2),
        };
        let all = [standing(Some(3)), standing(None)];
        assert_eq!(total(&all, |s| s.lag_entries), None);
        assert_eq!(total(&all, |s| s.pending_entries), Some(4));
        assert_eq!(total(&all[..1], |s| s.lag_entries), Some(3));
    }
}
