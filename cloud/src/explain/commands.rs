//! Codes of the way of commands.

codes::pages! {
    TRIGGER = "E-CMD-001", 1, "a trigger of the table commands is missing or off",
        "The triggers keep a status from moving back, write the history and wake the router. Without them a command may be given twice, or waits until the next look. `ALTER TABLE commands ENABLE TRIGGER ALL`; a trigger that is gone comes back by restoring the table from a migration.";
    WRONG_KEY = "E-CMD-002", 1, "a key of the command way is of another kind",
        "connections:registry and its epochs are hashes, commands:responses is a stream. Something else was written under that name, so neither gateways nor the cloud can use it. Rename or remove it; gateways publish the registry anew within half a minute.";
    NO_RIGHT = "E-CMD-003", 1, "the Redis user lacks a right that commands need",
        "Records are stored all the same; only orders do not reach trackers, or what became of them is not recorded. The finding names command, key and the rule to add. Where no commands are wanted, set commands.enabled = false.";
    NO_GROUP = "W-CMD-101", 0, "nobody records the responses of gateways yet",
        "The stream commands:responses has entries and no group `commands`. A running processor with commands.enabled creates it at 0 and reads everything there is.";
    WAITING = "W-CMD-102", 0, "responses of gateways wait to be recorded",
        "Gateways have said what became of orders, and it is not in the table yet: no processor with commands.enabled runs, or it cannot reach the database. The outcome is not lost.";
    STALE = "W-CMD-103", 0, "the registry names gateways without a sign of life",
        "Trackers stand in connections:registry with a gateway whose heartbeat is gone. A running processor removes them within two minutes; commands for these trackers wait in the table until they log in again.";
}
