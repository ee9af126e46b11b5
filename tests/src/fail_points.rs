//! The places at which the cloud is killed, as `tests/fail_points.txt` lists them.
//!
//! Why a list beside the sources: a place that no test reaches any more proves nothing. One test
//! compares the list with the sources, the others run every place of their scenario.

use anyhow::{Context, Result, bail, ensure};

use crate::processes::Cloud;
use crate::tables::eventually;

const LIST: &str = include_str!("../fail_points.txt");

/// What a process reads at its start, see `cloud/src/fail_point.rs`.
pub const VARIABLE: &str = "MILEPOST_FAIL_POINT";

/// Exit code of a shell whose program was ended by SIGABRT.
const ABORTED: i32 = 128 + 6;

/// Who runs a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// A fleet drives: reading and writing.
    Writing,
    /// A fleet drives: what is told to Redis afterwards.
    Telling,
    /// Something lies with a process that died.
    Claims,
    /// Something is put aside.
    Letters,
    /// `cloud migrate up`.
    Migration,
    /// The database went back in time.
    Setback,
    /// A tracker is given a command.
    Commands,
    /// Sensors send readings, one of which the database refuses.
    Readings,
}

/// One place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailPoint {
    /// As the sources name it.
    pub name: &'static str,
    /// Who runs it.
    pub scenario: Scenario,
}

/// All of them, in the order of the list.
///
/// # Errors
/// When a line cannot be read.
pub fn all() -> Result<Vec<FailPoint>> {
    let lines = LIST.lines().filter(|line| !line.starts_with('#'));
    let lines = lines.filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            let mut words = line.split_whitespace();
            let (name, scenario) = words.next().zip(words.next()).context(line)?;
            let scenario = match scenario {
                "writing" => Scenario::Writing,
                "telling" => Scenario::Telling,
                "claims" => Scenario::Claims,
                "letters" => Scenario::Letters,
                "migration" => Scenario::Migration,
                "setback" => Scenario::Setback,
                "commands" => Scenario::Commands,
                "readings" => Scenario::Readings,
                other => bail!("{name}: nobody runs {other}"),
            };
            Ok(FailPoint { name, scenario })
        })
        .collect()
}

/// Those of one scenario; never none.
///
/// # Errors
/// When the list cannot be read, or has none.
pub fn of(scenario: Scenario) -> Result<Vec<&'static str>> {
    let all = all()?.into_iter();
    let names: Vec<_> = all
        .filter(|point| point.scenario == scenario)
        .map(|point| point.name)
        .collect();
    ensure!(!names.is_empty(), "no place for {scenario:?}");
    Ok(names)
}

/// Starts a cloud that dies when it reaches `name` for the `nth` time. It may be dead already when
/// this returns.
pub async fn arm(cloud: &mut Cloud, name: &str, nth: u64) {
    cloud.start_by(&["env", &format!("{VARIABLE}={name}:{nth}")]);
    // One that dies at its start never answers, which is no error here: `died` is asked next.
    let _ = cloud.restart().await;
}

/// Waits until it has died there, and nowhere else; then it may be started as it was.
///
/// # Errors
/// When it lives on, or ended for another reason.
pub async fn died(cloud: &mut Cloud, name: &str) -> Result<()> {
    let mut ended = None;
    let what = format!("it dies at {name}");
    eventually(&what, async || {
        ended = cloud.ended()?;
        Ok(ended.is_some())
    })
    .await?;
    let words = cloud.last_words();
    let reached = words.contains(&format!("fail point {name} reached"));
    ensure!(
        reached && ended.and_then(|status| status.code()) == Some(ABORTED),
        "{name}: {ended:?}: {words}"
    );
    cloud.start_by(&[]);
    Ok(())
}
