//! Every setting there is: its name, the older names of the environment, what it is when nobody says
//! otherwise, and what it means in one line.
//!
//! Why a table: `cloud config show`, the example environment and the refusal of a misspelt key are made
//! from it, so that none of them can leave one out.

use contract::keys;
use settings::Key;

use super::TABLE;

/// Every key, in the order `cloud config show` prints them.
pub static KEYS: &[Key] = &[
    Key::new(
        "redis.url",
        "Where the stream lives: redis://, or rediss:// for TLS; several nodes of a cluster with commas between them.",
    )
    .aliases(&["REDIS_URL"])
    .default("redis://127.0.0.1:6379")
    .secret(),
    Key::new(
        "redis.cluster",
        "Is it a Redis Cluster? auto: several nodes in redis.url are one, a single one is asked; true; false.",
    )
    .default("auto"),
    Key::new("redis.host", "Host of Redis, while redis.url is not set.").aliases(&["REDIS_HOST"]),
    Key::new("redis.port", "Its port; 6379 when not set.").aliases(&["REDIS_PORT"]),
    Key::new("redis.db", "Number of the database in it; 0 when not set.").aliases(&["REDIS_DB"]),
    Key::new("redis.username", "User of Redis.").aliases(&["REDIS_USERNAME"]),
    Key::new("redis.password", "Password of Redis.")
        .aliases(&["REDIS_PASSWORD"])
        .secret(),
    Key::new(
        "redis.prod",
        "true: the host is called redis when redis.host is not set, else localhost.",
    )
    .aliases(&["PROD"]),
    Key::new(
        "redis.max_connections",
        "Understood and without effect: the cloud opens the connections it needs, two for each stream and a few more.",
    )
    .aliases(&["REDIS_MAX_CONNECTIONS"]),
    Key::new("redis.cert", "Client certificate (PEM file) for rediss://.").default(""),
    Key::new("redis.key", "Key of the client certificate (PEM file).").default(""),
    Key::new(
        "redis.ca",
        "Certificate authority of Redis (PEM file); empty: the system's.",
    )
    .default(""),
    Key::new(
        "spool.socket",
        "Unix socket at which gateways of this machine hand entries over, instead of Redis; they have unix: and this path in uplink.url. `cloud run --from-spool` wins.",
    ),
    Key::new(
        "stream.name",
        "The stream to read, with its shards <name>:<n>; the gateways write to the same.",
    )
    .aliases(&[keys::ENV_TELEMETRY_STREAM])
    .default(keys::STREAM_TELTONIKA),
    Key::new(
        "stream.names",
        "Several streams, each with its shards; empty: the one of stream.name.",
    )
    .default(""),
    Key::new(
        "stream.pattern",
        "Also every stream that matches, such as telemetry:*; empty: none.",
    )
    .default(""),
    Key::new(
        "stream.look_every",
        "How often to look for streams and shards that are new.",
    )
    .default("30s"),
    Key::new(
        "stream.dead_letter",
        "Also copy dead letters to this stream, such as dead-letter:telemetry; empty: only to the table.",
    )
    .aliases(&["DEAD_LETTER_STREAM"])
    .default(""),
    Key::new("stream.dead_letter_keep", "Older copies of dead letters go.").default("30d"),
    Key::new("stream.group", "The consumer group.")
        .aliases(&["CONSUMER_GROUP_NAME"])
        .default(keys::GROUP_PROCESSOR),
    Key::new(
        "stream.consumer",
        "Our name in the group, the same after a restart; empty: <host>-0.",
    )
    .aliases(&["CONSUMER_NAME"])
    .default(""),
    Key::new(
        "stream.claim_after",
        "How long an item may lie with another processor before it is taken over; longer than a batch takes.",
    )
    .default("60s"),
    Key::new(
        "stream.keep",
        "How long acknowledged items stay in the stream for others to read.",
    )
    .default("1h"),
    Key::new(
        "sensors.pattern",
        "Streams with readings of sensors, <prefix>:<device>:<sensor type>, such as mqtt_stream:*; empty: none are read.",
    )
    .aliases(&["STREAM_PATTERN"])
    .default(""),
    Key::new(
        "sensors.keep",
        "How long acknowledged items stay in sensor streams; off: whoever writes them removes them.",
    )
    .default("off"),
    Key::new(
        "sensors.retention",
        "Age at which readings of sensors are deleted; off: never.",
    )
    .default("off"),
    Key::new(
        "database.url",
        "Where the rows go: postgres://user:password@host/database.",
    )
    .aliases(&["DATABASE_URL"])
    .default("postgres://127.0.0.1:5432/milepost")
    .secret(),
    Key::new(
        "database.pool",
        "Connections to the database at most; 1 is enough to work.",
    )
    .default("4"),
    Key::new(
        "database.timescale",
        "auto: use TimescaleDB where it is; require: refuse without; off: ordinary tables.",
    )
    .aliases(&["ENABLE_TIMESCALE"])
    .default("auto"),
    Key::new("store.batch_rows_max", "Rows gathered for one transaction.")
        .aliases(&["BATCH_SIZE"])
        .default("10000"),
    Key::new("store.batch_wait", "How long a row may wait for company.").default("200ms"),
    Key::new(
        "store.batch_timeout_s",
        "The same in seconds, while store.batch_wait is not set.",
    )
    .aliases(&["BATCH_TIMEOUT_SEC"]),
    Key::new(
        "store.pause_s",
        "Seconds that a writer rests after a batch; 0: none.",
    )
    .aliases(&["PROCESSING_INTERVAL_SEC"])
    .default("0"),
    Key::new(
        "store.table",
        "positions or sensor_readings, which `cloud migrate up` makes both; neither has another name.",
    )
    .aliases(&["TABLE_NAME"])
    .default(TABLE),
    Key::new(
        "store.writers",
        "Batches written side by side; not more than database.pool.",
    )
    .default("2"),
    Key::new(
        "store.chunk_interval",
        "TimescaleDB: time that one new chunk covers; 7d for a small fleet.",
    )
    .default("1d"),
    Key::new(
        "store.compress_after",
        "TimescaleDB: age at which chunks go to the columnstore; off: never.",
    )
    .default("7d"),
    Key::new(
        "store.retention",
        "Age at which positions are deleted; off: never.",
    )
    .default("off"),
    Key::new(
        "frames.keep",
        "Also store raw frames, so that history can be decoded again.",
    )
    .default("true"),
    Key::new(
        "frames.retention",
        "Age at which raw frames are deleted; off: never.",
    )
    .default("90d"),
    Key::new(
        "commands.enabled",
        "Route the commands of the table to trackers, and record what became of them.",
    )
    .default("true"),
    Key::new(
        "commands.answer_max",
        "Longest wait for the outcome of a command given to a gateway; then it is unknown.",
    )
    .default("5m"),
    Key::new(
        "site.dir",
        "Where `cloud site` keeps its authority and what it gave out; for one user's eyes.",
    )
    .default("/var/lib/milepost/site"),
    Key::new(
        "site.url",
        "Where gateways reach Redis: rediss://host:port, without a login; empty: the host of redis.url.",
    )
    .default(""),
    Key::new(
        "site.admin_url",
        "How `cloud site` reaches Redis to make users: one who may ACL SETUSER; empty: redis.url.",
    )
    .default("")
    .secret(),
    Key::new(
        "http.listen",
        "The web app and its API, health, status and metrics; empty: off.",
    )
    .default("127.0.0.1:8081"),
    Key::new(
        "web.tokens",
        "File with the tokens of the web app and its API, a line each: NAME sha256:HASH role=read|operator. `cloud web token new` writes one.",
    )
    .default(""),
    Key::new(
        "web.open",
        "Without web.tokens: what anybody on this machine may do in the web app. no; read; operator. Only where http.listen is a loopback address.",
    )
    .default("no"),
    Key::new(
        "web.tiles",
        "Raster tiles for the map of the web app, https://host/{z}/{x}/{y}.png; empty: the map that comes with it.",
    )
    .default(""),
    Key::new(
        "log.level",
        "error, warn, info, debug or trace; or a filter such as cloud=debug.",
    )
    .aliases(&["LOG_LEVEL"])
    .default("info"),
    Key::new(
        "log.format",
        "auto: console on a terminal, JSON otherwise; console; json.",
    )
    .aliases(&["LOG_FORMAT"])
    .default("auto"),
];
