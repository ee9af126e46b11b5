//! Codes of the questions to a running processor.

codes::pages! {
    NOBODY = "E-RUN-001", 3, "no processor answers",
        "`cloud status` asks the running processor at http.listen. It does not run, or was started with another http.listen; give the same --config, or the same environment, as the service has.";
    NO_PAGES = "E-RUN-002", 2, "http.listen is empty",
        "This processor serves no pages, so it cannot be asked. Set http.listen to 127.0.0.1:8081 and restart it; `cloud lag` works without.";
    STRANGER = "E-RUN-003", 3, "what answers is no processor",
        "At http.listen another program answers, or a processor of another version that does not know this page. Look at the port: `ss -ltnp`.";
}
