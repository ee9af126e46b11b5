//! Batches for the store alone, made the way they are made on the road: frames become envelopes of
//! an entry, and the cloud's own decoder takes them apart again.

use anyhow::{Context as _, Result};
use cloud::batch::{Batch, EntryId};
use cloud::config::{DatabaseConfig, Timescale};
use cloud::store::{Database, migrate};
use codec::AvlCodec;
use codec::encode::{self, IoSpec, RecordSpec};
use contract::{
    Coding, Device, Entry, Envelope, GatewayId, Lane, SpoolId, SpoolSeq, Transport, keys,
};

/// A gateway puts no more into one entry.
const ENTRY_FRAMES_MAX: usize = 512;

/// A data field, who sent it, and when a gateway had it, milliseconds since 1970.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Fifteen digits.
    pub imei: u64,
    /// Gateway clock.
    pub received_at_ms: u64,
    /// Codec id to second count.
    pub data: Vec<u8>,
}

impl Sent {
    /// A frame of one record with a fix, in Codec 8 Extended.
    /// # Errors
    /// When the elements do not fit into one.
    pub fn record(imei: u64, at_ms: u64, received_at_ms: u64, io: &[IoSpec<'_>]) -> Result<Self> {
        let record = RecordSpec {
            timestamp_ms: at_ms,
            latitude_e7: 546_870_123,
            longitude_e7: -252_797_000,
            satellites: 9,
            io,
            ..RecordSpec::default()
        };
        let mut data = Vec::new();
        encode::avl_data(AvlCodec::Codec8E, &[record], &mut data)?;
        Ok(Self {
            imei,
            received_at_ms,
            data,
        })
    }
}

/// One opening of a spool, whose positions are handed out in order.
#[derive(Debug)]
pub struct SpoolOf {
    gateway: GatewayId,
    spool: SpoolId,
    next: u64,
}

impl SpoolOf {
    /// # Errors
    /// When the name is none for a gateway, or `spool` none for a spool.
    pub fn new(gateway: &str, spool: u64) -> Result<Self> {
        Ok(Self {
            gateway: gateway.parse()?,
            spool: SpoolId::from_u64(spool)?,
            next: 1,
        })
    }

    /// The fields of the entry that carries these frames, one position each.
    /// # Errors
    /// When there are none, or an IMEI is none.
    pub fn entry(&mut self, frames: &[Sent]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut envelopes = Vec::with_capacity(frames.len());
        for frame in frames {
            envelopes.push(Envelope {
                seq: SpoolSeq::new(self.next)?,
                received_at_ms: frame.received_at_ms,
                device: Device::Imei(format!("{:015}", frame.imei).parse()?),
                transport: Transport::Tcp,
                lane: Lane::Normal,
                record_count: frame.data.get(1).copied().unwrap_or(0).into(),
                bytes: &frame.data,
            });
            self.next += 1;
        }
        let (gateway, coding) = (self.gateway.clone(), Coding::MsgPackZstd);
        let entry = Entry::of_neighbours(gateway, self.spool, &envelopes, coding)?;
        let fields = entry.to_fields().into_iter();
        Ok(fields
            .map(|(name, value)| (name.as_bytes().to_vec(), value))
            .collect())
    }

    /// The same as a batch, decoded; of several entries, if one is not enough.
    /// # Errors
    /// As [`SpoolOf::entry`].
    pub fn batch(&mut self, frames: &[Sent]) -> Result<Batch> {
        let mut batch = Batch::default();
        for part in frames.chunks(ENTRY_FRAMES_MAX) {
            add(&mut batch, &self.entry(part)?)?;
        }
        Ok(batch)
    }
}

/// What the cloud makes of one entry.
/// # Errors
/// When it is for a newer reader.
pub fn decoded(fields: &[(Vec<u8>, Vec<u8>)]) -> Result<Batch> {
    let mut batch = Batch::default();
    add(&mut batch, fields)?;
    Ok(batch)
}

fn add(batch: &mut Batch, fields: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
    // Redis was there before every gateway: its clock changes no judgement here.
    let id = EntryId {
        stream: keys::STREAM_TELTONIKA.into(),
        id: "0-1".parse()?,
    };
    let decoded = cloud::decode::entry(&id, fields)?;
    batch.add(id, decoded, 0);
    Ok(())
}

/// The cloud's own way to a database, whatever is in it, through one connection.
/// # Errors
/// When `url` is none.
pub fn database(url: &str) -> Result<Database> {
    with_pool(url, 1)
}

fn with_pool(url: &str, pool: u32) -> Result<Database> {
    Ok(Database::new(&DatabaseConfig {
        url: url.to_owned(),
        pool,
        timescale: Timescale::Auto,
    })?)
}

/// The cloud's own way to a database, with its tables in it, through one connection.
/// # Errors
/// When it does not answer or does not take the migrations.
pub async fn migrated(url: &str) -> Result<Database> {
    migrated_with_pool(url, 1).await
}

/// The same through as many as `pool`.
/// # Errors
/// When it does not answer or does not take the migrations.
pub async fn migrated_with_pool(url: &str, pool: u32) -> Result<Database> {
    let database = with_pool(url, pool)?;
    let mut connection = database.connect().await?;
    let up = migrate::up(&database, &mut connection).await;
    up.context("the migrations apply")?;
    Ok(database)
}
