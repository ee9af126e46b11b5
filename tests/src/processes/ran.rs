//! A command of ours that ran to its end.

use std::process::Output;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// What it printed on standard output.
    pub out: String,
    /// What it printed on standard error.
    pub err: String,
}

impl Ran {
    /// Of a program that has ended.
    ///
    /// # Errors
    /// It was killed, or did not print UTF-8.
    pub fn of(output: Output) -> Result<Self> {
        Ok(Self {
            code: output.status.code().context("it was killed")?,
            out: String::from_utf8(output.stdout)?,
            err: String::from_utf8(output.stderr)?,
        })
    }

    /// It ended as it should.
    ///
    /// # Errors
    /// It did not, and what it said.
    pub fn ok(self) -> Result<Self> {
        self.with(0)
    }

    /// It ended with this code.
    ///
    /// # Errors
    /// With another, and what it said.
    pub fn with(self, code: i32) -> Result<Self> {
        ensure!(self.code == code, "{code} expected: {self:?}");
        Ok(self)
    }

    /// One object a line.
    ///
    /// # Errors
    /// A line is no JSON.
    pub fn json(&self) -> Result<Vec<Value>> {
        let lines = self.out.lines().map(serde_json::from_str);
        let lines: Result<_, _> = lines.collect();
        lines.with_context(|| format!("{self:?}"))
    }
}
