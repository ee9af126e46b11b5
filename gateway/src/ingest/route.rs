//! Pure: no I/O, no clock.
//!
//! Which path does what, in which lane.
//!
//! Why the old paths stay: senders of the founding system know them, with their classes 1, 2 and 3.

use contract::Lane;

use super::problem::Problem;
use super::read::{Form, Params};

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Batches: JSON, NDJSON, MsgPack.
    Batch,
    /// Files: GPX, CSV.
    Upload,
    /// Either.
    Both,
    /// One position of a phone app.
    Phone,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// What is there.
    pub(super) place: Place,
    /// How urgent it is.
    pub(super) lane: Lane,
}

const ROUTES: &[(&str, Place, Lane)] = &[
    ("/v1/batch", Place::Batch, Lane::Normal),
    ("/v1/upload", Place::Upload, Lane::Bulk),
    ("/tracking/live", Place::Batch, Lane::High),
    ("/tracking/upload", Place::Batch, Lane::Normal),
    ("/tracking/flymaster/upload/file", Place::Both, Lane::Bulk),
    ("/scoring/batch", Place::Batch, Lane::Normal),
    ("/", Place::Phone, Lane::Normal),
];

impl Route {
    /// Of method and path; `?lane=` wins over the lane of the path.
    /// # Errors
    /// [`Problem::NoPath`], [`Problem::Method`], [`Problem::Malformed`].
    pub(super) fn of(method: &str, path: &str, params: &Params) -> Result<Self, Problem> {
        let found = ROUTES.iter().find(|(known, ..)| *known == path);
        let (_, place, lane) = found.ok_or(Problem::NoPath)?;
        let place = *place;
        match (place, method) {
            (_, "POST") | (Place::Phone, "GET") => {}
            (Place::Phone, _) => return Err(Problem::Method("GET, POST")),
            _ => return Err(Problem::Method("POST")),
        }
        let lane = match params.get("lane") {
            None => *lane,
            Some(word) => {
                let found = Lane::ALL.into_iter().find(|lane| lane.as_str() == word);
                let unknown = || Problem::Malformed("lane is high, normal or bulk".to_owned());
                found.ok_or_else(unknown)?
            }
        };
        Ok(Self { place, lane })
    }

    /// The form of a body here.
    /// # Errors
    /// [`Problem::MediaType`].
    pub(super) fn form(self, content_type: Option<&str>) -> Result<Form, Problem> {
        let media_type = content_type.unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        let form = Form::of_media_type(&media_type.to_ascii_lowercase());
        let is_taken = |form: &Form| match self.place {
            Place::Batch => !form.is_upload(),
            Place::Upload => form.is_upload(),
            Place::Both => true,
            Place::Phone => *form == Form::Json,
        };
        form.filter(is_taken).ok_or_else(|| {
            let taken = match self.place {
                Place::Batch => "application/json, application/x-ndjson or application/msgpack",
                Place::Upload => "application/gpx+xml or text/csv",
                Place::Both => {
                    "application/json, application/x-ndjson, application/msgpack, application/gpx+xml or text/csv"
                }
                Place::Phone => "application/json or application/x-www-form-urlencoded",
            };
            Problem::MediaType(format!("Content-Type here is {taken}"))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_founding_paths_have_their_classes() {
        let lane = |path: &str, query: &str| {
            let route = Route::of("POST", path, &Params::parse(query));
            route.map(|route| route.lane.as_u8())
        };
        for (path, class) in [
            ("/tracking/live", 1),
            ("/tracking/upload", 2),
            ("/tracking/flymaster/upload/file", 3),
            ("/scoring/batch", 2),
            ("/v1/batch", 2),
            ("/v1/upload", 3),
            ("/", 2),
        ] {
            assert_eq!(lane(path, "").unwrap(), class, "{path}");
            assert_eq!(lane(path, "device=7&lane=high").unwrap(), 1, "{path}");
        }
        assert_eq!(lane("/v1/batch", "lane=urgent").unwrap_err().status(), 400);
        assert_eq!(lane("/v1/batch/", "").unwrap_err().status(), 404);
        let get = Route::of("GET", "/v1/batch", &Params::default());
        assert_eq!(get.unwrap_err().status(), 405);
        assert!(Route::of("GET", "/", &Params::default()).is_ok());
    }

    #[test]
    fn a_form_has_its_place() {
        let at = |path| Route::of("POST", path, &Params::default()).unwrap();
        let json = Some("Application/JSON; charset=utf-8");
        assert_eq!(at("/v1/batch").form(json).unwrap(), Form::Json);
        assert_eq!(at("/v1/upload").form(json).unwrap_err().status(), 415);
        assert_eq!(at("/v1/upload").form(Some("text/csv")).unwrap(), Form::Csv);
        let both = at("/tracking/flymaster/upload/file");
        for form in ["application/gpx+xml", "application/msgpack"] {
            assert!(both.form(Some(form)).is_ok(), "{form}");
        }
        assert_eq!(both.form(None).unwrap_err().status(), 415);
    }
}
