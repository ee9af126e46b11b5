//! A device of another vendor: sentences of NMEA through a door of their own, to rows.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use codec::encode::RecordSpec;
use tests::processes::{Road, RoadOptions};
use tests::servers::Port;
use tests::tables::{Tables, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{IMEI, tracker};

/// Vendor, Unix time in seconds, whether it is valid, speed, heading, latitude.
type Row = (String, i64, bool, Option<i32>, Option<i32>, f64);

const DEVICE: u64 = 350_000_000_000_017;

fn sealed(body: &str) -> String {
    let sum = body.bytes().fold(0, |sum, byte| sum ^ byte);
    format!("${body}*{sum:02X}\r\n")
}

fn rmc(at: DateTime<Utc>) -> String {
    let (clock, date) = (at.format("%H%M%S"), at.format("%d%m%y"));
    sealed(&format!(
        "GPRMC,{clock},A,5441.2320,N,02516.7820,E,010.0,084.4,{date},003.1,W"
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn sentences_of_nmea_and_records_of_trackers_become_rows_side_by_side() -> Result<()> {
    let port = Port::free()?;
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
    let mut road = Road::start(RoadOptions {
        gateway: vec![("listen.nmea", vec![addr.to_string()].into())],
        ..RoadOptions::default()
    })
    .await?;
    let tables = Tables::connect(road.database_url()).await?;
    let now = Utc::now();
    let at = |seconds: i64| now - TimeDelta::seconds(60 - seconds);
    let mut device = TcpStream::connect(addr).await?;
    let login = sealed(&format!("PGID,{DEVICE}"));
    let damaged = rmc(at(9)).replace("5441", "5442");
    let other = sealed("GPGGA,225446,5441.2320,N,02516.7820,E,1,07,1.0,9.0,M,,M,,");
    let lines = [
        login.clone(),
        rmc(at(0)),
        other,
        damaged,
        rmc(at(1)),
        rmc(at(1)),
    ]
    .concat();
    device.write_all(lines.as_bytes()).await?;
    // A tracker through the other door: both are in one spool.
    let mut data = Vec::new();
    let record = RecordSpec {
        timestamp_ms: u64::try_from(at(0).timestamp_millis())?,
        satellites: 7,
        ..RecordSpec::default()
    };
    codec::encode::avl_data(codec::AvlCodec::Codec8, &[record], &mut data)?;
    assert_eq!(
        tracker(&road.gateway, IMEI)
            .await?
            .send_frame(&data)
            .await?,
        1
    );
    tables.wait_for("SELECT count(*) FROM positions", 3).await?;
    let rows: Vec<Row> = tables
        .all(
            "SELECT d.vendor, d.imei, p.valid, p.speed_kmh, p.heading_deg, p.latitude \
             FROM positions p JOIN devices d ON d.id = p.device_id ORDER BY d.vendor, p.fix_time",
        )
        .await?;
    let device_imei = DEVICE.cast_signed();
    let sentence = (
        "nmea".to_owned(),
        device_imei,
        true,
        Some(19),
        Some(84),
        54.6872,
    );
    assert_eq!(rows[..2], [sentence.clone(), sentence]);
    assert_eq!(
        (rows[2].0.as_str(), rows[2].1),
        ("teltonika", IMEI.cast_signed())
    );

    // Said again after a restart of everything, with what is new: kept in the spool, stored once.
    road.gateway.kill9()?;
    let mut nothing = Vec::new();
    let _ = device.read_to_end(&mut nothing).await;
    assert!(nothing.is_empty(), "these devices are not answered");
    road.gateway.restart().await?;
    let mut device = TcpStream::connect(addr).await?;
    let again = [format!("{DEVICE}\r\n"), rmc(at(1)), rmc(at(2))].concat();
    device.write_all(again.as_bytes()).await?;
    tables.wait_for("SELECT count(*) FROM positions", 4).await?;
    eventually("nothing waits", async || {
        Ok(road.gateway.status().await?["spool"]["backlog"] == 0)
    })
    .await?;
    let ledger: (i64, i64, i64) = tables
        .one("SELECT sum(received)::int8, sum(stored)::int8, sum(duplicate)::int8 FROM ledger")
        .await?;
    assert_eq!(ledger, (6, 4, 2));

    // Who is no device is sent away, and nothing of it is kept.
    let mut stranger = TcpStream::connect(addr).await?;
    stranger.write_all(rmc(at(3)).as_bytes()).await?;
    assert_eq!(stranger.read_to_end(&mut nothing).await?, 0);
    assert_eq!(tables.rows("SELECT FROM positions").await?, 4);
    Ok(())
}
