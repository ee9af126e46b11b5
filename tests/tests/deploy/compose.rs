//! `compose.yaml`: what it names is there, both sides agree on names, and nobody is let in by accident.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value};

use super::files::{deploy, every, list, text, word, yaml};
use super::tools::{agrees, schemas};

fn compose() -> Result<Value> {
    yaml(&deploy("compose.yaml"))
}

fn services(file: &Value) -> Result<&Map<String, Value>> {
    file["services"].as_object().context("services")
}

/// Environment of a service: names and values.
pub(super) fn environment(service: &Value) -> BTreeMap<String, String> {
    let fields = service["environment"].as_object().into_iter().flatten();
    fields
        .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect()
}

/// Every name that the program reads, from the table of its settings.
pub(super) fn known(program: &str) -> Result<BTreeSet<String>> {
    let (keys, prefix) = match program {
        "gateway" => (gateway::config::KEYS, gateway::config::ENV_PREFIX),
        "cloud" => (cloud::config::KEYS, cloud::config::ENV_PREFIX),
        other => anyhow::bail!("{other} is no program of ours"),
    };
    let mut names = BTreeSet::new();
    for key in keys {
        let own = key.env_aliases.iter().map(|alias| (*alias).to_owned());
        for name in own.chain([key.variable(prefix)]) {
            if key.secret {
                names.insert(format!("{name}_FILE"));
            }
            names.insert(name);
        }
    }
    Ok(names)
}

/// `${NAME:-value}` and the like in a text: the name and what follows it.
fn variables(text: &str) -> Vec<(String, String)> {
    let parts = text.split("${").skip(1);
    parts
        .filter_map(|part| {
            let (inside, _) = part.split_once('}')?;
            let end = inside.find([':', '-', '?']).unwrap_or(inside.len());
            Some((inside[..end].to_owned(), inside[end..].to_owned()))
        })
        .collect()
}

/// What containers get when nobody sets anything.
fn by_default(text: &str) -> String {
    let mut text = text.to_owned();
    while let Some(begin) = text.find("${") {
        let end = text[begin..]
            .find('}')
            .map_or(text.len(), |end| begin + end);
        let inside = &text[begin + 2..end];
        let value = inside
            .split_once(":-")
            .map_or("", |(_, value)| value)
            .to_owned();
        text.replace_range(begin..(end + 1).min(text.len()), &value);
    }
    text
}

#[test]
fn it_is_what_the_compose_specification_allows() -> Result<()> {
    let Some(mut check) = schemas("check_jsonschema")? else {
        return Ok(());
    };
    check.args(["--builtin-schema", "vendor.compose-spec"]);
    agrees(check.arg(deploy("compose.yaml")))?;
    Ok(())
}

#[test]
fn every_volume_and_network_is_declared_and_used_and_every_file_is_there() -> Result<()> {
    let file = compose()?;
    let (mut used, mut mounts) = (BTreeSet::new(), 0);
    for (name, service) in services(&file)? {
        for network in list(service, "networks") {
            used.insert(("networks", network.as_str().context("a name")?.to_owned()));
        }
        for volume in list(service, "volumes") {
            let source = match volume.as_str() {
                Some(short) => short.split(':').next().unwrap_or_default(),
                None => word(volume, "source"),
            };
            if let Some(path) = source.strip_prefix("./") {
                ensure!(
                    deploy(path).exists(),
                    "{name} mounts {source}, which is not there"
                );
                mounts += 1;
            } else if !source.starts_with('$') {
                used.insert(("volumes", source.to_owned()));
            } else {
                let bind = &volume["bind"];
                ensure!(
                    bind["create_host_path"] == false && volume["read_only"] == true,
                    "{name}: {source} is made when it is missing, or may be written"
                );
            }
        }
        for other in service["depends_on"].as_object().into_iter().flatten() {
            ensure!(
                services(&file)?.contains_key(other.0),
                "{name} waits for {}",
                other.0
            );
        }
    }
    ensure!(mounts >= 6, "only {mounts} files are mounted");
    let declared: BTreeSet<(&str, String)> = ["networks", "volumes"]
        .into_iter()
        .flat_map(|kind| {
            let names = file[kind].as_object().into_iter().flatten();
            names.map(move |(name, _)| (kind, name.clone()))
        })
        .collect();
    assert_eq!(used, declared);
    Ok(())
}

#[test]
fn images_are_pinned_and_ours_are_of_this_version() -> Result<()> {
    for (name, service) in services(&compose()?)? {
        let image = by_default(word(service, "image"));
        let (_, tag) = image
            .rsplit_once(':')
            .with_context(|| format!("{name}: {image}"))?;
        let version = tag.trim_start_matches('v');
        let parts = version.split(['.', '-']).take(3);
        let numbers = parts.filter(|part| part.parse::<u32>().is_ok()).count();
        ensure!(numbers == 3, "{name}: {image} is not pinned to a version");
        if image.contains("/milepost-") {
            assert_eq!(version, env!("CARGO_PKG_VERSION"), "{name}");
        }
    }
    Ok(())
}

#[test]
fn every_name_in_an_environment_is_one_that_the_program_reads() -> Result<()> {
    let file = compose()?;
    for (service, program) in [
        ("gateway", "gateway"),
        ("cloud", "cloud"),
        ("migrate", "cloud"),
    ] {
        let known = known(program)?;
        let given = environment(&file["services"][service]);
        ensure!(!given.is_empty(), "{service} is told nothing");
        for name in given.keys() {
            ensure!(
                known.contains(name),
                "{service}: {program} does not read {name}"
            );
        }
    }
    Ok(())
}

#[test]
fn the_stream_has_its_name_once_and_both_sides_have_it() -> Result<()> {
    let (file, source) = (compose()?, text(&deploy("compose.yaml"))?);
    let name = contract::keys::ENV_TELEMETRY_STREAM;
    let lines = source
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    assert_eq!(lines.filter(|line| line.contains(name)).count(), 1);
    let of = |service: &str| environment(&file["services"][service]).remove(name);
    ensure!(of("gateway").is_some() && of("gateway") == of("cloud"));
    assert_eq!(
        of("cloud").as_deref(),
        Some(contract::keys::STREAM_TELTONIKA)
    );
    Ok(())
}

#[test]
fn redis_speaks_tls_alone_knows_its_users_and_throws_nothing_away() -> Result<()> {
    let file = compose()?;
    let command = list(&file["services"]["redis"], "command");
    let words: Vec<&str> = command.iter().filter_map(Value::as_str).collect();
    for (option, value) in [
        ("--port", "0"),
        ("--tls-auth-clients", "yes"),
        ("--aclfile", "/etc/milepost/users.acl"),
        ("--appendonly", "yes"),
        ("--appendfsync", "everysec"),
        ("--maxmemory-policy", "noeviction"),
    ] {
        let at = words.iter().position(|word| *word == option);
        let at = at.with_context(|| format!("no {option}"))?;
        assert_eq!(words.get(at + 1), Some(&value), "{option}");
    }
    Ok(())
}

#[test]
fn nothing_is_published_beyond_this_machine_and_ours_may_nothing() -> Result<()> {
    let file = compose()?;
    let mut published = Vec::new();
    every(&file, "ports", &mut published);
    ensure!(published.len() >= 6, "{published:?}");
    for port in published
        .iter()
        .flat_map(|ports| ports.as_array())
        .flatten()
    {
        let port = by_default(port.as_str().context("the short form")?);
        ensure!(
            port.starts_with("127.0.0.1:"),
            "{port} is published to everybody"
        );
    }
    for (name, service) in services(&file)? {
        ensure!(
            service["container_name"].is_null(),
            "{name}: two of these would collide"
        );
        if word(service, "image").contains("/milepost-") {
            ensure!(
                service["read_only"] == true
                    && service["cap_drop"] == serde_json::json!(["ALL"])
                    && service["security_opt"] == serde_json::json!(["no-new-privileges:true"]),
                "{name} may more than it needs"
            );
        }
    }
    Ok(())
}

/// `./dev demo --engine compose` starts what has no profile, and sets no more than this.
#[test]
fn the_demo_gets_its_two_servers_and_no_more() -> Result<()> {
    let (file, source) = (compose()?, text(&deploy("compose.yaml"))?);
    let plain: Vec<&String> = services(&file)?
        .iter()
        .filter(|(_, service)| service["profiles"].is_null())
        .map(|(name, _)| name)
        .collect();
    assert_eq!(plain, ["redis", "timescaledb"]);
    let demo = text(&deploy("../tests/src/servers/compose.rs"))?;
    let lines = source.lines();
    let code: String = lines.filter(|line| !line.starts_with('#')).collect();
    let head: String = source
        .lines()
        .filter(|line| line.starts_with('#'))
        .collect();
    for (name, rest) in variables(&code) {
        ensure!(
            !rest.starts_with(":?") || demo.contains(&format!("\"{name}\"")),
            "{name} must be set, and the demo does not"
        );
        ensure!(head.contains(&name), "{name} is not explained at the top");
    }
    Ok(())
}

#[test]
fn grafana_is_told_everything_that_its_sources_ask_for() -> Result<()> {
    let file = compose()?;
    let given = environment(&file["services"]["grafana"]);
    let sources = text(&deploy("grafana/provisioning/datasources/milepost.yml"))?;
    let secrets = text(&deploy("compose-secrets"))?;
    let mut asked = 0;
    for part in sources.split('$').skip(1) {
        let end = part.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let name = &part[..end.unwrap_or(part.len())];
        if name == "__file" {
            let path = part[name.len()..].trim_start_matches('{');
            let path = path.split('}').next().unwrap_or_default();
            let made = path.replace("/etc/milepost/", ">grafana/");
            ensure!(secrets.contains(&made), "nobody makes {path}");
        } else {
            ensure!(given.contains_key(name), "grafana is not told {name}");
        }
        asked += 1;
    }
    ensure!(asked >= 5, "{asked}");
    let place = yaml(&deploy("grafana/provisioning/dashboards/milepost.yml"))?;
    let place = word(&list(&place, "providers")[0]["options"], "path").to_owned();
    let mounted = list(&file["services"]["grafana"], "volumes");
    let wanted = format!("./grafana/dashboards:{place}:ro");
    ensure!(
        mounted.iter().any(|volume| volume == &wanted),
        "{wanted} is not mounted"
    );
    Ok(())
}
