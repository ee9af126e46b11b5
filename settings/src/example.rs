//! An example of an environment file that lists every setting, for people to copy and edit.
//!
//! Invariant: nothing in it is set, and with every `#` before a variable removed it is what holds
//! anyway, so that [`example_pairs`] of an [`example_env`] can be read as it stands.

use crate::Key;

/// The file's text: the head, then every key once with its help, founding names and default, below
/// a heading for each table. `head` is comment lines, each with `#` and a line end.
#[must_use]
pub fn example_env(keys: &[Key], env_prefix: &str, head: &str) -> String {
    let mut text = head.to_owned();
    let mut table = "";
    for key in keys {
        let (section, _) = key.name.split_once('.').unwrap_or((key.name, ""));
        if section != table {
            text.push_str(&format!("\n# --- {section} ---\n"));
            table = section;
        }
        text.push_str(&format!("\n# {}\n", key.help));
        for alias in key.env_aliases {
            text.push_str(&format!("# The same: {alias}\n"));
        }
        let variable = key.variable(env_prefix);
        let default = key.default.unwrap_or_default();
        text.push_str(&format!("#{variable}={default}\n"));
        if key.secret {
            text.push_str(&format!("#{variable}_FILE=\n"));
        }
    }
    text
}

/// What an example sets once every `#` before a variable is removed; variables without a value are
/// left out.
pub fn example_pairs(text: &str, env_prefix: &str) -> impl Iterator<Item = (String, String)> {
    let start = format!("{env_prefix}__");
    let variables = text.lines().filter_map(|line| line.strip_prefix('#'));
    variables
        .filter(move |line| line.starts_with(&start))
        .filter_map(|line| line.split_once('='))
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &[Key] = &[
        Key::new("uplink.url", "Where the stream lives.")
            .aliases(&["REDIS_URL", "URL"])
            .secret(),
        Key::new("uplink.flush", "How long an entry may wait.").default("250ms"),
        Key::new("spool.bytes_max", "What the spool may fill.").default("4GiB"),
    ];

    const TEXT: &str = "\
# Copy it.

# --- uplink ---

# Where the stream lives.
# The same: REDIS_URL
# The same: URL
#BOX__UPLINK__URL=
#BOX__UPLINK__URL_FILE=

# How long an entry may wait.
#BOX__UPLINK__FLUSH=250ms

# --- spool ---

# What the spool may fill.
#BOX__SPOOL__BYTES_MAX=4GiB
";

    #[test]
    fn every_key_stands_once_below_its_table() {
        assert_eq!(example_env(KEYS, "BOX", "# Copy it.\n"), TEXT);
    }

    #[test]
    fn only_variables_with_a_value_are_set() {
        let pairs: Vec<_> = example_pairs(TEXT, "BOX").collect();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            pairs,
            [
                pair("BOX__UPLINK__FLUSH", "250ms"),
                pair("BOX__SPOOL__BYTES_MAX", "4GiB"),
            ]
        );
        assert_eq!(example_pairs(TEXT, "GATEWAY").count(), 0);
    }
}
