//! The house rules a compiler cannot see, checked by reading the sources.
//!
//! Each rule is a function from one file to its findings and has a unit test here that shows it a
//! violation. Comments and the insides of literals are blanked before code is judged, so a file may
//! speak of what it must not do.
#![allow(clippy::unwrap_used)]

#[path = "tidy/proofs.rs"]
mod proofs;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use rules::*;
use source::{Finding, PURE_MARK, Source, code_only};

/// What git would commit, or everything but build output where git is not there.
fn repository(root: &Path) -> Result<Vec<Source>> {
    let git = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root)
        .output();
    let mut paths: Vec<String> = match git {
        Ok(listed) if listed.status.success() => {
            let names = String::from_utf8(listed.stdout).context("names of tracked files")?;
            let names = names.split('\0').filter(|name| !name.is_empty());
            names.map(str::to_owned).collect()
        }
        _ => {
            let mut paths = Vec::new();
            walk(root, "", &mut paths)?;
            paths
        }
    };
    paths.sort();
    paths.dedup();
    let mut sources = Vec::new();
    for path in paths {
        // Deleted but still tracked, a link, or not text: nothing to read.
        if let Ok(text) = std::fs::read_to_string(root.join(&path))
            && !text.contains('\0')
        {
            sources.push(Source::new(&path, &text));
        }
    }
    Ok(sources)
}

fn walk(root: &Path, below: &str, paths: &mut Vec<String>) -> Result<()> {
    let folder = root.join(below);
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{below}{name}");
        if entry.file_type()?.is_dir() {
            if !["target", ".git", ".dev"].contains(&name.as_str()) {
                walk(root, &format!("{path}/"), paths)?;
            }
        } else {
            paths.push(path);
        }
    }
    Ok(())
}

#[test]
fn the_repository_follows_its_rules() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let sources = repository(&root)?;
    let pure = sources.iter().filter(|source| source.is_pure()).count();
    assert!(
        pure > 0,
        "no pure file among {} files: PURE_PLACES is stale",
        sources.len()
    );
    for (name, _) in ARROWS {
        let manifest = format!("{name}/Cargo.toml");
        assert!(
            sources.iter().any(|s| s.path == manifest),
            "{manifest}: ARROWS is stale"
        );
    }
    let findings: Vec<String> = sources
        .iter()
        .flat_map(|source| RULES.iter().flat_map(move |rule| rule(source)))
        .map(|finding| finding.to_string())
        .collect();
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
    Ok(())
}

#[test]
fn every_test_that_a_page_of_proofs_names_is_there() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut missing = Vec::new();
    for page in proofs::PAGES {
        let text = std::fs::read_to_string(root.join(page)).context(*page)?;
        let (named, without) = proofs::named(&text);
        assert!(named.len() > 20, "{page} names {} tests", named.len());
        missing.extend(
            without
                .iter()
                .map(|row| format!("{page}: no test in {row}")),
        );
        for (file, name) in named {
            let source = std::fs::read_to_string(root.join(&file)).unwrap_or_default();
            if !proofs::is_test(&source, &name) {
                missing.push(format!("{page}: no test {file}::{name}"));
            }
        }
    }
    assert!(missing.is_empty(), "\n{}\n", missing.join("\n"));
    Ok(())
}

#[test]
fn a_test_is_known_by_its_mark_and_a_row_by_what_it_names() {
    let source = "#[test]\nfn one() {}\n#[tokio::test(flavor = \"x\")]\n/// Why.\nasync fn two() {}\nfn three() {}\n// #[test] fn four()\nfn five() {}";
    for (name, is_there) in [
        ("one", true),
        ("two", true),
        ("three", false),
        ("four", false),
        ("on", false),
    ] {
        assert_eq!(proofs::is_test(source, name), is_there, "{name}");
    }
    assert!(!proofs::is_test("case: Memory, Once;", "case"));
    assert!(proofs::is_test(
        "macro_rules! cases {}\ncase: Memory, Once;",
        "case"
    ));
    let page = "| Promise | Proof |\n|---|---|\n| a | `x.rs::b`, `y.rs::c` |\n| d | nothing |\n| e | see there |\n";
    let (named, without) = proofs::named(page);
    assert_eq!(
        (named.len(), without),
        (2, vec!["| d | nothing |".to_owned()])
    );
}

#[test]
fn without_git_the_same_sources_are_found() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut walked = Vec::new();
    walk(&root, "", &mut walked)?;
    for source in repository(&root)? {
        assert!(walked.contains(&source.path), "{}", source.path);
    }
    Ok(())
}

// Each rule, seen failing.

/// Lines on which `rule` finds something.
fn lines(rule: fn(&Source) -> Vec<Finding>, path: &str, text: &str) -> Vec<usize> {
    let mut lines: Vec<usize> = rule(&Source::new(path, text))
        .iter()
        .map(|f| f.line)
        .collect();
    lines.dedup();
    lines
}

#[test]
fn blanking_keeps_code_line_ends_and_length() {
    for (text, code) in [
        ("a // x\nb", "a     \nb"),
        ("a /* y /* z */ \n */ b", "a              \n    b"),
        ("a /* open", "a        "),
        (r#"a "s\"q//" b"#, r#"a "      " b"#),
        ("a \"x\ny\" b", "a \" \n \" b"),
        (r###"a r#"x " {"# b"###, r###"a r        # b"###),
        (r#"a br"x\" b"#, r#"a br   " b"#),
        (
            "'f' '\\'' '\"' '\\u{1F}' b'{'",
            "' ' '  ' ' ' '      ' b' '",
        ),
        (
            "fn f<'a>(x: &'a str) r#type render",
            "fn f<'a>(x: &'a str) r#type render",
        ),
        ("\"open", "\"   n"),
    ] {
        assert_eq!(code_only(text), code, "{text}");
    }
}

#[test]
fn a_finding_says_path_line_rule_text() {
    let found = leftovers(&Source::new(
        "codec/src/a.rs",
        "fn a() {\n    b.unwrap();\n}",
    ));
    assert_eq!(
        found[0].to_string(),
        "codec/src/a.rs:2: leftover: b.unwrap();"
    );
}

#[test]
fn rule_pure() {
    for bad in [
        "use tokio::time;",
        "use ::redis::Value;",
        "fn f(p: &sqlx::PgPool) {}",
        "use axum as web;",
        "use std::net::SocketAddr;",
        "use std::fs;",
        "fn f() { std::env::var(x); }",
        "use std::{fmt, env};",
        "use std::{\n    collections::{BTreeMap},\n    fs::File,\n};",
        "fn f() { Instant::now() }",
        "fn f() { std::time::SystemTime::now() }",
        "fn f() { Utc::now() }",
        "fn f(i: Instant) { i.elapsed() }",
        "#[cfg(test)]\nmod tests {}\nuse std::fs;",
    ] {
        assert_eq!(lines(pure, "codec/src/a.rs", bad).len(), 1, "{bad}");
        assert_eq!(lines(pure, "spool/src/append.rs", bad), [0; 0], "{bad}");
        let marked = format!("//! Why.\n//!\n{PURE_MARK}\n\n{bad}");
        assert_eq!(
            lines(pure, "gateway/src/uplink/course.rs", &marked).len(),
            1,
            "{bad}"
        );
    }
    for place in [
        "contract/src/a.rs",
        "settings/src/a.rs",
        "gateway/src/session/mod.rs",
        "gateway/src/session/a/b.rs",
        "spool/src/format/mod.rs",
        "cloud/src/decode.rs",
        "cloud/src/decode/a.rs",
        "cloud/src/normalise/quality.rs",
    ] {
        assert_eq!(lines(pure, place, "\nuse std::fs;"), [2], "{place}");
    }
    for good in [
        "use std::time::{Duration, Instant};\nfn f(now: Instant) {}",
        "use std::{fmt, collections::{fs, net}};",
        "use core::net::SocketAddr;",
        "/// Not tokio, not `std::fs`.\n// redis\nconst A: &str = \"redis std::net\";",
        "fn redis_key() { nowhere(); know(); }",
        "#[cfg(test)]\nmod tests {\n    use std::fs;\n    fn f() { \"}\"; Instant::now(); }\n}",
    ] {
        assert_eq!(lines(pure, "codec/src/a.rs", good), [0; 0], "{good}");
    }
    // The mark counts in the header only.
    let late = format!("fn f() {{}}\n{PURE_MARK}\nuse std::fs;");
    assert_eq!(lines(pure, "gateway/src/uplink/course.rs", &late), [0; 0]);
}

#[test]
fn rule_arrows_in_manifests() {
    for (owner, dependency) in [
        ("gateway", "cloud.workspace = true"),
        ("gateway", "cloud = { path = \"../cloud\" }"),
        (
            "gateway",
            "sky = { path = \"../cloud\", package = \"cloud\" }",
        ),
        ("cloud", "gateway = \"1\""),
        ("cloud", "hardware.workspace = true"),
        ("codec", "contract.workspace = true"),
        ("contract", "settings.workspace = true"),
        ("settings", "codec.workspace = true"),
        ("codes", "settings.workspace = true"),
        ("spool", "codes.workspace = true"),
        ("codec", "tests.workspace = true"),
    ] {
        for section in [
            "dependencies",
            "dev-dependencies",
            "target.'cfg(unix)'.dependencies",
        ] {
            let text =
                format!("[package]\nname = \"x\"\n[{section}]\nserde = \"1\"\n{dependency}\n");
            let path = format!("{owner}/Cargo.toml");
            assert_eq!(
                lines(arrows, &path, &text),
                [5],
                "{owner} {section} {dependency}"
            );
        }
    }
    let table = "[dependencies.cloud]\npath = \"../cloud\"\n";
    assert_eq!(lines(arrows, "gateway/Cargo.toml", table), [1]);
    let renamed = "[dependencies.sky]\npackage = \"cloud\"\n";
    assert_eq!(lines(arrows, "gateway/Cargo.toml", renamed), [2]);
    assert_eq!(lines(arrows, "newcomer/Cargo.toml", "[package]"), [1]);

    let good = "[package]\nname = \"gateway\"\n[dependencies]\n# cloud.workspace = true\ncodec.workspace = true\ncontract = { path = \"../contract\" }\n[features]\ncloud = []\n";
    assert_eq!(lines(arrows, "gateway/Cargo.toml", good), [0; 0]);
    let all = "[dependencies]\ngateway.workspace = true\ncloud.workspace = true\n";
    assert_eq!(lines(arrows, "tests/Cargo.toml", all), [0; 0]);
    assert_eq!(
        lines(arrows, "Cargo.toml", "[workspace.dependencies]\ncloud = 1"),
        [0; 0]
    );
    assert_eq!(
        lines(arrows, "codec/fuzz/Cargo.toml", "[dependencies]\ncloud = 1"),
        [0; 0]
    );
}

#[test]
fn rule_arrows_in_sources() {
    for (path, text) in [
        ("gateway/src/main.rs", "use cloud::store;"),
        ("gateway/tests/a.rs", "fn f() { cloud::run() }"),
        ("gateway/src/main.rs", "use ::std; extern crate cloud;"),
        ("cloud/src/main.rs", "use gateway as edge;"),
        ("cloud/src/main.rs", "use hardware::fake;"),
        ("codec/src/lib.rs", "use contract::Envelope;"),
        ("contract/src/lib.rs", "fn f() -> settings::Key {}"),
        ("codes/src/lib.rs", "use gateway::explain;"),
        ("spool/src/lib.rs", "fn f() -> codes::Page {}"),
        (
            "contract/src/lib.rs",
            "#[cfg(test)]\nmod tests { use gateway::x; }",
        ),
    ] {
        assert_eq!(lines(arrows, path, text).len(), 1, "{path} {text}");
    }
    for (path, text) in [
        (
            "gateway/src/main.rs",
            "use codec::Frame; use settings::Key; use gateway::app;",
        ),
        (
            "gateway/src/main.rs",
            "mod cloud_link; use crate::cloud::x; // use cloud::x",
        ),
        ("cloud/src/a.rs", "let gateway = entry.gateway; tests::f();"),
        ("tests/src/lib.rs", "use gateway::x; use cloud::y;"),
    ] {
        assert_eq!(lines(arrows, path, text), [0; 0], "{path} {text}");
    }
}

#[test]
fn rule_leftovers() {
    for bad in [
        "a.unwrap();",
        "todo!()",
        "unimplemented!(\"x\")",
        "dbg!(x);",
        "a\n.unwrap()",
    ] {
        assert_eq!(lines(leftovers, "cloud/src/a/b.rs", bad).len(), 1, "{bad}");
        let test = format!("#[cfg(test)]\nmod tests {{\n{bad}\n}}\n");
        assert_eq!(lines(leftovers, "cloud/src/a/b.rs", &test), [0; 0], "{bad}");
        for path in [
            "cloud/tests/a.rs",
            "cloud/src/a/tests.rs",
            "cloud/benches/a.rs",
        ] {
            assert_eq!(lines(leftovers, path, bad), [0; 0], "{path}");
        }
    }
    let good = "a.unwrap_or(0); b.expect(\"why\"); /* c.unwrap() */ let s = \"todo!()\";";
    assert_eq!(lines(leftovers, "cloud/src/a.rs", good), [0; 0]);
    // `tests` is a crate of tools as well: what it ships is held to the same.
    assert_eq!(lines(leftovers, "tests/src/lib.rs", "a.unwrap()"), [1]);
    // A gated item that is no module is not exempt, nor is what follows a test module.
    assert_eq!(
        lines(
            leftovers,
            "cloud/src/a.rs",
            "#[cfg(test)]\nfn f() { a.unwrap() }"
        ),
        [2]
    );
    let after = "#[cfg(test)]\nmod tests { }\nfn f() { a.unwrap() }";
    assert_eq!(lines(leftovers, "cloud/src/a.rs", after), [3]);
}

#[test]
fn rule_machine_paths() {
    for folder in ["work", "root", "farm", "home/me"] {
        for text in [
            format!("see /{folder}/x"),
            format!("\"/{folder}\""),
            format!("PATH=/{folder}/bin"),
            format!("file:/{folder}"),
        ] {
            assert_eq!(lines(machine_paths, "docs/a.md", &text), [1], "{text}");
        }
        for text in [
            format!("https://host/{folder}"),
            format!("../{folder}"),
            format!("$HOME/{folder}"),
        ] {
            assert_eq!(lines(machine_paths, "docs/a.md", &text), [0; 0], "{text}");
        }
    }
    for text in ["/workhouse/x", "/root_ca.pem", "/farms", "/homes/me"] {
        assert_eq!(lines(machine_paths, "docs/a.md", text), [0; 0], "{text}");
    }
}

#[test]
fn rule_merge_markers() {
    for sign in ["<", ">", "|"] {
        let text = format!("a\n{} HEAD\nb", sign.repeat(7));
        assert_eq!(lines(merge_markers, "a.toml", &text), [2], "{sign}");
        let text = format!("  {} HEAD\n{}", sign.repeat(7), sign.repeat(9));
        assert_eq!(lines(merge_markers, "a.toml", &text), [0; 0], "{sign}");
    }
}

#[test]
fn rule_too_long() {
    let body = |lines: usize| "// a\n".repeat(lines);
    assert_eq!(lines(too_long, "codec/src/a.rs", &body(LINES_MAX)), [0; 0]);
    assert_eq!(
        lines(too_long, "codec/src/a.rs", &body(LINES_MAX + 1)),
        [LINES_MAX]
    );
    let tests = format!(
        "#[cfg(test)]\nmod tests {{\n{}}}\n",
        "    f();\n".repeat(300)
    );
    let tested = body(LINES_MAX) + &tests;
    assert_eq!(lines(too_long, "codec/src/a.rs", &tested), [0; 0]);
    let tested = body(LINES_MAX + 1) + &tests;
    assert_eq!(lines(too_long, "codec/src/a.rs", &tested), [LINES_MAX]);
    assert_eq!(
        lines(too_long, "codec/tests/a.rs", &body(2 * LINES_MAX)),
        [0; 0]
    );
    assert_eq!(
        lines(too_long, "cloud/dictionary/a.csv", &body(2 * LINES_MAX)),
        [0; 0]
    );
}

#[test]
fn rule_drawers() {
    for path in [
        "codec/src/utils.rs",
        "tests/tests/common/mod.rs",
        "cloud/src/a/helpers.rs",
    ] {
        assert_eq!(lines(drawers, path, ""), [1], "{path}");
    }
    assert_eq!(
        lines(drawers, "codec/src/lib.rs", "mod a;\npub mod misc {\n}"),
        [2]
    );
    for path in ["codec/src/commonplace.rs", "docs/common/a.md"] {
        assert_eq!(
            lines(drawers, path, "mod uncommon; fn common() {}"),
            [0; 0],
            "{path}"
        );
    }
}

#[test]
fn rule_ignored() {
    for bad in ["#[ignore]", "#[ignore = \"\"]", "#[cfg_attr(miri, ignore)]"] {
        let text = format!("#[test]\n{bad}\nfn f() {{}}");
        assert_eq!(lines(ignored, "codec/tests/a.rs", &text), [2], "{bad}");
    }
    for good in [
        "#[ignore = \"needs a server\"]",
        "fn ignore() {}",
        "// #[ignore]",
    ] {
        assert_eq!(lines(ignored, "codec/tests/a.rs", good), [0; 0], "{good}");
    }
}

#[test]
fn rule_receipts() {
    for bad in [
        "let d = Durable { seq };",
        "let d = spool::Durable {\n seq };",
        "f(Durable{seq})",
        "return Durable { seq };",
        "Some(Committed { at })",
        "#[cfg(test)]\nmod tests { fn f() { g(Committed { at }) } }",
    ] {
        assert_eq!(
            lines(receipts, "gateway/src/session/mod.rs", bad).len(),
            1,
            "{bad}"
        );
    }
    for good in [
        "fn f() -> Durable { spool.append() }",
        "fn f() -> spool::Durable { spool.append() }",
        "impl Durable {}",
        "impl Debug for Durable {}",
        "pub struct Committed { at: u64 }",
        "fn f(d: Durable) {} // Durable { }",
        "NotDurable { seq }",
    ] {
        assert_eq!(
            lines(receipts, "gateway/src/session/mod.rs", good),
            [0; 0],
            "{good}"
        );
    }
    let literal = "let d = Durable { seq };";
    assert_eq!(lines(receipts, "spool/src/append.rs", literal), [0; 0]);
    assert_eq!(lines(receipts, "cloud/src/store/insert.rs", literal), [1]);
    assert_eq!(
        lines(receipts, "cloud/src/store/insert.rs", "Committed { at }"),
        [0; 0]
    );
}
