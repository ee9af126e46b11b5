//! Codes of the web app and its API.

codes::pages! {
    TOKENS = "E-WEB-001", 2, "the file of tokens cannot be used",
        "web.tokens names a file that is not there, that this user may not read, that has a line which cannot be used, or that holds a token as it is (plain:) and may be read by everybody. `cloud run` does not start with it; a running one keeps the last good file. A line is NAME sha256:HASH role=read or role=operator; `cloud web token new NAME --role read` writes one.";
    BARE = "W-WEB-101", 0, "tokens go over the network as they are",
        "web.tokens is set and http.listen is no loopback address. The cloud speaks HTTP without TLS, so whoever listens in between reads the tokens, and what they open. Put a proxy that speaks TLS on this machine, let it ask 127.0.0.1, and set http.listen to that.";
}
