//! Letting a new box in and shutting it out, the rights it runs with, and the schema's way back.

#[path = "site/deploy.rs"]
mod deploy;
#[path = "site/down.rs"]
mod down;
#[path = "site/field_box.rs"]
mod field_box;
#[path = "site/letting_in.rs"]
mod letting_in;
#[path = "site/program.rs"]
mod program;
#[path = "site/roles.rs"]
mod roles;
