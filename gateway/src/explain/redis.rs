//! Codes of the way to Redis and of what we may do there.

codes::pages! {
    NAME = "E-RED-001", 3, "the name of the Redis host cannot be resolved",
        "No address is known for the host in uplink.url: a slip of the finger, or this machine's name server does not answer. `getent hosts NAME` asks the same way. Trackers are acknowledged meanwhile, the spool keeps everything.";
    REFUSED = "E-RED-002", 3, "nobody listens on the port of Redis",
        "The host answered that the port is closed. Redis is down, listens on another port (6379 plain, 6380 for TLS are usual) or on another address (`bind`), or a container does not publish it.";
    SILENT = "E-RED-003", 3, "no answer from the Redis host",
        "Nothing came back in five seconds: a firewall that drops packets, a wrong address, a tunnel that is down, or a machine that hangs.";
    OTHER_CA = "E-RED-004", 3, "the server's certificate is not signed by the authority we trust",
        "uplink.ca (or the system's list, when it is not set) does not vouch for who answers. Usually uplink.ca is the file of another installation. If it is the right one, somebody else is answering in Redis's place.";
    OTHER_NAME = "E-RED-005", 3, "the server's certificate is for another name",
        "Who answers is vouched for, but not under the name in uplink.url. Use one of the names in the certificate (they are printed), or issue one that holds this name or address as a subject alternative name.";
    SERVER_EXPIRED = "E-RED-006", 3, "the server's certificate is expired or not yet valid",
        "Renew the certificate of Redis (`CONFIG SET tls-cert-file` reads a new one without a restart). When it ought to be valid, look at the clock of this machine.";
    PLAIN_PORT = "E-RED-007", 3, "TLS is asked from a port that speaks plain Redis",
        "The address says rediss://, and the port answers without TLS. Use the port that tls-port names in Redis's configuration, or redis:// where the way is safe otherwise.";
    TLS_PORT = "E-RED-008", 3, "plain Redis is asked from a port that speaks TLS",
        "The address says redis://, and the port wants TLS. Write rediss:// with two s, and set uplink.ca, uplink.cert and uplink.key as the server needs them.";
    CLIENT_REFUSED = "E-RED-009", 3, "the server refuses our certificate",
        "Redis wants a client certificate (tls-auth-clients) and was given none, or one that it does not accept: signed by an authority it does not know, or expired. Set uplink.cert and uplink.key to files issued by the authority in Redis's tls-ca-cert-file.";
    LOGIN = "E-RED-010", 3, "user or password is wrong",
        "Redis answered WRONGPASS or NOAUTH: the password is wrong or missing, the user does not exist or is off, or the user `default` was meant. Look at `ACL LIST` on the server. A password with @, / or # must be percent-encoded in a URL.";
    OLD = "E-RED-011", 1, "this Redis is too old",
        "Version 7.0 or newer is needed (or Valkey): older ones do not tell how far a group lags behind, and rights to read and to write cannot be told apart.";
    NO_RIGHT = "E-RED-012", 1, "the Redis user may not append to the stream",
        "XADD on the telemetry stream is refused. The user needs %W~telemetry:* and +xadd, or the stream was renamed (REDIS_TELEMETRY_STREAM) and the rights were not. Nothing is lost: the spool keeps everything until it may.";
    REPLICA = "E-RED-013", 1, "this Redis is a replica",
        "A replica takes no entries. Point uplink.url at the master; after a failover that may be another machine than before.";
    FULL = "E-RED-014", 1, "Redis is out of memory",
        "It has reached maxmemory and refuses entries, which is right: the spool keeps them. See whether the cloud processor reads and trims (`cloud status`), then give Redis more memory.";
    MISCONF = "E-RED-015", 1, "Redis cannot write to its disk",
        "It refuses every write (MISCONF) until a snapshot succeeds: its disk is full, its directory is not writable, or its file system is read-only. Its log says which.";
    LOADING = "E-RED-016", 3, "Redis is loading its data",
        "It was started a moment ago and reads its files. Wait; the gateway tries again by itself.";
    FEW_REPLICAS = "E-RED-017", 1, "Redis has too few replicas to accept writes",
        "min-replicas-to-write asks for more replicas than are connected. Bring them back, or lower it, knowing what it protects.";
    CLUSTER = "E-RED-018", 1, "this address is one node of a Redis Cluster",
        "The stream lives on another node (MOVED), or the cluster is down (CLUSTERDOWN). Set uplink.cluster = true, or several nodes in uplink.url; in a cluster that is down, bring the missing masters back.";
    CONTRACT = "E-RED-019", 1, "the cloud does not read what this gateway writes",
        "The cloud has published the entry versions it reads, and ours is not among them. The gateway keeps everything in the spool and sends nothing. Update the cloud first, or put an older gateway back.";
    NO_REDIS = "E-RED-020", 3, "what answers is no Redis",
        "Something listens there and speaks another language: a web server, SSH, a proxy in between. Look at the port.";
    EVICTION = "E-RED-021", 4, "Redis may throw away whole streams",
        "maxmemory-policy is not noeviction: at the limit Redis would delete streams and their groups to make room, silently. `CONFIG SET maxmemory-policy noeviction`; a cache needs a Redis of its own.";
    RIGHTS = "E-RED-022", 1, "the Redis user lacks a right beside XADD",
        "The gateway renews its sign of life (SET instance:heartbeat:ID), reads the contract (HGET contract) and what is settled (HMGET floor:ID). Without these it does not send. The rights are listed in docs/gateway.md.";
    NO_STREAM = "E-RED-023", 1, "the name of the stream is taken by another kind of key",
        "Under the telemetry stream's name lies a list, a hash or a text. XADD fails for ever. Rename or remove that key, or set uplink.stream on both sides.";
    UNUSABLE = "E-RED-024", 3, "Redis answers with an error",
        "None of the errors that have a page of their own; the answer is printed. `ERR DB index is out of range` means that the number behind the last / of the address is too large, `max number of clients reached` speaks for itself.";
    COMMANDS = "E-RED-025", 1, "the Redis user lacks a right that commands need",
        "Records are sent all the same; only orders for trackers do not arrive, or what became of them cannot be said. The gateway reads its own stream (XGROUP CREATE, XREADGROUP, XACK on commands:outbound:ID), answers (XADD commands:responses) and keeps the registry of connections (EVALSHA and SCRIPT LOAD, HSET, HGET, HDEL). The rights are listed in docs/gateway.md. Where no commands are wanted, set commands.enabled = false.";
    NO_CONTRACT = "W-RED-101", 0, "no cloud processor has published the contract",
        "The hash `contract` is not there: the cloud has never run on this Redis, or it was emptied a moment ago. The gateway goes on; entries wait in the stream until somebody reads them.";
    MAY_READ = "W-RED-102", 0, "the Redis user may read the stream",
        "A gateway only appends. With a user that may do no more, whoever steals the box cannot read the fleet's positions. The rights it needs are listed in docs/gateway.md.";
    PLAIN = "W-RED-103", 0, "the way to another machine is not encrypted",
        "redis:// sends positions and the password in the clear. Inside a tunnel or a private network of containers that may be meant; otherwise use rediss://.";
    NO_FILE = "W-RED-104", 0, "Redis keeps nothing over a restart",
        "Neither the append-only file nor snapshots are on. The gateway sends again what the database has not stored, so nothing is lost, but a restart costs that time and traffic. `appendonly yes`, `appendfsync everysec`.";
    NO_INFO = "W-RED-105", 0, "the Redis user may not ask for INFO",
        "Version, memory policy, role and persistence could not be looked at. Allow +info to have them checked.";
    ALMOST_FULL = "W-RED-106", 0, "Redis is almost out of memory",
        "More than three quarters of maxmemory are used. See whether the cloud processor keeps up, or give it more.";
}
