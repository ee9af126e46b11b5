//! Codes of the socket at which gateways deliver without Redis.

codes::pages! {
    NO_SOCKET = "E-SOC-001", 2, "what spool.socket names is a file of another kind",
        "At that path lies something that is no socket, and nothing of somebody else's is ever removed. Name another path, in a directory that is made anew at every boot such as /run/milepost-cloud.";
    DIRECTORY = "E-SOC-002", 2, "the directory of the socket is missing or not ours",
        "`cloud run` makes the socket, a lock beside it, and renames it into place, so its user must be able to write to the directory. Directories under /run are gone after a boot: let systemd make it (RuntimeDirectory=milepost-cloud).";
}
