//! The tunnel for boxes in the field: its files hold no key, and let nobody further than to Redis.

use anyhow::{Context as _, Result, ensure};

use super::files::{deploy, text};

/// Values of a key, in all sections.
fn values(text: &str, key: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    let ours = pairs.filter(|(name, _)| name.trim() == key);
    ours.map(|(_, value)| value.trim().to_owned()).collect()
}

#[test]
fn keys_are_in_files_of_their_own_and_a_box_reaches_one_address() -> Result<()> {
    let (hub, spoke) = (
        text(&deploy("wireguard/hub.conf"))?,
        text(&deploy("wireguard/box.conf"))?,
    );
    for (name, file) in [("hub", &hub), ("box", &spoke)] {
        ensure!(
            values(file, "PrivateKey").is_empty(),
            "{name}: a private key"
        );
        let keys = values(file, "PublicKey");
        ensure!(
            !keys.is_empty() && keys.iter().all(|key| key.starts_with('<')),
            "{name}: {keys:?}"
        );
        let up = values(file, "PostUp").join("\n");
        ensure!(
            up.contains("private-key /etc/wireguard/"),
            "{name}: nobody sets its key"
        );
    }
    let address = |file: &str| values(file, "Address").into_iter().next();
    let of_hub = address(&hub).context("an address of the hub")?;
    let of_hub = of_hub.split('/').next().unwrap_or_default();
    assert_eq!(values(&spoke, "AllowedIPs"), [format!("{of_hub}/32")]);
    let of_box = address(&spoke).context("an address of the box")?;
    ensure!(
        values(&hub, "AllowedIPs").contains(&of_box),
        "the hub lets {of_box} in"
    );
    // A box behind a mobile network is reached only while it keeps its way open.
    assert_eq!(values(&spoke, "PersistentKeepalive"), ["25"]);
    // Redis and nothing else; what answers goes back.
    let rules = text(&deploy("wireguard/hub.nft"))?;
    for rule in [
        "iifname \"wg-milepost\" drop",
        "tcp dport 6380 accept",
        "ct state established,related accept",
    ] {
        ensure!(rules.contains(rule), "hub.nft has no `{rule}`");
    }
    Ok(())
}
