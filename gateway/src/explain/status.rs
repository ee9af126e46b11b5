//! Codes of the questions to a running gateway.

codes::pages! {
    NOBODY = "E-STA-001", 3, "no gateway answers",
        "The commands status, device ls and learn, cmd ls and cancel, events, tap and support ask the running gateway at http.listen. It does not run, or was started with another http.listen; give the same --config, or the same environment, as the service has.";
    NO_PAGES = "E-STA-002", 2, "http.listen is empty",
        "This gateway serves no pages, so it cannot be asked. Set http.listen to 127.0.0.1:8080 and restart it.";
    STRANGER = "E-STA-003", 3, "what answers is no gateway",
        "At http.listen another program answers, or a gateway of another version that does not know this page. Look at the port: `ss -ltnp`.";
    NO_DEVICES = "E-STA-004", 3, "this gateway does not list its devices",
        "The running gateway has no page with devices: it is older than this command. Restart it with the new binary.";
    NO_COMMANDS = "E-STA-005", 3, "this gateway does not list its commands",
        "The running gateway has no page with commands: it is older than this command. Restart it with the new binary.";
    NO_CHANGE = "E-STA-006", 3, "the gateway takes no changes from here",
        "Orders are taken back and the learn window is opened only from the machine itself, over a loopback address, so that no page in somebody's browser can do it. Set http.listen to a loopback address such as 127.0.0.1:8080 (0.0.0.0 includes it), log in on the machine, and try again.";
    TOO_LATE = "E-STA-007", 1, "the order does not wait any more",
        "Only an order that waits for its tracker can be taken back. This one is on its way, or was: bytes that may be in a tracker's socket cannot be called back. What becomes of it is reported to the cloud; `gateway cmd ls` shows it too.";
    NO_ORDER = "E-STA-008", 1, "no such order is here",
        "This gateway holds no order of that id, nor did one end here lately. It may be at another gateway, or not have been given out yet: ask the cloud. `gateway cmd ls` lists what is here; ids are written in full.";
    NO_WINDOW = "E-STA-009", 1, "there is no learn window",
        "The learn window belongs to access.mode = learn. In the mode list, trackers are let in one by one with `gateway device allow IMEI`; in the mode open, everybody is in already.";
    NOT_LEARNED = "E-STA-010", 4, "the learn window could not be written down",
        "The gateway could not write the file that counts the learn window, beside access.learned, so the window is as it was: opened without that, a restart would open it again. Look at the disk and at who owns the directory.";
    NO_EVENTS = "E-STA-011", 3, "this gateway does not list its events",
        "The running gateway has no page with events: it is older than this command. Restart it with the new binary.";
}
