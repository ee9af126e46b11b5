//! Many streams, several writers, several processes: nothing is lost, nothing is stored twice, and
//! nobody takes what is another's.

#[path = "streams/claims.rs"]
mod claims;
#[path = "streams/lag.rs"]
mod lag;
#[path = "streams/many.rs"]
mod many;
#[path = "streams/positions.rs"]
mod positions;
#[path = "streams/stage.rs"]
mod stage;
