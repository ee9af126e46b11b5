//! How each cause is brought about, and how it goes away.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use gateway::uplink::{RedisConfig, UplinkConfig};
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use tests::edge::{self, EDGE, order, replace};
use tests::proxy::{Passes, Proxy};
use tests::servers::{ADMIN, Identity, Redis};
use tests::tables::eventually;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Break,
    Mend,
}

/// A Redis behind a proxy, and the certificate files that the uplink reads.
pub(crate) struct Stage {
    pub(crate) redis: Redis,
    pub(crate) proxy: Proxy,
    /// Open from the start, for when nobody can connect any more.
    admin: MultiplexedConnection,
    loading: Option<JoinHandle<Result<()>>>,
    cert: PathBuf,
    key: PathBuf,
    ca: PathBuf,
    _files: tempfile::TempDir,
}

impl Stage {
    pub(crate) async fn start() -> Result<Self> {
        let redis = edge::redis(&["enable-debug-command yes"]).await?;
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, redis.port()));
        let files = tempfile::tempdir()?;
        let [cert, key, ca] = ["our.crt", "our.key", "ca.crt"].map(|name| files.path().join(name));
        let identity = redis.identity(EDGE);
        std::fs::copy(&identity.cert, &cert)?;
        std::fs::copy(&identity.key, &key)?;
        std::fs::copy(redis.ca(), &ca)?;
        Ok(Self {
            proxy: Proxy::start(to).await?,
            admin: edge::admin(&redis).await?,
            redis,
            loading: None,
            cert,
            key,
            ca,
            _files: files,
        })
    }

    pub(crate) fn config(&self) -> UplinkConfig {
        let own = format!(":{}/", self.redis.port());
        let through = format!(":{}/", self.proxy.addr().port());
        let url = self.redis.url(EDGE);
        let url = url.replace(&own, &through);
        let redis = RedisConfig {
            cert: Some(self.cert.clone()),
            key: Some(self.key.clone()),
            ca: Some(self.ca.clone()),
            response_timeout: Duration::from_secs(2),
            ..RedisConfig::at(url)
        };
        UplinkConfig {
            // Only what had no answer may come again.
            resend_after: Duration::from_secs(600),
            ..edge::config(redis)
        }
    }

    /// Lets Redis grow by about so much.
    pub(crate) async fn room_for_more(&self, bytes: u64) -> Result<()> {
        let mut admin = self.admin.clone();
        let info: String = redis::cmd("INFO")
            .arg("memory")
            .query_async(&mut admin)
            .await?;
        let used = info
            .lines()
            .find_map(|line| line.strip_prefix("used_memory:"));
        let used: u64 = used.context("used_memory")?.trim().parse()?;
        order(
            &self.redis,
            &["CONFIG", "SET", "maxmemory", &(used + bytes).to_string()],
        )
        .await
    }

    async fn order(&mut self, words: &[&str]) -> Result<()> {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        let _: redis::Value = command.query_async(&mut self.admin).await?;
        Ok(())
    }

    /// Cuts the uplink's connection, so that it has to make another.
    async fn cut(&mut self) -> Result<()> {
        self.order(&["CLIENT", "KILL", "USER", EDGE]).await
    }

    async fn set(&mut self, name: &str, value: &str) -> Result<()> {
        self.order(&["CONFIG", "SET", name, value]).await
    }

    /// The server shows another certificate from the next connection on.
    async fn show(&mut self, server: &Identity) -> Result<()> {
        let path = |path: &PathBuf| path.display().to_string();
        let (cert, key) = (path(&server.cert), path(&server.key));
        self.order(&[
            "CONFIG",
            "SET",
            "tls-cert-file",
            &cert,
            "tls-key-file",
            &key,
        ])
        .await?;
        self.cut().await
    }

    async fn be(&mut self, client: &Identity) -> Result<()> {
        replace(&self.cert, &client.cert)?;
        replace(&self.key, &client.key)?;
        self.cut().await
    }

    async fn be_ourselves(&mut self) -> Result<()> {
        let ours = self.redis.identity(EDGE).clone();
        self.be(&ours).await
    }

    async fn until_saved(&self, status: &str) -> Result<()> {
        let wanted = format!("rdb_last_bgsave_status:{status}");
        eventually("the snapshot is over", async || {
            let mut admin = self.admin.clone();
            let info: String = redis::cmd("INFO")
                .arg("persistence")
                .query_async(&mut admin)
                .await?;
            Ok(info.contains(&wanted) && info.contains("rdb_bgsave_in_progress:0"))
        })
        .await
    }
}

pub(crate) async fn oom(stage: &mut Stage, step: Step) -> Result<()> {
    let bytes = if step == Step::Break { "1" } else { "0" };
    stage.set("maxmemory", bytes).await
}

/// A directory stands where the snapshot belongs: that stops root as well.
pub(crate) async fn misconf(stage: &mut Stage, step: Step) -> Result<()> {
    let in_the_way = stage.redis.dir().join("dump.rdb");
    if step == Step::Break {
        std::fs::create_dir_all(in_the_way.join("full"))?;
        stage.set("save", "900 1").await?;
        stage.order(&["BGSAVE"]).await?;
        stage.until_saved("err").await
    } else {
        std::fs::remove_dir_all(in_the_way)?;
        stage.order(&["BGSAVE"]).await?;
        stage.until_saved("ok").await
    }
}

pub(crate) async fn readonly(stage: &mut Stage, step: Step) -> Result<()> {
    let master = if step == Step::Break {
        ["REPLICAOF", "127.0.0.1", "1"]
    } else {
        ["REPLICAOF", "NO", "ONE"]
    };
    stage.order(&master).await
}

/// Redis reads its snapshot, slowly, and answers in between.
pub(crate) async fn loading(stage: &mut Stage, step: Step) -> Result<()> {
    if step == Step::Mend {
        stage.set("key-load-delay", "0").await?;
        return match stage.loading.take() {
            Some(loading) => loading.await?,
            None => bail!("nothing is being loaded"),
        };
    }
    stage.order(&["DEBUG", "POPULATE", "60000"]).await?;
    stage
        .set("loading-process-events-interval-bytes", "1024")
        .await?;
    stage.set("key-load-delay", "1000").await?;
    let patience = AsyncConnectionConfig::new().set_response_timeout(None);
    let client = stage.redis.client(ADMIN)?;
    let mut admin = client
        .get_multiplexed_async_connection_with_config(&patience)
        .await?;
    stage.loading = Some(tokio::spawn(async move {
        let mut reload = redis::cmd("DEBUG");
        let () = reload.arg("RELOAD").query_async(&mut admin).await?;
        Ok(())
    }));
    eventually("it loads", async || {
        let mut admin = stage.admin.clone();
        let info: String = redis::cmd("INFO").query_async(&mut admin).await?;
        Ok(info.contains("loading:1"))
    })
    .await
}

pub(crate) async fn noreplicas(stage: &mut Stage, step: Step) -> Result<()> {
    let count = if step == Step::Break { "1" } else { "0" };
    stage.set("min-replicas-to-write", count).await
}

pub(crate) async fn noperm(stage: &mut Stage, step: Step) -> Result<()> {
    let rule = if step == Step::Break {
        "-xadd"
    } else {
        "+xadd"
    };
    stage.order(&["ACL", "SETUSER", EDGE, rule]).await
}

pub(crate) async fn wrongpass(stage: &mut Stage, step: Step) -> Result<()> {
    if step == Step::Mend {
        return stage.order(&["ACL", "LOAD"]).await;
    }
    stage
        .order(&["ACL", "SETUSER", EDGE, "resetpass", ">another"])
        .await?;
    stage.cut().await
}

/// The door is shut with the server, so that its address refuses.
pub(crate) async fn killed(stage: &mut Stage, step: Step) -> Result<()> {
    if step == Step::Break {
        stage.proxy.shut().await;
        stage.redis.kill9()
    } else {
        stage.redis.restart().await?;
        stage.proxy.open().await
    }
}

pub(crate) async fn paused(stage: &mut Stage, step: Step) -> Result<()> {
    if step == Step::Break {
        stage.redis.pause()
    } else {
        stage.redis.resume()
    }
}

pub(crate) async fn black_hole(stage: &mut Stage, step: Step) -> Result<()> {
    let passes = if step == Step::Break {
        Passes::Nothing
    } else {
        Passes::All
    };
    stage.proxy.pass(passes);
    Ok(())
}

pub(crate) async fn half_link(stage: &mut Stage, step: Step) -> Result<()> {
    let passes = if step == Step::Break {
        Passes::Questions
    } else {
        Passes::All
    };
    stage.proxy.pass(passes);
    Ok(())
}

/// Somebody takes the connection and closes it: a load balancer with nothing behind.
pub(crate) async fn silent_door(stage: &mut Stage, step: Step) -> Result<()> {
    lead_astray(stage, step, b"").await
}

pub(crate) async fn not_tls(stage: &mut Stage, step: Step) -> Result<()> {
    lead_astray(
        stage,
        step,
        b"-ERR unknown command, with args beginning with: \r\n",
    )
    .await
}

/// New connections get somebody who says `words` and goes.
async fn lead_astray(stage: &mut Stage, step: Step, words: &'static [u8]) -> Result<()> {
    let redis = SocketAddr::from((Ipv4Addr::LOCALHOST, stage.redis.port()));
    if step == Step::Mend {
        stage.proxy.turn(redis);
        return Ok(());
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    stage.proxy.turn(listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let _ = client.write_all(words).await;
            let _ = client.shutdown().await;
            // Until the client has gone, so that it reads the words and no reset.
            let _ = tokio::io::copy(&mut client, &mut tokio::io::sink()).await;
        }
    });
    stage.cut().await
}

pub(crate) async fn server_certificate_expired(stage: &mut Stage, step: Step) -> Result<()> {
    let server = match step {
        Step::Break => stage.redis.pki().expired_server("expired")?,
        Step::Mend => stage.redis.pki().server("renewed")?,
    };
    stage.show(&server).await
}

pub(crate) async fn server_certificate_of_tomorrow(stage: &mut Stage, step: Step) -> Result<()> {
    let server = match step {
        Step::Break => stage.redis.pki().future_server("future")?,
        Step::Mend => stage.redis.pki().server("renewed")?,
    };
    stage.show(&server).await
}

pub(crate) async fn wrong_name(stage: &mut Stage, step: Step) -> Result<()> {
    let server = match step {
        Step::Break => stage.redis.pki().misnamed_server("misnamed")?,
        Step::Mend => stage.redis.pki().server("renewed")?,
    };
    stage.show(&server).await
}

pub(crate) async fn wrong_ca(stage: &mut Stage, step: Step) -> Result<()> {
    if step == Step::Mend {
        return replace(&stage.ca, stage.redis.ca());
    }
    let foreign = stage.redis.pki().foreign_client(EDGE)?;
    let authority = foreign.cert.with_file_name("ca.crt");
    replace(&stage.ca, &authority)?;
    stage.cut().await
}

pub(crate) async fn our_certificate_expired(stage: &mut Stage, step: Step) -> Result<()> {
    if step == Step::Mend {
        return stage.be_ourselves().await;
    }
    let expired = stage.redis.pki().expired_client("expired")?;
    stage.be(&expired).await
}

pub(crate) async fn our_certificate_unknown(stage: &mut Stage, step: Step) -> Result<()> {
    if step == Step::Mend {
        return stage.be_ourselves().await;
    }
    let foreign = stage.redis.pki().foreign_client(EDGE)?;
    stage.be(&foreign).await
}

pub(crate) async fn certificate_file_gone(stage: &mut Stage, step: Step) -> Result<()> {
    if step == Step::Mend {
        return stage.be_ourselves().await;
    }
    std::fs::remove_file(&stage.cert)?;
    stage.cut().await
}

pub(crate) async fn old_cloud(stage: &mut Stage, step: Step) -> Result<()> {
    let reads = if step == Step::Break { "2-3" } else { "1-3" };
    let (key, field) = (contract::keys::CONTRACT, contract::version::FIELD_READS);
    stage.order(&["HSET", key, field, reads]).await?;
    if step == Step::Break {
        stage.cut().await?;
    }
    Ok(())
}
