//! What an operator copies from `deploy/`: alerts, dashboards, containers, Kubernetes.
//!
//! Why: nobody runs these files until they are needed, so a metric, a setting or a table that was renamed
//! would be noticed by its silence. What they name is looked for in the programs themselves.
#![allow(clippy::unwrap_used)]

#[path = "deploy/alerts.rs"]
mod alerts;
#[path = "deploy/blast.rs"]
mod blast;
#[path = "deploy/compose.rs"]
mod compose;
#[path = "deploy/dashboards.rs"]
mod dashboards;
#[path = "deploy/files.rs"]
mod files;
#[path = "deploy/kubernetes.rs"]
mod kubernetes;
#[path = "deploy/metrics.rs"]
mod metrics;
#[path = "deploy/queries.rs"]
mod queries;
#[path = "deploy/started.rs"]
mod started;
#[path = "deploy/tools.rs"]
mod tools;
#[path = "deploy/wireguard.rs"]
mod wireguard;
