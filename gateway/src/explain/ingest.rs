//! Codes of the HTTP door.

codes::pages! {
    NO_TOKENS = "E-ING-001", 2, "positions would be taken from everybody",
        "listen.http or listen.https is set and ingest.tokens is not. Whoever reaches such a door could write positions of any vehicle, so it is not opened. Make a file with `gateway ingest token new NAME --file FILE` and name it in ingest.tokens. For trials on one machine ingest.open = true lets everybody in, at loopback addresses alone.";
    TOKENS = "E-ING-002", 2, "the file of tokens cannot be read",
        "ingest.tokens names no file that the gateway's user can read. Run the check as that user. While the gateway runs, a file that cannot be read changes nothing; at its start there would be nobody who may post, so it does not start.";
    LINE = "E-ING-003", 2, "a line of the file of tokens cannot be used",
        "A line is a name, a token (sha256: and 64 hexadecimal digits, or plain: and at least 16 bytes) and limits such as requests_per_s=10 positions_per_s=500 body_bytes_max=1MiB lanes=normal,bulk; notes follow a #. No name and no token may be there twice. One bad line is refused with the whole file.";
    MODE = "E-ING-004", 2, "everybody on this machine may read a token",
        "The file of tokens holds a token as it is (plain:) and its mode lets everybody read it. `chmod 0640` and the gateway's group, or put the SHA-256 of the token there: `gateway ingest token new NAME` does.";
    DOOR = "E-ING-005", 2, "listen.https has no certificate that can be used",
        "HTTP inside TLS shows the certificate of listen.tls_cert with the key of listen.tls_key. Set both, correct the file that is named, or use listen.http behind a proxy that speaks TLS.";
    CLEAR = "W-ING-101", 0, "tokens travel in clear text",
        "listen.http is reachable from outside this machine and is not encrypted: whoever listens on the way reads the tokens and the positions. Use listen.https, or put a proxy that speaks TLS before it and listen on a loopback address.";
    NO_DOOR = "W-ING-102", 0, "tokens, and no door to use them at",
        "ingest.tokens is set, listen.http and listen.https are not, so nobody can post positions. Set one of them, or remove ingest.tokens.";
}
