//! Codes of what was typed.

codes::pages! {
    FILE = "E-CNF-001", 2, "the settings file cannot be read",
        "The file named by --config or CLOUD_CONFIG is not there, is a directory, or this user may not read it. Run the check as the user the processor runs as; that is where a wrong owner shows.";
    SYNTAX = "E-CNF-002", 2, "the settings file is not TOML",
        "A line of the file breaks the TOML grammar: most often a text without quotes, or a bracket or quote that does not close. The line and column are named. Nothing of the file counts until it can be read as a whole.";
    UNKNOWN = "E-CNF-003", 2, "a key or variable that no setting has",
        "The file has a key or table, or the environment a CLOUD__… variable, that means nothing here. It is refused, because a mistyped key would otherwise be a setting that silently does nothing. The nearest one we know is named; `cloud config show` lists all.";
    VALUE = "E-CNF-004", 2, "a value does not fit its key",
        "The key exists, its value is of the wrong kind, out of range, or missing. Durations want a unit (250ms, 60s, 24h), the founding names in _SEC a plain number of seconds, addresses an IP address and a port (127.0.0.1:8081). Where the value was set is named, and so is the variable that would win over it.";
    SECRET = "E-CNF-005", 2, "a secret is given twice, or its file cannot be read",
        "A variable that ends in _FILE names a file with a secret, as container engines mount them. The file must be readable for the processor's user, and the same secret must not be given without _FILE as well: of two secrets one is old.";
    IDLE = "W-CNF-101", 0, "a setting without effect",
        "It is understood, but something else decides. REDIS_HOST, REDIS_PORT, REDIS_DB, REDIS_USERNAME, REDIS_PASSWORD and PROD count only while neither redis.url nor REDIS_URL is set, BATCH_TIMEOUT_SEC only while store.batch_wait is not. REDIS_MAX_CONNECTIONS is for programs with a pool. Remove what has no effect, so that nobody believes in it.";
}
