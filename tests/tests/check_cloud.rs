//! `cloud check` is given mistakes, one at a time, and its first failed line must name the cause;
//! `cloud status`, `cloud explain` and the pages over HTTP say what they promise.
//!
//! Everything is real: the binary an operator runs, a Redis behind TLS with client certificates and
//! an ACL, a PostgreSQL. What needs another machine (a kernel, an old server) is tested beside the
//! code that judges it.
#![allow(clippy::unwrap_used)]

#[path = "check_cloud/commands.rs"]
mod commands;
#[path = "check_cloud/database.rs"]
mod database;
#[path = "check_cloud/redis.rs"]
mod in_redis;
#[path = "check_cloud/pages.rs"]
mod pages;
#[path = "check_cloud/sensors.rs"]
mod sensors;
#[path = "check_cloud/settings.rs"]
mod settings;
#[path = "check_cloud/stage.rs"]
mod stage;
#[path = "check_cloud/streams.rs"]
mod streams;
