//! Codes of the way to a cloud on the same machine.

codes::pages! {
    NOBODY = "E-DIR-001", 3, "no cloud takes entries at the socket",
        "uplink.url names a Unix socket (unix:/path) and nobody listens there: the cloud is not running, was started without spool.socket or --from-spool, or serves another path. Trackers are acknowledged meanwhile, the spool keeps everything.";
    NO_WAY = "E-DIR-002", 3, "this user may not use the socket",
        "The socket has mode 0660 and belongs to the cloud's user and group, and every directory above it must let this user through. Run both as one user, or make the gateway's a member of that group.";
    STRANGER = "E-DIR-003", 3, "what answers at the socket is no such cloud",
        "Somebody listens there and does not know the greeting of a gateway: a Redis (its address is redis+unix:///path), another program, or a cloud of a version that takes no entries itself.";
}
