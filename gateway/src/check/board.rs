//! Is the board what the settings say, and is it well?
//!
//! Invariant: nothing is driven, and no watchdog is opened: that would arm it.

use std::path::Path;

use ::settings::Settings;
use hardware::{Board, BoardProfile, PreEol, claims};

use super::Look;
use crate::board::{BoardConfig, page_of};
use crate::chain::chain;
use crate::config;
use crate::explain::board as pages;

pub(super) fn look(settings: &Settings, is_running: bool) -> Look {
    let mut look = Look::new("board");
    let BoardConfig { profile, root } = match config::board(settings) {
        Ok(config) => config,
        Err(_) => {
            look.skipped("not looked at: the settings above do not name a board");
            return look;
        }
    };
    look.good(format!("{}: {}", profile.name, profile.summary));
    let place = place(settings);
    let troubles = Board::examine(&profile, &root, is_running);
    for trouble in &troubles {
        let page = page_of(trouble);
        look.bad(page, page.title, &place, chain(trouble), "correct the profile, or let the gateway's user have the device; `gateway explain` says how");
    }
    let wanted = profile.watchdog.as_ref();
    if wanted.is_some_and(|wanted| claims(&root, wanted).no_way_out == Some(true)) {
        let page = &pages::NO_WAY_OUT;
        let why = "`nowayout` of /sys/class/watchdog is 1";
        look.bad(
            page,
            page.title,
            &place,
            why,
            "boot with the driver's nowayout=0, or know that a stop resets the board",
        );
    }
    health(&mut look, &profile, &root, &place);
    look
}

fn health(look: &mut Look, profile: &BoardProfile, root: &Path, place: &str) {
    let readings = Board::sensors(profile, root).read();
    let mut words = Vec::new();
    words.extend(
        readings
            .temperature_c
            .map(|degrees| format!("{degrees:.1} °C")),
    );
    words.extend(readings.supply_v.map(|volts| format!("{volts:.1} V")));
    for health in &readings.storage {
        let block = &health.block;
        let used = health.life_used_percent;
        words.extend(used.map(|percent| format!("{block} {percent} % of its life used")));
        if health.is_worn() {
            let spare = health.spare_blocks.map_or("not told", PreEol::as_str);
            let used = used.map_or("not told".to_owned(), |percent| format!("{percent} %"));
            let page = &pages::WORN;
            look.bad(
                page,
                format!("the eMMC {block} is nearly worn out"),
                format!("/sys/block/{block}/device"),
                format!("life used: {used}, spare blocks: {spare}"),
                "replace it; what it holds can be saved with `gateway spool export`",
            );
        }
    }
    if readings.is_supply_low == Some(true) {
        let page = &pages::SUPPLY_LOW;
        look.bad(
            page,
            page.title,
            place,
            "its own alarm says so",
            "use the supply made for the board",
        );
    }
    if !words.is_empty() {
        look.good(words.join(", "));
    }
}

fn place(settings: &Settings) -> String {
    let name = match settings.is_set("board.file") {
        true => "board.file",
        false => "board.profile",
    };
    format!("{name}, {}", settings.origin(name).place())
}
