//! The verbs as an operator types them: output, exit codes, and what they say when nobody answers.
#![allow(clippy::unwrap_used)]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;

use serde_json::Value;

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> Vec<Value> {
        let lines = self.out.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().unwrap()
    }
}

fn run(words: &[&str], env: &[(&str, &str)]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_gateway"))
        .args(words)
        .env_clear()
        .envs(env.iter().copied())
        .output()
        .unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Answers every request with the same words; returns its address.
fn server(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut tcp in listener.incoming().flatten() {
            let mut request = [0; 1024];
            let _ = tcp.read(&mut request);
            let _ = tcp.write_all(answer.as_bytes());
        }
    });
    addr
}

#[test]
fn explain_prints_one_page_or_the_list() {
    let page = run(&["explain", "red-4"], &[]);
    assert_eq!(page.code, 0);
    assert!(page.out.starts_with("E-RED-004  "), "{}", page.out);
    assert!(
        page.out.lines().all(|line| line.chars().count() <= 88),
        "{}",
        page.out
    );
    let list = run(&["explain"], &[]);
    assert_eq!(
        list.out.matches("\n  ").count(),
        gateway::explain::pages().count()
    );
    let objects = run(&["explain", "--json"], &[]).json();
    assert_eq!(objects.len(), gateway::explain::pages().count());
    let unknown = run(&["explain", "E-RED-999"], &[]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.err.contains("E-RED-001"), "{}", unknown.err);
}

#[test]
fn selftest_proves_this_binary_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().to_str().unwrap();
    let parts = run(&["selftest", "--json", "--dir", place], &[]);
    assert_eq!(parts.code, 0, "{}{}", parts.out, parts.err);
    let parts = parts.json();
    let names: Vec<&str> = parts
        .iter()
        .map(|part| part["part"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "spool", "vectors", "tls", "random", "clock", "memory", "files"
        ]
    );
    assert!(parts.iter().all(|part| part["ok"] == true));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

    let nowhere = run(&["selftest", "--dir", "/proc/nowhere"], &[]);
    assert_eq!(nowhere.code, 1);
    assert!(nowhere.out.contains("spool    × "), "{}", nowhere.out);
    assert!(
        nowhere.out.contains("tls      ✓ "),
        "the other parts run: {}",
        nowhere.out
    );
}

#[test]
fn status_says_why_nobody_answers() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let stranger = server("HTTP/1.1 200 OK\r\n\r\n<html>hello</html>");
    let ssh = server("SSH-2.0-OpenSSH_9.2\r\n");
    let old = server("HTTP/1.1 404 Not Found\r\n\r\n");
    let closed = server("HTTP/1.1 403 Forbidden\r\n\r\n{\"error\":\"not from there\"}");
    for (verb, addr, code, exit) in [
        (&["status"][..], &*free, "E-STA-001", 3),
        (&["device", "ls"], &free, "E-STA-001", 3),
        (&["status"], "", "E-STA-002", 2),
        (&["status"], &stranger, "E-STA-003", 3),
        (&["status"], &ssh, "E-STA-003", 3),
        (&["status"], &old, "E-STA-003", 3),
        (&["device", "ls"], &old, "E-STA-004", 3),
        (&["cmd", "ls"], &free, "E-STA-001", 3),
        (&["cmd", "ls"], &old, "E-STA-005", 3),
        (&["cmd", "cancel", "--dry-run", "c-1"], &old, "E-STA-005", 3),
        (&["cmd", "cancel", "--yes", "c-1"], &free, "E-STA-001", 3),
        (&["cmd", "cancel", "--yes", "c-1"], &old, "E-STA-003", 3),
        (&["cmd", "cancel", "--yes", "c-1"], &closed, "E-STA-006", 3),
        (&["device", "learn"], &old, "E-STA-003", 3),
        (&["device", "learn", "--for", "5m"], &closed, "E-STA-006", 3),
        (&["events"], &free, "E-STA-001", 3),
        (&["events"], &old, "E-STA-011", 3),
        (&["tap"], "", "E-STA-002", 2),
    ] {
        let ran = run(verb, &[("GATEWAY__HTTP__LISTEN", addr)]);
        assert!(ran.err.contains(code), "{verb:?} {addr}: {}", ran.err);
        assert_eq!(ran.code, exit, "{verb:?} {addr}");
        assert_eq!(ran.out, "");
    }
}

#[test]
fn cmd_ls_shows_the_commands_that_a_gateway_holds() {
    let some = server(
        "HTTP/1.1 200 OK\r\n\r\n{\"commands\":[{\"cid\":\"c-7\",\"imei\":\"35630…013\",\"state\":\"sent\",\
         \"command\":\"getver\",\"expires_ms\":1,\"sends\":2}]}",
    );
    let ran = run(&["cmd", "ls"], &[("GATEWAY__HTTP__LISTEN", &some)]);
    assert_eq!(ran.out, "35630…013  c-7  sent  getver  written 2 times\n");
    assert_eq!(ran.code, 0, "{}", ran.err);
    let ran = run(
        &["cmd", "ls", "--json"],
        &[("GATEWAY__HTTP__LISTEN", &some)],
    );
    assert!(ran.out.contains("\"cid\":\"c-7\""), "{}", ran.out);
    let none = server("HTTP/1.1 200 OK\r\n\r\n{\"commands\":[]}");
    let ran = run(&["cmd", "ls"], &[("GATEWAY__HTTP__LISTEN", &none)]);
    assert_eq!(ran.out, "no command waits or is on its way\n");
}

#[test]
fn status_reads_what_a_gateway_says() {
    let good = server(
        "HTTP/1.1 200 OK\r\n\r\n{\"gateway\":\"depot-1\",\"connections\":3,\"spool\":{\"backlog\":61,\
         \"days_left\":31.25},\"uplink\":{\"connected\":false,\"trouble\":\"black hole\"}}",
    );
    let ran = run(&["status"], &[("GATEWAY__HTTP__LISTEN", &good)]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    for words in [
        "depot-1",
        "OFFLINE: black hole",
        "3 connected",
        "61 frames wait",
        "31.2 days",
    ] {
        assert!(ran.out.contains(words), "{words}: {}", ran.out);
    }
    let json = run(&["status", "--json"], &[("GATEWAY__HTTP__LISTEN", &good)]).json();
    assert_eq!(json[0]["spool"]["backlog"], 61);
    // The same page stands in for /health: a spool that has failed is data at risk.
    let failed = server("HTTP/1.1 503 x\r\n\r\n{\"gateway\":\"depot-1\",\"spool\":\"failed\"}");
    let ran = run(&["status"], &[("GATEWAY__HTTP__LISTEN", &failed)]);
    assert_eq!(ran.code, 4, "{}", ran.out);
    assert!(ran.out.contains("STORAGE FAILED"), "{}", ran.out);
}

#[test]
fn devices_are_listed_page_by_page() {
    let devices = server(
        "HTTP/1.1 200 OK\r\n\r\n{\"devices\":[{\"imei\":\"…1013\",\"frames\":2,\"fix\":null}],\
         \"next\":null,\"refused\":[{\"imei\":\"…2345\",\"why\":\"not listed\"}]}",
    );
    let env = [("GATEWAY__HTTP__LISTEN", &*devices)];
    let ran = run(&["device", "ls"], &env);
    assert_eq!(
        ran.out, "…1013  frames 2\n…2345  REFUSED: not listed\n",
        "{}",
        ran.err
    );
    assert_eq!(run(&["device", "ls", "--json"], &env).json().len(), 2);
}

#[test]
fn devices_are_allowed_and_denied_in_the_list() {
    const IMEI: &str = "356307042441013";
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("imeis");
    let env = [("GATEWAY__ACCESS__LIST", list.to_str().unwrap())];
    let text = || std::fs::read_to_string(&list).unwrap_or_default();
    let dry = run(&["device", "allow", "--dry-run", IMEI], &env);
    assert!(
        dry.out.contains("would now be allowed"),
        "{}{}",
        dry.out,
        dry.err
    );
    assert_eq!(text(), "");
    for (verb, says, left) in [
        ("allow", "is now allowed", IMEI.to_owned()),
        ("allow", "was already allowed", IMEI.to_owned()),
        ("deny", "is now denied", format!("!{IMEI}")),
        ("deny", "was already denied", format!("!{IMEI}")),
        ("allow", "is now allowed", IMEI.to_owned()),
    ] {
        let ran = run(&["device", verb, IMEI], &env);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert!(ran.out.contains(says), "{verb}: {}", ran.out);
        assert_eq!(text().trim(), left);
    }
    assert_eq!(run(&["device", "allow", "123"], &env).code, 2);
    let open = [("GATEWAY__ACCESS__MODE", "open")];
    let unset = run(&["device", "allow", IMEI], &open);
    assert_eq!(unset.code, 2);
    assert!(unset.err.contains("access.list"), "{}", unset.err);
    // While the gateway learns and there is no list, what it learned is edited.
    let spool = dir.path().join("spool");
    let learns = [("GATEWAY__SPOOL__DIR", spool.to_str().unwrap())];
    assert_eq!(run(&["device", "allow", IMEI], &learns).code, 0);
    let learned = std::fs::read_to_string(dir.path().join("learned.txt")).unwrap();
    assert_eq!(learned.trim(), IMEI);
    let json = run(&["device", "deny", "--json", IMEI], &env).json();
    assert_eq!(
        (&json[0]["changed"], &json[0]["imei"]),
        (&true.into(), &IMEI.into())
    );
}

#[test]
fn config_show_says_who_won() {
    let env = [
        ("REDIS_HOST", "h"),
        ("REDIS_PASSWORD", "geheim"),
        ("LOG_LEVEL", "DEBUG"),
    ];
    let shown = run(&["config", "show", "--origin"], &env);
    assert_eq!(shown.code, 0, "{}", shown.err);
    assert!(shown.out.contains("env REDIS_HOST"), "{}", shown.out);
    assert!(shown.out.contains("redis://:***@h:6379/0"), "{}", shown.out);
    assert!(!shown.out.contains("geheim"), "{}", shown.out);
    let rows = run(&["config", "show", "--json"], &env).json();
    let row = rows.iter().find(|row| row["key"] == "log.level").unwrap();
    assert_eq!(
        (&row["value"], &row["origin"]),
        (&"DEBUG".into(), &"env LOG_LEVEL".into())
    );
    assert!(!format!("{rows:?}").contains("geheim"));
}

#[test]
fn help_has_examples_everywhere() {
    for verb in [
        &[][..],
        &["run"],
        &["check"],
        &["status"],
        &["selftest"],
        &["device", "ls"],
        &["device", "allow"],
        &["device", "deny"],
        &["config", "show"],
        &["spool"],
        &["explain"],
    ] {
        let mut words = verb.to_vec();
        words.push("--help");
        let help = run(&words, &[]);
        assert_eq!(help.code, 0, "{verb:?}");
        assert!(help.out.contains("Examples:\n  "), "{verb:?}: {}", help.out);
    }
    assert_eq!(
        run(&["version", "--json"], &[]).json()[0]["entry_version"],
        1
    );
}

#[test]
fn nothing_is_coloured_without_a_terminal() {
    let env = [
        ("GATEWAY__SPOOL__DIR", "/proc/nowhere"),
        ("REDIS_URL", "redis://127.0.0.1:1/"),
    ];
    let ran = run(&["check"], &env);
    assert!(
        ran.code > 0 && ran.out.contains('×') && !ran.out.contains('\u{1b}'),
        "{}",
        ran.out
    );
    let last = ran.out.lines().last().unwrap();
    assert!(last.contains("begin with `gateway explain E-"), "{last}");
}

#[test]
fn a_gateway_that_cannot_start_says_who_knows_why() {
    let ran = run(&["run"], &[("GATEWAY__SPOOL__DIR", "/proc/nowhere")]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("/proc/nowhere"), "{}", ran.err);
    assert!(ran.err.contains("do     gateway check"), "{}", ran.err);
}
