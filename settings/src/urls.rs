//! Several Redis addresses in one value: the nodes of a cluster.

/// Each address of `text`, in order: `redis://a:6379,redis://b:6379`. A comma alone may stand in a
/// password and separates nothing.
pub fn redis_urls(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let ends = [",redis://", ",rediss://"].map(|next| rest.find(next));
        let end = ends.into_iter().flatten().min();
        let (url, behind) = end.map_or((rest, ""), |end| (&rest[..end], &rest[end + 1..]));
        rest = behind;
        Some(url)
    })
}

#[cfg(test)]
mod tests {
    use super::redis_urls;

    #[test]
    fn a_comma_separates_addresses_and_not_passwords() {
        for (text, urls) in [
            ("", &[][..]),
            ("redis://a", &["redis://a"]),
            ("rediss://u:p,w@a:1/", &["rediss://u:p,w@a:1/"]),
            (
                "rediss://u:p@a:1,redis://b,rediss://c:3/0",
                &["rediss://u:p@a:1", "redis://b", "rediss://c:3/0"],
            ),
        ] {
            let found: Vec<&str> = redis_urls(text).collect();
            assert_eq!(found, urls, "{text}");
        }
    }
}
