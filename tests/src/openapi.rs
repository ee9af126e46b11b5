//! An HTTP API asked by a program that read its OpenAPI document and nothing else.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Result, ensure};
use tokio::process::Command;

use crate::servers::{schemathesis, skipped};

/// A document in `docs/`.
#[must_use]
pub fn document(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name)
}

/// Asks every operation of `document` at `addr`, with `token`, what the document allows and what it does
/// not. `words` are options of `schemathesis run`: what it cannot know.
///
/// Needs schemathesis, which `./dev` fetches where it can.
///
/// # Errors
/// When an answer is not what the document says: each with a request to repeat it.
pub async fn answers_as_documented(
    document: &Path,
    addr: SocketAddr,
    token: &str,
    words: &[&str],
) -> Result<()> {
    let (python, packages) = match schemathesis() {
        Ok(found) => found,
        Err(missing) => {
            let name = document.file_name().unwrap_or_default().display();
            return skipped(&format!("the contract test of {name}: {missing}"));
        }
    };
    let dir = tempfile::tempdir()?;
    let output = Command::new(&python.path)
        .env("PYTHONPATH", &packages)
        .env("NO_COLOR", "1")
        .current_dir(dir.path())
        .args(["-m", "schemathesis.cli", "run"])
        .arg(document)
        .args(["--url", &format!("http://{addr}")])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args(["--phases", "examples,coverage,fuzzing"])
        .args(["--max-examples", "20", "--seed", "1"])
        .args(["--generation-database", "none"])
        .args(["--suppress-health-check", "all", "--request-timeout", "30"])
        .args(words)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && said.contains("passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
