//! Codes of the serial lines.

codes::pages! {
    MISSING = "E-SER-001", 1, "a serial line is not there",
        "listen.serial names a device that does not exist now: the adapter is not plugged in, its driver is not loaded, or it has another number than last time. The gateway waits for it and opens it when it comes. `ls -l /dev/serial/by-id` shows names that stay with the adapter; use one of those. A device that is listed and answers nothing is a port without a plug, as many of /dev/ttyS0 to /dev/ttyS31 are.";
    DENIED = "E-SER-002", 1, "the right to a serial line is missing",
        "The device exists, and this user may not read and write it. On Debian and its kin serial ports belong to the group dialout: `usermod -aG dialout milepost`, then restart the service. The delivered unit hides all devices; deploy/board.conf opens those that are needed and adds the group.";
    BUSY = "E-SER-003", 1, "another program holds a serial line",
        "A port has one reader, or each of two gets a part of the bytes. Usual ones are a login on the console (`systemctl disable --now serial-getty@ttyS0`, and the kernel's console= parameter), ModemManager, which tries every new port (a udev rule with ENV{ID_MM_DEVICE_IGNORE}=\"1\" keeps it away), gpsd, or a terminal that was left open. `fuser -v /dev/ttyUSB0` shows who.";
    NO_PORT = "E-SER-004", 1, "what listen.serial names cannot be used as a serial line",
        "It is a file, a directory or another kind of device, or the system refuses it for a reason that is printed. `ls -l` of the path shows what it is: a serial line begins with c. Correct the path; names below /dev/serial/by-id always are serial lines.";
    SPEED = "E-SER-005", 1, "a serial line does not run at this speed",
        "The driver refuses the speed or comes no nearer than three percent to it. Set one that both ends have behind the @ of listen.serial: 9600, 38400 and 115200 are usual.";
}
