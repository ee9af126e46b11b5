//! The web app in a real browser, on the real stack: what people see is what the tables have.
//!
//! Chromium and the npm packages are named by variables of the environment, which the browser part of
//! `./dev test --all` sets. Without them these tests say SKIPPED and pass. What a person does stands in
//! `cloud/web/e2e`; here are the servers around it, and what happens to them meanwhile.
#![allow(clippy::unwrap_used)]

#[path = "browser/built.rs"]
mod built;
#[path = "browser/driver.rs"]
mod driver;
#[path = "browser/seen.rs"]
mod seen;
