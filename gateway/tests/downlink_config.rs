//! The settings of the downlink.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use gateway::chain::chain;
use gateway::config::{Config, ENV_PREFIX, KEYS};
use settings::Settings;

fn config(variables: &[(&str, &str)]) -> Result<Config, String> {
    let all = [("GATEWAY__GATEWAY__ID", "depot-1")];
    let variables = all.iter().chain(variables);
    let variables = variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let settings = Settings::read(KEYS, ENV_PREFIX, None, variables).unwrap();
    Config::new(&settings).map_err(|error| chain(&error))
}

#[test]
fn commands_are_on_unless_switched_off() {
    let commands = config(&[]).unwrap().commands.unwrap();
    assert_eq!(commands.reply_timeout, Duration::from_secs(30));
    assert_eq!(commands.gateway.as_str(), "depot-1");
    let patient = config(&[("GATEWAY__COMMANDS__REPLY_TIMEOUT", "2m")]).unwrap();
    assert_eq!(
        patient.commands.unwrap().reply_timeout,
        Duration::from_secs(120)
    );
    let off = config(&[("GATEWAY__COMMANDS__ENABLED", "false")]).unwrap();
    assert!(off.commands.is_none());
}

/// Who pays by the byte is asked for orders less often.
#[test]
fn a_read_for_orders_waits_as_long_as_the_uplink_gathers_within_bounds() {
    for (flush, wait_s) in [("250ms", 5), ("10s", 10), ("60s", 30)] {
        let commands = config(&[("GATEWAY__UPLINK__FLUSH", flush)])
            .unwrap()
            .commands;
        assert_eq!(
            commands.unwrap().order_wait,
            Duration::from_secs(wait_s),
            "{flush}"
        );
    }
}

#[test]
fn a_reply_timeout_out_of_range_is_named_with_the_range() {
    for value in ["0s", "999ms", "601s"] {
        let error = config(&[("GATEWAY__COMMANDS__REPLY_TIMEOUT", value)])
            .err()
            .unwrap();
        assert!(error.contains("commands.reply_timeout"), "{error}");
        assert!(error.contains("1s to 600s"), "{error}");
    }
}
