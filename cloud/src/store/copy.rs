//! Rows in PostgreSQL's binary COPY format, and their way into a table.
//!
//! Why by hand: COPY spares the server what it does per row of an INSERT, and its binary form spares
//! both sides the text. Source: PostgreSQL documentation, COPY, "Binary Format", and the `recv`
//! function of each type.
//!
//! Invariant: a row has as many fields as its table was announced with; nothing here looks at values.

use sqlx::postgres::{PgConnection, PgCopyIn};

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
/// The same for readings of sensors.
pub(super) const INTO_READINGS: &str = "copying readings";

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

/// Bytes that are gathered before they are sent: the server reads them while the next are made.
const SEND_BYTES: usize = 64 * 1024;

/// Rows for one table, on their way.
struct Rows {
    columns: i16,
    out: Vec<u8>,
}

impl Rows {
    fn new(columns: i16) -> Self {
        // What goes beyond is one row, rarely more than a frame.
        let mut out = Vec::with_capacity(SEND_BYTES + SEND_BYTES / 8);
        out.extend(HEADER);
        Self { columns, out }
    }
}

/// The fields of a row, in the order of the statement.
pub(super) struct Fields<'r>(&'r mut Vec<u8>);

impl Fields<'_> {
    /// The next field.
    pub(super) fn put(&mut self, value: impl Field) -> &mut Self {
        value.put(self.0);
        self
    }
}

impl Rows {
    fn row(&mut self) -> Fields<'_> {
        self.out.extend(self.columns.to_be_bytes());
        Fields(&mut self.out)
    }
}

/// A COPY that is under way. One key that is there already fails it as a whole.
pub(super) struct Copy<'c> {
    doing: &'static str,
    rows: Rows,
    into: PgCopyIn<&'c mut PgConnection>,
}

impl<'c> Copy<'c> {
    /// Begins a COPY of so many columns.
    pub(super) async fn begin(
        on: &'c mut PgConnection,
        doing: &'static str,
        statement: &'static str,
        columns: i16,
    ) -> Result<Self, StoreError> {
        let begun = on.copy_in_raw(statement).await;
        Ok(Self {
            doing,
            rows: Rows::new(columns),
            into: begun.map_err(|source| StoreError::new(doing, source))?,
        })
    }

    /// One more row, filled by `fill`.
    pub(super) async fn row(&mut self, fill: impl FnOnce(Fields<'_>)) -> Result<(), StoreError> {
        fill(self.rows.row());
        if self.rows.out.len() >= SEND_BYTES {
            self.send().await?;
        }
        Ok(())
    }

    /// Sends what is left and waits for the answer.
    pub(super) async fn end(mut self) -> Result<(), StoreError> {
        self.rows.out.extend((-1i16).to_be_bytes());
        self.send().await?;
        let doing = self.doing;
        let ended = self.into.finish().await;
        ended.map_err(|source| StoreError::new(doing, source))?;
        Ok(())
    }

    async fn send(&mut self) -> Result<(), StoreError> {
        let sent = self.into.send(self.rows.out.as_slice()).await;
        sent.map_err(|source| StoreError::new(self.doing, source))?;
        self.rows.out.clear();
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
        let mut rows = Rows::new(2);
        rows.row().put(1i16).put(None::<i16>);
        let body = &rows.out[HEADER.len()..];
        assert_eq!(body, [0, 2, 0, 0, 0, 2, 0, 1, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(HEADER.len(), 19);
    }
}
