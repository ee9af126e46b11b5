//! Stream items put in and looked at by hand.

pub(crate) use tests::items::{add, admin, entry, fields, frame, held, pending};
