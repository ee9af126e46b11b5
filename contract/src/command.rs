//! Orders to trackers and what became of them, as fields of two streams.
//!
//! Why here from the start: the words are read by other programs (a Directus Flow), so they are
//! hard to change. A Codec 12 reply carries no id, hence `cid` and one outstanding order a device.
//!
//! Invariant: a status only moves forward; a reader upserts by (`cid`, `status`).

use std::collections::HashMap;

use codec::Imei;
use thiserror::Error;

use crate::id::GatewayId;

/// Version of the order fields this build writes (field `v` and `contract.writes`).
pub const ORDER_VERSION: u32 = 1;

/// An order or a response that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    /// A field is not there.
    #[error("command has no field {field:?}")]
    Missing {
        /// Its name.
        field: &'static str,
    },
    /// A field holds something else.
    #[error("command field {field:?} is {found:?}")]
    Bad {
        /// Its name.
        field: &'static str,
        /// What it holds.
        found: String,
    },
}

/// What to say to a tracker (`commands:outbound:<gateway id>`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// UUIDv7 of the row in `commands`.
    pub cid: String,
    /// To whom.
    pub imei: Imei,
    /// 12 or 14.
    pub codec: u8,
    /// Command text as the tracker reads it, for example `getinfo`.
    pub payload: String,
    /// Milliseconds since 1970 UTC.
    pub created_ms: u64,
    /// Not to be sent after this moment, milliseconds since 1970 UTC.
    pub expires_ms: u64,
    /// From 1.
    pub attempt: u32,
    /// May be sent twice without harm (getinfo, setparam).
    pub idempotent: bool,
}

/// How far an order came. The order of the variants is the order in which a status may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CommandStatus {
    /// Written to the tracker's socket.
    Sent,
    /// Nobody can tell whether the tracker got it; never sent again by itself.
    Unknown,
    /// No reply in time.
    Timeout,
    /// Too late to send.
    Expired,
    /// Refused by the tracker or not deliverable here.
    Nack,
    /// Answered.
    Ack,
}

impl CommandStatus {
    /// Every status with its word on the wire.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Sent, "sent"),
        (Self::Unknown, "unknown"),
        (Self::Timeout, "timeout"),
        (Self::Expired, "expired"),
        (Self::Nack, "nack"),
        (Self::Ack, "ack"),
    ];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(status, _)| *status == self)
            .map(|(_, word)| *word)
            .expect("every status stands in ALL, which a test counts")
    }
}

/// What became of an order (`commands:responses`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandResponse {
    /// The order's `cid`.
    pub cid: String,
    /// Which tracker.
    pub imei: Imei,
    /// Which gateway says so.
    pub instance: GatewayId,
    /// How far it came.
    pub status: CommandStatus,
    /// Why, for everything but success; may be empty.
    pub reason: String,
    /// The tracker's text; may be empty.
    pub reply: String,
    /// Milliseconds since 1970 UTC.
    pub ts_ms: u64,
    /// The order's `attempt`.
    pub attempt: u32,
}

impl Order {
    /// Fields for `XADD NOMKSTREAM`.
    #[must_use]
    pub fn to_fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("v", ORDER_VERSION.to_string()),
            ("cid", self.cid.clone()),
            ("imei", self.imei.to_string()),
            ("codec", self.codec.to_string()),
            ("payload", self.payload.clone()),
            ("created_ms", self.created_ms.to_string()),
            ("expires_ms", self.expires_ms.to_string()),
            ("attempt", self.attempt.to_string()),
            ("idem", u8::from(self.idempotent).to_string()),
        ]
    }

    /// # Errors
    /// [`CommandError`] with the first field that is missing or unreadable.
    pub fn from_fields(fields: &HashMap<String, String>) -> Result<Self, CommandError> {
        let version: u32 = number(fields, "v")?;
        if version != ORDER_VERSION {
            return Err(bad(fields, "v"));
        }
        let codec = number(fields, "codec")?;
        if !matches!(codec, 12 | 14) {
            return Err(bad(fields, "codec"));
        }
        Ok(Self {
            cid: text(fields, "cid")?.to_owned(),
            imei: number(fields, "imei")?,
            codec,
            payload: text(fields, "payload")?.to_owned(),
            created_ms: number(fields, "created_ms")?,
            expires_ms: number(fields, "expires_ms")?,
            attempt: number(fields, "attempt")?,
            idempotent: match text(fields, "idem")? {
                "0" => false,
                "1" => true,
                _ => return Err(bad(fields, "idem")),
            },
        })
    }
}

impl CommandResponse {
    /// Fields for `XADD`.
    #[must_use]
    pub fn to_fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("cid", self.cid.clone()),
            ("imei", self.imei.to_string()),
            ("instance", self.instance.to_string()),
            ("status", self.status.as_str().to_owned()),
            ("reason", self.reason.clone()),
            ("reply", self.reply.clone()),
            ("ts", self.ts_ms.to_string()),
            ("attempt", self.attempt.to_string()),
        ]
    }

    /// # Errors
    /// [`CommandError`] with the first field that is missing or unreadable.
    pub fn from_fields(fields: &HashMap<String, String>) -> Result<Self, CommandError> {
        let word = text(fields, "status")?;
        let status = CommandStatus::ALL
            .iter()
            .find(|(_, known)| *known == word)
            .map(|(status, _)| *status)
            .ok_or_else(|| bad(fields, "status"))?;
        Ok(Self {
            cid: text(fields, "cid")?.to_owned(),
            imei: number(fields, "imei")?,
            instance: number(fields, "instance")?,
            status,
            reason: text(fields, "reason")?.to_owned(),
            reply: text(fields, "reply")?.to_owned(),
            ts_ms: number(fields, "ts")?,
            attempt: number(fields, "attempt")?,
        })
    }
}

fn text<'a>(
    fields: &'a HashMap<String, String>,
    field: &'static str,
) -> Result<&'a str, CommandError> {
    fields
        .get(field)
        .map(String::as_str)
        .ok_or(CommandError::Missing { field })
}

fn number<T: std::str::FromStr>(
    fields: &HashMap<String, String>,
    field: &'static str,
) -> Result<T, CommandError> {
    text(fields, field)?.parse().map_err(|_| bad(fields, field))
}

fn bad(fields: &HashMap<String, String>, field: &'static str) -> CommandError {
    CommandError::Bad {
        field,
        found: fields.get(field).cloned().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn order() -> Order {
        Order {
            cid: "01936f4e-7c00-7000-8000-000000000001".into(),
            imei: "356307042441013".parse().unwrap(),
            codec: 12,
            payload: "getinfo".into(),
            created_ms: 1_700_000_000_000,
            expires_ms: 1_700_086_400_000,
            attempt: 1,
            idempotent: true,
        }
    }

    fn response(status: CommandStatus) -> CommandResponse {
        CommandResponse {
            cid: order().cid,
            imei: order().imei,
            instance: "depot-1".parse().unwrap(),
            status,
            reason: String::new(),
            reply: "RTC:2026/11/21".into(),
            ts_ms: 1_700_000_000_500,
            attempt: 1,
        }
    }

    fn map(fields: Vec<(&'static str, String)>) -> HashMap<String, String> {
        fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    #[test]
    fn orders_and_responses_round_trip() {
        assert_eq!(
            Order::from_fields(&map(order().to_fields())).unwrap(),
            order()
        );
        for (status, word) in CommandStatus::ALL {
            assert_eq!(status.as_str(), word);
            let fields = map(response(status).to_fields());
            assert_eq!(
                CommandResponse::from_fields(&fields).unwrap(),
                response(status)
            );
        }
    }

    #[test]
    fn a_missing_or_broken_field_is_named() {
        for (name, _) in order().to_fields() {
            let mut fields = map(order().to_fields());
            fields.remove(name);
            assert_eq!(
                Order::from_fields(&fields),
                Err(CommandError::Missing { field: name })
            );
            if matches!(name, "cid" | "payload") {
                continue; // free text
            }
            fields.insert(name.to_owned(), "?".to_owned());
            let error = Order::from_fields(&fields).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
