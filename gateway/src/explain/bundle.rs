//! Codes of `gateway config import`.

codes::pages! {
    UNREADABLE = "E-BUN-001", 2, "this is no bundle, or a damaged one",
        "A bundle is what the cloud makes for one gateway of a site: a tar, perhaps compressed with zstd, of exactly bundle.json, gateway.toml, tls/box.crt, tls/box.key and tls/ca.crt. The file cannot be read, is cut off, or holds more, less or something else; nothing of it was used. Fetch it again, and compare the checksum with the one where it was made.";
    NEWER = "E-BUN-002", 2, "the bundle is of a newer format",
        "The cloud that made it is newer than this gateway. Update the gateway first, then import it.";
    SETTINGS = "E-BUN-003", 2, "the settings in the bundle do not fit",
        "gateway.toml in the bundle has a key or value that this gateway does not take, names another gateway than bundle.json does, or names other certificate files than those that the import would write. Import it into the directory it was made for (--dir), or make it again.";
    OLD = "E-BUN-004", 1, "the bundle has expired",
        "bundle.json says until when it may be used, and that moment has passed. Have a new one made. If the date surprises you, look at the machine's clock.";
    AUTHORITY = "E-BUN-005", 2, "the certificate in the bundle is not signed by its authority",
        "tls/box.crt and tls/ca.crt come from different sites or times, so Redis would not let this gateway in. Have the bundle made again.";
    IN_PLACE = "E-BUN-006", 2, "other files are in place",
        "The import would replace files with different contents. With --yes it does, and keeps the old ones beside them as .bak; with --dry-run it says which they are.";
    WRITE = "E-BUN-007", 2, "the files cannot be written",
        "The directory is not writable for this user, or its disk is full. Run the import with sudo, or name a directory with --dir. Files that were not reached are as they were, and the import can be repeated.";
}
