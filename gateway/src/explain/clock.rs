//! Codes of the clock.

codes::pages! {
    PAST = "E-CLK-001", 1, "the clock is before the birth of this program",
        "The machine thinks it is a time when this program did not exist. Boards without a battery start in 1970 until they have heard of the time. Certificates are then not yet valid and the time of reception is wrong; records keep the tracker's own time. Give the box a time server (`timedatectl`), or a clock with a battery.";
    FUTURE = "E-CLK-002", 1, "the clock is far in the future",
        "The machine's year is beyond anything plausible. Certificates look expired and commands too. Set the clock (`timedatectl set-ntp true`).";
    WRONG = "E-CLK-003", 1, "the clock is minutes away from that of Redis",
        "More than five minutes lie between this machine's clock and that of Redis. One of the two is wrong; compare both with a time server. The time of reception would be wrong and commands would expire too early or too late.";
    OFF = "W-CLK-101", 0, "the clock is seconds away from that of Redis",
        "More than two seconds lie between this machine's clock and that of Redis, more than the way there explains. Delays in the reports are wrong by as much. Both should follow a time server.";
}
