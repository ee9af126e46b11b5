//! What a spool is asked: `gateway spool stat`, `ls` and `verify`, and what becomes of one that is busy.

use super::*;

#[test]
fn stat_ls_and_verify_say_what_is_there_and_touch_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let before = listing(dir.path());

    let stat = run(dir.path(), &["--bytes-max", "16MiB", "stat"]);
    assert_eq!(stat.code, 0, "{}", stat.err);
    for says in [
        "owner      box-1",
        "high       6 records in 6 frames, 324 B; the oldest came 2023-11-14 22:13:20 UTC",
        "normal     20 records in 20 frames, 1080 B",
        "bulk       nothing waits",
        "2 with records that wait",
        "of 16.0 MiB used",
        "days left  not known",
    ] {
        assert!(stat.out.contains(says), "{says:?} in {}", stat.out);
    }
    let stat = run(dir.path(), &["stat", "--json", "--bytes-max", "16MiB"]).json();
    let [stat] = &*stat else { panic!("one object") };
    assert_eq!(stat["owner"], "box-1");
    assert_eq!(stat["bytes_max"], 16 * MIB);
    assert_eq!(stat["lanes"][0]["lane"], "high");
    assert_eq!(stat["lanes"][0]["oldest_received_at_ms"], NOW_MS);
    assert_eq!(stat["lanes"][1]["records"], 20);
    assert_eq!(stat["segments"]["unsettled"], 2);
    assert_eq!(stat["days_left"], Value::Null);

    let ls = run(dir.path(), &["ls", "--json"]);
    let frames: u64 = ls
        .json()
        .iter()
        .map(|s| s["frames"].as_u64().unwrap())
        .sum();
    let settled: u64 = ls
        .json()
        .iter()
        .map(|s| s["settled"].as_u64().unwrap())
        .sum();
    assert_eq!((ls.code, frames, settled), (0, 30, 4));
    let ls = run(dir.path(), &["ls"]);
    assert_eq!(ls.out.lines().count(), 2, "{}", ls.out);
    assert!(ls.out.contains("4 of 24 frames settled"), "{}", ls.out);

    let verify = run(dir.path(), &["verify"]);
    assert_eq!((verify.code, verify.err.as_str()), (0, ""));
    assert_eq!(verify.out, "ok     2 segments, 30 commits, 30 frames\n");
    let verify = run(dir.path(), &["verify", "--json"]).json();
    assert_eq!(
        (&verify[0]["frames"], &verify[0]["lost"]),
        (&30.into(), &0.into())
    );
    assert_eq!(listing(dir.path()), before);
}

#[test]
fn a_directory_that_is_no_spool_is_named_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let file = dir.path().join("file");
    std::fs::write(&file, "something").unwrap();
    for verb in ["stat", "ls", "verify", "export", "import"] {
        for (path, says) in [
            (missing.as_path(), "change spool.dir"),
            (file.as_path(), "change spool.dir"),
            (dir.path(), "holds no spool but other files"),
        ] {
            let ran = run(path, &[verb]);
            assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{verb} {path:?}");
            assert!(ran.err.contains(says), "{verb}: {}", ran.err);
        }
    }
    assert!(!missing.exists());
    assert_eq!(listing(dir.path()).len(), 1);

    let empty = tempfile::tempdir().unwrap();
    let stat = run(empty.path(), &["stat"]);
    assert_eq!(stat.code, 0);
    assert!(stat.out.contains("nobody yet"), "{}", stat.out);
    assert_eq!(
        run(empty.path(), &["verify"]).out,
        "ok     0 segments, 0 commits, 0 frames\n"
    );
    let import = run(empty.path(), &["import"]);
    assert_eq!(import.code, 2);
    assert!(import.err.contains("no gateway has used"), "{}", import.err);
    assert_eq!(listing(empty.path()), []);

    let none = run(&missing, &["import", "--bytes-max", "many", "x"]);
    assert_eq!(none.code, 2);
    assert!(none.err.contains("4GiB"), "{}", none.err);
    let spool = new_spool();
    let none = run(spool.path(), &["import", "no-such-file.hex"]);
    assert_eq!(none.code, 2);
    assert!(
        none.err.contains("no-such-file.hex cannot be read"),
        "{}",
        none.err
    );
}

#[test]
fn a_directory_that_nobody_may_write_to_is_read_all_the_same() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let allow = |mode: u32| {
        for file in std::fs::read_dir(dir.path()).unwrap() {
            let file = file.unwrap();
            let is_dir = file.file_type().unwrap().is_dir();
            let bits = if is_dir { mode | 0o111 } else { mode };
            let permissions = std::fs::Permissions::from_mode(bits);
            std::fs::set_permissions(file.path(), permissions).unwrap();
        }
        let permissions = std::fs::Permissions::from_mode(mode | 0o111);
        std::fs::set_permissions(dir.path(), permissions).unwrap();
    };
    allow(0o444);
    assert_eq!(run(dir.path(), &["verify"]).code, 0);
    assert_eq!(run(dir.path(), &["stat"]).code, 0);
    assert_eq!(
        run(dir.path(), &["export"]).out.matches("\n0000").count(),
        26
    );
    // For the superuser there is no such directory.
    let is_bound = std::fs::write(dir.path().join("probe"), "").is_err();
    if is_bound {
        let import = run_with(dir.path(), &["import"], "");
        assert_eq!(import.code, 2);
        assert!(
            import.err.contains("make it writable for this user"),
            "{}",
            import.err
        );
    }
    allow(0o644);
}

#[test]
fn damage_is_said_with_what_where_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let segments = run(dir.path(), &["ls", "--json"]).json();
    let high = segments.iter().find(|s| s["lane"] == "high").unwrap();
    let file = high["file"].as_str().unwrap();
    let mut bytes = std::fs::read(dir.path().join(file)).unwrap();
    // The third commit; each has a block of its own behind the header's.
    bytes[3 * 4096 + 100] ^= 1;
    std::fs::write(dir.path().join(file), bytes).unwrap();
    let verify = run(dir.path(), &["verify"]);
    assert_eq!(verify.code, 1);
    assert!(
        verify.out.contains("what   a commit is missing"),
        "{}",
        verify.out
    );
    assert!(
        verify.out.contains(&format!("where  {file} from byte 8")),
        "{}",
        verify.out
    );
    assert!(verify.out.contains(":3-3\ndo     "), "{}", verify.out);
    let says = "1 places are damaged, 1 acknowledged frames are lost";
    assert!(verify.err.contains(says), "{} {}", verify.out, verify.err);
    let objects = run(dir.path(), &["verify", "--json"]).json();
    assert_eq!(
        (&objects[0]["damage"], &objects[0]["file"]),
        (&"commit".into(), &file.into())
    );
    assert_eq!(
        (&objects[1]["damaged"], &objects[1]["lost"]),
        (&1.into(), &1.into())
    );
    let export = run(dir.path(), &["export"]);
    assert_eq!((export.code, export.out.matches("\n0000").count()), (1, 25));
    assert!(
        export.err.contains("1 frames that wait could not be read"),
        "{}",
        export.err
    );

    // The next start finds it, says so and reports it; until the cloud has noted it, it stays lost.
    drop(open(dir.path(), 30));
    let verify = run(dir.path(), &["verify"]);
    assert_eq!(verify.code, 1);
    assert!(
        verify.err.contains("1 acknowledged frames are lost"),
        "{}",
        verify.err
    );
}

#[tokio::test]
async fn days_left_come_from_what_the_gateway_noted() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let (spool, _) = Spool::open(config.clone(), [1, 2, 3]).unwrap();
    for number in 0..10 {
        spool.append(frame(number)).await.unwrap();
    }
    drop(spool);
    // The drop waited for the thread, and the thread wrote.
    assert!(dir.path().join("written").exists());
    let stat = run(dir.path(), &["stat", "--json", "--bytes-max", "16MiB"])
        .json()
        .remove(0);
    let today = &stat["today"];
    assert_eq!(today["payload_bytes"], 540, "{stat}");
    assert!(today["written_bytes"].as_u64().unwrap() > 540);
    assert!(today["write_amplification"].as_f64().unwrap() > 1.0);
    assert_eq!(stat["days_left"], Value::Null, "a second proves no rate");

    let free = stat["bytes_max"].as_u64().unwrap() - stat["used_bytes"].as_u64().unwrap();
    let noted =
        "2000-01-01 86400 1 1 1\n2000-01-02 86400 1000000 3 4\n2000-01-03 86400 3000000 5 6\n";
    std::fs::write(dir.path().join("written"), noted).unwrap();
    let stat = run(dir.path(), &["stat", "--json", "--bytes-max", "16MiB"])
        .json()
        .remove(0);
    let days = stat["days_left"].as_f64().unwrap();
    assert!((days - free as f64 / 2_000_000.0).abs() < 0.001, "{stat}");
    assert_eq!(stat["today"], Value::Null);
    let (spool, _) = Spool::open(config, [4, 5, 6]).unwrap();
    let usage = spool.usage();
    let running = spool.days_left(&usage).unwrap();
    let free = usage.bytes_max - usage.used_bytes;
    assert!(
        (running - free as f64 / 2_000_000.0).abs() < 0.001,
        "{running}"
    );
}

#[test]
fn help_says_what_one_needs_to_know() {
    let dir = tempfile::tempdir().unwrap();
    for (verb, says) in [
        ("stat", "spool.bytes_max"),
        ("verify", "Exit code 1"),
        ("export", "decode"),
        ("import", "sends it twice and stores it once"),
    ] {
        let help = run(dir.path(), &[verb, "--help"]);
        assert_eq!(help.code, 0);
        let text = help.out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(says), "{verb}: {text}");
    }
}

/// Frames that come all the time leave no quiet moment, and the backlog is compacted all the same.
#[tokio::test]
async fn a_busy_spool_is_compacted_too() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let (spool, _) = Spool::open(config, [1, 2, 3]).unwrap();
    let (until, mut number) = (std::time::Instant::now() + Duration::from_secs(30), 0);
    while spool.usage().segments_compacted == 0 {
        assert!(std::time::Instant::now() < until, "nothing was compacted");
        for _ in 0..100 {
            number += 1;
            let append = Append {
                lane: Lane::Normal,
                ..frame(number)
            };
            spool.append(append).await.unwrap();
        }
        // Below what waits for a quiet moment, above what fills the spool meanwhile.
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    drop(spool);
    assert_eq!(run(dir.path(), &["verify"]).code, 0);
    let stat = run(dir.path(), &["stat", "--json"]).json().remove(0);
    assert_eq!(stat["segments"]["compacted"], 1);
    assert_eq!(stat["lanes"][1]["frames"], number);
}
