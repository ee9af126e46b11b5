//! Sentences of NMEA 0183: the checksum, and what RMC says.
//!
//! Why here: a gateway keeps a sentence when its checksum holds, and the cloud reads what is in it.
//!
//! Source: the sentence's public descriptions (gpsd, "NMEA Revealed": RMC - Recommended Minimum
//! Navigation Information; checksum: exclusive or of everything between `$` and `*`).
//!
//! Invariant: any bytes get an answer; what a sentence leaves empty is unknown, not nought.

/// Knots to km/h: a nautical mile is 1852 metres.
const KMH: f64 = 1.852;

/// What a sentence RMC says.
#[derive(Clone, Debug, PartialEq)]
pub struct Rmc {
    /// Milliseconds since 1970 UTC; `None`: the receiver does not know yet.
    pub time_ms: Option<u64>,
    /// The receiver vouches for the position.
    pub has_fix: bool,
    /// Degrees north and east.
    pub place: Option<(f64, f64)>,
    /// Speed over ground.
    pub speed_kmh: Option<f64>,
    /// Course over ground, degrees clockwise from true north.
    pub course_deg: Option<f64>,
}

/// Why a line is no sentence, or not the one that is read: a few words.
pub type Wrong = &'static str;

/// Reads a sentence RMC, with or without the end of its line.
///
/// # Errors
/// [`Wrong`]: the first thing that does not fit.
pub fn rmc(line: &[u8]) -> Result<Rmc, Wrong> {
    let body = checked(line)?;
    let mut fields = body.split(',');
    let address = fields.next().unwrap_or_default();
    if !is_rmc(address) {
        return Err("another sentence than RMC");
    }
    let mut next = || fields.next().unwrap_or_default();
    let (clock, status) = (next(), next());
    let latitude = degrees((next(), next()), ("N", "S"), 90.0)?;
    let longitude = degrees((next(), next()), ("E", "W"), 180.0)?;
    let (speed_knots, course_deg) = (number(next())?, number(next())?);
    let date = next();
    Ok(Rmc {
        time_ms: match (clock, date) {
            ("", _) | (_, "") => None,
            _ => Some(time_ms(clock, date).ok_or("no time of day, or no date")?),
        },
        has_fix: match status {
            "A" => true,
            "V" => false,
            _ => return Err("neither valid (A) nor void (V)"),
        },
        place: latitude.zip(longitude),
        speed_kmh: speed_knots.map(|knots| knots * KMH),
        course_deg,
    })
}

/// Is this the address of a sentence RMC? Two letters of the talker (GP, GN, GL, …), then its name.
#[must_use]
pub fn is_rmc(address: &str) -> bool {
    address.len() == 5 && address.ends_with("RMC")
}

/// What stands between `$` and `*`, when the checksum behind it holds. The end of the line may be
/// there.
///
/// # Errors
/// [`Wrong`]: why it is no sentence.
pub fn checked(line: &[u8]) -> Result<&str, Wrong> {
    let line = line.trim_ascii_end();
    let rest = line.strip_prefix(b"$").ok_or("no $ in front")?;
    let (body, claimed) = rest.split_last_chunk::<3>().ok_or("cut short")?;
    let [b'*', high, low] = claimed else {
        return Err("no checksum at its end");
    };
    let digit = |digit: &u8| char::from(*digit).to_digit(16);
    let claimed = digit(high).zip(digit(low)).map(|(h, l)| h << 4 | l);
    let found = body.iter().fold(0, |sum, byte| sum ^ byte);
    if claimed != Some(u32::from(found)) {
        return Err("the checksum does not hold");
    }
    core::str::from_utf8(body).map_err(|_| "no text")
}

/// A number that may be left out.
fn number(field: &str) -> Result<Option<f64>, Wrong> {
    if field.is_empty() {
        return Ok(None);
    }
    // What else `f64` takes (signs, exponents, "inf") no sentence has.
    let plain = field
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number = field.parse().ok().filter(|_| plain);
    number.map(Some).ok_or("no number")
}

/// `ddmm.mmmm` and a hemisphere, both or none.
fn degrees(
    (field, side): (&str, &str),
    (plus, minus): (&str, &str),
    most: f64,
) -> Result<Option<f64>, Wrong> {
    let Some(found) = number(field)? else {
        return Ok(None);
    };
    // In range of 32 bits, or no place on the globe below; `trunc` needs std.
    let whole = f64::from((found / 100.0) as u32);
    let minutes = found - whole * 100.0;
    let degrees = whole + minutes / 60.0;
    if minutes >= 60.0 || degrees > most {
        return Err("no place on the globe");
    }
    match side {
        _ if side == plus => Ok(Some(degrees)),
        _ if side == minus => Ok(Some(-degrees)),
        _ => Err("no hemisphere"),
    }
}

/// `hhmmss.sss` and `ddmmyy`; years from 80 on are of the last century, as receivers have it.
fn time_ms(clock: &str, date: &str) -> Option<u64> {
    let two = |text: &str, at: usize| -> Option<u64> {
        let digits = text.get(at..at + 2)?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| plain)
    };
    let (hour, minute, second) = (two(clock, 0)?, two(clock, 2)?, two(clock, 4)?);
    let ms = match clock.get(6..)? {
        "" => 0,
        rest => {
            let digits = rest.strip_prefix('.')?;
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            if !plain {
                return None;
            }
            let three = digits.bytes().chain(*b"000").take(3);
            three.fold(0, |ms, digit| ms * 10 + u64::from(digit - b'0'))
        }
    };
    let (day, month, year) = (two(date, 0)?, two(date, 2)?, two(date, 4)?);
    let year = if year < 80 { 2000 + year } else { 1900 + year };
    // 60 is a leap second.
    if date.len() != 6 || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let days = days_before(year, month, day)?;
    Some(((days * 24 + hour) * 60 + minute) * 60_000 + second * 1_000 + ms)
}

/// Days from 1970-01-01 to a date of 1980 to 2079, in which every fourth year is a leap year.
fn days_before(year: u64, month: u64, day: u64) -> Option<u64> {
    let is_leap = year.is_multiple_of(4);
    let lengths = [
        31,
        28 + u64::from(is_leap),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let month = usize::try_from(month.checked_sub(1)?).ok()?;
    if !(1..=*lengths.get(month)?).contains(&day) {
        return None;
    }
    let leap_days = (year - 1) / 4 - 1969 / 4;
    Some((year - 1970) * 365 + leap_days + lengths[..month].iter().sum::<u64>() + day - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_documented_sentence_is_read() {
        let line = b"$GPRMC,225446,A,4916.45,N,12311.12,W,000.5,054.7,191194,020.3,E*68\r\n";
        let rmc = rmc(line);
        let read = rmc.map(|rmc| (rmc.time_ms, rmc.has_fix, rmc.course_deg));
        assert_eq!(read, Ok((Some(785_285_686_000), true, Some(54.7))));
        assert_eq!(checked(&line[..20]), Err("no checksum at its end"));
        assert_eq!(
            checked(b"$PGID,359853000144328*0F"),
            Ok("PGID,359853000144328")
        );
    }
}
