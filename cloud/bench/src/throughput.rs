//! Rows a second from a filled stream to committed rows, with one writer and with two, each turn
//! between two turns of the floor.
//!
//! The product reads from Redis, unpacks, decodes, looks up what is settled and what is in quarantine,
//! keeps the unique key, writes raw frames, newest positions, when trackers were heard and settled
//! ranges, commits, and acknowledges. The floor does nothing of the kind.
//!
//! The floor keeps one processor busy, the product with two writers every one there is. Beside others at
//! work the product therefore loses more than the floor; the part by processor time, printed too, is what
//! it would be alone: bound by the writers' connections or by all processors, whichever is less.

use anyhow::Result;

use crate::Scale;
use crate::floor::Floor;
use crate::print::{Should, median, progress, ratio};
use crate::product::{Product, Turn};
use crate::stage::{Guest, Stage};

/// Part of the floor that so many writers should reach.
const TARGETS: [(usize, f64); 2] = [(1, 0.55), (2, 0.95)];

/// Records in a frame: what a tracker sends that was out of reach, where the targets are judged, and
/// what it sends when all is well, where a raw frame is kept for every row.
const JUDGED_RECORDS: u8 = 25;
const SINGLE: u8 = 1;

/// Measures and prints.
/// # Errors
/// When a server does not start, or records do not arrive.
pub async fn run(stage: &Stage, scale: &Scale) -> Result<()> {
    println!(
        "\nthroughput: {} rows a turn of 1,000 trackers, {} turns; medians",
        scale.turn_rows, scale.rounds
    );
    println!(
        "database        | writers | records a frame | floor rows/s | cloud rows/s | part of the floor | by processor time | CPU µs/row: cloud, PostgreSQL, Redis | floor's PostgreSQL"
    );
    let url = stage.postgres.create_database().await?;
    let names = ["one", "two"];
    let mut products = Vec::new();
    for ((writers, target), name) in TARGETS.into_iter().zip(names) {
        let url = match writers {
            1 => url.clone(),
            _ => stage.postgres.create_database().await?,
        };
        let settings = [("store.writers", writers.into())];
        products.push((
            Product::new(stage, name, &url, &settings).await?,
            writers,
            target,
        ));
    }
    compare(stage, scale, &mut products, "PostgreSQL", true).await?;
    drop(products);
    if let Some(guest) = Guest::enter().await? {
        let settings = [
            ("store.writers", 1.into()),
            ("database.timescale", "require".into()),
        ];
        let mut product = Product::new(stage, "ts", &guest.url, &settings).await?;
        for (writers, target) in TARGETS {
            product.cloud.set(("store.writers", writers.into()));
            product.again().await?;
            let mut one = vec![(product, writers, target)];
            compare(stage, scale, &mut one, "TimescaleDB", false).await?;
            sqlx::query("DROP TABLE floor")
                .execute(&mut one[0].0.tables)
                .await?;
            product = one.remove(0).0;
        }
        drop(product);
        guest.leave().await?;
    }
    Ok(())
}

async fn compare(
    stage: &Stage,
    scale: &Scale,
    products: &mut [(Product, usize, f64)],
    engine: &str,
    is_ours: bool,
) -> Result<()> {
    for (product, ..) in &mut *products {
        progress("throughput: the first rows, which nobody counts");
        let records = product.fill(scale.turn_rows / 4).await?;
        product.turn(records).await?;
    }
    let postmaster = is_ours.then(|| stage.postgres.pid());
    let of = &mut products[0].0.tables;
    let floor = Floor::of_positions(of, scale.turn_rows, postmaster).await?;
    floor.turn(&mut products[0].0.tables).await?;
    for records_a_frame in [JUDGED_RECORDS, SINGLE] {
        // Where nothing is judged, fewer rows will do.
        let judged = records_a_frame == JUDGED_RECORDS;
        let (rounds, rows) = match judged {
            true => (scale.rounds, scale.turn_rows),
            false => (scale.rounds.div_ceil(2), scale.turn_rows / 2),
        };
        let mut turns: Vec<Vec<(Turn, f64)>> = vec![Vec::new(); products.len()];
        let mut floors = vec![floor.turn(&mut products[0].0.tables).await?];
        for round in 1..=rounds {
            for at in 0..products.len() {
                let writers = products[at].1;
                let product = &mut products[at].0;
                product.source.set_records(records_a_frame);
                let records = product.fill(rows).await?;
                let turn = product.turn(records).await?;
                let before = floors[floors.len() - 1];
                let after = floor.turn(&mut products[0].0.tables).await?;
                floors.push(after);
                let part = turn.rate() / ((before.rate + after.rate) / 2.0);
                progress(&format!(
                    "throughput: {engine}, {writers} writers, {records_a_frame} records a frame, round {round}: {:.0} rows/s, {part:.2} of the floor",
                    turn.rate()
                ));
                turns[at].push((turn, part));
            }
        }
        for ((_, writers, target), turns) in products.iter().zip(&turns) {
            let of =
                |value: &dyn Fn(&Turn) -> f64| median(turns.iter().map(|(turn, _)| value(turn)));
            let part = median(turns.iter().map(|(_, part)| *part));
            let floor_us = median(floors.iter().map(|floor| floor.postgres_us.unwrap_or(0.0)));
            let by_time = of(&|turn| {
                let postgres_us = turn
                    .postgres_cpu
                    .map_or(f64::NAN, |spent| turn.each_us(spent));
                let all_us = postgres_us + turn.each_us(turn.cloud_cpu + turn.redis_cpu);
                let processors = std::thread::available_parallelism().map_or(1, usize::from);
                floor_us * (*writers as f64 / postgres_us).min(processors as f64 / all_us)
            });
            let postgres = |us: f64| match is_ours {
                true => format!("{us:.2}"),
                false => "?".to_owned(),
            };
            println!(
                "{engine:<15} | {writers:>7} | {records_a_frame:>15} | {:>12.0} | {:>12.0} | {part:>17.2} | {:>17} | {:.2}, {}, {:.2} | {}",
                median(floors.iter().map(|floor| floor.rate)),
                of(&|turn| turn.rate()),
                postgres(by_time),
                of(&|turn| turn.each_us(turn.cloud_cpu)),
                postgres(of(&|turn| turn
                    .postgres_cpu
                    .map_or(0.0, |spent| turn.each_us(spent)))),
                of(&|turn| turn.each_us(turn.redis_cpu)),
                postgres(floor_us),
            );
            if judged {
                let name = format!("{}-floor-part-{writers}-writers", engine.to_lowercase());
                ratio(&name, part, Should::Reach, *target);
            }
        }
    }
    Ok(())
}
