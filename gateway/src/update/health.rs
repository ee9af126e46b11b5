//! Does the running gateway do what it is there for? Asked of what it says about itself.
//!
//! Pure: no I/O, no clock.

use serde_json::Value;

/// What `/status` must say before a new system is kept: the doors are open, every stage moves, Redis
/// was reached. `Err` names what is missing, in words.
/// # Errors
/// The first thing that is missing.
pub fn healthy(status: &Value) -> Result<(), String> {
    if status["ready"] != true {
        let waits_for = status["waits_for"].as_str().unwrap_or("something");
        return Err(format!("the gateway waits for {waits_for}"));
    }
    match status.get("stuck") {
        Some(Value::Null) => {}
        Some(Value::String(stage)) => return Err(format!("no progress in {stage}")),
        _ => return Err("the gateway does not say whether its stages move".to_owned()),
    }
    let uplink = &status["uplink"];
    if uplink["connected"] != true {
        let trouble = uplink["trouble"].as_str().unwrap_or("no connection yet");
        return Err(format!("Redis was not reached: {trouble}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_part_must_work() {
        let good = json!({
            "ready": true, "waits_for": null, "stuck": null, "uplink": { "connected": true }
        });
        assert_eq!(healthy(&good), Ok(()));
        let with = |pointer: &str, value: Value| {
            let mut status = good.clone();
            if let Some(place) = status.pointer_mut(pointer) {
                *place = value;
            }
            healthy(&status)
        };
        let lacks = |found: Result<(), String>, word: &str| {
            assert!(
                found.as_ref().is_err_and(|why| why.contains(word)),
                "{found:?}"
            );
        };
        lacks(with("/ready", json!(false)), "waits for");
        lacks(with("/stuck", json!("uplink")), "no progress in uplink");
        lacks(
            with(
                "/uplink",
                json!({ "connected": false, "trouble": "refused" }),
            ),
            "refused",
        );
        lacks(with("/uplink", json!({})), "no connection yet");
        lacks(healthy(&json!({})), "waits for something");
        lacks(healthy(&json!({ "ready": true })), "does not say");
    }
}
