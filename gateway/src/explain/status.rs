//! Codes of the questions to a running gateway.

super::declare! {
    NOBODY = "E-STA-001", 3, "no gateway answers",
        "The commands status, device ls, cmd ls and tap ask the running gateway at http.listen. It does not run, or was started with another http.listen; give the same --config, or the same environment, as the service has.";
    NO_PAGES = "E-STA-002", 2, "http.listen is empty",
        "This gateway serves no pages, so it cannot be asked. Set http.listen to 127.0.0.1:8080 and restart it.";
    STRANGER = "E-STA-003", 3, "what answers is no gateway",
        "At http.listen another program answers, or a gateway of another version that does not know this page. Look at the port: `ss -ltnp`.";
    NO_DEVICES = "E-STA-004", 3, "this gateway does not list its devices",
        "The running gateway has no page with devices: it is older than this command. Restart it with the new binary.";
    NO_COMMANDS = "E-STA-005", 3, "this gateway does not list its commands",
        "The running gateway has no page with commands: it is older than this command. Restart it with the new binary.";
}
