//! Codes of PostgreSQL and TimescaleDB.

codes::pages! {
    NAME = "E-DBS-001", 3, "the name of the database host cannot be resolved",
        "No address is known for the host in database.url: a slip of the finger, or this machine's name server does not answer. `getent hosts NAME` asks the same way.";
    REFUSED = "E-DBS-002", 3, "nobody listens on the port of the database",
        "The host answered that the port is closed. PostgreSQL is down, listens on another port (5432 is usual) or on another address (listen_addresses), or the two containers are in no common network.";
    SILENT = "E-DBS-003", 3, "no answer from the database",
        "Nothing came back in five seconds: a firewall that drops packets, a wrong address, or a machine that hangs. Entries wait in Redis and behind it in the gateways meanwhile.";
    LOGIN = "E-DBS-004", 3, "the database turns this user away",
        "The password is wrong, the role does not exist or may not log in, or pg_hba.conf has no line for it from this address. Special characters in a password must be percent-encoded in database.url.";
    NO_DATABASE = "E-DBS-005", 3, "there is no database of that name",
        "The server answers and has no such database. Let an administrator run `CREATE DATABASE`, or correct the name behind the last / of database.url.";
    NO_ROOM = "E-DBS-006", 3, "the database has no free connection",
        "max_connections are in use (SQLSTATE 53300), or the role's or database's own limit. Close what is not needed, raise the limit, or put a pooler in between; the processor itself works with database.pool = 1.";
    UNUSABLE = "E-DBS-007", 3, "the database answers with an error",
        "None of the errors that have a page of their own; the answer is printed. `the database system is starting up` goes by itself. TLS trouble shows here too: see sslmode and sslrootcert in database.url.";
    URL = "E-DBS-008", 2, "the address of the database cannot be understood",
        "database.url wants postgres://user:password@host:5432/database. Characters such as @, / or # in a password must be percent-encoded (%40, %2F, %23).";
    OLD = "E-DBS-009", 1, "this PostgreSQL is too old",
        "Version 15 or newer is needed: the tables use what older ones do not have, and TimescaleDB has left them behind as well.";
    READ_ONLY = "E-DBS-010", 1, "this database only reads",
        "It is a standby (pg_is_in_recovery), or default_transaction_read_only is on for the server, the database or the role. Point database.url at the primary, with target_session_attrs or a service name that follows a failover; or switch the setting off.";
    MIGRATIONS = "E-DBS-011", 1, "migrations are missing",
        "The tables are older than this program, or not there at all. `cloud migrate plan` shows the SQL, `cloud migrate up` applies it; `cloud run` refuses to start before, unless told --auto-migrate.";
    NO_TIMESCALE = "E-DBS-012", 1, "TimescaleDB is required and not in this database",
        "database.timescale is `require` (ENABLE_TIMESCALE=true) and the extension is not there. Let an administrator install it, add it to shared_preload_libraries, restart the server and run `CREATE EXTENSION timescaledb`; or set database.timescale to auto and use ordinary tables.";
    ORDINARY = "E-DBS-013", 1, "TimescaleDB is required and the tables are ordinary ones",
        "They were made before the extension was there, or with database.timescale = off. Migrate into a database that has the extension, or set database.timescale to auto.";
    NO_RIGHT = "E-DBS-014", 1, "the database user lacks a privilege",
        "A statement that the processor runs would be refused (SQLSTATE 42501), and it stops consuming until that is mended. Table and privilege are named. Simplest is to let the processor's role own the tables; otherwise GRANT what docs/cloud-check.md lists.";
    COMMIT_LOST = "E-DBS-015", 4, "a commit may be lost with the power",
        "fsync, full_page_writes or synchronous_commit is off: PostgreSQL says that rows are stored before they are on its disk. Entries are acknowledged and spools released on its word, so a crash there loses records that nobody sends again. Switch it on; `SHOW` and pg_settings tell where it was set.";
    APACHE = "W-DBS-101", 0, "TimescaleDB runs with its Apache licence",
        "Hypertables work; columnstore, retention jobs and continuous aggregates do not, so the tables stay about ten times as large and store.compress_after has no effect. Set timescaledb.license = timescale on the server when its terms suit you.";
    TIMESCALE_OLD = "W-DBS-102", 0, "this TimescaleDB is old",
        "Versions up to 2.17 had errors with unique keys on compressed chunks, by which a record can be stored twice or refused. Update the extension to 2.18 or newer.";
    AVAILABLE = "W-DBS-103", 0, "TimescaleDB is installed and not in this database",
        "The server has it, this database does not use it. Before the first migration an administrator may run `CREATE EXTENSION timescaledb` here; afterwards the tables stay ordinary ones. Where that is meant, set database.timescale = off.";
    STAYED_ORDINARY = "W-DBS-104", 0, "the tables are ordinary ones although TimescaleDB is there",
        "They were made before the extension. Everything works without chunks, columnstore and continuous aggregates. To have them, migrate into a database that has the extension.";
    POOL = "W-DBS-105", 0, "fewer connections are free than database.pool",
        "max_connections less the reserved ones less those in use is below what this processor opens: two for itself and database.pool. Several processors need as many each. Lower database.pool, close idle sessions, or raise max_connections.";
    JOB = "W-DBS-106", 0, "a policy of TimescaleDB fails",
        "A job that compresses, drops or aggregates has ended with an error, so chunks grow on. timescaledb_information.job_errors says why; out of memory, too few background workers (timescaledb.max_background_workers) and a missing right of the owner are usual.";
    ISOLATION = "W-DBS-107", 0, "transactions are stricter than needed",
        "default_transaction_isolation is not `read committed`: processors that write side by side then abort one another (SQLSTATE 40001) and try again. Nothing is lost, time is. `ALTER ROLE … SET default_transaction_isolation = 'read committed'`.";
    TIME_ZONE = "W-DBS-108", 0, "the database does not count days in UTC",
        "This database has a TimeZone of its own. Times are stored as instants and the processor works in UTC, so no row is wrong. What cuts days or hours without naming a zone (the view ledger, date_trunc in your own queries) cuts them in this one, while continuous aggregates cut in UTC. `ALTER DATABASE … SET timezone = 'UTC'`.";
    DEAD_LETTERS = "W-DBS-109", 0, "dead letters were written lately",
        "Something came in that nobody can read or that the database refuses. It is kept with its bytes and the reason in the table dead_letters: `SELECT error_class, reason, count(*) FROM dead_letters GROUP BY 1, 2`.";
    CHUNKS = "W-DBS-110", 0, "there are very many chunks",
        "Every query that names no time opens them all. Widen store.chunk_interval (7d for a small fleet), or set store.retention. A device with a wrong clock can make chunks by itself: look at the dates of the oldest and newest.";
    OTHER_VERSION = "W-DBS-111", 0, "another version of this program has migrated the database",
        "It holds migrations that this binary does not have, or has with another text. Usually the binary is older than the database: update it. A text that differs means that a released migration was edited.";
    ENCODING = "W-DBS-112", 0, "the database is not encoded in UTF-8",
        "Text that trackers send may not be expressible and becomes a dead letter. A database keeps its encoding for life: make a new one with `ENCODING 'UTF8'`.";
}
