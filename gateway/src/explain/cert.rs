//! Codes of the certificate files.

codes::pages! {
    FILE = "E-CRT-001", 2, "a certificate file cannot be read",
        "The file that uplink.cert, uplink.key or uplink.ca names is not there, or this user may not read it. Keys belong to the gateway's user alone (mode 0600), so run the check as that user.";
    NOT_PEM = "E-CRT-002", 2, "a certificate file is not PEM",
        "PEM is text with -----BEGIN CERTIFICATE----- or -----BEGIN PRIVATE KEY-----. A file ending in .der, .p12 or .pfx has to be converted (`openssl x509 -inform der`, `openssl pkcs12`); a key with a passphrase has to be decrypted; certificate and key in the wrong setting look the same.";
    MISMATCH = "E-CRT-003", 2, "the key does not belong to the certificate",
        "uplink.key is the key of another certificate: after a renewal only one of the two files was replaced, most often. Take both from the same bundle.";
    EXPIRED = "E-CRT-004", 1, "the certificate has expired",
        "Redis will not let us in with it any more. Renew it and put the new files in place; a running gateway reads them at its next connection. Trackers are acknowledged meanwhile, the spool keeps everything. If the date surprises you, look at the machine's clock.";
    NOT_YET = "E-CRT-005", 1, "the certificate is not valid yet",
        "Its validity begins in the future. Nearly always it is the clock of this machine that is wrong, not the certificate.";
    PURPOSE = "E-CRT-006", 1, "the certificate is not for clients",
        "Its extended key usage does not name client authentication: it is the certificate of a server, perhaps that of Redis itself. Issue one with clientAuth.";
    NO_CA = "E-CRT-007", 2, "uplink.ca holds no usable authority",
        "The file is readable, but what is in it cannot vouch for a server: it holds no certificate, or a damaged one. It should be the certificate of the authority that signed Redis's certificate.";
    DOOR = "E-CRT-008", 2, "the certificate for trackers cannot be used",
        "listen.tls shows a certificate to trackers: listen.tls_cert and its key listen.tls_key. One of them is not set, cannot be read, is not PEM, or they do not belong together; or listen.tls_client_ca holds no authority. A running gateway goes on with the files it read last.";
    SOON = "W-CRT-101", 0, "a certificate expires in less than 30 days",
        "Renew it now, while the way to the box is open. After that day Redis refuses the gateway and records pile up in the spool.";
    OTHER_CA = "W-CRT-102", 0, "our certificate is not signed by uplink.ca",
        "uplink.ca vouches for the server; that our own certificate comes from another authority is allowed, if Redis knows that one (tls-ca-cert-file). If the connection fails as well, this is why.";
    KEY_MODE = "W-CRT-103", 0, "others may read the private key",
        "Every user of this machine may read uplink.key and speak to Redis in the gateway's name. `chmod 0600`, with the gateway's user as its owner.";
}
