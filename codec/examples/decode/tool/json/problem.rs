//! Why some bytes were rejected.

use serde_json::Value;

use super::Object;

/// A rejection: where, why, and what was known by then.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Problem {
    /// Which part of the message was being read.
    pub(crate) stage: String,
    /// Which byte of the input, from 0.
    pub(crate) offset: usize,
    /// What is wrong there.
    pub(crate) text: String,
    /// Fields that were read before, as in the description of a good message.
    known: Object,
}

impl Problem {
    pub(crate) fn new(stage: impl ToString, offset: usize, text: String) -> Problem {
        Problem {
            stage: stage.to_string(),
            offset,
            text,
            known: Object::new(),
        }
    }

    /// With what is known of the message.
    pub(crate) fn knowing(self, known: Object) -> Problem {
        Problem { known, ..self }
    }

    /// The same behind so many bytes.
    pub(crate) fn behind(self, bytes: usize) -> Problem {
        Problem {
            offset: self.offset + bytes,
            ..self
        }
    }

    /// The object that answers the line.
    pub(crate) fn to_value(&self) -> Value {
        let mut object = self.known.clone();
        object.insert("kind".into(), "error".into());
        object.insert("error".into(), self.text.as_str().into());
        object.insert("stage".into(), self.stage.as_str().into());
        object.insert("offset".into(), self.offset.into());
        object.into()
    }
}
