//! What arrives twice, through whichever door, is one row; and a tracker may change gateways.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Result, ensure};
use codec::encode::{DatagramSpec, datagram};
use tests::edge::EDGE;
use tests::processes::{Gateway, Road, RoadOptions};
use tests::servers::{Port, Redis, RedisAccess, RedisOptions};
use tests::tables::{Tables, eventually};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::{IMEI, RECORD, tracker};

const OTHER: &str = "gw-other";

/// The record with another device time, so another record.
fn later(by: u8) -> Result<Vec<u8>> {
    let mut data = hex::decode(RECORD)?;
    data[9] += by;
    Ok(data)
}

async fn until_counted(tables: &Tables, received: i64, stored: i64) -> Result<()> {
    let sums = "SELECT coalesce(sum(received), 0)::bigint, coalesce(sum(stored), 0)::bigint, \
                coalesce(sum(duplicate), 0)::bigint FROM ledger";
    eventually(
        &format!("{received} received, {stored} stored"),
        async || {
            let (all, new, old): (i64, i64, i64) = tables.one(sums).await?;
            ensure!((all, new) == (received, stored), "{all}, {new}, {old}");
            Ok(all == new + old)
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datagram_told_again_gets_the_same_answer_and_is_one_row() -> Result<()> {
    let udp = Port::free()?;
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, udp.number()));
    let road = Road::start(RoadOptions {
        gateway: vec![("listen.udp", vec![addr.to_string()].into())],
        ..RoadOptions::default()
    });
    let mut road = road.await?;
    let tables = Tables::connect(road.database_url()).await?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    socket.connect(addr).await?;
    let head = DatagramSpec {
        packet_id: 0x1234,
        packet_type: 1,
        avl_packet_id: 7,
        imei: format!("{IMEI}").parse()?,
    };
    let mut bytes = Vec::new();
    datagram(&head, &later(0)?, &mut bytes)?;
    let say = async || -> Result<Vec<u8>> {
        socket.send(&bytes).await?;
        let mut answer = [0; 64];
        let length =
            timeout(std::time::Duration::from_secs(20), socket.recv(&mut answer)).await??;
        Ok(answer[..length].to_vec())
    };
    let answer = [0, 5, 0x12, 0x34, 1, 7, 1];
    for _ in 0..3 {
        assert_eq!(say().await?, answer);
    }
    // It does not depend on what the gateway remembers.
    road.gateway.kill9()?;
    road.gateway.restart().await?;
    assert_eq!(say().await?, answer);
    until_counted(&tables, 4, 1).await?;
    assert_eq!(tables.positions(IMEI, 1).await?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tracker_that_changes_gateways_repeats_itself_and_each_record_is_one_row() -> Result<()> {
    let redis = Redis::start(RedisOptions {
        gateways: vec![EDGE.to_owned(), OTHER.to_owned()],
        ..RedisOptions::default()
    });
    let redis = redis.await?;
    let road = Road::start(RoadOptions {
        gateway_id: EDGE.to_owned(),
        redis: Some(RedisAccess::clone(&redis)),
        ..RoadOptions::default()
    });
    let road = road.await?;
    let tables = Tables::connect(road.database_url()).await?;
    let dir = tempfile::tempdir()?;
    let other = Gateway::start(dir.path(), Some(dir.path()), OTHER, &redis, &[]).await?;

    let mut here = tracker(&road.gateway, IMEI).await?;
    assert_eq!(here.send_frame(&later(0)?).await?, 1);
    // This one is kept, but the tracker dials the other gateway before its ACK arrives.
    let mut lost = Vec::new();
    codec::encode::frame(&later(1)?, &mut lost)?;
    here.send_raw(&lost).await?;
    let mut there = tracker(&other, IMEI).await?;
    assert_eq!(there.send_frame(&later(1)?).await?, 1);
    assert_eq!(there.send_frame(&later(2)?).await?, 1);
    assert_eq!(
        here.read_ack().await?,
        1,
        "the old connection hears its ACK"
    );
    // And back, saying again what it has said there.
    drop(there);
    let mut back = tracker(&road.gateway, IMEI).await?;
    assert_eq!(back.send_frame(&later(2)?).await?, 1);
    assert_eq!(back.send_frame(&later(3)?).await?, 1);
    until_counted(&tables, 6, 4).await?;
    assert_eq!(tables.positions(IMEI, 4).await?.len(), 4);
    Ok(())
}
