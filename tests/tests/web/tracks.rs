//! Where a device was: thinned, in full as files, and its values over time.

use anyhow::{Context as _, Result, ensure};
use codec::AvlCodec;
use codec::encode::{self, IoSpec, IoValue, RecordSpec};
use serde_json::Value;
use tests::batches::Sent;

use super::stage::{IMEI, START_MS, Stage, fix};

/// The hours around the start, in an address.
const SPAN: &str = "from=2026-09-21T14:00:00Z&to=2026-09-21T16:00:00Z";

fn items<'a>(told: &'a Value, name: &str) -> Result<&'a Vec<Value>> {
    told[name].as_array().with_context(|| told.to_string())
}

/// A hundred rows, a second apart, and what is the peak among them.
async fn driven() -> Result<(Stage, i64)> {
    let mut stage = Stage::new().await?;
    let mut frames: Vec<Sent> = (0..100).map(|n| fix(IMEI, n)).collect::<Result<_>>()?;
    frames[37] = peak(37)?;
    stage.drive(&frames).await?;
    stage
        .tables
        .run("UPDATE devices SET family = 'fmb'")
        .await?;
    let id = stage.device(IMEI).await?;
    Ok((stage, id))
}

/// As [`fix`], but fast, with a low voltage and a value that is negative.
fn peak(n: u64) -> Result<Sent> {
    let at = START_MS + n * 1_000;
    let io = [
        IoSpec {
            id: 66,
            value: IoValue::U16(9_000),
        },
        IoSpec {
            id: 72,
            value: IoValue::U32(u32::MAX - 99),
        },
    ];
    let record = RecordSpec {
        timestamp_ms: at,
        latitude_e7: 525_163_000 + 1_000 * i32::try_from(n)?,
        longitude_e7: 133_777_000,
        altitude_m: 34,
        satellites: 9,
        speed_kmh: 180,
        io: &io,
        ..RecordSpec::default()
    };
    let mut data = Vec::new();
    encode::avl_data(AvlCodec::Codec8E, &[record], &mut data)?;
    Ok(Sent {
        imei: IMEI,
        received_at_ms: at + 500,
        data,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_track_is_thinned_to_what_was_asked_for_and_keeps_its_ends() -> Result<()> {
    let (stage, id) = driven().await?;
    let track = async |more: &str| {
        stage
            .told(&format!("/devices/{id}/track?{SPAN}{more}"))
            .await
    };
    let whole = track("").await?;
    let points = items(&whole, "points")?.clone();
    ensure!(
        whole["rows"] == 100 && points.len() == 100 && whole["step_s"].is_null(),
        "{whole}"
    );
    ensure!(
        points[0]["time"] == "2026-09-21T14:13:20.000Z",
        "{}",
        points[0]
    );
    ensure!(points[37]["speed_kmh"] == 180 && points[37]["valid"] == true);
    for most in [2, 3, 7, 10, 50, 99] {
        let told = track(&format!("&points_max={most}")).await?;
        let thinned = items(&told, "points")?;
        ensure!(
            told["rows"] == 100 && told["step_s"].as_f64() > Some(0.0),
            "{told}"
        );
        ensure!(
            (2..=most).contains(&thinned.len()),
            "{} of {most}",
            thinned.len()
        );
        ensure!(
            thinned.len() * 2 >= most,
            "{} of {most} are few",
            thinned.len()
        );
        ensure!(
            thinned.first() == points.first() && thinned.last() == points.last(),
            "{most}"
        );
        ensure!(
            thinned.iter().all(|it| points.contains(it)),
            "no point is made up"
        );
        let times: Vec<&str> = thinned
            .iter()
            .filter_map(|it| it["time"].as_str())
            .collect();
        ensure!(times.is_sorted(), "{times:?}");
    }
    let one = track("&points_max=1").await?;
    ensure!(items(&one, "points")?[..] == points[99..], "{one}");
    ensure!(items(&track("&points_max=100").await?, "points")?.len() == 100);
    // The beginning of a span is in it, its end is not.
    let part = "from=2026-09-21T14:13:21Z&to=2026-09-21T14:13:23Z";
    let told = stage.told(&format!("/devices/{id}/track?{part}")).await?;
    ensure!(items(&told, "points")?[..] == points[1..3], "{told}");
    let empty = stage.told(&format!("/devices/{id}/track")).await?;
    ensure!(empty["rows"].is_number() && items(&empty, "points")?.len() as u64 == empty["rows"]);
    for bad in [
        "points_max=0",
        "points_max=20001",
        "from=now",
        "from=2026-09-21T16:00:00Z&to=2026-09-21T14:00:00Z",
        "from=2026-01-01T00:00:00Z&to=2026-03-01T00:00:00Z",
        "form=2026-09-21T16:00:00Z",
    ] {
        let answer = stage.get(&format!("/devices/{id}/track?{bad}")).await?;
        answer.is_problem(400, "malformed").context(bad)?;
    }
    for kind in [
        "track",
        "track.csv",
        "track.gpx",
        "series?names=speed_kmh",
        "commands",
    ] {
        let answer = stage.get(&format!("/devices/999/{kind}")).await?;
        answer.is_problem(404, "not-there").context(kind)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_keeps_its_least_and_greatest_value_however_thin() -> Result<()> {
    let (stage, id) = driven().await?;
    let names = "speed_kmh,external_voltage,altitude_m,dallas_temperature_1,nothing";
    let path = format!("/devices/{id}/series?names={names}&{SPAN}");
    let told = stage.told(&path).await?;
    let series = items(&told, "series")?;
    let named: Vec<&str> = series.iter().filter_map(|it| it["name"].as_str()).collect();
    ensure!(
        named.join(",") == names && told["step_s"].is_null(),
        "{told}"
    );
    let units: Vec<&Value> = series.iter().map(|it| &it["unit"]).collect();
    ensure!(
        *units[0] == "km/h" && *units[1] == "V" && *units[2] == "m",
        "{units:?}"
    );
    let voltage = items(&series[1], "points")?;
    ensure!(voltage.len() == 100);
    ensure!(
        voltage[0][0] == "2026-09-21T14:13:20.000Z" && voltage[0][1] == 12.0,
        "{}",
        voltage[0]
    );
    let sent_once = items(&series[3], "points")?;
    ensure!(
        sent_once.len() == 1 && sent_once[0][1] == -10.0,
        "{sent_once:?}"
    );
    ensure!(items(&series[4], "points")?.is_empty(), "nobody sent that");
    for most in [2, 5, 10, 40] {
        let told = stage.told(&format!("{path}&points_max={most}")).await?;
        ensure!(told["step_s"].as_f64() > Some(0.0), "{told}");
        let series = items(&told, "series")?;
        for (at, extreme) in [(0, 180.0), (1, 9.0), (1, 12.099)] {
            let points = items(&series[at], "points")?;
            ensure!(points.len() <= most, "{} of {most}", points.len());
            let has = points.iter().any(|point| point[1] == extreme);
            ensure!(has, "{extreme} by {most}: {points:?}");
            let times: Vec<&str> = points.iter().filter_map(|it| it[0].as_str()).collect();
            ensure!(times.is_sorted(), "{times:?}");
        }
    }
    for bad in [
        "",
        "names=",
        "names=a,a",
        "names=1,2,3,4,5,6,7,8,9",
        "names=speed_kmh&names=b",
    ] {
        let answer = stage.get(&format!("/devices/{id}/series?{bad}")).await?;
        answer.is_problem(400, "malformed").context(bad)?;
    }
    let quoted = "names=x%27%20OR%201=1%20--";
    let told = stage
        .told(&format!("/devices/{id}/series?{quoted}"))
        .await?;
    ensure!(items(&told["series"][0], "points")?.is_empty(), "{told}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn files_hold_every_row_once_however_many_pages_that_takes() -> Result<()> {
    let (mut stage, id) = driven().await?;
    // Two pages and a bit, all of them of two moments, so that a page ends among equals.
    stage
        .tables
        .run("INSERT INTO positions (device_id, fix_time, record_hash, received_at, latitude, longitude, \
                 altitude_m, heading_deg, speed_kmh, event_io_id, satellites, priority, valid) \
              SELECT 1, CASE WHEN n % 2 = 0 THEN timestamptz '2026-09-21 15:00Z' ELSE '2026-09-21 15:00:01Z' END, \
                 n, now(), 52 + n / 100000.0, 13, NULL, NULL, 50, 0, 9, 0, n % 10 <> 0 \
              FROM generate_series(1, 4200) AS n")
        .await?;
    stage.drive(&[fix(IMEI, 100)?]).await?;
    let csv = stage
        .get(&format!("/devices/{id}/track.csv?{SPAN}"))
        .await?;
    ensure!(csv.status == 200 && csv.header("content-type") == "text/csv; charset=utf-8");
    let wanted = "attachment; filename=\"350000000000017-2026-09-21.csv\"";
    ensure!(csv.header("content-disposition") == wanted, "{csv:?}");
    let text = csv.text();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    ensure!(lines.len() == 1 + 4_301, "{} lines", lines.len());
    ensure!(
        lines[0][..3] == ["time", "latitude", "longitude"],
        "{:?}",
        lines[0]
    );
    ensure!(lines.iter().all(|line| line.len() == lines[0].len()));
    ensure!(
        lines[1][..5] == ["2026-09-21T14:13:20.000Z", "52.5163", "13.3777", "34", "0"],
        "{:?}",
        lines[1]
    );
    let mut latitudes: Vec<&str> = lines[102..].iter().map(|line| line[1]).collect();
    latitudes.sort_unstable();
    latitudes.dedup();
    ensure!(
        latitudes.len() == 4_200,
        "{} different rows",
        latitudes.len()
    );
    let times: Vec<&str> = lines[1..].iter().map(|line| line[0]).collect();
    ensure!(times.is_sorted());
    let gpx = stage
        .get(&format!("/devices/{id}/track.gpx?{SPAN}"))
        .await?;
    ensure!(gpx.header("content-type") == "application/gpx+xml");
    let points = gateway_reads(&gpx.body)?;
    ensure!(points == 101 + 3_780, "{points} points with a fix");
    Ok(())
}

/// What the gateway's own door makes of a GPX file.
fn gateway_reads(gpx: &[u8]) -> Result<usize> {
    let text = std::str::from_utf8(gpx)?;
    ensure!(text.starts_with("<?xml") && text.trim_end().ends_with("</gpx>"));
    Ok(text.matches("<trkpt lat=").count())
}
