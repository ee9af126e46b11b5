//! Pages that name the test behind each promise: every test they name is there, and each row names
//! one. A promise whose test has gone is worse than one that never had any.

use std::collections::BTreeSet;

/// Pages whose tables say `file::name` in their last column.
pub(super) const PAGES: &[&str] = &["docs/gateway-proofs.md", "docs/operations.md"];

/// A row without a test may point to a page instead.
const POINTER: &str = "see ";

/// The tests that a page names, as file and name, and the rows that name none.
pub(super) fn named(page: &str) -> (BTreeSet<(String, String)>, Vec<String>) {
    let (mut tests, mut without) = (BTreeSet::new(), Vec::new());
    let rows = page.lines().filter(|line| line.starts_with('|'));
    for row in rows.filter(|row| !row.starts_with("|---") && !row.contains("| Proof |")) {
        let proof = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let quoted = proof.split('`').skip(1).step_by(2);
        let pairs = quoted.filter_map(|word| word.split_once("::"));
        let mut any = false;
        for (file, name) in pairs {
            any = true;
            tests.insert((file.to_owned(), name.to_owned()));
        }
        if !any && !proof.trim().starts_with(POINTER) {
            without.push(row.to_owned());
        }
    }
    (tests, without)
}

/// Is `name` a test in this source: under `#[test]` or `#[tokio::test…]`, or in a table
/// of cases of which a macro makes tests (`name: Cause, Outcome;`)?
pub(super) fn is_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let in_table = format!("{name}: ");
    lines.iter().enumerate().any(|(at, line)| {
        let head = line.strip_prefix("async ").unwrap_or(line);
        let is_head = head
            .strip_prefix("fn ")
            .and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with('('));
        // Attributes and comments may stand between the mark and the head.
        let above = lines[..at].iter().rev();
        let mut above = above.take_while(|line| line.starts_with("#[") || line.starts_with("//"));
        let is_marked =
            above.any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"));
        let is_case = line.starts_with(&in_table)
            && line.ends_with(';')
            && lines.iter().any(|line| line.starts_with("macro_rules!"));
        (is_head && is_marked) || is_case
    })
}
