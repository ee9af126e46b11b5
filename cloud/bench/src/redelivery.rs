//! What it costs when a tenth comes twice.
//!
//! Two ways: a gateway sends an entry again, because nobody told it that it is stored, and the ledger
//! knows its positions; or trackers send records again, because an ACK was lost, and the records come
//! under new positions, so that only the key of `positions` knows them.
//!
//! The cost is how much longer the same new rows take than in the turns beside it without.

use std::collections::VecDeque;

use anyhow::Result;

use crate::Scale;
use crate::print::{Should, median, progress, ratio};
use crate::product::Product;
use crate::source::Fields;
use crate::stage::Stage;

/// Every so many entries one comes again.
const EVERY: usize = 10;

/// So many entries later: in another batch, as in the field.
const LATER: usize = 60;

/// Part of the time that the second delivery may cost.
const TARGET: f64 = 0.15;

#[derive(Clone, Copy, PartialEq)]
enum Again {
    ByGateway,
    ByTrackers,
}

/// Measures and prints.
/// # Errors
/// When a server does not start, or records do not arrive.
pub async fn run(stage: &Stage, scale: &Scale) -> Result<()> {
    println!(
        "\nredelivery: every tenth entry again, {} turns",
        scale.rounds
    );
    let url = stage.postgres.create_database().await?;
    let mut product = Product::new(stage, "again", &url, &[]).await?;
    turn(&mut product, scale.turn_rows / 4, None).await?;
    let ways = [
        ("gateway", Again::ByGateway),
        ("trackers", Again::ByTrackers),
    ];
    let mut costs = vec![Vec::new(); ways.len()];
    let mut before = turn(&mut product, scale.turn_rows, None).await?;
    for round in 1..=scale.rounds {
        for ((name, again), costs) in ways.iter().zip(&mut costs) {
            let with = turn(&mut product, scale.turn_rows, Some(*again)).await?;
            let after = turn(&mut product, scale.turn_rows, None).await?;
            let cost = with / ((before + after) / 2.0) - 1.0;
            before = after;
            progress(&format!(
                "redelivery: by {name}, round {round}: {:.1} % more time",
                cost * 100.0
            ));
            costs.push(cost);
        }
    }
    for ((name, _), costs) in ways.iter().zip(costs) {
        let name = format!("redelivered-by-{name}-cost");
        ratio(&name, median(costs), Should::StayBelow, TARGET);
    }
    Ok(())
}

/// Seconds for a million new rows.
async fn turn(product: &mut Product, rows: u64, again: Option<Again>) -> Result<f64> {
    let (mut entries, mut records, mut new) = (Vec::new(), 0, 0);
    let mut later: VecDeque<(usize, Vec<tests::batches::Sent>, Fields, u64)> = VecDeque::new();
    for number in 0.. {
        let is_full = new >= rows;
        if is_full && later.is_empty() {
            break;
        }
        if !is_full {
            let (frames, inside) = product.source.frames()?;
            let entry = product.spool.entry(&frames)?;
            (records, new) = (records + inside, new + inside);
            if again.is_some() && number % EVERY == 0 {
                later.push_back((number + LATER, frames, entry.clone(), inside));
            }
            entries.push(entry);
        }
        if later
            .front()
            .is_some_and(|(due, ..)| *due <= number || is_full)
            && let Some((_, frames, entry, inside)) = later.pop_front()
        {
            entries.push(match again {
                Some(Again::ByTrackers) => {
                    records += inside;
                    product.spool.entry(&frames)?
                }
                _ => entry,
            });
        }
    }
    product.add(&entries).await?;
    let turn = product.turn(records).await?;
    let new_part = new as f64 / records as f64;
    Ok(turn.took.as_secs_f64() * 1e6 / (turn.records as f64 * new_part))
}
