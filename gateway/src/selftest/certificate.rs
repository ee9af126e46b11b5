//! A certificate made on the spot, to shake hands with.
//!
//! Why by hand: a private key must not lie in the repository, and a crate that makes certificates
//! would be carried to every box for this one. An Ed25519 key is 32 random bytes behind a constant
//! prefix (RFC 8410), and the few fields of a self-signed certificate are RFC 5280, section 4.1.

use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SigningKey};

/// Reserved for such uses (RFC 2606).
pub(super) const NAME: &str = "selftest.invalid";

/// RFC 8410, section 7: version 0, algorithm 1.3.101.112, an octet string in an octet string.
const PKCS8_HEAD: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const UTF8: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const GENERAL_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;

const ED25519: [u8; 3] = [0x2b, 0x65, 0x70];
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
const ALT_NAME: [u8; 3] = [0x55, 0x1d, 0x11];

/// A new key and a certificate of its own for [`NAME`], valid at any time.
pub(super) fn make() -> Result<CertifiedKey, String> {
    let mut pkcs8 = PKCS8_HEAD.to_vec();
    pkcs8.resize(PKCS8_HEAD.len() + 32, 0);
    getrandom::fill(&mut pkcs8[PKCS8_HEAD.len()..])
        .map_err(|error| format!("no random numbers for a key: {error}"))?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8));
    let key = ring::default_provider().key_provider.load_private_key(key);
    let key = key.map_err(|error| format!("a fresh key is not understood: {error}"))?;
    let certificate = signed(&key).ok_or("a fresh key does not sign")?;
    let certified = CertifiedKey::new(vec![CertificateDer::from(certificate)], key);
    let matching = certified.keys_match();
    matching.map_err(|error| format!("a fresh certificate is not understood: {error}"))?;
    Ok(certified)
}

fn signed(key: &Arc<dyn SigningKey>) -> Option<Vec<u8>> {
    let algorithm = tlv(SEQUENCE, &[&tlv(OBJECT_ID, &[&ED25519])]);
    let name = tlv(UTF8, &[NAME.as_bytes()]);
    let name = tlv(SEQUENCE, &[&tlv(OBJECT_ID, &[&COMMON_NAME]), &name]);
    let name = tlv(SEQUENCE, &[&tlv(SET, &[&name])]);
    let always = [
        tlv(UTC_TIME, &[b"700101000000Z"]),
        tlv(GENERAL_TIME, &[b"99991231235959Z"]),
    ];
    let alt_name = tlv(SEQUENCE, &[&tlv(DNS_NAME, &[NAME.as_bytes()])]);
    let alt_name = [
        tlv(OBJECT_ID, &[&ALT_NAME]),
        tlv(OCTET_STRING, &[&alt_name]),
    ];
    let extensions = tlv(SEQUENCE, &[&tlv(SEQUENCE, &[&alt_name[0], &alt_name[1]])]);
    let public = key.public_key()?;
    let to_sign = tlv(
        SEQUENCE,
        &[
            &tlv(VERSION, &[&tlv(INTEGER, &[&[2]])]),
            &tlv(INTEGER, &[&[1]]),
            &algorithm,
            &name,
            &tlv(SEQUENCE, &[&always[0], &always[1]]),
            &name,
            &public,
            &tlv(EXTENSIONS, &[&extensions]),
        ],
    );
    let signature = key
        .choose_scheme(&[SignatureScheme::ED25519])?
        .sign(&to_sign)
        .ok()?;
    // A bit string begins with the number of bits that do not count.
    let signature = tlv(BIT_STRING, &[&[0], &signature]);
    Some(tlv(SEQUENCE, &[&to_sign, &algorithm, &signature]))
}

/// Tag, length, value (X.690, 8.1), for values of less than 64 KiB.
fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let bytes = parts.concat();
    let mut out = vec![tag];
    match bytes.len() {
        short @ 0..0x80 => out.push(short as u8),
        middle @ 0x80..0x100 => out.extend([0x81, middle as u8]),
        long => out.extend([0x82, (long >> 8) as u8, long as u8]),
    }
    out.extend(bytes);
    out
}
