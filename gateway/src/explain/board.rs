//! Codes of the board: light, watchdog, supply, wear.

codes::pages! {
    PROFILE = "E-BRD-001", 2, "there is no such board",
        "board.profile names a board that this gateway does not know, or the file in board.file is no profile. `generic` fits every machine and drives nothing. To describe a board of your own, copy the profile nearest to it, change what differs, and name the file in board.file; docs/hardware.md lists every key.";
    WATCHDOG = "E-BRD-002", 1, "the hardware watchdog cannot be used",
        "The profile names a watchdog, and its device cannot be opened: the driver is not loaded, this user may not write it, or another program holds it. systemd does when RuntimeWatchdogSec is set. The gateway runs without it, and then nothing resets the box when the system hangs. Load the driver, give the gateway's group the right to write the device by a udev rule, or take [watchdog] out of the profile.";
    POWER_INPUT = "E-BRD-003", 1, "the power-fail input cannot be read",
        "The profile names an input that tells of a supply that goes, and it cannot be read: there is no such chip, line or file, or another program holds the line (`gpioinfo` shows who). The gateway runs without the warning; nothing acknowledged is lost by that, because an acknowledgement always comes after the disk. Correct the profile.";
    LIGHT = "W-BRD-101", 0, "the status light cannot be written",
        "The profile names a lamp that is not there or that this user may not write. The gateway runs without it. `ls /sys/class/leds` lists the lamps of this kernel; a udev rule gives the gateway's group the right to write `brightness` and `trigger`.";
    TIMEOUT = "W-BRD-102", 0, "the watchdog does not wait as long as was asked",
        "The device cannot wait as long as the profile says, or does not tell how long it waits. It is used all the same and fed four times within its own time, or within that of the profile where it tells none. Write a time the device can do into the profile.";
    WORN = "W-BRD-103", 0, "the eMMC is nearly worn out",
        "It says itself that more than nine tenths of its life are used, or that four fifths of its spare blocks are. It goes read-only when they are gone. Replace it before that; spool.commit_interval_min spares it meanwhile. Nothing that was acknowledged is lost while it can be read.";
    SUPPLY_LOW = "W-BRD-104", 0, "the board finds its supply too low",
        "The board measures less than it needs: a weak supply, a long thin cable, or a load beside it. It slows down, loses writes to its card or restarts at the next peak. Use the supply made for it.";
    NO_WAY_OUT = "W-BRD-105", 0, "the watchdog cannot be stopped",
        "This kernel is made so that a watchdog, once opened, runs until it resets the board (nowayout). Then stopping the gateway resets the board when the watchdog's time is over, unless the gateway is started again before. Stop it that way only if you want that, or boot with the driver's nowayout=0.";
}
