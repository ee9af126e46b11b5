//! How a Milepost binary gets from what was typed to what is meant, with the origin of every value.
//!
//! Gateway and cloud may not import each other, yet both read one TOML file, then the environment,
//! then typed values, and both let people in by a file of tokens ([`TokenBook`]). This crate is that
//! reading and nothing else: file text and environment pairs are handed in, so it opens no file, reads
//! no variable and can be tested with strings.
//!
//! Invariants:
//! - Later layers win: built-in default, file, founding name (`REDIS_URL`), `GATEWAY__UPLINK__URL`.
//! - Nothing is ignored: an unknown key, table or `GATEWAY__…` variable is refused, all at once,
//!   each with the nearest name we know.
//! - No secret leaves through [`Settings::rows`], an error or `Debug`.
//!
//! ```
//! use settings::{Key, Origin, Settings};
//!
//! static KEYS: &[Key] = &[
//!     Key::new("uplink.url", "Where the stream lives.").aliases(&["REDIS_URL"]).secret(),
//!     Key::new("uplink.flush", "How long an entry may wait for company.").default("250ms"),
//!     Key::new("spool.bytes_max", "What the spool may fill.").default("4GiB"),
//! ];
//!
//! let file = "[spool]\nbytes_max = \"64KiB\"\n";
//! let env = [("REDIS_URL".to_owned(), "rediss://box:pass@redis.example:6380".to_owned())];
//! let settings = Settings::read(KEYS, "GATEWAY", Some(("gateway.toml", file)), env)?;
//!
//! assert_eq!(settings.bytes("spool.bytes_max")?, 65_536);
//! assert_eq!(settings.duration("uplink.flush")?.as_millis(), 250);
//! assert_eq!(settings.text("uplink.url")?, "rediss://box:pass@redis.example:6380");
//! assert_eq!(settings.rows()[0].value, "rediss://box:***@redis.example:6380");
//! assert_eq!(settings.origin("spool.bytes_max"), &Origin::File { name: "gateway.toml".into(), line: 2 });
//!
//! let refused = Settings::read(KEYS, "GATEWAY", Some(("gateway.toml", "[uplink]\nulr = 1")), []);
//! assert_eq!(
//!     refused.map(drop).map_err(|e| e.to_string()),
//!     Err("`uplink.ulr` (line 2 of gateway.toml): no such key; did you mean `uplink.url`?".into()),
//! );
//! # Ok::<(), settings::SettingsError>(())
//! ```

mod error;
mod example;
mod file;
mod key;
mod layers;
mod mask;
mod nearest;
mod redis_address;
mod token_file;
mod tokens;
mod typed;
mod units;
mod urls;

pub use error::{Invalid, Origin, Problem, SettingsError};
pub use example::{example_env, example_pairs};
pub use key::Key;
pub use layers::{Row, Settings};
pub use mask::without_password;
pub use redis_address::{RedisAddress, RedisNames};
pub use token_file::{NewToken, NewTokenError, TokenFile, TokenFileError, TokenText};
pub use tokens::{
    HASHED, Hasher, Holder, LineFault, PLAIN, TOKEN_BYTES_MIN, TokenBook, TokenHash,
    TokenLineError, is_token_name,
};
pub use units::{bytes, duration};
pub use urls::redis_urls;
