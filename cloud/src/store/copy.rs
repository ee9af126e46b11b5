//! Rows in PostgreSQL's binary COPY format, and their way into a table.
//!
//! Why by hand: COPY spares the server what it does per row of an INSERT, and its binary form spares
//! both sides the text. Source: PostgreSQL documentation, COPY, "Binary Format", and the `recv`
//! function of each type.
//!
//! Invariant: a row has as many fields as its table was announced with; nothing here looks at values.

use sqlx::postgres::PgConnection;

use super::errors::StoreError;
use super::values::Time;

/// Signature, flags, length of the header extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Where PostgreSQL counts from, 2000-01-01 00:00 UTC, in microseconds since 1970.
const EPOCH_US: i64 = 946_684_800_000_000;

/// First byte of every binary `jsonb`.
const JSONB_VERSION: u8 = 1;

/// What an error says was tried.
pub(super) const INTO_POSITIONS: &str = "copying positions";
/// The same for raw frames.
pub(super) const INTO_FRAMES: &str = "copying frames";

/// A value as its column takes it: a length, then so many bytes, big-endian.
pub(super) trait Field {
    fn put(self, out: &mut Vec<u8>);
}

macro_rules! numbers {
    ($($number:ty),+) => {
        $(impl Field for $number {
            fn put(self, out: &mut Vec<u8>) {
                bytes(&self.to_be_bytes(), out);
            }
        })+
    };
}
numbers!(i16, i32, i64, f64);

impl Field for bool {
    fn put(self, out: &mut Vec<u8>) {
        bytes(&[u8::from(self)], out);
    }
}

impl Field for Time {
    fn put(self, out: &mut Vec<u8>) {
        (self.timestamp_micros() - EPOCH_US).put(out);
    }
}

impl Field for &[u8] {
    fn put(self, out: &mut Vec<u8>) {
        bytes(self, out);
    }
}

impl Field for &str {
    fn put(self, out: &mut Vec<u8>) {
        bytes(self.as_bytes(), out);
    }
}

impl<T: Field> Field for Option<T> {
    fn put(self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.put(out),
            None => out.extend((-1i32).to_be_bytes()),
        }
    }
}

/// JSON text on its way into a `jsonb` column.
pub(super) struct Json<'a>(pub(super) &'a str);

impl Field for Json<'_> {
    fn put(self, out: &mut Vec<u8>) {
        length(1 + self.0.len(), out);
        out.push(JSONB_VERSION);
        out.extend(self.0.as_bytes());
    }
}

fn bytes(value: &[u8], out: &mut Vec<u8>) {
    length(value.len(), out);
    out.extend(value);
}

fn length(bytes: usize, out: &mut Vec<u8>) {
    let bytes = i32::try_from(bytes).expect("a value came in one stream item, far below 2 GiB");
    out.extend(bytes.to_be_bytes());
}

/// Rows for one table.
pub(super) struct Rows {
    columns: i16,
    out: Vec<u8>,
}

impl Rows {
    /// For a COPY of so many columns; `bytes` is a guess of the whole size.
    pub(super) fn new(columns: i16, bytes: usize) -> Self {
        let mut out = Vec::with_capacity(bytes);
        out.extend(HEADER);
        Self { columns, out }
    }

    /// Begins a row; what follows are its fields in the order of the statement.
    pub(super) fn row(&mut self) -> &mut Self {
        self.out.extend(self.columns.to_be_bytes());
        self
    }

    /// The next field.
    pub(super) fn put(&mut self, value: impl Field) -> &mut Self {
        value.put(&mut self.out);
        self
    }

    /// Sends them. One key that is there already fails them all.
    pub(super) async fn copy(
        mut self,
        on: &mut PgConnection,
        doing: &'static str,
        statement: &'static str,
    ) -> Result<(), StoreError> {
        let refused = |source| StoreError::new(doing, source);
        self.out.extend((-1i16).to_be_bytes());
        let mut copy = on.copy_in_raw(statement).await.map_err(refused)?;
        copy.send(self.out).await.map_err(refused)?;
        copy.finish().await.map_err(refused)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(value: impl Field) -> Vec<u8> {
        let mut out = Vec::new();
        value.put(&mut out);
        out
    }

    #[test]
    fn every_type_as_the_server_reads_it() {
        assert_eq!(put(-2i16), [0, 0, 0, 2, 0xff, 0xfe]);
        assert_eq!(put(1i32), [0, 0, 0, 4, 0, 0, 0, 1]);
        assert_eq!(put(1i64), [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(put(1.0f64), [0, 0, 0, 8, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(put(true), [0, 0, 0, 1, 1]);
        assert_eq!(put("é"), [0, 0, 0, 2, 0xc3, 0xa9]);
        assert_eq!(put(&[7u8, 0][..]), [0, 0, 0, 2, 7, 0]);
        assert_eq!(put(Json("{}")), [0, 0, 0, 3, 1, b'{', b'}']);
        assert_eq!(put(None::<i32>), [0xff; 4]);
        assert_eq!(put(Some(1i32)), put(1i32));
    }

    #[test]
    fn time_is_counted_from_the_year_2000() {
        let at = |ms| super::super::values::time(ms);
        assert_eq!(put(at(946_684_800_001)), put(1_000i64));
        assert_eq!(put(at(0)), put(-EPOCH_US));
    }

    #[test]
    fn a_row_counts_its_columns() {
        let mut rows = Rows::new(2, 64);
        rows.row().put(1i16).put(None::<i16>);
        let body = &rows.out[HEADER.len()..];
        assert_eq!(body, [0, 2, 0, 0, 0, 2, 0, 1, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(HEADER.len(), 19);
    }
}
