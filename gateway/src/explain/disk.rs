//! Codes of the spool's directory and disk.

codes::pages! {
    UNUSABLE = "E-DSK-001", 2, "the spool's directory cannot be used",
        "spool.dir cannot be made, is a file, or is not writable for this user. Records are acknowledged only when they are in the spool, so the gateway does not start without it. Run the check as the user the gateway runs as: `sudo -u milepost gateway check`. `install -d -o milepost /var/lib/milepost/spool` makes the directory with the right owner.";
    READ_ONLY = "E-DSK-002", 4, "the disk of the spool is read-only",
        "Either it was mounted so, or the system did that after errors: SD cards at the end of their life end this way. `dmesg` tells which. Trackers keep their records meanwhile, as long as their memory lasts. Replace the card; `gateway spool export` on another machine saves what it still holds.";
    OWNED = "E-DSK-003", 2, "the spool belongs to another gateway",
        "A spool keeps records under the name of the gateway that received them, and the cloud settles them under that name. Set gateway.id to the owner when the box was replaced, or give this gateway a directory of its own.";
    CAP_SMALL = "E-DSK-004", 2, "spool.bytes_max is too small to work",
        "The spool needs a few segments in reserve for alarms and for mending itself. 8MiB is the least; a gibibyte holds some twenty-seven million records.";
    DISK_SMALL = "E-DSK-005", 1, "the disk is smaller than spool.bytes_max",
        "The spool may grow to spool.bytes_max, and the disk would be full before that. Then nothing more is acknowledged, although the settings promise more days offline. Free some space, use a larger disk, or lower spool.bytes_max to what there is.";
    LOST = "E-DSK-006", 4, "places in the spool are damaged",
        "Records that were acknowledged cannot be read any more: after a fault of the disk, or because somebody removed a file. They are listed with their positions, reported to the cloud and counted, never silent. `gateway spool verify` reads everything and says what is lost where. Mistrust the disk.";
    FILES = "E-DSK-007", 4, "the spool's files cannot be read",
        "A file in the spool's directory cannot be opened, names no owner, or was written by a later version of the gateway. The message says which. Nothing is thrown away because of it.";
    WRITE = "E-DSK-008", 4, "writing to the spool's disk fails",
        "A small file was written and synced in the spool's directory, and the system refused. Nothing could be acknowledged. `dmesg` shows errors of the disk; a quota shows in `quota`.";
    SLOW = "W-DSK-101", 0, "the disk takes long to sync",
        "Every acknowledgement waits for fdatasync. One in a hundred took longer than a quarter of a second here: many trackers still share one sync, but a lone one waits that long. Usual for SD cards; spool.commit_interval_min spares them. A failing card looks the same.";
    MEMORY = "W-DSK-102", 0, "the spool is in memory, not on a disk",
        "The directory is on a tmpfs: everything in it is gone when the machine restarts, acknowledged records too. Fine for a trial; for a promise name a directory on a disk.";
    SHORT = "W-DSK-103", 0, "the spool lasts less than a day offline",
        "With a hundred devices and one record every ten seconds each, spool.bytes_max is filled in less than a day without a link. Raise it if the disk allows. When it is full, spool.full decides: trackers keep their records (refuse), or the oldest are given up.";
}
