//! Who may post: files of tokens that change, TLS, and doors that are open to everybody.

use std::sync::Arc;

use anyhow::{Result, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tests::poster::Poster;
use tests::processes::{Gateway, program_path};
use tests::servers::{GATEWAY, Port, Redis, RedisOptions};
use tests::tables::eventually;
use tokio::net::TcpStream;

use super::door::{BEARER, Door, JSON, batch};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_counts_within_seconds_and_a_broken_file_changes_nothing() -> Result<()> {
    let door = Door::open(&[]).await?;
    let program = program_path("gateway")?;
    let made = |words: &[&str]| -> Result<(bool, Value)> {
        let output = std::process::Command::new(&program)
            .args(["ingest", "token", "new", "--json", "--file"])
            .arg(&door.tokens)
            .args(words)
            .env_clear()
            .output()?;
        let said = serde_json::from_slice(&output.stdout).unwrap_or_default();
        Ok((output.status.code() == Some(0), said))
    };
    let before = std::fs::read_to_string(&door.tokens)?;
    ensure!(made(&["phones", "--dry-run"])?.0);
    ensure!(std::fs::read_to_string(&door.tokens)? == before);
    let (done, said) = made(&["phones"])?;
    let token = said["token"].as_str().unwrap_or_default().to_owned();
    ensure!(done && token.len() == 64, "{said}");
    let after = std::fs::read_to_string(&door.tokens)?;
    ensure!(
        after.starts_with(&before) && !after.contains(&token),
        "{after}"
    );
    ensure!(!made(&["phones"])?.0, "the name is taken");
    ensure!(!made(&["a b"])?.0, "no name");
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str()), JSON];
    let body = batch("van", 0, 1).to_string();
    let post = async || {
        door.ask("POST", "/v1/batch", &headers, body.as_bytes())
            .await
    };
    eventually("the new token counts", async || {
        Ok(post().await?.status == 202)
    })
    .await?;
    std::fs::write(&door.tokens, "phones nonsense\n")?;
    eventually("the trouble is shown", async || {
        let status = door.gateway.status().await?;
        Ok(status["ingest"]["trouble"]
            .as_str()
            .is_some_and(|it| it.contains("line 1")))
    })
    .await?;
    ensure!(
        post().await?.status == 202,
        "the last good file stays in force"
    );
    std::fs::write(&door.tokens, "# nobody\n")?;
    eventually("nobody may post", async || Ok(post().await?.status == 401)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn inside_tls_without_a_client_certificate() -> Result<()> {
    let redis = Redis::start(RedisOptions::default()).await?;
    let dir = tempfile::tempdir()?;
    let (mut all, _port, _tokens) = super::door::settings(dir.path())?;
    let port = Port::free()?;
    let identity = redis.pki().server("door")?;
    all.extend([
        (
            "listen.https",
            json!([format!("127.0.0.1:{}", port.number())]),
        ),
        ("listen.tls_cert", json!(identity.cert)),
        ("listen.tls_key", json!(identity.key)),
        // For trackers alone: senders have tokens.
        ("listen.tls_client_ca", json!(redis.ca())),
    ]);
    let gateway = Gateway::start(dir.path(), Some(dir.path()), GATEWAY, &redis, &all).await?;
    let doors = gateway.status().await?["ingest"]["doors"].clone();
    ensure!(
        doors.as_array().is_some_and(|doors| doors.len() == 2),
        "{doors}"
    );
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(redis.ca())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(("127.0.0.1", port.number())).await?;
    let stream = connector
        .connect(ServerName::try_from("127.0.0.1")?, stream)
        .await?;
    let mut poster = Poster::over(stream);
    let body = batch("van", 0, 1).to_string();
    for _ in 0..2 {
        let answer = poster
            .ask("POST", "/v1/batch", &[BEARER, JSON], body.as_bytes())
            .await?;
        ensure!(answer.status == 202, "{answer:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tokens_only_an_open_door_on_this_machine_opens() -> Result<()> {
    let redis = Redis::start(RedisOptions::default()).await?;
    let dir = tempfile::tempdir()?;
    let port = Port::free()?;
    let start = async |addr: String, is_open: bool| {
        let settings = [
            ("listen.http", json!([addr])),
            ("ingest.open", json!(is_open)),
        ];
        Gateway::start(dir.path(), Some(dir.path()), GATEWAY, &redis, &settings).await
    };
    for (addr, is_open) in [
        (format!("127.0.0.1:{}", port.number()), false),
        (format!("0.0.0.0:{}", port.number()), true),
    ] {
        let refused = start(addr, is_open)
            .await
            .map(drop)
            .unwrap_err()
            .to_string();
        ensure!(refused.contains("without ingest.tokens"), "{refused}");
    }
    let gateway = start(format!("127.0.0.1:{}", port.number()), true).await?;
    let ask = async |method, path, headers: &[_], body: &str| {
        let mut poster = Poster::connect(([127, 0, 0, 1], port.number()).into()).await?;
        poster.ask(method, path, headers, body.as_bytes()).await
    };
    let body = batch("van", 0, 1).to_string();
    let answer = ask("POST", "/v1/batch", &[JSON], &body).await?;
    ensure!(answer.status == 202, "{answer:?}");
    let of_a_page = [JSON, ("Origin", "https://page.example")];
    let answer = ask("POST", "/v1/batch", &of_a_page, &body).await?;
    ensure!(answer.status == 401, "{answer:?}");
    // A picture on a page has no Origin; a name that was made to lead here is none of ours.
    let of_pages = [("Sec-Fetch-Site", "cross-site"), ("Host", "phone.example")];
    for header in of_pages {
        let path = "/?id=van&lat=1&lon=2&timestamp=1790000000";
        let answer = ask("GET", path, &[header], "").await?;
        ensure!(answer.status == 401, "{header:?}: {answer:?}");
    }
    drop(gateway);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_imei_stays_out_at_this_door_too() -> Result<()> {
    let list = tempfile::NamedTempFile::new()?;
    std::fs::write(list.path(), "!356307042441013\n")?;
    let door = Door::open(&[("access.list", json!(list.path()))]).await?;
    let mut items = batch("van", 0, 2);
    let denied = items[0].as_object_mut().unwrap();
    denied.remove("device");
    denied.insert("imei".to_owned(), json!("356307042441013"));
    let answer = door.post("/v1/batch", &items).await?;
    let said = answer.json();
    ensure!(answer.status == 202 && said["accepted"] == 1, "{answer:?}");
    ensure!(
        said["rejected"][0]["reason"]
            .as_str()
            .unwrap()
            .contains("denied"),
        "{answer:?}"
    );
    Ok(())
}
