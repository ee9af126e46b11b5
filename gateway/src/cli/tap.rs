//! `gateway tap`.

use gateway::tap::{self, TapArgs};
use settings::Settings;

use super::{Failure, ask};

pub(super) const EXAMPLES: &str = "\
Watching holds up nothing: a watcher that reads too slowly is cut off, and at most four may watch.

Examples:
  gateway tap --config /etc/milepost/gateway.toml
  gateway tap --imei 356307042441013 --json | jq .
  gateway tap --http 127.0.0.1:8080           without settings

Exit codes: 0 the gateway ended, 2 settings, 3 no gateway answers.";

pub(super) fn act(
    args: &TapArgs,
    settings: impl Fn() -> Result<Settings, Failure>,
) -> Result<(), Failure> {
    let at = match args.http {
        Some(at) => at,
        None => ask::addr(&settings()?)?,
    };
    tap::follow(at, args, &mut std::io::stdout()).map_err(|error| Failure::new(3, error))
}
