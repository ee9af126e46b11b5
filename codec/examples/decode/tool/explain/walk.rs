//! A cursor that writes down a name for everything it steps over.

/// A named run of bytes, or with `len` 0 a heading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// Offset of the first byte.
    pub(crate) at: usize,
    /// How many bytes.
    pub(crate) len: usize,
    /// What the field is called.
    pub(crate) name: String,
    /// What it says.
    pub(crate) meaning: String,
}

/// The cursor. Every step gives `None` where the bytes end too early; what is left of
/// them then has a row that says so.
#[derive(Debug, Clone)]
pub(crate) struct Walk<'a> {
    input: &'a [u8],
    at: usize,
    end: usize,
    rows: Vec<Row>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(input: &'a [u8]) -> Walk<'a> {
        Walk {
            input,
            at: 0,
            end: input.len(),
            rows: Vec::new(),
        }
    }

    pub(super) fn into_rows(self) -> Vec<Row> {
        self.rows
    }

    /// Bytes up to the end.
    pub(super) fn left(&self) -> usize {
        self.end - self.at
    }

    /// The bytes ahead.
    pub(super) fn ahead(&self) -> &'a [u8] {
        &self.input[self.at..self.end]
    }

    /// Runs `inside` with the end moved up to `bytes` from here, as far as that is closer.
    pub(super) fn within<T>(&mut self, bytes: usize, inside: impl FnOnce(&mut Self) -> T) -> T {
        let outer = self.end;
        self.end = outer.min(self.at.saturating_add(bytes));
        let result = inside(self);
        self.end = outer;
        result
    }

    /// A line of its own.
    pub(super) fn heading(&mut self, text: impl Into<String>) {
        self.rows.push(Row {
            at: self.at,
            len: 0,
            name: text.into(),
            meaning: String::new(),
        });
    }

    /// Steps over `len` bytes.
    pub(super) fn bytes(
        &mut self,
        len: usize,
        name: impl Into<String>,
        meaning: impl FnOnce(&'a [u8]) -> String,
    ) -> Option<&'a [u8]> {
        let whole = len <= self.left();
        let taken = len.min(self.left());
        let bytes = &self.input[self.at..self.at + taken];
        if taken > 0 {
            self.rows.push(Row {
                at: self.at,
                len: taken,
                name: name.into(),
                meaning: if whole {
                    meaning(bytes)
                } else {
                    format!("cut short, {taken} of {len} bytes")
                },
            });
        }
        self.at += taken;
        whole.then_some(bytes)
    }

    /// Steps over a big-endian number of at most eight bytes.
    pub(super) fn number(
        &mut self,
        len: usize,
        name: impl Into<String>,
        meaning: impl FnOnce(u64) -> String,
    ) -> Option<u64> {
        let value = |bytes: &[u8]| bytes.iter().fold(0, |v, &byte| v << 8 | u64::from(byte));
        let bytes = self.bytes(len, name, |bytes| meaning(value(bytes)))?;
        Some(value(bytes))
    }

    /// Steps over what is left, if anything is.
    pub(super) fn rest(&mut self, name: &str) {
        let left = self.left();
        self.bytes(left, name, |bytes| format!("{} bytes", bytes.len()));
    }
}

/// Bytes as text where they are text.
pub(super) fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok("") => "nothing".to_owned(),
        Ok(text) => format!("{text:?}"),
        Err(_) => format!("{} bytes, no text", bytes.len()),
    }
}

/// A number of so many bytes, and with its sign where that makes a difference.
pub(super) fn signed(value: u64, bytes: usize) -> String {
    let unused = 64 - 8 * bytes as u32;
    let negative = ((value << unused) as i64) >> unused;
    if negative < 0 {
        format!("{value} (with a sign {negative})")
    } else {
        value.to_string()
    }
}

/// So many things.
pub(super) fn plural(count: u64, thing: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{ending}")
}
