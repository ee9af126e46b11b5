//! Codes of the addresses to listen on.

codes::pages! {
    TAKEN = "E-NET-001", 3, "an address is taken by another program",
        "Another process listens on this address and port, and it is not the gateway that holds our spool: an older gateway with another spool.dir, or something else altogether. `ss -ltnp` (or -lunp for UDP) shows which one. Stop it, or set another port here and in the trackers.";
    NOT_OURS = "E-NET-002", 3, "an address that this machine does not have",
        "Listening needs an address of this machine; the public address of a router in front of it is none. 0.0.0.0 listens on all IPv4 addresses, [::] on all. `ip addr` shows what there is. An address that arrives later, by DHCP or VPN, needs the service to be started after it.";
    RIGHTS = "E-NET-003", 2, "a port below 1024 without the right to it",
        "Ports below 1024 are for root or for a process with CAP_NET_BIND_SERVICE. Use a port above (5027 is usual for trackers), or give the service AmbientCapabilities=CAP_NET_BIND_SERVICE.";
    REFUSED = "E-NET-004", 3, "the system refuses an address",
        "Binding failed for a reason of the system's, which is printed. An IPv6 address on a machine with IPv6 switched off is a usual one.";
    NOBODY = "E-NET-005", 2, "no address for trackers",
        "The lists of listen.… are empty, so no tracker could ever connect. Set listen.tcp, for example to [\"0.0.0.0:5027\"].";
    LOOPBACK = "W-NET-101", 0, "only this machine can reach the tracker port",
        "An address that begins with 127., or [::1], is reachable from inside this machine alone. That is right behind a proxy or tunnel on the same machine and for tests; trackers need 0.0.0.0 or an address they can reach.";
    PAGES_OPEN = "W-NET-102", 0, "the status page is open to the network",
        "http.listen serves /status and /metrics without a password. They hold no secrets, but say which devices there are. Keep it on 127.0.0.1 and reach it through SSH or a proxy, or put a firewall in front of it.";
}
