//! How a URL is shown to people: everything but its password.
//!
//! Invariant: when a URL can be read in two ways, the reading that hides more wins. Operators paste
//! passwords with raw `@`, `:` and `/`, where RFC 3986 section 3.2.1 wants them percent-encoded.

/// What stands where a secret was.
pub(crate) const MASK: &str = "***";

/// The URL with its password, and every password-like query value, replaced by `***`.
///
/// Text without `://` comes back unchanged: whether that is a secret is for its key to say. An `@`
/// behind the host (`redis://host:1/0?x=a@b`) hides more than it must, never less.
#[must_use]
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (userinfo, tail) = match rest.rsplit_once('@') {
        Some((userinfo, tail)) => (Some(userinfo), tail),
        None => (None, rest),
    };
    let mut shown = format!("{scheme}://");
    if let Some(userinfo) = userinfo {
        match userinfo.split_once(':') {
            Some((user, _password)) => shown.extend([user, ":", MASK, "@"]),
            None => shown.extend([userinfo, "@"]),
        }
    }
    match tail.split_once('?') {
        Some((place, query)) => {
            shown.extend([place, "?"]);
            let pairs: Vec<String> = query.split('&').map(without_secret_value).collect();
            shown.push_str(&pairs.join("&"));
        }
        None => shown.push_str(tail),
    }
    shown
}

/// `redis+unix:///run/redis.sock?pass=…` and libpq's `?password=…` carry secrets behind the host.
fn without_secret_value(pair: &str) -> String {
    let Some((name, _value)) = pair.split_once('=') else {
        return pair.to_owned();
    };
    let lower = name.to_ascii_lowercase();
    if ["pass", "pwd", "secret", "token"]
        .iter()
        .any(|word| lower.contains(word))
    {
        format!("{name}={MASK}")
    } else {
        pair.to_owned()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn passwords_go_and_the_rest_stays() {
        for (url, shown) in [
            ("rediss://user:pa@ss@host", "rediss://user:***@host"),
            (
                "rediss://user:pa:s@s@host:6380/0",
                "rediss://user:***@host:6380/0",
            ),
            (
                "redis://:password@redis:6379/0",
                "redis://:***@redis:6379/0",
            ),
            ("redis://user:@host", "redis://user:***@host"),
            ("redis://user:a/b?c#d@host/0", "redis://user:***@host/0"),
            ("redis://user:1/2@host", "redis://user:***@host"),
            ("redis://redis:6379", "redis://redis:6379"),
            ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
            ("redis://u:p@[::1]:6379", "redis://u:***@[::1]:6379"),
            (
                "postgres://milepost@db/milepost",
                "postgres://milepost@db/milepost",
            ),
            (
                "postgres://milepost:s3:cr@t@db:5432/milepost?sslmode=verify-full",
                "postgres://milepost:***@db:5432/milepost?sslmode=verify-full",
            ),
            (
                "postgresql://db/milepost?user=m&password=geheim&sslmode=require",
                "postgresql://db/milepost?user=m&password=***&sslmode=require",
            ),
            (
                "redis+unix:///run/redis.sock?user=box&pass=geheim",
                "redis+unix:///run/redis.sock?user=box&pass=***",
            ),
            (
                "redis://host/?SSLPassword=geheim&flag",
                "redis://host/?SSLPassword=***&flag",
            ),
            ("redis://u:geheim@a,redis://v:geheim@b", "redis://u:***@b"),
            ("://", "://"),
            ("", ""),
            ("no url at all", "no url at all"),
        ] {
            assert_eq!(without_password(url), shown, "{url}");
        }
    }

    #[test]
    fn no_printable_character_in_a_password_gets_it_out() {
        for left in ' '..='~' {
            for right in ' '..='~' {
                let url = format!("rediss://box:{left}XYZ{right}@redis.example:6380");
                assert_eq!(
                    without_password(&url),
                    "rediss://box:***@redis.example:6380",
                    "{url}"
                );
            }
        }
    }
}
