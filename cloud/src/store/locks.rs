//! Pure.
//!
//! Which locks a migration takes on tables that are there already, read from its text.
//!
//! Why from the text: the only other way to know is to run it, and a plan must not stop anybody.
//! A test runs every migration of ours and compares what the server locked with what stands here.
//!
//! Invariants: a table that the migration makes itself is not named, nobody can wait for it; what is
//! inside a function body is not run by the migration and not looked at, what is inside `DO` is.
//! Source of the modes: PostgreSQL documentation, "Explicit Locking", table 13.2.

use std::collections::{BTreeMap, BTreeSet};

/// A lock that somebody may have to wait for, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Rows are changed.
    RowExclusive,
    /// An index is built beside the writers.
    ShareUpdateExclusive,
    /// An index is built.
    Share,
    /// A trigger or a foreign key comes.
    ShareRowExclusive,
    /// The table itself changes.
    AccessExclusive,
}

impl Mode {
    /// As PostgreSQL writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RowExclusive => "ROW EXCLUSIVE",
            Self::ShareUpdateExclusive => "SHARE UPDATE EXCLUSIVE",
            Self::Share => "SHARE",
            Self::ShareRowExclusive => "SHARE ROW EXCLUSIVE",
            Self::AccessExclusive => "ACCESS EXCLUSIVE",
        }
    }

    /// Who waits meanwhile.
    #[must_use]
    pub fn stops(self) -> &'static str {
        match self {
            Self::RowExclusive | Self::ShareUpdateExclusive => "nobody waits",
            Self::Share | Self::ShareRowExclusive => "writers wait",
            Self::AccessExclusive => "readers and writers wait",
        }
    }
}

/// How much of the table is gone through while the lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// None of it.
    Catalog,
    /// Every row is read.
    Scan,
    /// Every row is read and sorted.
    Index,
    /// Every row is written anew.
    Rewrite,
}

impl Work {
    /// Bytes a second on a server with an ordinary disk that does something else as well. Measured
    /// nowhere in particular: it is to tell a second from an hour.
    fn bytes_per_second(self) -> Option<u64> {
        match self {
            Self::Catalog => None,
            Self::Scan => Some(200 << 20),
            Self::Index | Self::Rewrite => Some(40 << 20),
        }
    }

    /// Seconds for a table of this size, rounded up.
    #[must_use]
    pub fn seconds(self, bytes: u64) -> u64 {
        self.bytes_per_second()
            .map_or(0, |speed| bytes.div_ceil(speed))
    }
}

/// A lock on something that was there before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// The table.
    pub table: String,
    /// The strongest that is taken on it.
    pub mode: Mode,
    /// The most that is done with it.
    pub work: Work,
}

/// Every lock that this text takes on tables it does not make, by their names. What only the catalog
/// knows is missing: a table that goes also locks those it refers to.
#[must_use]
pub fn of(sql: &str) -> Vec<Lock> {
    let mut made = BTreeSet::new();
    let mut held: BTreeMap<String, (Mode, Work)> = BTreeMap::new();
    for statement in statements(sql) {
        let words = words(&statement);
        let uppercase: Vec<String> = words.iter().map(|word| word.to_uppercase()).collect();
        let mut taken = Vec::new();
        for at in 0..words.len() {
            look_at(&words, &uppercase, at, &mut made, &mut taken);
        }
        for (table, mode, work) in taken {
            let lock = held.entry(table).or_insert((mode, work));
            *lock = (lock.0.max(mode), lock.1.max(work));
        }
    }
    let held = held.into_iter().filter(|(table, _)| !made.contains(table));
    held.map(|(table, (mode, work))| Lock { table, mode, work })
        .collect()
}

/// What the words from `at` on do, if a clause begins there that locks.
fn look_at(
    words: &[String],
    upper: &[String],
    at: usize,
    made: &mut BTreeSet<String>,
    taken: &mut Vec<(String, Mode, Work)>,
) {
    let is = |offset: usize, word: &str| upper.get(at + offset).is_some_and(|w| w == word);
    let name = |from: usize| {
        // IF [NOT] EXISTS, ONLY: what stands before a name.
        let skipped = ["IF", "NOT", "EXISTS", "ONLY", "CONCURRENTLY"];
        let rest = upper.iter().zip(words).skip(from);
        let mut rest = rest.skip_while(|(upper, _)| skipped.contains(&upper.as_str()));
        rest.next().map(|(_, word)| word.clone())
    };
    // Only where a statement may begin: not `ON UPDATE`, not a column that is called `table`.
    let begins = at == 0 || ["THEN", "ELSE", "BEGIN", "LOOP"].contains(&upper[at - 1].as_str());
    let from = |word: &str| {
        upper[at..]
            .iter()
            .position(|w| w == word)
            .map(|n| at + n + 1)
    };
    let mut take = |table: Option<String>, mode, work| {
        taken.extend(table.map(|table| (table, mode, work)));
    };
    if is(0, "CREATE_HYPERTABLE") {
        let table = words
            .get(at + 2)
            .map(|word| word.trim_matches('\'').to_owned());
        return take(table, Mode::AccessExclusive, Work::Rewrite);
    }
    if is(0, "REFERENCES") && upper[0] != "GRANT" {
        return take(name(at + 1), Mode::ShareRowExclusive, Work::Scan);
    }
    if !begins {
        return;
    }
    if is(0, "CREATE") && (is(1, "TABLE") || is(1, "VIEW")) {
        made.extend(name(at + 2));
    } else if is(0, "CREATE") && (is(1, "INDEX") || is(2, "INDEX")) {
        let beside = upper.iter().any(|word| word == "CONCURRENTLY");
        let mode = if beside {
            Mode::ShareUpdateExclusive
        } else {
            Mode::Share
        };
        take(from("ON").and_then(name), mode, Work::Index);
    } else if is(0, "CREATE") && upper[at..].iter().take(4).any(|word| word == "TRIGGER") {
        take(
            from("ON").and_then(name),
            Mode::ShareRowExclusive,
            Work::Catalog,
        );
    } else if is(0, "ALTER") && is(1, "TABLE") {
        take(name(at + 2), Mode::AccessExclusive, altering(&upper[at..]));
    } else if is(0, "DROP") && (is(1, "TABLE") || is(1, "VIEW")) {
        for table in words[at + 2..].iter().filter(|word| *word != ",") {
            if !["IF", "EXISTS", "CASCADE", "RESTRICT"].contains(&table.to_uppercase().as_str()) {
                take(Some(table.clone()), Mode::AccessExclusive, Work::Catalog);
            }
        }
    } else if is(0, "TRUNCATE") {
        take(name(at + 1), Mode::AccessExclusive, Work::Catalog);
    } else if is(0, "UPDATE") {
        take(name(at + 1), Mode::RowExclusive, Work::Rewrite);
    } else if (is(0, "DELETE") && is(1, "FROM")) || (is(0, "INSERT") && is(1, "INTO")) {
        take(name(at + 2), Mode::RowExclusive, Work::Rewrite);
    }
}

/// What an ALTER TABLE does to the rows, by the worst of its clauses.
fn altering(upper: &[String]) -> Work {
    let has = |words: &[&str]| upper.windows(words.len()).any(|found| found == words);
    if has(&["TYPE"]) || has(&["SET", "LOGGED"]) || has(&["SET", "UNLOGGED"]) {
        Work::Rewrite
    } else if has(&["UNIQUE"]) || has(&["PRIMARY", "KEY"]) || has(&["EXCLUDE"]) {
        Work::Index
    } else if has(&["CHECK"]) || has(&["SET", "NOT", "NULL"]) || has(&["FOREIGN", "KEY"]) {
        Work::Scan
    } else {
        Work::Catalog
    }
}

/// The statements of a script without comments; what DO runs stands among them, the bodies of
/// functions do not.
fn statements(sql: &str) -> Vec<String> {
    let mut done = Vec::new();
    let mut now = String::new();
    let mut rest = sql;
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("--") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else if c == '\'' {
            let end = rest[1..].find('\'').map_or(rest.len(), |end| end + 2);
            now.push_str(&rest[..end]);
            rest = &rest[end..];
        } else if let Some(tag) = dollar_tag(rest) {
            let body = &rest[tag.len()..];
            let end = body.find(tag).unwrap_or(body.len());
            if now.trim_start().to_uppercase().starts_with("DO") {
                done.extend(statements(&body[..end]));
            }
            rest = body[end..].strip_prefix(tag).unwrap_or("");
        } else if c == ';' {
            done.push(std::mem::take(&mut now));
            rest = &rest[1..];
        } else {
            now.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    done.push(now);
    done.retain(|statement| !statement.trim().is_empty());
    done
}

/// `$$` or `$name$` at the beginning of `text`.
fn dollar_tag(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('$')?;
    let end = inner.find('$')?;
    let plain = |c: char| c.is_ascii_alphabetic() || c == '_';
    inner[..end].chars().all(plain).then(|| &text[..end + 2])
}

/// Names, literals, and each other sign by itself.
fn words(statement: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in statement.chars() {
        quoted ^= c == '\'';
        let belongs = c.is_alphanumeric() || matches!(c, '_' | '.' | '\'');
        if quoted || belongs {
            words.last_mut().expect("never empty").push(c);
            continue;
        }
        words.push(String::new());
        if !c.is_whitespace() && c != '"' {
            words.last_mut().expect("never empty").push(c);
            words.push(String::new());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(sql: &str) -> Vec<String> {
        let told = of(sql).into_iter();
        told.map(|lock| format!("{} {:?} {:?}", lock.table, lock.mode, lock.work))
            .collect()
    }

    #[test]
    fn what_is_made_here_is_waited_for_by_nobody() {
        let sql = "CREATE TABLE a (b integer REFERENCES c ON DELETE CASCADE);
                   CREATE UNIQUE INDEX d ON a (b); CREATE TRIGGER t AFTER UPDATE ON a EXECUTE FUNCTION f();
                   CREATE INDEX IF NOT EXISTS e ON old USING brin (x);";
        assert_eq!(told(sql), ["c ShareRowExclusive Scan", "old Share Index"]);
    }

    #[test]
    fn a_function_is_not_run_and_a_block_is() {
        let function = "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$ DELETE FROM a $$;";
        assert!(told(function).is_empty());
        let block = "-- DROP TABLE x;\nDO $q$ BEGIN IF y THEN CREATE INDEX i ON a (b); END IF;
                     PERFORM create_hypertable('h', by_range('t')); END $q$; SELECT 'DROP TABLE z;'";
        assert_eq!(told(block), ["a Share Index", "h AccessExclusive Rewrite"]);
    }

    #[test]
    fn altering_is_as_slow_as_its_worst_clause() {
        for (clause, work) in [
            ("ADD COLUMN b integer", "Catalog"),
            ("ADD COLUMN b real CHECK (b > 0)", "Scan"),
            ("ADD COLUMN b text, ALTER b SET NOT NULL", "Scan"),
            ("ALTER b TYPE bigint, ADD CHECK (b > 0)", "Rewrite"),
            ("ADD UNIQUE (b)", "Index"),
        ] {
            let sql = format!("ALTER TABLE ONLY a {clause}");
            assert_eq!(
                told(&sql),
                [format!("a AccessExclusive {work}")],
                "{clause}"
            );
        }
        let sql = "UPDATE a SET b = 1; DROP TABLE IF EXISTS c, d CASCADE; INSERT INTO a VALUES (1)";
        let wanted = [
            "a RowExclusive Rewrite",
            "c AccessExclusive Catalog",
            "d AccessExclusive Catalog",
        ];
        assert_eq!(told(sql), wanted);
    }

    #[test]
    fn a_second_and_an_hour_are_told_apart() {
        assert_eq!(Work::Catalog.seconds(1 << 50), 0);
        assert_eq!(Work::Scan.seconds(1), 1);
        assert_eq!(Work::Scan.seconds(200 << 30), 1024);
        assert!(Work::Rewrite.seconds(200 << 30) > 3_600);
    }
}
