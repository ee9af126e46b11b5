//! Users of Redis: are they there, make one, remove one.
//!
//! Invariant: what this login may not do is told as that, so that a person can do it; nothing here
//! ever carries a password, only its SHA-256.

use redis::{FromRedisValue, Value, cmd};

use crate::stream::{Link, RedisFailure};

/// What became of a command that asks for much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// Done, or told.
    Done(T),
    /// This login may not.
    NotAllowed,
}

/// Do users outlive a restart of Redis?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Written to its ACL file.
    Saved,
    /// It has none, or this login may not write it: somebody has to write the line down.
    Unsaved,
}

async fn ask<T: FromRedisValue>(
    link: &Link,
    doing: &'static str,
    words: &[&str],
) -> Result<Outcome<T>, RedisFailure> {
    let (first, rest) = words.split_first().expect("no command is empty");
    let mut command = cmd(first);
    command.arg(rest);
    match link.ask(doing, &command).await {
        Ok(answer) => Ok(Outcome::Done(answer)),
        Err(failure) if failure.code() == Some("NOPERM") => Ok(Outcome::NotAllowed),
        Err(failure) => Err(failure),
    }
}

/// Is Redis there, and does it know us?
/// # Errors
/// [`RedisFailure`].
pub async fn reach(link: &Link) -> Result<(), RedisFailure> {
    ask::<Value>(link, "PING", &["PING"]).await.map(drop)
}

/// Is there such a user?
/// # Errors
/// [`RedisFailure`].
pub async fn is_there(link: &Link, user: &str) -> Result<Outcome<bool>, RedisFailure> {
    let answer = ask::<Value>(link, "ACL GETUSER", &["ACL", "GETUSER", user]).await?;
    Ok(match answer {
        Outcome::Done(value) => Outcome::Done(!matches!(value, Value::Nil)),
        Outcome::NotAllowed => Outcome::NotAllowed,
    })
}

/// Makes or changes a user. `words`: as `contract::access::setuser` gives them.
/// # Errors
/// [`RedisFailure`].
pub async fn set(link: &Link, words: &[String]) -> Result<Outcome<Kept>, RedisFailure> {
    let mut all = vec!["ACL", "SETUSER"];
    all.extend(words.iter().map(String::as_str));
    match ask::<Value>(link, "ACL SETUSER", &all).await? {
        Outcome::Done(_) => Ok(Outcome::Done(save(link).await?)),
        Outcome::NotAllowed => Ok(Outcome::NotAllowed),
    }
}

/// What there was to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Was there such a user?
    pub was_there: bool,
    /// Its connections that were cut.
    pub cut: u64,
    /// Does it stay away?
    pub kept: Kept,
}

/// Removes a user and cuts its connections.
/// # Errors
/// [`RedisFailure`].
pub async fn remove(link: &Link, user: &str) -> Result<Outcome<Removed>, RedisFailure> {
    let kill = ["CLIENT", "KILL", "USER", user];
    // A refusal says that there is no such user, or that we may not: the next command cuts as well.
    let cut = match ask::<u64>(link, "CLIENT KILL", &kill).await {
        Ok(Outcome::Done(cut)) => cut,
        Ok(Outcome::NotAllowed) | Err(RedisFailure::Refused { .. }) => 0,
        Err(failure) => return Err(failure),
    };
    // Redis cuts the connections of a user that goes: also those made in between.
    let removed = match ask::<u64>(link, "ACL DELUSER", &["ACL", "DELUSER", user]).await? {
        Outcome::Done(removed) => removed,
        Outcome::NotAllowed => return Ok(Outcome::NotAllowed),
    };
    Ok(Outcome::Done(Removed {
        was_there: removed > 0,
        cut,
        kept: save(link).await?,
    }))
}

/// Without this a restart brings back what was removed.
async fn save(link: &Link) -> Result<Kept, RedisFailure> {
    match ask::<Value>(link, "ACL SAVE", &["ACL", "SAVE"]).await {
        Ok(Outcome::Done(_)) => Ok(Kept::Saved),
        Ok(Outcome::NotAllowed) | Err(RedisFailure::Refused { .. }) => Ok(Kept::Unsaved),
        Err(failure) => Err(failure),
    }
}
