//! Codes of the Redis that carries the streams.

codes::pages! {
    NAME = "E-RDS-001", 3, "the name of the Redis host cannot be resolved",
        "No address is known for the host in redis.url: a slip of the finger, or this machine's name server does not answer. `getent hosts NAME` asks the same way. In a compose file the host is the name of the service.";
    REFUSED = "E-RDS-002", 3, "nobody listens on the port of Redis",
        "The host answered that the port is closed. Redis is down, listens on another port (6379 plain, 6380 for TLS are usual) or on another address (`bind`), or the two containers are in no common network.";
    SILENT = "E-RDS-003", 3, "no answer from Redis",
        "Nothing came back in five seconds: a firewall that drops packets, a wrong address, or a machine that hangs (a full disk and a long script do that). Gateways keep everything in their spools meanwhile.";
    OTHER_CA = "E-RDS-004", 3, "the certificate of Redis is not signed by the authority we trust",
        "redis.ca (or the system's list, when it is not set) does not vouch for who answers. Usually redis.ca is the file of another installation. If it is the right one, somebody else is answering in Redis's place.";
    OTHER_NAME = "E-RDS-005", 3, "the certificate of Redis is for another name",
        "Who answers is vouched for, but not under the name in redis.url. Use a name that stands in the certificate, or issue one that holds this name or address as a subject alternative name.";
    SERVER_EXPIRED = "E-RDS-006", 3, "the certificate of Redis is expired or not yet valid",
        "Renew it (`CONFIG SET tls-cert-file` reads a new one without a restart). When it ought to be valid, look at the clock of this machine.";
    OTHER_PORT = "E-RDS-007", 3, "TLS on one side and plain Redis on the other",
        "The address says rediss:// and the port speaks without TLS, or the other way round. Use the port that tls-port names in Redis's configuration with rediss://, the one that port names with redis://. Also seen where something that is no Redis listens: a web server, SSH, a proxy.";
    CLIENT_REFUSED = "E-RDS-008", 3, "Redis refuses our certificate",
        "Redis wants a client certificate (tls-auth-clients) and was given none, or one that it does not accept: signed by an authority it does not know, or expired. Set redis.cert and redis.key to files issued by the authority in Redis's tls-ca-cert-file.";
    LOGIN = "E-RDS-009", 3, "user or password is wrong",
        "Redis answered WRONGPASS or NOAUTH: the password is wrong or missing, the user does not exist or is off, or the user `default` was meant. Look at `ACL LIST` on the server. A password with @, / or # must be percent-encoded in a URL; with REDIS_PASSWORD that is done for you.";
    OLD = "E-RDS-010", 1, "this Redis is too old",
        "Version 7.0 or newer is needed (or Valkey): older ones do not tell how far a group lags behind, nor which pending entries were deleted.";
    NO_RIGHT = "E-RDS-011", 1, "the Redis user lacks a right that the processor needs",
        "Redis answered NOPERM to a command that `cloud run` gives. Without reading and acknowledging nothing is stored; without HSET on contract and floor:… gateways do not learn what they may send and forget. The finding names command, key and the rule to add; docs/cloud-check.md has the whole line.";
    REPLICA = "E-RDS-012", 1, "this Redis is a replica",
        "A replica hands out no entries and takes no acknowledgements. Point redis.url at the master; after a failover that may be another machine than before.";
    FULL = "E-RDS-013", 1, "Redis is out of memory",
        "It has reached maxmemory and refuses entries, which is right: gateways keep them in their spools. Reading, acknowledging and trimming still work, so a processor that keeps up makes room. See why it does not (`cloud status`), then give Redis more memory.";
    MISCONF = "E-RDS-014", 1, "Redis cannot write to its disk",
        "It refuses every write (MISCONF), reading as a group included, until a snapshot succeeds: its disk is full, its directory is not writable, or its file system is read-only. Its log says which.";
    EVICTION = "E-RDS-015", 4, "Redis may throw away whole streams",
        "maxmemory-policy is not noeviction: at the limit Redis would delete streams and their groups to make room, silently. `CONFIG SET maxmemory-policy noeviction`; a cache needs a Redis of its own.";
    CLUSTER = "E-RDS-016", 1, "this address is one node of a Redis Cluster",
        "Redis answered MOVED, ASK, CROSSSLOT or CLUSTERDOWN: the stream lives on another node, or masters are missing. Read it as a cluster, where this version can, or bring the missing masters back.";
    UNUSABLE = "E-RDS-017", 3, "Redis answers with an error",
        "None of the errors that have a page of their own; the answer is printed. `ERR DB index is out of range` means that the number behind the last / of the address is too large, `max number of clients reached` speaks for itself, LOADING goes by itself.";
    LAST_WRITE = "E-RDS-018", 4, "Redis failed to write its file the last time",
        "What it holds in memory is not on its disk, so a restart now loses entries, pending entries and groups. Gateways send again what is not stored, as far as they still keep it. Look at its disk, at `dir` and at its log; `BGREWRITEAOF` or `BGSAVE` tries again.";
    FILE = "E-RDS-019", 2, "certificate files for Redis cannot be used",
        "redis.cert, redis.key or redis.ca is not there, not readable for this user, or not PEM. The three are written together: certificate and key of one client, and the authority that signed Redis's certificate.";
    URL = "E-RDS-020", 2, "the address of Redis cannot be understood",
        "redis.url wants rediss://user:password@host:port/0, or redis:// inside one machine. Characters such as @, / or # in a password must be percent-encoded (%40, %2F, %23); with REDIS_HOST, REDIS_USERNAME and REDIS_PASSWORD given one by one that is done for you.";
    FEW_REPLICAS = "E-RDS-021", 1, "Redis has too few replicas to accept writes",
        "min-replicas-to-write asks for more replicas than are connected. Bring them back, or lower it, knowing what it protects.";
    PLAIN = "W-RDS-101", 0, "the way to another machine is not encrypted",
        "redis:// sends positions and the password in the clear. Inside a tunnel or a private network of containers that may be meant; otherwise use rediss://.";
    NO_FILE = "W-RDS-102", 0, "Redis keeps no append-only file",
        "Without it a crash of Redis loses what came since the last snapshot, pending entries and groups included. Gateways send again what the database has not stored, so nothing is lost while they keep it, but that costs time and traffic. `CONFIG SET appendonly yes`, `appendfsync everysec`, and the same in its file.";
    NO_LIMIT = "W-RDS-103", 0, "Redis has no memory limit",
        "maxmemory is 0: a long outage of the database fills the machine until the kernel kills Redis. With a limit Redis refuses entries instead, and gateways keep them. Set it to about three quarters of the machine.";
    ALMOST_FULL = "W-RDS-104", 0, "Redis is almost out of memory",
        "More than three quarters of maxmemory are used. See whether the processor keeps up (`cloud lag`), whether another group on the stream stands still (it keeps entries from being trimmed), or give Redis more.";
    FOREIGN = "W-RDS-105", 0, "others keep keys in this Redis",
        "A cache wants eviction and may be flushed, a queue must not lose a thing; one instance cannot be both, and what the others fill is missing here. Give the streams an instance of their own. Databases with other numbers share memory, policy and files all the same.";
    HUGE_PAGES = "W-RDS-106", 0, "transparent huge pages are always on",
        "On the machine of Redis every write after a fork then copies 2 MiB instead of 4 KiB: latency spikes and double memory while it saves. `echo madvise > /sys/kernel/mm/transparent_hugepage/enabled`, and make it stay over a restart.";
    OVERCOMMIT = "W-RDS-107", 0, "the kernel may refuse Redis the fork it saves with",
        "vm.overcommit_memory is not 1, so a snapshot or rewrite can fail although there is enough memory; after a failed snapshot Redis refuses writes. `sysctl vm.overcommit_memory=1`, and write it to /etc/sysctl.d.";
    OPEN = "W-RDS-108", 0, "Redis listens to everybody without TLS",
        "bind has no address or 0.0.0.0, protected-mode is off and there is no TLS port: whoever reaches the port can try passwords, and everything goes in the clear. Bind it to an internal address or switch TLS on.";
    NO_INFO = "W-RDS-109", 0, "the Redis user may not look at the server",
        "INFO or CONFIG GET is not allowed to this user, so version, memory, files or exposure could not be looked at. Allow the commands INFO and CONFIG GET to have them checked.";
}
