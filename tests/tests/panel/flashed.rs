//! The files that a flashed box has, and an update for it, below a directory of the test.

use std::fs;
use std::path::Path;

use anyhow::Result;
use rcgen::{KeyPair, PKCS_ED25519, SigningKey as _};

const SYSTEM: &str = "a root file system, which nobody starts here";
const SYSTEM_SHA256: &str = "8ce489b65a8ea906fe0d27398598da8d1f37168605cf6d94befd0de162b59e27";

/// Makes the box below `root`, and `update` beside it.
pub(super) fn make(root: &Path) -> Result<()> {
    let path = |name: &str| root.join(name).display().to_string();
    let share = root.join("usr/share/milepost");
    fs::create_dir_all(&share)?;
    fs::create_dir_all(root.join("run/milepost"))?;
    for name in ["a", "b", "record"] {
        fs::write(root.join(name), vec![0; 1 << 20])?;
    }
    let slots = [
        "running a".to_owned(),
        format!("slot_a {}", path("a")),
        format!("slot_b {}", path("b")),
        format!("record {}\n", path("record")),
    ];
    fs::write(root.join("run/milepost/slots"), slots.join("\n"))?;
    let image = "board qemu-virt\nversion 1\ntrial_seconds 60\n";
    fs::write(share.join("image"), image)?;
    let key = KeyPair::generate_for(&PKCS_ED25519)?;
    fs::write(share.join("update.pub"), key.public_key_pem())?;
    let bytes = SYSTEM.len();
    let head = format!(
        "milepost-update 1\nboard qemu-virt\nversion 2\nbytes {bytes}\nsha256 {SYSTEM_SHA256}\n"
    );
    let signature = hex::encode(key.sign(head.as_bytes())?);
    let update = format!("{head}signature {signature}\n\n{SYSTEM}");
    Ok(fs::write(root.join("update"), update)?)
}
