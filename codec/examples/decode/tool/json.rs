//! What was read, as JSON: the shape of `expected` in `codec/vectors/*.json`, so that the
//! vector test and the tool can only be right together.
//!
//! Only the first message of the bytes is described. Everything accepted although it
//! deviates from the documentation is named in `issues`.

mod body;
mod datagram;
mod frame;
mod payload;
mod problem;

use codec::{Cut, Datagram, Expect, Limits, Login};
use serde_json::{Map, Value, json};

pub(crate) use problem::Problem;

use super::line::Transport;

pub(crate) type Object = Map<String, Value>;

/// What a transport turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A frame, a login or pings on TCP; what is expected behind the pings.
    Tcp(Expect),
    Udp,
    Beacons,
    Tags,
}

/// Describes the message at the front of `input`, which is not empty.
pub(crate) fn describe(transport: Transport, input: &[u8]) -> Result<Value, Problem> {
    match kind(transport, input) {
        Kind::Tcp(expect) => tcp(expect, input),
        Kind::Udp => datagram::describe(input),
        Kind::Beacons => payload::beacons(input),
        Kind::Tags => payload::tags(input),
    }
}

/// Number of keep-alive bytes in front.
pub(crate) fn pings(input: &[u8]) -> usize {
    input
        .iter()
        .take_while(|&&byte| byte == codec::frame::PING)
        .count()
}

/// Decides what to read `input` as.
pub(crate) fn kind(transport: Transport, input: &[u8]) -> Kind {
    let behind = &input[pings(input)..];
    let login = |input| match codec::cut(input, Expect::Login, Limits::default()) {
        Cut::Login(login) => login.imei().is_ok(),
        _ => false,
    };
    match transport {
        Transport::Udp => Kind::Udp,
        Transport::Beacons => Kind::Beacons,
        Transport::Tags => Kind::Tags,
        Transport::Login => Kind::Tcp(Expect::Login),
        // The first message of a connection is a login; the first two bytes tell.
        Transport::Tcp if login(behind) => Kind::Tcp(Expect::Login),
        Transport::Tcp => Kind::Tcp(Expect::Frame),
        Transport::Auto => match behind {
            [0, 0, ..] | [] | [0] => Kind::Tcp(Expect::Frame),
            _ if login(behind) => Kind::Tcp(Expect::Login),
            _ if behind.len() < input.len() => Kind::Tcp(Expect::Login),
            // With an IMEI and the least data a datagram's length says 24: what says less
            // and is no datagram is a damaged login.
            [0, 1..24, ..] if Datagram::parse(input).is_err() => Kind::Tcp(Expect::Login),
            _ => Kind::Udp,
        },
    }
}

fn tcp(expect: Expect, input: &[u8]) -> Result<Value, Problem> {
    let pings = pings(input);
    let behind = &input[pings..];
    let mut issues = Vec::new();
    let mut object = Object::new();
    if behind.is_empty() {
        object.insert("kind".into(), "ping".into());
        object.insert("consumed".into(), pings.into());
        if pings > 1 {
            issues.push(format!("{pings} keep-alive bytes in a row"));
            object.insert("issues".into(), issues.into());
        }
        return Ok(object.into());
    }
    if pings > 0 {
        issues.push(format!("keep-alive bytes (FF) in front: {pings}"));
    }
    let cut = codec::cut(behind, expect, Limits::default());
    let consumed = pings + cut.consumed();
    let described = match cut {
        Cut::Login(login) => describe_login(login, &mut object),
        Cut::Frame(found) => frame::describe(&found, &mut object, &mut issues),
        other => Err(frame::rejected(other, expect, behind)),
    };
    described.map_err(|problem| problem.behind(pings))?;
    object.insert("consumed".into(), consumed.into());
    if consumed < input.len() {
        let left = input.len() - consumed;
        issues.push(format!("bytes behind this message: {left}"));
    }
    object.insert("issues".into(), issues.into());
    Ok(object.into())
}

fn describe_login(login: Login<'_>, object: &mut Object) -> Result<(), Problem> {
    object.insert("kind".into(), "login".into());
    object.insert("length".into(), login.raw().len().into());
    object.insert("imei".into(), String::from_utf8_lossy(login.raw()).into());
    match login.imei() {
        Ok(_) => Ok(()),
        Err(error) => {
            let offset = match error {
                codec::ImeiError::NotADigit { offset, .. } => 2 + offset,
                _ => 0,
            };
            let known = std::mem::take(object);
            Err(Problem::new("imei", offset, error.to_string()).knowing(known))
        }
    }
}

/// A number as the vendor prints it: upper-case hex behind 0x.
fn hex_number(value: u64, digits: usize) -> Value {
    json!(format!("0x{value:0digits$X}"))
}
