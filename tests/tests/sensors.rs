//! Readings of sensors, from `mqtt_stream:*` into `sensor_readings`: the founding message, what is no
//! reading, and everything that may fail on the way. Servers and the binary are the real ones.
#![allow(clippy::unwrap_used)]

#[path = "sensors/aside.rs"]
mod aside;
#[path = "sensors/faults.rs"]
mod faults;
#[path = "sensors/grow_old.rs"]
mod grow_old;
#[path = "sensors/reading.rs"]
mod reading;
#[path = "sensors/site.rs"]
mod site;
