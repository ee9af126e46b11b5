//! What ours and theirs disagree on, and who is right.

/// Who reads the bytes as the device meant them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    We,
    They,
    /// No document and no recorded frame decides.
    Open,
}

/// What the two disagree on.
pub(super) const DISAGREEMENTS: [(&str, Right, &str); 15] = [
    (
        "codec 7",
        Right::We,
        "the vendor's own parser has it; theirs says unsupported",
    ),
    (
        "codec 13, 14, 15",
        Right::We,
        "documented on the wiki; theirs says unsupported",
    ),
    (
        "codec 12 type that is neither command nor answer",
        Right::We,
        "cameras answer with type 0D; theirs refuses the frame",
    ),
    (
        "priority 3 and above",
        Right::We,
        "3 is security in FMXXXX Protocols 2.10; theirs refuses the frame, so the device repeats it for ever",
    ),
    (
        "generation type 8 and above",
        Right::We,
        "undocumented, but no reason to have the device repeat the frame for ever",
    ),
    (
        "group of 16-byte values in codec 8",
        Right::We,
        "recorded traffic has it, with a good checksum; theirs refuses the frame",
    ),
    (
        "no records or messages",
        Right::Open,
        "ours reads an empty list, theirs refuses; the answer is 0 either way",
    ),
    (
        "frame of codec 8 or 8E above 1280 bytes",
        Right::They,
        "by the documentation, which leaves open what the 1280 bytes are; ours takes the limit as a parameter",
    ),
    (
        "data length below 3",
        Right::Open,
        "ours closes, theirs skips the frame; nothing documented is that short",
    ),
    (
        "keep-alive byte in front",
        Right::We,
        "documented with the network ping timeout; theirs waits for seven more bytes and calls them an invalid header",
    ),
    (
        "wrong preamble, fewer than eight bytes",
        Right::We,
        "nothing that follows can make a frame of it; theirs waits for the rest of a header",
    ),
    (
        "identity that is not 15 digits",
        Right::We,
        "an IMEI is 15 digits (3GPP TS 23.003); theirs takes any ASCII of any length, ours hands out the bytes and no IMEI",
    ),
    (
        "identity that is not ASCII",
        Right::We,
        "ours still hands out the records of the datagram; theirs refuses all of it",
    ),
    (
        "messages in a datagram",
        Right::Open,
        "older manuals restrict them to TCP, the wiki does not; theirs says unsupported",
    ),
    (
        "login above the limit",
        Right::We,
        "theirs waits for up to 65 535 bytes of identity before anyone has logged in",
    ),
];

/// The vectors on which the two disagree, as they stand.
pub(super) const OF_THE_VECTORS: [(&str, &str); 25] = [
    (
        "c12-camera-announce",
        "codec 12 type that is neither command nor answer",
    ),
    (
        "c12-camera-chunk",
        "codec 12 type that is neither command nor answer",
    ),
    (
        "c12-camera-idle",
        "codec 12 type that is neither command nor answer",
    ),
    (
        "c12-camera-request",
        "codec 12 type that is neither command nor answer",
    ),
    ("c13-eight-byte-time", "codec 13, 14, 15"),
    ("c13-rsp-1", "codec 13, 14, 15"),
    ("c13-size-without-time", "codec 13, 14, 15"),
    ("c14-cmd-getver", "codec 13, 14, 15"),
    ("c14-imei-not-decimal", "codec 13, 14, 15"),
    ("c14-nack", "codec 13, 14, 15"),
    ("c14-rsp-ack", "codec 13, 14, 15"),
    ("c14-rsp-nack-repaired", "codec 13, 14, 15"),
    ("c15-empty-payload", "codec 13, 14, 15"),
    ("c15-rsp-hello", "codec 13, 14, 15"),
    ("c16-generation-type-9", "generation type 8 and above"),
    ("c7-masks", "codec 7"),
    ("c7-tcp-synthetic", "codec 7"),
    ("c8-16-byte-group", "group of 16-byte values in codec 8"),
    (
        "c8-16-byte-group-two-records",
        "group of 16-byte values in codec 8",
    ),
    ("c8-priority-3", "priority 3 and above"),
    ("c8-priority-7", "priority 3 and above"),
    // Broken in print; ours waits for the rest, theirs knows from the header.
    (
        "c8-tcp-vendor-parser-readme",
        "frame of codec 8 or 8E above 1280 bytes",
    ),
    (
        "c8-udp-identity-no-digits",
        "identity that is not 15 digits",
    ),
    ("ping", "keep-alive byte in front"),
    ("ping-login", "keep-alive byte in front"),
];
