//! Pure: no I/O, no clock.
//!
//! Requests and answers as bytes: as much of Redis' protocol (RESP2) as a gateway's client speaks.
//!
//! Why not the client library's reader: it reads answers, and believes whatever length it is told. A
//! request here has bounds, so that no local program can make us reserve memory.
//!
//! Invariant: a request is taken whole or not at all, and never more than [`COMMAND_BYTES_MAX`].

use std::ops::Range;

use thiserror::Error;

/// Words of one request: a floor is asked for by one word for each opening in a spool.
const WORDS_MAX: usize = 65_536;

/// Bytes of one request. An entry carries 64 KiB of frames, or one frame of that size.
pub const COMMAND_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Digits of a length.
const DIGITS_MAX: usize = 9;

/// These bytes are no request; close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// Something else is spoken.
    #[error("a request is an array of bulk strings")]
    Shape,
    /// It would take too much memory.
    #[error("a request has at most {WORDS_MAX} words and {COMMAND_BYTES_MAX} bytes")]
    TooLarge,
}

/// The words of one request.
pub type Words = Vec<Vec<u8>>;

/// The first request in `bytes` and how many bytes it takes; `None` while it is not whole.
/// # Errors
/// [`Malformed`].
pub fn command(bytes: &[u8]) -> Result<Option<(Words, usize)>, Malformed> {
    let mut at = 0;
    let Some(count) = number(bytes, &mut at, b'*')? else {
        return Ok(None);
    };
    if count > WORDS_MAX {
        return Err(Malformed::TooLarge);
    }
    let mut words: Vec<Range<usize>> = Vec::new();
    for _ in 0..count {
        let Some(length) = number(bytes, &mut at, b'$')? else {
            return Ok(None);
        };
        let end = at + length;
        if end > COMMAND_BYTES_MAX {
            return Err(Malformed::TooLarge);
        }
        match bytes.get(end..end + 2) {
            Some(b"\r\n") => words.push(at..end),
            Some(_) => return Err(Malformed::Shape),
            None => return Ok(None),
        }
        at = end + 2;
    }
    let words = words.into_iter().map(|word| bytes[word].to_vec());
    Ok(Some((words.collect(), at)))
}

/// A number behind its sign, up to the end of the line; `at` moves behind that.
fn number(bytes: &[u8], at: &mut usize, sign: u8) -> Result<Option<usize>, Malformed> {
    let Some((first, line)) = bytes.get(*at..).and_then(<[u8]>::split_first) else {
        return Ok(None);
    };
    if *first != sign {
        return Err(Malformed::Shape);
    }
    let is_end = |byte: &u8| !byte.is_ascii_digit();
    let Some(digits) = line.iter().take(DIGITS_MAX + 1).position(is_end) else {
        return if line.len() > DIGITS_MAX {
            Err(Malformed::Shape)
        } else {
            Ok(None)
        };
    };
    if line[digits] != b'\r' {
        return Err(Malformed::Shape);
    }
    match line.get(digits + 1) {
        Some(b'\n') => {}
        Some(_) => return Err(Malformed::Shape),
        None => return Ok(None),
    }
    let text = std::str::from_utf8(&line[..digits]).map_err(|_| Malformed::Shape)?;
    *at += digits + 3;
    // No digit at all is no number either.
    text.parse().map(Some).map_err(|_| Malformed::Shape)
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done.
    Okay,
    /// A text.
    Text(String),
    /// There is no such thing.
    Nothing,
    /// A number.
    Number(u64),
    /// Several.
    List(Vec<Reply>),
    /// Not done: a word of Redis, and a sentence.
    Refused(String),
}

impl Reply {
    /// Appends its bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Okay => out.extend_from_slice(b"+OK\r\n"),
            Self::Text(text) => {
                out.extend_from_slice(format!("${}\r\n{text}\r\n", text.len()).as_bytes());
            }
            Self::Nothing => out.extend_from_slice(b"$-1\r\n"),
            Self::Number(number) => out.extend_from_slice(format!(":{number}\r\n").as_bytes()),
            Self::List(replies) => {
                out.extend_from_slice(format!("*{}\r\n", replies.len()).as_bytes());
                replies.iter().for_each(|reply| reply.write(out));
            }
            Self::Refused(why) => {
                // A line's end would begin another answer.
                let why = why.replace(['\r', '\n'], " ");
                out.extend_from_slice(format!("-{why}\r\n").as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use redis::{Value, cmd, parse_redis_value};

    use super::*;

    fn bytes(reply: &Reply) -> Vec<u8> {
        let mut out = Vec::new();
        reply.write(&mut out);
        out
    }

    #[test]
    fn the_client_understands_every_answer() {
        let of = |reply: &Reply| parse_redis_value(&bytes(reply)).unwrap();
        assert_eq!(of(&Reply::Okay), Value::Okay);
        assert_eq!(of(&Reply::Nothing), Value::Nil);
        assert_eq!(of(&Reply::Number(7)), Value::Int(7));
        let list = Reply::List(vec![Reply::Text("1-5".into()), Reply::Nothing]);
        let expected = Value::Array(vec![Value::BulkString(b"1-5".to_vec()), Value::Nil]);
        assert_eq!(of(&list), expected);
        let refused = of(&Reply::Refused("OOM full\r\n+OK".into()));
        let error = refused.extract_error().unwrap_err();
        assert_eq!(error.code(), Some("OOM"));
    }

    #[test]
    fn what_is_no_request_is_refused_before_it_takes_memory() {
        for (bad, why) in [
            (&b"GET / HTTP/1.1\r\n"[..], Malformed::Shape),
            (b"*1\r\n+OK\r\n", Malformed::Shape),
            (b"*x\r\n", Malformed::Shape),
            (b"*1\n", Malformed::Shape),
            (b"*99999999999", Malformed::Shape),
            (b"*-1\r\n", Malformed::Shape),
            (b"*999999999\r\n", Malformed::TooLarge),
            (b"*1\r\n$999999999\r\n", Malformed::TooLarge),
            (b"*1\r\n$1\r\nab\r\n", Malformed::Shape),
        ] {
            assert_eq!(command(bad), Err(why), "{}", bad.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn what_the_client_says_is_heard_word_for_word(
            words in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..8),
            more in any::<bool>(),
        ) {
            let mut said = cmd("XADD");
            words.iter().for_each(|word| { said.arg(word.as_slice()); });
            let said = said.get_packed_command();
            for end in 0..said.len() {
                prop_assert_eq!(command(&said[..end]).unwrap(), None);
            }
            let mut all = said.clone();
            if more {
                all.extend_from_slice(&said);
            }
            let (heard, taken) = command(&all).unwrap().unwrap();
            prop_assert_eq!((heard[0].as_slice(), taken), (&b"XADD"[..], said.len()));
            prop_assert_eq!(&heard[1..], &words[..]);
        }

        #[test]
        fn nothing_makes_it_fall(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = command(&bytes);
        }
    }
}
