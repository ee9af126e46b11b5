//! How large tables are, chunks and partitions included: what a lock on them costs.

use std::collections::HashMap;

use sqlx::postgres::PgConnection;

use super::database::{Database, DatabaseError};

/// What PostgreSQL knows without counting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// On the disk, without indexes.
    pub bytes: u64,
    /// As of the last ANALYZE; 0 before the first.
    pub rows: u64,
}

/// By the name of the table.
pub type Sizes = HashMap<String, Size>;

/// The sizes of those tables that are there.
/// # Errors
/// [`DatabaseError`].
pub async fn of(
    database: &Database,
    on: &mut PgConnection,
    tables: impl Iterator<Item = &str>,
) -> Result<Sizes, DatabaseError> {
    let mut sizes = Sizes::new();
    for table in tables {
        // Chunks and partitions are children; there is one level of them.
        let found: Option<(i64, i64)> = sqlx::query_as(
            "SELECT sum(pg_table_size(c.oid))::bigint, sum(greatest(c.reltuples, 0))::bigint \
             FROM pg_class c WHERE c.relkind IN ('r', 'p', 'm') AND (c.oid = to_regclass($1) \
                 OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass($1))) \
             HAVING count(*) > 0",
        )
        .bind(table)
        .fetch_optional(&mut *on)
        .await
        .map_err(|source| database.refused("asking for the size of tables", source))?;
        if let Some((bytes, rows)) = found {
            let positive = |number: i64| u64::try_from(number).unwrap_or_default();
            let size = Size {
                bytes: positive(bytes),
                rows: positive(rows),
            };
            sizes.insert(table.to_owned(), size);
        }
    }
    Ok(sizes)
}

/// `0 B`, `12 KiB`, `3 GiB`, rounded down.
#[must_use]
pub fn text(bytes: u64) -> String {
    let mut value = bytes;
    let mut units = ["B", "KiB", "MiB", "GiB"].into_iter();
    let mut unit = "B";
    for next in units.by_ref() {
        unit = next;
        if value < 1024 || next == "GiB" {
            break;
        }
        value /= 1024;
    }
    format!("{value} {unit}")
}

/// `5 s`, `4 min`, `3 h`, rounded up.
#[must_use]
pub fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h", seconds.div_ceil(3_600)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_told_in_the_unit_people_think_in() {
        let sizes = [0, 1_023, 12 << 10, (3 << 30) + 5, 5 << 40].map(text);
        assert_eq!(sizes, ["0 B", "1023 B", "12 KiB", "3 GiB", "5120 GiB"]);
        let durations = [1, 119, 121, 7_200].map(duration);
        assert_eq!(durations, ["1 s", "119 s", "3 min", "2 h"]);
    }
}
