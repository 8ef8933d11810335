use super::*;

const SHORT: Duration = Duration::from_millis(300);

fn shell(script: &str) -> Invocation {
    Invocation::new("sh", &["-c", script])
}

fn is_no_answer(result: &Result<Output>) -> bool {
    result.as_ref().is_err_and(Error::is::<NoAnswer>)
}

#[test]
fn input_and_output() {
    let invocation = shell("cat; echo wrong >&2; exit 3").with_input("hello").expect("memory");
    let printed = run_blocking(invocation).expect("it runs");
    assert_eq!(printed.stdout, b"hello");
    assert_eq!(printed.stderr, b"wrong\n");
    let error = printed.success("sh").expect_err("it failed");
    assert_eq!(error.to_string(), "sh: wrong");
    let missing = run_blocking(Invocation::new("no-such-program", &[])).expect_err("not there");
    let kind = missing.downcast_ref::<io::Error>().map(io::Error::kind);
    assert_eq!(kind, Some(ErrorKind::NotFound));
}

#[test]
fn nobody_is_waited_for() {
    for hangs in ["sleep 600", "kill -STOP $$", "trap '' TERM INT HUP; while :; do :; done"] {
        let printed = run_blocking(shell(hangs).within(SHORT));
        assert!(is_no_answer(&printed), "{hangs}: {printed:?}");
    }
    let began = Instant::now();
    // Input that is never read, and a child that keeps the output open.
    let invocation =
        shell("sleep 600 & echo done").with_input(&"x".repeat(1 << 20)).expect("memory");
    assert_eq!(run_blocking(invocation).expect("it runs").stdout, b"done\n");
    assert!(began.elapsed() < LIMIT);
}

#[test]
fn who_writes_without_end_is_stopped_by_the_size() {
    let printed = run_blocking(shell("head -c 100000000 /dev/zero")).expect("it ends");
    assert!(!printed.status.success());
    assert_eq!(printed.stdout.len(), MAX_OUTPUT);
}

/// Returns whether a process group has members that are no zombies.
fn lives(leader: u32) -> bool {
    let stats = std::fs::read_dir("/proc").expect("proc").flatten();
    let mut stats =
        stats.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    stats.any(|stat| {
        let mut words = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let state = words.next();
        state != Some("Z") && words.nth(1) == Some(leader.to_string().as_str())
    })
}

#[test]
fn what_it_started_goes_with_it() {
    for (script, limit) in [("sleep 600 & sleep 600", SHORT), ("sleep 600 &", LIMIT)] {
        let (sender, receiver) = mpsc::channel();
        let (ended, end) = mpsc::channel();
        let _group = spawn(
            shell(script).within(limit),
            move |id| {
                let _ = sender.send(id);
            },
            move |_| {
                let _ = ended.send(());
            },
        )
        .expect("a thread");
        let leader = receiver.recv().expect("an id");
        end.recv().expect("an end");
        let give_up = Instant::now() + LIMIT;
        while lives(leader) {
            assert!(Instant::now() < give_up, "{script}");
            std::thread::yield_now();
        }
    }
}

#[tokio::test]
async fn who_is_not_waited_for_is_killed() {
    let (sender, receiver) = mpsc::channel();
    let running = run(shell("sleep 600"), move |id| {
        let _ = sender.send(id);
    });
    assert!(tokio::time::timeout(SHORT, running).await.is_err());
    let leader = receiver.recv().expect("an id");
    let give_up = Instant::now() + LIMIT;
    while lives(leader) {
        assert!(Instant::now() < give_up);
        std::thread::yield_now();
    }
}
