//! The web app: can its file of tokens be used, and who else could read them?

use super::Look;
use crate::config::{Config, Open};
use crate::explain::web as pages;
use crate::stream::consumer::chained;
use crate::web::tokens;

/// Looks at the file of tokens. Nothing is told where nobody is let in.
#[must_use]
pub fn look(config: &Config) -> Look {
    let mut look = Look::new("web");
    let Some(http) = config.http else {
        return look;
    };
    let Some(path) = &config.web.tokens else {
        match config.web.open {
            Open::No => {}
            Open::Read => look.good(format!(
                "everybody on this machine may look: http://{http}/"
            )),
            Open::Operator => {
                look.good(format!("everybody on this machine may act: http://{http}/"));
            }
        }
        return look;
    };
    match tokens::read(path) {
        Ok(count) => look.good(format!("{count} tokens open http://{http}/")),
        Err(error) => look.bad(
            &pages::TOKENS,
            chained(&error),
            "correct the file, or make one with `cloud web token new NAME --role read --file FILE`",
        ),
    }
    if !http.ip().is_loopback() {
        look.bad(
            &pages::BARE,
            format!("http.listen is {http}, and there is no TLS"),
            "put a proxy that speaks TLS on this machine, and listen on 127.0.0.1",
        );
    }
    look
}
