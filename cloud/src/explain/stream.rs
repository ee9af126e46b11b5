//! Codes of the streams, their group and who reads them.

codes::pages! {
    OTHER_CONTRACT = "E-STR-001", 1, "another processor has published a contract that is not ours",
        "The hash `contract` tells gateways which entry versions are read here, and it does not say what this program reads. An older processor still runs beside this one, or this one is the older. Gateways write what the hash says; run one version, the newest.";
    NEWER = "E-STR-002", 1, "the stream holds entries of a newer version",
        "The newest entry is of a version that this program cannot read. It would be left pending, never skipped, and nothing behind it waits. Update this processor.";
    NO_STREAM = "E-STR-003", 1, "the name of the stream is taken by another kind of key",
        "Under the stream's name lies a list, a hash or a text, so neither gateways can append nor can we read. Rename or remove that key, or set stream.name here and uplink.stream at the gateways.";
    SKIPPED = "E-STR-004", 4, "the group begins behind entries that nobody has read",
        "It was created at `$` or set to an id by hand, so everything before that is skipped. Gateways send it again as long as they keep it, because nothing says that it was stored. `XGROUP SETID stream group 0` reads it at once; what was stored before is recognised and costs nothing but time.";
    TRIM_LOSS = "E-STR-005", 4, "entries were trimmed before they were read",
        "More entries are gone than the group has read: somebody used XADD with MAXLEN, XTRIM or XDEL on a stream that was not read to its end. Gateways send them again as long as they keep them. The processor trims by itself, behind all groups; nothing else must.";
    TRIMMED = "E-STR-006", 4, "somebody else trims the stream",
        "Entries vanish that the processor would not trim: younger than stream.keep, or still pending. With the next pause in reading they will vanish unread. Look for XADD with MAXLEN among the writers (gateways do not use it) and for scripts with XTRIM; `MONITOR` shows who.";
    DRIFT = "E-STR-007", 1, "entries arrive in a stream that nobody reads, and none in ours",
        "Gateways write to another stream than this processor reads: a default that drifted, a renamed stream, other shards. Everything looks well on both sides and not one row is written. Set stream.name here and uplink.stream at the gateways (or REDIS_TELEMETRY_STREAM on both sides) to the same name.";
    NO_CONTRACT = "W-STR-101", 0, "no processor has published the contract",
        "The hash `contract` is not there: no processor has ever run on this Redis, or it was emptied a moment ago. `cloud run` publishes it at its start; gateways go on meanwhile.";
    NO_GROUP = "W-STR-102", 0, "the consumer group is not there yet",
        "`cloud run` creates it at 0, so that it reads everything there is. If it was there before, Redis has lost data; gateways send again what is not stored.";
    OLD_LOSS = "W-STR-103", 0, "entries were trimmed unread some time ago",
        "Redis counts entries that are gone and that the group never read. What lies before us now is whole, so it happened earlier. Gateways have sent them again, or will, as far as they keep them. Redis goes on counting them until the stream is made anew.";
    UNREAD = "W-STR-104", 0, "a telemetry stream that nobody reads",
        "Beside ours there is a stream with entries and without our group: another vendor's, another installation's, or left over from a renaming. Add it to stream.names or set stream.pattern when it is to be read, delete it when not: it takes memory.";
    NOTHING_COMES = "W-STR-105", 0, "gateways are alive and nothing has ever arrived",
        "Heartbeats of gateways are there, and the stream has never had an entry. That is right while no tracker has sent a thing. Otherwise look at `gateway status` and at the stream's name on both sides.";
    LEFT = "W-STR-106", 0, "entries lie with a consumer that is silent",
        "A processor was handed entries, did not acknowledge them and has not asked since. Another one takes them over after stream.claim_after, when one runs. If none does, start it; when a name has changed at every start, set stream.consumer.";
    NOBODY = "W-STR-107", 0, "nobody reads, and entries wait",
        "There are unread entries and no consumer of the group has asked for a minute: no processor runs, or it waits for the database. `cloud run`, or `cloud status` and its log.";
}
