//! What people see, each promise with a road of its own.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use codec::encode::{self, IoSpec, IoValue, MessageSpec, RecordSpec};
use codec::{AvlCodec, Priority};
use serde_json::json;
use tests::fleet::{Fleet, FleetConfig, Tracker};
use tests::processes::{Road, RoadOptions, Setting};
use tests::tables::{Tables, eventually};

use super::driver::{Driver, Places, places};

const IMEI: u64 = 350_000_000_000_017;

/// Longitude and latitude of a made-up way, without symmetry: a mirrored map would show.
const ROUTE: [(f64, f64); 7] = [
    (25.2500, 54.6800),
    (25.2520, 54.6850),
    (25.2600, 54.6860),
    (25.2640, 54.6900),
    (25.2760, 54.6910),
    (25.2780, 54.6960),
    (25.2900, 54.6950),
];

/// Of `made-up-token-to-look`.
const TOKEN_SHA256: &str = "9e37d49656fac1d79645709d23c29694c9ed19a2f1bce98ef989b81c53e00502";

/// A road whose cloud shows everything to whoever is on this machine.
async fn road() -> Result<(Road, Tables)> {
    road_with(("web.open", "operator".into())).await
}

async fn road_with(door: Setting) -> Result<(Road, Tables)> {
    let options = RoadOptions {
        cloud: vec![door],
        ..RoadOptions::default()
    };
    let road = Road::start(options).await?;
    let tables = Tables::connect(road.database_url()).await?;
    Ok((road, tables))
}

async fn fleet(road: &Road, devices: usize) -> Result<Fleet> {
    Fleet::start(FleetConfig {
        devices,
        ..road.fleet_config()
    })
    .await
}

async fn tracker(road: &Road, imei: u64) -> Result<Tracker> {
    let mut tracker = Tracker::connect(road.gateway.tcp_addr(), imei).await?;
    ensure!(tracker.login().await?, "the login is accepted");
    Ok(tracker)
}

fn e7(degrees: f64) -> i32 {
    // Within the globe, so within 32 bits.
    #[allow(clippy::cast_possible_truncation)]
    let scaled = (degrees * 1e7).round() as i32;
    scaled
}

/// A report a minute along [`ROUTE`], half an hour ago.
fn route() -> Result<Vec<u8>> {
    let begun = chrono::Utc::now().timestamp_millis().unsigned_abs() - 30 * 60_000;
    let io = [IoSpec {
        id: 66,
        value: IoValue::U16(12_610),
    }];
    let records: Vec<_> = (0_u64..)
        .zip(ROUTE)
        .map(|(minute, (longitude, latitude))| RecordSpec {
            timestamp_ms: begun + minute * 60_000,
            priority: Priority::Low,
            longitude_e7: e7(longitude),
            latitude_e7: e7(latitude),
            altitude_m: 112,
            angle_deg: 45,
            satellites: 11,
            speed_kmh: 40,
            io: &io,
            ..RecordSpec::default()
        })
        .collect();
    let mut data = Vec::new();
    encode::avl_data(AvlCodec::Codec8E, &records, &mut data)?;
    Ok(data)
}

/// One device with the route in its past; its id.
async fn driven(road: &Road, tables: &Tables) -> Result<(Tracker, i32)> {
    let mut tracker = tracker(road, IMEI).await?;
    let count = tracker.send_frame(&route()?).await?;
    ensure!(usize::try_from(count)? == ROUTE.len());
    tables
        .wait_for("SELECT count(*) FROM positions", i64::from(count))
        .await?;
    let (id,): (i32,) = tables.one("SELECT id FROM devices").await?;
    Ok((tracker, id))
}

/// A frame whose checksum holds and whose codec nobody knows; the number of its letter.
async fn poisoned(tracker: &mut Tracker, tables: &Tables) -> Result<i64> {
    tracker
        .send_frame(&[0x77, 2, 1, 2, 3, 4, 5, 6, 7, 2])
        .await?;
    tables
        .wait_for("SELECT count(*) FROM dead_letters", 1)
        .await?;
    let (id,): (i64,) = tables.one("SELECT id FROM dead_letters").await?;
    Ok(id)
}

async fn start(scenario: &'static str) -> Result<Option<(Places, Road, Tables, Driver)>> {
    let Some(places) = places()? else {
        return Ok(None);
    };
    let (road, tables) = road().await?;
    let driver = Driver::start(&places, &road, scenario)?;
    Ok(Some((places, road, tables, driver)))
}

#[tokio::test(flavor = "multi_thread")]
async fn cars_move_on_the_map() -> Result<()> {
    let Some((_, road, tables, mut driver)) = start("moves").await? else {
        return Ok(());
    };
    let fleet = fleet(&road, 20).await?;
    tables
        .wait_for("SELECT count(*) FROM device_latest", 20)
        .await?;
    driver.until("ready").await?;
    driver.go("20").await?;
    let said = driver.done().await?;
    ensure!(said["moved"].as_u64() > Some(1), "{said}");
    fleet.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_a_token_comes_in_and_sees_what_its_role_may() -> Result<()> {
    let Some(places) = places()? else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let tokens = dir.path().join("tokens.txt");
    std::fs::write(
        &tokens,
        format!(
            "looker sha256:{TOKEN_SHA256} role=read
"
        ),
    )?;
    std::fs::set_permissions(&tokens, PermissionsExt::from_mode(0o600))?;
    let (road, tables) = road_with(("web.tokens", json!(tokens))).await?;
    let mut driver = Driver::start(&places, &road, "door")?;
    let (_tracker, id) = driven(&road, &tables).await?;
    driver.until("ready").await?;
    driver.go(&id.to_string()).await?;
    driver.done().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_that_dies_or_hangs_is_shown_within_seconds() -> Result<()> {
    let Some((_, mut road, _, mut driver)) = start("stalls").await? else {
        return Ok(());
    };
    let fleet = fleet(&road, 5).await?;
    driver.until("killed").await?;
    road.cloud.kill9()?;
    driver.go("").await?;
    driver.until("killed back").await?;
    road.cloud.restart().await?;
    driver.go("").await?;
    driver.until("paused").await?;
    road.cloud.pause()?;
    driver.go("").await?;
    driver.until("paused back").await?;
    road.cloud.resume()?;
    driver.go("").await?;
    driver.done().await?;
    fleet.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_route_is_drawn_plotted_listed_and_saved() -> Result<()> {
    let Some((_, road, tables, mut driver)) = start("track").await? else {
        return Ok(());
    };
    let (_tracker, id) = driven(&road, &tables).await?;
    driver.until("ready").await?;
    let route: Vec<_> = ROUTE.iter().map(|(lon, lat)| [lon, lat]).collect();
    driver
        .go(&json!({ "device": id, "route": route }).to_string())
        .await?;
    driver.done().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_goes_out_and_its_reply_comes_back() -> Result<()> {
    let Some((_, road, tables, mut driver)) = start("command").await? else {
        return Ok(());
    };
    let (mut tracker, id) = driven(&road, &tables).await?;
    driver.until("ready").await?;
    driver.go(&id.to_string()).await?;
    tracker.set_deadline(Duration::from_secs(60));
    let (_, text) = tracker.read_order().await?;
    let reply = format!("did {text}");
    tracker
        .send_message(&MessageSpec::response(reply.as_bytes()))
        .await?;
    driver.done().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_frame_is_shown_and_read_again() -> Result<()> {
    let Some((_, road, tables, mut driver)) = start("letter").await? else {
        return Ok(());
    };
    let mut tracker = tracker(&road, IMEI).await?;
    poisoned(&mut tracker, &tables).await?;
    driver.until("ready").await?;
    driver.go("").await?;
    driver.until("stayed").await?;
    ensure!(tables.rows("SELECT 1 FROM dead_letters").await? == 1);
    // It becomes what an older decoder could not read and today's can.
    let data = hex::encode(route()?);
    tables
        .run(&format!(
            "UPDATE frames f SET data = '\\x{data}' FROM dead_letters l \
             WHERE f.spool_id = l.spool_id AND f.seq = l.seq; \
             UPDATE dead_letters SET bytes = '\\x{data}'"
        ))
        .await?;
    driver.go("").await?;
    driver.done().await?;
    ensure!(tables.rows("SELECT 1 FROM dead_letters").await? == 0);
    ensure!(tables.rows("SELECT 1 FROM positions").await? == ROUTE.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_view_has_a_serious_fault_of_accessibility() -> Result<()> {
    let Some((_, road, tables, mut driver)) = start("accessible").await? else {
        return Ok(());
    };
    let (mut tracker, id) = driven(&road, &tables).await?;
    let letter = poisoned(&mut tracker, &tables).await?;
    driver.until("ready").await?;
    driver
        .go(&json!({ "device": id, "letter": letter }).to_string())
        .await?;
    driver.done().await?;
    Ok(())
}

/// Rows as they are after a commit, without the road before them: what is measured is the page.
#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_devices_move_every_second() -> Result<()> {
    let Some((_, road, tables, mut driver)) = start("many").await? else {
        return Ok(());
    };
    let devices: i64 = 5_000;
    tables
        .run(&format!(
            "INSERT INTO devices (imei, first_seen, last_seen) \
             SELECT 350000000100000 + n, now(), now() FROM generate_series(1, {devices}) n; \
             INSERT INTO device_latest (device_id, fix_time, record_hash, received_at, latitude, \
                 longitude, altitude_m, heading_deg, speed_kmh, satellites, ignition, movement) \
             SELECT id, now(), 0, now(), 54.6872 + 0.08 * (random() - 0.5), \
                 25.2797 + 0.12 * (random() - 0.5), 112, (random() * 359)::int, 50, 9, true, true \
             FROM devices"
        ))
        .await?;
    let url = road.database_url().to_owned();
    let drive = tokio::spawn(async move {
        let tables = Tables::connect(&url).await?;
        let mut second = tokio::time::interval(Duration::from_secs(1));
        loop {
            second.tick().await;
            tables
                .run(
                    "UPDATE device_latest SET fix_time = now(), received_at = now(), \
                     latitude = latitude + 0.000125 * cosd(heading_deg), \
                     longitude = longitude + 0.00022 * sind(heading_deg)",
                )
                .await?;
        }
        #[allow(unreachable_code)]
        anyhow::Ok(())
    });
    driver.until("ready").await?;
    driver.go(&devices.to_string()).await?;
    let measured = driver.until("measured").await?;
    eprintln!("{devices} devices at 1 Hz: {measured}");
    driver.done().await?;
    ensure!(!drive.is_finished(), "rows were written all the time");
    drive.abort();
    Ok(())
}

/// Pictures for people, where `MILEPOST_PICTURES` says.
#[tokio::test(flavor = "multi_thread")]
async fn pictures_of_every_view() -> Result<()> {
    let Some(dir) = std::env::var_os("MILEPOST_PICTURES") else {
        return Ok(());
    };
    let Some((_, road, tables, mut driver)) = start("pictures").await? else {
        return Ok(());
    };
    let fleet = fleet(&road, 200).await?;
    let mut tracker = tracker(&road, IMEI).await?;
    let letter = poisoned(&mut tracker, &tables).await?;
    eventually("somebody drove for a while", async || {
        let rows = tables
            .rows("SELECT 1 FROM positions WHERE speed_kmh > 30 GROUP BY device_id HAVING count(*) > 25")
            .await?;
        Ok(rows > 0)
    })
    .await?;
    let (id,): (i32,) = tables
        .one(
            "SELECT device_id FROM positions WHERE speed_kmh > 30 GROUP BY device_id \
             ORDER BY count(*) DESC LIMIT 1",
        )
        .await?;
    driver.until("ready").await?;
    let dir = dir.to_str().context("a path in UTF-8")?;
    driver
        .go(&json!({ "device": id, "letter": letter, "dir": dir }).to_string())
        .await?;
    driver.done().await?;
    fleet.stop().await;
    Ok(())
}
