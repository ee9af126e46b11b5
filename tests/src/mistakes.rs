//! One mistake in the settings or surroundings of a program, and what its `check` must say about it.
//!
//! Why: gateway and cloud are each tried with dozens of mistakes, and what counts as found has to
//! be the same for both. Where the mistake is put and how the program is called is the business of
//! each test.

use std::collections::BTreeMap;
use std::process::Output;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// A setting to change; `None` takes it out.
pub type Edit = (&'static str, Option<Value>);

/// Takes a setting out.
#[must_use]
pub fn remove(name: &'static str) -> Edit {
    (name, None)
}

/// One mistake, and what must be said about it.
#[derive(Clone, Debug)]
pub struct Case {
    /// What a failing test calls it.
    pub name: String,
    /// The code that must come first.
    pub code: String,
    /// Settings that differ.
    pub edits: Vec<Edit>,
    /// Lines at the end of the settings file.
    pub tail: String,
    /// The whole environment.
    pub env: Vec<(&'static str, String)>,
    /// Another settings file than the one that is written.
    pub file: Option<String>,
    /// Permissions of the settings file.
    pub mode: u32,
    /// Words that must stand in the finding.
    pub says: String,
    /// Words before the program's on the command line.
    pub before: Vec<String>,
    /// A right to take away, such as `-net_bind_service` (capabilities(7)).
    pub without: Option<&'static str>,
}

impl Default for Case {
    fn default() -> Self {
        Self::new("", "")
    }
}

impl Case {
    /// A case in which nothing is wrong yet.
    #[must_use]
    pub fn new(name: &str, code: &str) -> Self {
        Self {
            name: name.to_owned(),
            code: code.to_owned(),
            edits: Vec::new(),
            tail: String::new(),
            env: Vec::new(),
            file: None,
            mode: 0o600,
            says: String::new(),
            before: Vec::new(),
            without: None,
        }
    }

    /// Settings that differ.
    #[must_use]
    pub fn edit(mut self, edits: Vec<Edit>) -> Self {
        self.edits = edits;
        self
    }

    /// Lines at the end of the settings file.
    #[must_use]
    pub fn tail(mut self, tail: &str) -> Self {
        self.tail = tail.to_owned();
        self
    }

    /// One more variable in the environment.
    #[must_use]
    pub fn env(mut self, name: &'static str, value: &str) -> Self {
        self.env.push((name, value.to_owned()));
        self
    }

    /// Another settings file than the one that is written.
    #[must_use]
    pub fn file(mut self, path: &str) -> Self {
        self.file = Some(path.to_owned());
        self
    }

    /// Permissions of the settings file.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Words that must stand in the finding.
    #[must_use]
    pub fn says(mut self, says: &str) -> Self {
        self.says = says.to_owned();
        self
    }

    /// Without a right that root has, such as `-net_bind_service` (capabilities(7)).
    #[must_use]
    pub fn without(mut self, right: &'static str) -> Self {
        self.without = Some(right);
        self
    }

    /// The settings file: what is right, with the mistake in it.
    #[must_use]
    pub fn settings(&self, right: &BTreeMap<&'static str, Value>) -> String {
        let mut settings = right.clone();
        for (name, value) in &self.edits {
            match value {
                Some(value) => settings.insert(name, value.clone()),
                None => settings.remove(name),
            };
        }
        let mut text = String::new();
        let mut open = "";
        for (name, value) in &settings {
            let (section, key) = name.split_once('.').expect("settings stand in tables");
            if section != open {
                text.push_str(&format!("[{section}]\n"));
                open = section;
            }
            text.push_str(&format!("{key} = {value}\n"));
        }
        text + &self.tail
    }

    /// Every finding that `check` printed, and its exit code.
    ///
    /// # Errors
    /// It printed nothing, or something else than JSON objects.
    pub fn findings(&self, output: Output) -> Result<(Vec<Value>, i32)> {
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let (found, exit) = objects(output)?;
        ensure!(!found.is_empty(), "{}: nothing said: {errors}", self.name);
        Ok((found, exit))
    }
}

/// The JSON objects that a program printed, one a line, and its exit code; -1 if it was killed.
///
/// # Errors
/// A line is no JSON.
pub fn objects(output: Output) -> Result<(Vec<Value>, i32)> {
    let said = String::from_utf8(output.stdout)?;
    let lines = said.lines().map(serde_json::from_str);
    let found = lines
        .collect::<Result<_, _>>()
        .with_context(|| said.clone())?;
    Ok((found, output.status.code().unwrap_or(-1)))
}

/// How a program's findings look.
#[derive(Clone, Copy, Debug)]
pub struct Looks {
    /// The field that says how bad it is; `ok` in it is good.
    pub mark: &'static str,
    /// What stands there when the program cannot work.
    pub failed: &'static str,
    /// Fields that a finding about a mistake fills.
    pub filled: &'static [&'static str],
    /// The exit code of a code.
    pub exit_of: fn(&str) -> u8,
}

impl Looks {
    /// What is wrong with what was found. Right is: the first failed line (for a warning: the line
    /// with the code) has the code, the words and every field, and the exit code is the worst.
    #[must_use]
    pub fn complaint(&self, case: &Case, found: &[Value], exit: i32) -> Option<String> {
        let is_error = case.code.starts_with("E-");
        let first = found.iter().find(|it| {
            if is_error {
                it[self.mark] == self.failed
            } else {
                it["code"] == case.code.as_str()
            }
        });
        let is_named = first.is_some_and(|it| {
            let is_filled = |field| it[field].as_str().is_some_and(|text| !text.is_empty());
            it["code"] == case.code.as_str()
                && it.to_string().contains(&case.says)
                && self.filled.iter().all(is_filled)
        });
        let codes = found.iter().filter_map(|it| it["code"].as_str());
        let worst = codes.map(|code| i32::from((self.exit_of)(code))).max();
        if is_named && worst == Some(exit) {
            return None;
        }
        let bad = found.iter().filter(|it| it[self.mark] != "ok");
        let bad: Vec<String> = bad.map(|it| format!("    {it}\n")).collect();
        Some(format!(
            "{}: wanted {} saying {:?}, exit {worst:?}, found exit {exit}:\n{}",
            case.name,
            case.code,
            case.says,
            bad.concat()
        ))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LOOKS: Looks = Looks {
        mark: "level",
        failed: "error",
        filled: &["what"],
        exit_of: |code| if code.starts_with('E') { 3 } else { 0 },
    };

    fn line(level: &str, code: &str, what: &str) -> Value {
        json!({"level": level, "code": code, "what": what})
    }

    #[test]
    fn a_finding_is_right_in_every_respect_or_complained_about() {
        let error = Case::new("name", "E-ABC-001").says("words");
        let warning = Case::new("name", "W-ABC-101").says("words");
        let failed = line("error", "E-ABC-001", "words");
        let odd = line("warning", "W-ABC-101", "words");
        let later = line("error", "E-ABC-002", "words");
        let good = [odd.clone(), failed.clone(), later.clone()];
        assert_eq!(LOOKS.complaint(&error, &good, 3), None);
        assert_eq!(LOOKS.complaint(&warning, &good, 3), None);
        for (case, found, exit) in [
            (&error, &good[..], 2),
            (&error, &[later, failed.clone()], 3),
            (&error, &[line("error", "E-ABC-001", "others")], 3),
            (&error, &[line("warning", "E-ABC-001", "words")], 3),
            (
                &error.clone().says(""),
                &[line("error", "E-ABC-001", "")],
                3,
            ),
            (&warning, &[failed], 3),
            (&warning, &[], 0),
        ] {
            assert!(LOOKS.complaint(case, found, exit).is_some(), "{found:?}");
        }
    }

    #[test]
    fn the_mistake_is_put_among_what_is_right() {
        let right = BTreeMap::from([("b.x", json!("y")), ("a.z", json!(1)), ("b.w", json!(2))]);
        let case = Case::new("", "").edit(vec![remove("b.w"), ("b.v", Some(json!([3])))]);
        let text = case.tail("# end\n").settings(&right);
        assert_eq!(text, "[a]\nz = 1\n[b]\nv = [3]\nx = \"y\"\n# end\n");
    }
}
