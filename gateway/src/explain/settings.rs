//! Codes of the settings: file, environment, values, the list of IMEIs.

codes::pages! {
    FILE = "E-SET-001", 2, "the settings file cannot be read",
        "The file named by --config or GATEWAY_CONFIG is not there, is a directory, or this user may not read it. Run the check as the user the gateway runs as; that is where a wrong owner shows.";
    SYNTAX = "E-SET-002", 2, "the settings file is not TOML",
        "A line of the file breaks the TOML grammar: most often a text without quotes, or a bracket or quote that does not close. The line and column are named. Nothing of the file counts until it can be read as a whole.";
    UNKNOWN = "E-SET-003", 2, "a key or variable that no setting has",
        "The file has a key or table, or the environment a GATEWAY__… variable, that means nothing here. It is refused, because a mistyped key would otherwise be a setting that silently does nothing. The nearest one we know is named; `gateway config show` lists all.";
    VALUE = "E-SET-004", 2, "a value does not fit its key",
        "The key exists, its value is of the wrong kind, out of range, or missing. Sizes want a unit or plain bytes (4GiB), durations always want a unit (250ms, 60s, 24h), addresses an IP address and a port (0.0.0.0:5027). Where the value was set is named, and so is the variable that would win over it.";
    SECRET = "E-SET-005", 2, "a secret is given twice, or its file cannot be read",
        "A variable that ends in _FILE names a file with a secret, as container engines mount them. The file must be readable for the gateway's user, and the same secret must not be given without _FILE as well: of two secrets one is old.";
    ACCESS = "E-SET-006", 2, "the list of IMEIs cannot be read",
        "access.mode lets in only who stands on a list, and access.list names no file that can be read. Without the list every tracker would be refused, so the gateway does not start. Name a readable file with one IMEI a line, or set access.mode to another value.";
    ACCESS_LINE = "E-SET-007", 2, "a line of the IMEI list is no IMEI",
        "An IMEI has fifteen digits, the last of which is a check digit. Empty lines and everything behind # are skipped. One bad line is refused with the whole file: a tracker that is missing because of a slip of the finger is noticed weeks later.";
    IDENTITY = "E-SET-008", 2, "uplink.cert, uplink.key and the address do not go together",
        "A certificate works only with its key, and only over TLS: set both uplink.cert and uplink.key or neither, and write rediss:// (with two s) when certificates are set.";
    ADDRESS = "E-SET-009", 2, "the address of Redis cannot be understood",
        "uplink.url wants rediss://user:password@host:port/, or redis:// inside one machine. Characters such as @, / or # in a password must be percent-encoded (%40, %2F, %23); with REDIS_HOST, REDIS_USERNAME and REDIS_PASSWORD given one by one that is done for you.";
    GATEWAY = "E-SET-010", 2, "gateway.id cannot be used",
        "The name of a gateway stands in keys of Redis, so it is made of letters, digits, '.', '_' and '-'. When gateway.id is not set, the owner of the spool is taken, and the host name for a new one.";
    NO_EFFECT = "W-SET-101", 0, "a setting without effect",
        "It is understood, but something else decides. REDIS_HOST, REDIS_PORT, REDIS_DB, REDIS_USERNAME, REDIS_PASSWORD and PROD count only while neither uplink.url nor REDIS_URL is set. REDIS_MAX_CONNECTIONS is for programs with a pool; the gateway needs very few connections and opens them itself. Remove what has no effect, so that nobody believes in it.";
    FILE_MODE = "W-SET-102", 0, "others may read a file with a password",
        "The settings file holds a password and every user of this machine may read it. `chmod 0640` and the gateway's group, or put the password into a file of its own and name it with REDIS_PASSWORD_FILE.";
}
