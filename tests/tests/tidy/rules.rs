//! The rules: each a function from one file to its findings.
//!
//! Invariant: every rule stands in [`RULES`] and has a test beside this folder that sees it fail.

use super::source::{Finding, Source, closing_brace, is_ident, words};

/// Who may depend on whom. `tests` sees everything, nobody sees `tests`.
pub(super) const ARROWS: &[(&str, &[&str])] = &[
    ("codec", &[]),
    ("codes", &[]),
    ("contract", &["codec"]),
    ("settings", &[]),
    ("spool", &["contract", "codec"]),
    ("hardware", &[]),
    (
        "gateway",
        &[
            "contract", "codec", "codes", "settings", "spool", "hardware",
        ],
    ),
    (
        "cloud",
        &["contract", "codec", "codes", "settings", "spool"],
    ),
    (
        "tests",
        &[
            "codec", "codes", "contract", "settings", "spool", "hardware", "gateway", "cloud",
        ],
    ),
];

/// Crates that do I/O or ask the machine for randomness.
const IMPURE_CRATES: &[&str] = &["tokio", "redis", "sqlx", "axum", "rustix", "getrandom"];

const IMPURE_STD: &[&str] = &["net", "fs", "env"];

/// Whoever owns the `now`: `Instant`, `SystemTime`, `Utc` or an alias of one; `elapsed` asks too.
const CLOCKS: &[&str] = &["::now", ".elapsed()"];

/// Who may write the literal of a receipt: the one who did what it certifies.
const RECEIPTS: &[(&str, &[&str])] = &[
    ("Durable", &["spool/src/"]),
    ("Committed", &["cloud/src/store/", "cloud/src/store.rs"]),
    ("ReadingsCommitted", &["cloud/src/store/"]),
];

/// Names that say nothing about what is inside.
const DRAWERS: &[&str] = &["util", "utils", "common", "helper", "helpers", "misc"];

/// Above this a file has more than one reason to exist.
pub(super) const LINES_MAX: usize = 600;

/// A pure file names no runtime, store, socket, file or clock.
pub(super) fn pure(source: &Source) -> Vec<Finding> {
    if !source.is_pure() {
        return Vec::new();
    }
    let code = &source.shipped;
    let crates = IMPURE_CRATES.iter().flat_map(|name| words(code, name));
    let clocks = CLOCKS.iter().flat_map(|clock| words(code, clock));
    let std = words(code, "std::").filter(|at| {
        let rest = &code[at + "std::".len()..];
        let named = |item: &str| IMPURE_STD.contains(&item.split(|c| !is_ident(c)).next().unwrap());
        match rest.strip_prefix('{') {
            Some(_) => top_level_items(&rest[..closing_brace(rest, 0)]).any(|i| named(&i)),
            None => named(rest),
        }
    });
    let hits = crates.chain(clocks).chain(std);
    hits.map(|at| source.finding(code, at, "impure")).collect()
}

/// `{fs, io::{self, Read}}` → `fs`, `io::{self, Read}`.
fn top_level_items(group: &str) -> impl Iterator<Item = String> {
    let mut items = vec![String::new()];
    let mut depth = 0;
    for c in group.chars() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        match c {
            '{' if depth == 1 => {}
            ',' if depth == 1 => items.push(String::new()),
            c if c.is_whitespace() => {}
            c => items.last_mut().unwrap().push(c),
        }
    }
    items.into_iter()
}

/// Crates depend on one another along [`ARROWS`] only, in manifests and in sources.
pub(super) fn arrows(source: &Source) -> Vec<Finding> {
    let Some((owner, inner)) = source.path.split_once('/') else {
        return Vec::new();
    };
    let known = ARROWS.iter().find(|(name, _)| *name == owner);
    let is_manifest = inner == "Cargo.toml";
    let Some((_, allowed)) = known else {
        let lost = is_manifest.then(|| source.finding("", 0, "crate without a place in ARROWS"));
        return lost.into_iter().collect();
    };
    let others = ARROWS.iter().map(|(name, _)| *name);
    let forbidden: Vec<&str> = others
        .filter(|name| *name != owner && !allowed.contains(name))
        .collect();
    if is_manifest {
        let lines = manifest_dependencies(&source.text);
        let wrong = lines.filter(|(_, name)| forbidden.contains(&name.as_str()));
        return wrong
            .map(|(at, _)| source.finding(&source.text, at, "forbidden dependency"))
            .collect();
    }
    let code = &source.code;
    // `tests::` is also what every unit test module is called, and Cargo keeps the crate away.
    let names = forbidden.iter().filter(|name| **name != "tests");
    names
        .flat_map(|name| words(code, name))
        .filter(|at| {
            let before = code[..*at].trim_end();
            let after = code[*at..].trim_start_matches(is_ident);
            let imported = before.ends_with("use") || before.ends_with("extern crate");
            !before.ends_with("::") && (after.starts_with("::") || imported)
        })
        .map(|at| source.finding(code, at, "forbidden import"))
        .collect()
}

/// Offset and real package name of every dependency, whatever it is renamed to.
fn manifest_dependencies(text: &str) -> impl Iterator<Item = (usize, String)> {
    let mut found = Vec::new();
    let mut section = String::new();
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let body = line.split('#').next().unwrap().trim();
        if let Some(header) = body.strip_prefix('[') {
            section = header.trim_end_matches(']').to_owned();
            if let Some((_, name)) = section.rsplit_once("dependencies.") {
                found.push((offset, name.to_owned()));
            }
        } else if section.ends_with("dependencies") || section.contains("dependencies.") {
            if section.ends_with("dependencies") && !body.is_empty() {
                let name = body.split(|c| !is_ident(c) && c != '-').next().unwrap();
                found.push((offset, name.to_owned()));
            }
            if let Some((_, package)) = body.split_once("package") {
                let name = package.split('"').nth(1).unwrap_or("");
                found.push((offset, name.to_owned()));
            }
        }
        offset += line.len();
    }
    found.into_iter()
}

/// What is left lying about while working, and must not ship.
pub(super) fn leftovers(source: &Source) -> Vec<Finding> {
    if !source.is_shipped() {
        return Vec::new();
    }
    let code = &source.shipped;
    ["unwrap()", "todo!(", "unimplemented!(", "dbg!("]
        .into_iter()
        .flat_map(|leftover| words(code, leftover))
        .map(|at| source.finding(code, at, "leftover"))
        .collect()
}

/// A path of one machine in any text, code or not. Spelled in parts, or this file would report itself.
pub(super) fn machine_paths(source: &Source) -> Vec<Finding> {
    let text = &source.text;
    [
        concat!("/", "work"),
        concat!("/", "root"),
        concat!("/", "farm"),
        concat!("/", "home/"),
    ]
    .into_iter()
    .flat_map(|path| words(text, path))
    // `https://host/work` and `../work` are somebody's path, not this machine's.
    .filter(|at| {
        let before = text[..*at].chars().next_back();
        !before.is_some_and(|c| is_ident(c) || matches!(c, '.' | '-' | '/' | '}' | ')' | '*'))
    })
    .map(|at| source.finding(text, at, "machine path"))
    .collect()
}

/// The lines git leaves when a merge was not finished.
pub(super) fn merge_markers(source: &Source) -> Vec<Finding> {
    let markers = ["<", "|", ">"].map(|sign| sign.repeat(7));
    let mut findings = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        if markers
            .iter()
            .any(|m| line.strip_prefix(m).is_some_and(|l| l.starts_with(' ')))
        {
            findings.push(Finding {
                path: source.path.clone(),
                line: index + 1,
                rule: "merge marker",
                text: line.to_owned(),
            });
        }
    }
    findings
}

/// A shipped file over [`LINES_MAX`] lines, its test modules not counted.
pub(super) fn too_long(source: &Source) -> Vec<Finding> {
    if !source.path.ends_with(".rs") || source.is_test() {
        return Vec::new();
    }
    // Comments count, test modules do not; both are blank in `shipped`, only the latter in no other.
    let pairs = source.shipped.lines().zip(source.code.lines());
    let tests = pairs.filter(|(shipped, code)| shipped != code).count();
    let lines = source.text.lines().count() - tests;
    let long = lines > LINES_MAX;
    long.then(|| Finding {
        path: source.path.clone(),
        line: LINES_MAX,
        rule: "file too long",
        text: format!("{lines} lines without tests"),
    })
    .into_iter()
    .collect()
}

/// A module named after being a drawer.
pub(super) fn drawers(source: &Source) -> Vec<Finding> {
    if !source.path.ends_with(".rs") {
        return Vec::new();
    }
    let mut parts = source.path.trim_end_matches(".rs").split('/');
    let by_path = parts.any(|part| DRAWERS.contains(&part));
    let by_path = by_path.then(|| source.finding("", 0, "drawer"));
    let code = &source.code;
    let by_name = words(code, "mod").filter(|at| {
        let name = code[at + "mod".len()..].trim_start();
        DRAWERS.contains(&name.split(|c| !is_ident(c)).next().unwrap())
    });
    let by_name = by_name.map(|at| source.finding(code, at, "drawer"));
    by_path.into_iter().chain(by_name).collect()
}

/// A test that is skipped says why.
pub(super) fn ignored(source: &Source) -> Vec<Finding> {
    let code = &source.code;
    words(code, "ignore")
        .filter(|at| {
            let before = code[..*at].trim_end();
            let attribute = before.ends_with("#[")
                || before
                    .rfind('\n')
                    .map_or(before, |line| &before[line..])
                    .contains("cfg_attr(");
            let rest = code[at + "ignore".len()..].trim_start();
            // Literals keep their length, so an empty reason is still two quotes in a row.
            let reason = rest.strip_prefix('=').map(str::trim_start);
            attribute && !reason.is_some_and(|r| r.starts_with('"') && !r.starts_with("\"\""))
        })
        .map(|at| source.finding(code, at, "ignored without a reason"))
        .collect()
}

/// A receipt is written by the one who did the deed; see [`RECEIPTS`].
pub(super) fn receipts(source: &Source) -> Vec<Finding> {
    let code = &source.code;
    let mut findings = Vec::new();
    for (receipt, places) in RECEIPTS {
        if places.iter().any(|place| source.path.starts_with(place)) {
            continue;
        }
        let literals = words(code, receipt).filter(|at| {
            let after = code[at + receipt.len()..].trim_start();
            let path_start = code[..*at].trim_end_matches(|c| is_ident(c) || c == ':');
            let before = path_start.trim_end();
            let names_type = ["->", "impl", "for", "struct", "trait"]
                .iter()
                .any(|word| before.ends_with(word));
            after.starts_with('{') && !names_type
        });
        findings.extend(literals.map(|at| source.finding(code, at, "forged receipt")));
    }
    findings
}

pub(super) const RULES: &[fn(&Source) -> Vec<Finding>] = &[
    pure,
    arrows,
    leftovers,
    machine_paths,
    merge_markers,
    too_long,
    drawers,
    ignored,
    receipts,
];
