//! The manifests: valid for Kubernetes, complete, and asking for no right they do not need.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::compose::known;
use super::files::{deploy, ending_in, every, list, text, word, yaml};
use super::tools::{agrees, schemas};

/// Of Kubernetes: one that is still cared for, and old enough to be common.
const VERSION: &str = "1.34";

const LAYERS: [&str; 2] = ["kubernetes/base", "kubernetes/overlays/example"];

/// Objects of the base, with the file of each.
fn objects() -> Result<Vec<(PathBuf, Value)>> {
    let mut all = Vec::new();
    for file in ending_in(&deploy(LAYERS[0]), ".yaml")? {
        if !file.ends_with("kustomization.yaml") {
            let object = yaml(&file)?;
            all.push((file, object));
        }
    }
    ensure!(all.len() > 12, "only {} objects", all.len());
    Ok(all)
}

fn the(kind: &str, name: &str) -> Result<Value> {
    let found = objects()?.into_iter().map(|(_, object)| object);
    found
        .into_iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
        .with_context(|| format!("no {kind} {name}"))
}

/// Pod templates with their names.
fn templates() -> Result<Vec<(String, Value)>> {
    let mut all = Vec::new();
    for (_, object) in objects()? {
        if !object["spec"]["template"].is_null() {
            let name = word(&object["metadata"], "name").to_owned();
            all.push((name, object["spec"]["template"].clone()));
        }
    }
    assert_eq!(all.len(), 3, "cloud, gateway and migrate");
    Ok(all)
}

#[test]
fn every_object_is_what_kubernetes_accepts() -> Result<()> {
    let Some(mut check) = schemas("kubernetes_validate")? else {
        return Ok(());
    };
    check.args(["--strict", "--kubernetes-version", VERSION]);
    let mut foreign = 0;
    for (file, object) in objects()? {
        // KEDA's are no objects of Kubernetes itself, and have a test of their own.
        if word(&object, "apiVersion").starts_with("keda.sh/") {
            foreign += 1;
        } else {
            check.arg(file);
        }
    }
    assert_eq!(foreign, 2);
    agrees(&mut check)?;
    Ok(())
}

#[test]
fn every_file_is_named_and_every_named_file_is_there() -> Result<()> {
    for layer in LAYERS {
        let file = yaml(&deploy(layer).join("kustomization.yaml"))?;
        let mut named = BTreeSet::new();
        for resource in list(&file, "resources") {
            named.insert(resource.as_str().context("a path")?.to_owned());
        }
        for patch in list(&file, "patches") {
            named.insert(word(patch, "path").to_owned());
        }
        for name in &named {
            ensure!(deploy(layer).join(name).exists(), "{layer}: no {name}");
        }
        for path in ending_in(&deploy(layer), ".yaml")? {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let is_named = named.contains(&name) || name == "kustomization.yaml";
            ensure!(is_named, "{layer}: nobody names {name}");
        }
    }
    Ok(())
}

/// With the program that people use, where it is.
#[test]
fn kustomize_puts_the_example_together() -> Result<()> {
    let built = Command::new("kubectl")
        .arg("kustomize")
        .arg(deploy(LAYERS[1]))
        .output();
    let Ok(built) = built else {
        return tests::servers::skipped("kustomize on deploy/kubernetes: there is no kubectl");
    };
    let text = String::from_utf8(built.stdout)?;
    ensure!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    for part in [
        "address: redis.data.svc:6379",
        "stream: telemetry:teltonika",
        "registry.example/milepost/milepost-gateway:",
        "storageClassName: fast",
        "value: 16GiB",
    ] {
        ensure!(text.contains(part), "no {part} in\n{text}");
    }
    // What patches made of them, too.
    let Some(mut check) = schemas("kubernetes_validate")? else {
        return Ok(());
    };
    let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    let ours = text.split("\n---\n");
    let ours: Vec<&str> = ours
        .filter(|object| !object.contains("apiVersion: keda.sh/"))
        .collect();
    std::fs::write(file.path(), ours.join("\n---\n"))?;
    check.args(["--strict", "--kubernetes-version", VERSION]);
    agrees(check.arg(file.path()))?;
    Ok(())
}

/// The profile `restricted`, which the namespace enforces, and more: nothing may be written, nobody has a token.
#[test]
fn pods_may_nothing_that_they_do_not_need() -> Result<()> {
    for (name, template) in templates()? {
        let pod = &template["spec"];
        let secure = &pod["securityContext"];
        ensure!(
            secure["runAsNonRoot"] == true && secure["runAsUser"] == 65532,
            "{name}: root"
        );
        ensure!(
            secure["seccompProfile"]["type"] == "RuntimeDefault",
            "{name}: every system call"
        );
        ensure!(
            pod["automountServiceAccountToken"] == false,
            "{name}: a token"
        );
        ensure!(
            pod["enableServiceLinks"] == false,
            "{name}: REDIS_PORT of a service called redis"
        );
        for danger in ["hostNetwork", "hostPID", "hostIPC"] {
            ensure!(pod[danger].is_null(), "{name}: {danger}");
        }
        ensure!(list(pod, "containers").len() == 1, "{name}");
        let container = &list(pod, "containers")[0];
        assert_eq!(
            container["securityContext"],
            json!({
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            }),
            "{name}"
        );
        let resources = &container["resources"];
        for size in ["/requests/cpu", "/requests/memory", "/limits/memory"] {
            ensure!(resources.pointer(size).is_some(), "{name}: no {size}");
        }
        if name != "migrate" {
            for (probe, page) in [
                ("startupProbe", "/health"),
                ("livenessProbe", "/health"),
                ("readinessProbe", "/ready"),
            ] {
                assert_eq!(container[probe]["httpGet"]["path"], page, "{name}, {probe}");
            }
        }
    }
    let namespace = the("Namespace", "milepost")?;
    let labels = &namespace["metadata"]["labels"];
    assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
    Ok(())
}

#[test]
fn every_name_in_an_environment_is_one_that_the_program_reads() -> Result<()> {
    let names = the("ConfigMap", "milepost-names")?;
    let shared = names["data"].as_object().context("data")?;
    for (name, template) in templates()? {
        let program = if name == "gateway" {
            "gateway"
        } else {
            "cloud"
        };
        let known = known(program)?;
        let container = &list(&template["spec"], "containers")[0];
        assert_eq!(container["image"], format!("milepost-{program}"));
        for variable in list(container, "env") {
            let variable = word(variable, "name");
            ensure!(
                known.contains(variable),
                "{name}: {program} does not read {variable}"
            );
        }
        if !list(container, "envFrom").is_empty() {
            for variable in shared.keys() {
                ensure!(
                    known.contains(variable),
                    "{program} does not read {variable}"
                );
            }
        }
    }
    Ok(())
}

/// Names that objects call one another by.
#[test]
fn what_objects_name_is_there() -> Result<()> {
    let page = text(&deploy("kubernetes/base/kustomization.yaml"))?;
    let head: String = page
        .lines()
        .take_while(|line| line.starts_with('#'))
        .collect();
    for (name, template) in templates()? {
        let labels = template["metadata"]["labels"]
            .as_object()
            .context("labels")?;
        let pod = &template["spec"];
        the("ServiceAccount", word(pod, "serviceAccountName"))?;
        let container = &list(pod, "containers")[0];
        let mounted: BTreeSet<&str> = list(container, "volumeMounts")
            .iter()
            .map(|mount| word(mount, "name"))
            .collect();
        let mut there: BTreeSet<&str> = list(pod, "volumes")
            .iter()
            .map(|volume| word(volume, "name"))
            .collect();
        let gateway = the("StatefulSet", "gateway")?;
        if name == "gateway" {
            let claims = list(&gateway["spec"], "volumeClaimTemplates");
            there.extend(
                claims
                    .iter()
                    .map(|claim| claim["metadata"]["name"].as_str().unwrap()),
            );
        }
        assert_eq!(mounted, there, "{name}");
        // Every file of a secret that is asked for is one that the head of the base tells people to put there.
        let mut secrets = Vec::new();
        every(pod, "secretName", &mut secrets);
        for secret in secrets {
            ensure!(
                head.contains(secret.as_str().unwrap()),
                "{name}: nobody says what {secret} is"
            );
        }
        for variable in list(container, "env") {
            if let Some(file) = word(variable, "value").strip_prefix("/etc/milepost/") {
                ensure!(
                    head.contains(file),
                    "{name}: nobody says that {file} must be there"
                );
            }
        }
        // Somebody else's policy would leave it with `deny` alone.
        let policies = objects()?.into_iter().filter(|(_, object)| {
            let chosen = object["spec"]["podSelector"]["matchLabels"].as_object();
            object["kind"] == "NetworkPolicy"
                && chosen.is_some_and(|chosen| {
                    chosen
                        .iter()
                        .all(|(label, value)| labels.get(label) == Some(value))
                })
        });
        assert_eq!(policies.count(), 1, "{name}");
    }
    let deny = the("NetworkPolicy", "deny")?;
    assert_eq!(
        deny["spec"],
        json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
    );
    for name in ["cloud", "gateway"] {
        the("Service", name)?;
        the("PodDisruptionBudget", name)?;
    }
    Ok(())
}

/// KEDA's own schema is in no package; its words are few.
#[test]
fn scaling_follows_the_lag_of_our_group_and_never_to_nothing() -> Result<()> {
    let scaled = the("ScaledObject", "cloud")?;
    let spec = &scaled["spec"];
    let fields: Vec<&String> = spec.as_object().context("spec")?.keys().collect();
    for field in fields {
        let known = [
            "scaleTargetRef",
            "minReplicaCount",
            "maxReplicaCount",
            "pollingInterval",
            "fallback",
            "advanced",
            "triggers",
        ];
        ensure!(known.contains(&field.as_str()), "KEDA knows no {field}");
    }
    assert_eq!(
        spec["scaleTargetRef"],
        json!({"kind": "Deployment", "name": "cloud"})
    );
    let deployment = the("Deployment", "cloud")?;
    ensure!(
        deployment["spec"]["replicas"].is_null(),
        "two would decide how many there are"
    );
    let number = |name: &str| spec[name].as_u64().unwrap_or(0);
    ensure!(
        number("minReplicaCount") >= 1 && number("maxReplicaCount") > number("minReplicaCount")
    );
    let [trigger] = list(spec, "triggers") else {
        anyhow::bail!("one trigger");
    };
    assert_eq!(trigger["type"], "redis-streams");
    let about = &trigger["metadata"];
    assert_eq!(about["consumerGroup"], contract::keys::GROUP_PROCESSOR);
    ensure!(
        word(about, "lagCount")
            .parse::<u64>()
            .is_ok_and(|count| count > 0)
    );
    // Either would win over the lag, or count what is settled.
    for other in ["pendingEntriesCount", "streamLength"] {
        ensure!(about[other].is_null(), "{other}");
    }
    // KEDA wants text everywhere.
    let texts = about.as_object().context("metadata")?;
    ensure!(texts.values().all(Value::is_string), "{about}");
    let named = word(&trigger["authenticationRef"], "name");
    let auth = the("TriggerAuthentication", named)?;
    let parameters: BTreeSet<&str> = list(&auth["spec"], "secretTargetRef")
        .iter()
        .map(|secret| word(secret, "parameter"))
        .collect();
    assert_eq!(
        parameters,
        BTreeSet::from(["username", "password", "tls", "ca", "cert", "key"])
    );
    // The stream's name comes from the map that gateway and cloud read.
    let base = yaml(&deploy("kubernetes/base/kustomization.yaml"))?;
    let replacement = &list(&base, "replacements")[0];
    let name = contract::keys::ENV_TELEMETRY_STREAM;
    assert_eq!(replacement["source"]["fieldPath"], format!("data.{name}"));
    assert_eq!(
        list(replacement, "targets")[0]["fieldPaths"],
        json!(["spec.triggers.0.metadata.stream"])
    );
    Ok(())
}
