//! What is said to Docker, and in which order, whatever Docker answers.
//!
//! There is no daemon here: a script stands in for the command, writes down how it was called and
//! ends as the test wants. What real containers do is not tested by this.

#![allow(clippy::unwrap_used)]

use std::fs;

use super::*;

const IMAGE: &str = "example/one:1";

struct StandIn {
    dir: TempDir,
}

impl StandIn {
    /// `refuses` is a shell pattern of calls that fail.
    fn new(refuses: &str) -> StandIn {
        let dir = tempfile::tempdir().unwrap();
        let script = format!(
            "#!/bin/sh\n\
             cd '{}'\n\
             echo \"$*\" >>calls\n\
             case $* in\n\
             {refuses}) echo 'it says no' >&2; exit 1 ;;\n\
             *config*) echo {IMAGE} ;;\n\
             *' up '*) cp \"$MILEPOST_REDIS_DIR\"/* . && ls -ld \"$MILEPOST_REDIS_DIR/..\" >parent ;;\n\
             esac\n",
            dir.path().display()
        );
        // Written by another process: a file we had open for writing, which a neighbouring test's
        // child inherits for a moment, could not be executed in that moment.
        let written = Command::new("/bin/sh")
            .args(["-c", r#"printf %s "$2" >"$1" && chmod 755 "$1""#, "sh"])
            .arg(dir.path().join("docker"))
            .arg(script)
            .status();
        assert!(written.unwrap().success());
        StandIn { dir }
    }

    fn program(&self) -> PathBuf {
        self.dir.path().join("docker")
    }

    /// The first words of each call that matter.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default();
        let file = compose_file().unwrap();
        let always = format!("compose --project-name p --file {} ", file.display());
        let lines = calls.lines();
        lines.map(|line| line.replace(&always, "p: ")).collect()
    }

    async fn refused(&self, program: &Path) -> String {
        let gateways = ["gw".to_owned()];
        let started = start(program.as_os_str(), "p", &gateways, |_| {}).await;
        format!("{:#}", started.unwrap_err())
    }

    fn docker(&self) -> Docker {
        Docker {
            program: self.program().into(),
            project: "p".to_owned(),
            file: compose_file().unwrap(),
            environment: Vec::new(),
        }
    }
}

#[tokio::test]
async fn what_is_missing_is_named_and_nothing_was_started() {
    let cases = [
        ("info*", "its daemon does not answer", 1),
        ("'compose version'*", "no compose plugin", 2),
        ("*config*", "does not accept its file", 3),
        (
            "'image inspect'* | 'pull example/one:1'",
            "image example/one:1 cannot be pulled",
            5,
        ),
    ];
    for (refuses, reason, calls) in cases {
        let docker = StandIn::new(refuses);
        let said = docker.refused(&docker.program()).await;
        assert!(said.contains(reason), "{refuses}: {said}");
        assert_eq!(docker.calls().len(), calls, "{:?}", docker.calls());
        assert!(!docker.calls().iter().any(|call| call.contains(" up ")));
    }
    let docker = StandIn::new("nothing");
    let said = docker.refused(Path::new("/nonexistent/docker")).await;
    assert!(said.contains("no docker command"), "{said}");
}

#[tokio::test]
async fn containers_that_do_not_come_up_are_removed_again() {
    let docker = StandIn::new("*' up '*");
    let said = docker.refused(&docker.program()).await;
    assert!(said.contains("do not come up"), "{said}");
    let calls = docker.calls();
    let last: Vec<&str> = calls.iter().skip(4).map(String::as_str).collect();
    assert_eq!(
        last,
        [
            "p: up --detach --wait",
            "p: logs --no-color --tail 20",
            "p: down --volumes"
        ]
    );
}

#[tokio::test]
async fn a_start_that_nobody_waits_for_any_more_is_undone() {
    let docker = StandIn::new("nothing");
    let program = docker.program();
    let gateways = ["gw".to_owned()];
    // Nobody answers on the ports, so it would wait for a minute.
    let start = start(program.as_os_str(), "p", &gateways, |_| {});
    let looked = async {
        until(async || {
            let up = docker.dir.path().join("parent");
            ensure!(fs::read_to_string(up)?.len() > 10);
            Ok(())
        })
        .await
    };
    tokio::select! {
        started = start => panic!("{started:?}"),
        looked = looked => looked.unwrap(),
    }
    assert_eq!(docker.calls().last().unwrap(), "p: down --volumes");
    // What the container would have seen, and who could have seen it too.
    let parent = fs::read_to_string(docker.dir.path().join("parent")).unwrap();
    assert!(parent.starts_with("drwx------"), "{parent}");
    for name in ["ca.crt", "redis.crt", "redis.key", ACL_FILE] {
        let path = docker.dir.path().join(name);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644, "{name}");
    }
    let acl = fs::read_to_string(docker.dir.path().join(ACL_FILE)).unwrap();
    for user in [
        "default off",
        "admin on >",
        "processor on >",
        "gw on >",
        "health on nopass",
    ] {
        assert!(acl.contains(&format!("user {user}")), "{user}: {acl}");
    }
}

#[tokio::test]
async fn when_we_die_the_containers_and_the_directory_go() {
    let docker = StandIn::new("nothing");
    let doomed = tempfile::tempdir().unwrap().keep();
    let mut guard = Guard::new(&docker.docker(), &doomed).unwrap();
    // What the kernel does when this process is killed: the pipe ends, and nothing else.
    guard.pipe = None;
    let gone = async || {
        ensure!(!doomed.exists());
        Ok(())
    };
    until(gone).await.unwrap();
    assert_eq!(docker.calls(), ["p: down --volumes"]);
}

#[test]
fn a_removal_that_fails_is_told_with_the_way_to_do_it_by_hand() {
    let docker = StandIn::new("*down*");
    let doomed = tempfile::tempdir().unwrap();
    let mut guard = Guard::new(&docker.docker(), doomed.path()).unwrap();
    let said = format!("{:#}", guard.down().unwrap_err());
    assert!(said.contains("it says no"), "{said}");
    assert!(
        said.contains("docker compose -p p down --volumes"),
        "{said}"
    );
    assert!(doomed.path().exists(), "its owner removes it");
}
