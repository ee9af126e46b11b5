//! Pure: no I/O, no clock.
//!
//! What the fields of an item mean.
//!
//! Why a field we do not know refuses the item: `speed` in the place of `speed_kmh` would be lost
//! without a word; what has no field of its own belongs into `attributes`.

use std::borrow::Cow;
use std::fmt;

use codec::Imei;
use contract::Device;
use contract::envelope::DEVICE_TEXT_BYTES_MAX;
use contract::position::{Packed, Position};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::super::moment;
use super::Item;

/// The value of a field.
pub(super) enum Field<'a> {
    /// As if the field were not there.
    Null,
    /// A number.
    Number(Number),
    /// A text.
    Text(Cow<'a, str>),
    /// An object: its members, in their order.
    Members(Vec<(Cow<'a, str>, Value)>),
    /// What no field may be.
    Other,
}

/// The fields of an item, as far as they were read.
#[derive(Default)]
pub(super) struct Fields<'a> {
    device: Option<Device>,
    time_ms: Option<i64>,
    latitude: Option<f64>,
    longitude: Option<f64>,
    altitude_m: Option<f64>,
    heading_deg: Option<f64>,
    speed_kmh: Option<f64>,
    accuracy_m: Option<f64>,
    attributes: Option<Vec<(Cow<'a, str>, Value)>>,
}

impl<'a> Fields<'a> {
    /// Takes one field; a null one is none.
    /// # Errors
    /// Why not, in words.
    pub(super) fn take(&mut self, name: &str, value: Field<'a>) -> Result<(), String> {
        if matches!(value, Field::Null) {
            return Ok(());
        }
        match name {
            "device" | "imei" if self.device.is_some() => {
                Err("device and imei: give one of them".to_owned())
            }
            "device" => once(&mut self.device, name, named(&text(name, value)?)?),
            "imei" => once(&mut self.device, name, imei_of(&value)?),
            "time" => once(&mut self.time_ms, name, moment_of(&value)?),
            "latitude" | "lat" => once(&mut self.latitude, name, number(name, &value)?),
            "longitude" | "lon" => once(&mut self.longitude, name, number(name, &value)?),
            "altitude_m" => once(&mut self.altitude_m, name, number(name, &value)?),
            "heading_deg" => once(&mut self.heading_deg, name, number(name, &value)?),
            "speed_kmh" => once(&mut self.speed_kmh, name, number(name, &value)?),
            "accuracy_m" => once(&mut self.accuracy_m, name, number(name, &value)?),
            "attributes" => match value {
                Field::Members(members) => once(&mut self.attributes, name, members),
                _ => Err("attributes is an object".to_owned()),
            },
            other => {
                let shown: String = other.chars().take(40).collect();
                Err(format!("no field {shown:?}: put it into attributes"))
            }
        }
    }

    /// The item. `device` is whose it is if it does not say so.
    /// # Errors
    /// Why there is none, in words.
    pub(super) fn item(self, device: Option<&Device>) -> Result<Item, String> {
        let device = self.device.or_else(|| device.cloned());
        let device = device.ok_or("device or imei is missing")?;
        let position = Position {
            time_ms: self.time_ms.ok_or("time is missing")?,
            latitude: self.latitude.ok_or("latitude is missing")?,
            longitude: self.longitude.ok_or("longitude is missing")?,
            altitude_m: self.altitude_m,
            heading_deg: self.heading_deg,
            speed_kmh: self.speed_kmh,
            accuracy_m: self.accuracy_m,
            attributes: Map::new(),
        };
        let attributes = self.attributes.unwrap_or_default();
        let position = Packed::with(&position, &attributes).map_err(|why| why.to_string())?;
        Ok(Item { device, position })
    }
}

/// An object on its way in, field by field: a tree of it would take longer to build than all the rest.
/// What is wrong with a field is remembered, and what is behind it passed over.
pub(super) struct Object<'a>(Result<Fields<'a>, String>);

impl Object<'_> {
    /// As [`Fields::item`].
    pub(super) fn item(self, device: Option<&Device>) -> Result<Item, String> {
        self.0?.item(device)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Object<'de>;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut fields = Fields::default();
                while let Some(Text(name)) = map.next_key()? {
                    let taken = fields.take(&name, map.next_value()?);
                    if let Err(why) = taken {
                        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                        return Ok(Object(Err(why)));
                    }
                }
                Ok(Object(Ok(fields)))
            }
        }
        from.deserialize_any(Reader)
    }
}

/// A text, taken from the body where it stands there as it is.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Text<'de>;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("a text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        from.deserialize_str(Reader)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Field<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Field<'de>;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Field<'de>, E> {
                Ok(Field::Null)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Field<'de>, E> {
                Ok(Field::Other)
            }

            fn visit_u64<E>(self, number: u64) -> Result<Field<'de>, E> {
                Ok(Field::Number(number.into()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Field<'de>, E> {
                Ok(Field::Number(number.into()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Field<'de>, E> {
                Ok(Number::from_f64(number).map_or(Field::Other, Field::Number))
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Field<'de>, E> {
                Ok(Field::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Field<'de>, E> {
                Ok(Field::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Field<'de>, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Field::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some((Text(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(Field::Members(members))
            }
        }
        from.deserialize_any(Reader)
    }
}

/// The last word about an item, whatever it came in.
pub(super) fn checked(device: Device, position: Position) -> Result<Item, String> {
    let position = Packed::of(&position).map_err(|why| why.to_string())?;
    Ok(Item { device, position })
}

fn once<T>(place: &mut Option<T>, name: &str, value: T) -> Result<(), String> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("{name} is there twice")),
    }
}

fn text<'a>(name: &str, value: Field<'a>) -> Result<Cow<'a, str>, String> {
    match value {
        Field::Text(text) => Ok(text),
        _ => Err(format!("{name} is a text")),
    }
}

fn number(name: &str, value: &Field<'_>) -> Result<f64, String> {
    let read = match value {
        Field::Number(number) => number.as_f64(),
        _ => None,
    };
    read.ok_or_else(|| format!("{name} is a number"))
}

fn moment_of(value: &Field<'_>) -> Result<i64, String> {
    let read = match value {
        Field::Text(text) => moment::of_text(text),
        Field::Number(number) => number.as_f64().and_then(moment::of_number),
        _ => None,
    };
    read.ok_or_else(|| {
        "time is RFC 3339 text with its zone, or seconds or milliseconds since 1970".to_owned()
    })
}

/// A device by its name: 1 to [`DEVICE_TEXT_BYTES_MAX`] bytes, nothing that is not printed.
pub(super) fn named(name: &str) -> Result<Device, String> {
    let fits = (1..=DEVICE_TEXT_BYTES_MAX).contains(&name.len());
    if !fits || name.chars().any(char::is_control) || name.trim() != name {
        return Err(format!(
            "device is a text of 1 to {DEVICE_TEXT_BYTES_MAX} bytes without control characters or spaces around it"
        ));
    }
    Ok(Device::Text(name.to_owned()))
}

fn imei_of(value: &Field<'_>) -> Result<Device, String> {
    match value {
        Field::Text(text) => of_imei(text),
        Field::Number(number) => of_imei(&number.to_string()),
        _ => of_imei(""),
    }
}

/// A device by its IMEI.
pub(super) fn of_imei(digits: &str) -> Result<Device, String> {
    let imei = digits.parse::<Imei>();
    imei.map(Device::Imei)
        .map_err(|_| "imei has 15 digits".to_owned())
}
