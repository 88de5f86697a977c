//! A kernel that lacks something, and a clock that nobody has set: in a machine whose modules and clock are the
//! test's alone (scripts/vm-test.sh).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be"
)]

mod lab;

/// Everywhere else they would take modules and clock away from others.
mod needs_machine {
    use std::fs;
    use std::net::{Ipv4Addr, SocketAddr};
    use std::path::{Path, PathBuf};
    use std::time::{Duration, Instant, SystemTime};

    use nix::errno::Errno;
    use nix::kmod::{DeleteModuleFlags, delete_module};
    use nix::sys::utsname::uname;
    use nix::time::{ClockId, clock_settime};
    use serde_json::{Value, json};

    use crate::lab::certificate::Certificates;
    use crate::lab::folder::Folder;
    use crate::lab::home::server_v4;
    use crate::lab::netns::{Netns, new_group};
    use crate::lab::site::script_address;
    use crate::lab::{Agent, Capture, Home, Script, agent, send, wait};

    const EF: u8 = 46;
    const LIMIT: Duration = Duration::from_secs(10);
    /// What is missing is looked for every 30 s.
    const RECOVERY: Duration = Duration::from_secs(40);

    fn assert_own_machine() {
        let own = std::env::var_os("QOD_LAB_MACHINE").is_some();
        assert!(
            own,
            "CANNOT RUN HERE: needs a machine of its own (scripts/vm-test.sh lack)"
        );
    }

    /// Modules whose files are away; they come back with the value.
    struct Lack(Vec<PathBuf>);

    impl Lack {
        /// Takes these modules out of the kernel and their files out of its reach.
        fn of(names: &[&str]) -> Self {
            assert_own_machine();
            let release = uname().unwrap().release().to_string_lossy().into_owned();
            let top = Path::new("/lib/modules").join(release).join("kernel/net");
            let files = names.iter().map(|name| {
                let file = find(&top, &format!("{name}.ko"));
                let file = file.unwrap_or_else(|| panic!("{name} is no module of this kernel"));
                fs::rename(&file, away(&file)).unwrap();
                file
            });
            let lack = Self(files.collect());
            // What an earlier test used is free a moment after it.
            wait::expect("the modules to go", LIMIT, || {
                // Those that use them go first, and so the first may take several turns.
                loaded().iter().for_each(|name| unload(name));
                let loaded = loaded();
                let gone = names
                    .iter()
                    .all(|name| !loaded.iter().any(|there| there == name));
                gone.then_some(())
            });
            lack
        }

        fn end(self) {}
    }

    impl Drop for Lack {
        fn drop(&mut self) {
            for file in &self.0 {
                fs::rename(away(file), file).unwrap();
            }
        }
    }

    fn away(file: &Path) -> PathBuf {
        file.with_extension("away")
    }

    fn find(folder: &Path, name: &str) -> Option<PathBuf> {
        fs::read_dir(folder).unwrap().find_map(|entry| {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => find(&path, name),
                false => path.ends_with(name).then_some(path),
            }
        })
    }

    fn loaded() -> Vec<String> {
        let table = fs::read_to_string("/proc/modules").unwrap();
        let names = table.lines().filter_map(|line| line.split(' ').next());
        names.map(str::to_owned).collect()
    }

    /// Unless it is in use.
    fn unload(name: &str) {
        let of_ours = ["nf", "sch_", "xt_"]
            .iter()
            .any(|start| name.starts_with(start));
        if of_ours {
            let name = std::ffi::CString::new(name).unwrap();
            match delete_module(&name, DeleteModuleFlags::O_NONBLOCK) {
                Ok(()) | Err(Errno::EAGAIN | Errno::EBUSY | Errno::ENOENT) => {}
                Err(error) => panic!("{name:?}: {error}"),
            }
        }
    }

    fn session(id: &str, server: Ipv4Addr) -> Value {
        json!({ "sessionId": id, "dscp": EF, "expiresIn": 3600,
            "device": { "ipv4Address": "192.168.1.23" }, "applicationServer": { "ipv4Address": server } })
    }

    fn warning(status: &Value, code: &str) -> Option<String> {
        let warnings = status["warnings"].as_array().unwrap();
        let found = warnings.iter().find(|warning| warning["code"] == code)?;
        Some(found["message"].as_str().unwrap().to_owned())
    }

    fn complaints(agent: &Agent, about: &str) -> usize {
        let log = agent.process.log();
        let lines = log
            .lines()
            .filter(|line| line.contains("WARN") || line.contains("ERROR"));
        lines.filter(|line| line.contains(about)).count()
    }

    fn doctor(agent: &Agent, router: &Netns) -> String {
        let output = agent.command(router, &["check"]);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Phone, router, internet: without NAT, which nf_tables would have to do.
    fn plain() -> [Netns; 3] {
        let all = Netns::make(&new_group(), ["phone", "router", "internet"]);
        let [phone, router, internet] = &all;
        router.sysctl(&[("ipv4/ip_forward", "1")]);
        let cable = |name: &str, netns: &Netns| {
            format!(
                "link add {name} type veth peer name eth0 netns {}\n",
                netns.name()
            )
        };
        router.ip(&[
            cable("lan1", phone),
            cable("wan", internet),
            "link set lo up\nlink set lan1 up\nlink set wan up\n\
             addr add 192.168.1.1/24 dev lan1\naddr add 198.51.100.254/24 dev wan\n"
                .to_owned(),
        ]
        .concat());
        phone.ip(
            "link set lo up\nlink set eth0 up\naddr add 192.168.1.23/24 dev eth0\n\
                  route add default via 192.168.1.1\n",
        );
        internet.ip(
            "link set lo up\nlink set eth0 up\naddr add 198.51.100.5/24 dev eth0\n\
                     addr add 198.51.100.19/24 dev eth0\nroute add default via 198.51.100.254\n",
        );
        all
    }

    /// The code point with which a packet of the phone's arrives at the server.
    fn dscp(phone: &Netns, internet: &Netns) -> u8 {
        let capture = Capture::start(internet, "eth0");
        let (from, to) = (
            SocketAddr::new([192, 168, 1, 23].into(), 5010),
            SocketAddr::new(server_v4(5).into(), 33001),
        );
        phone.run(|| send::udp(from, to, 0, b"a word"));
        capture
            .expect("a word", |packet| packet.carries(b"a word"))
            .dscp
    }

    #[test]
    #[ignore = "needs a machine of its own"]
    fn without_nf_tables_the_agent_reports_until_it_is_there() {
        let lack = Lack::of(&["nf_tables", "nfnetlink"]);
        let [phone, router, internet] = plain();
        let script = Script::start(&internet, script_address());
        let mut config = agent::config(&script.url());
        config["lan"] = json!(["lan1"]);
        let mut agent = Agent::start(&router, &config);
        let revision = script.serve_sessions(&[session("a", server_v4(5))]);
        let rejected = |status: &Value| {
            status["revision"] == revision && status["sessions"][0]["state"] == "REJECTED"
        };
        let status = script.wait_status("a rejection", LIMIT, rejected);
        let package = "this kernel has no nf_tables (kmod-nft-core on OpenWrt)";
        assert_eq!(status["sessions"][0]["code"], "UNSUPPORTED", "{status}");
        assert_eq!(status["sessions"][0]["message"], package);
        assert_eq!(warning(&status, "KERNEL").as_deref(), Some(package));
        let check = doctor(&agent, &router);
        assert!(
            check.contains(&format!(
                "FAIL  nf_tables: missing ({package}): install kmod-nft-core"
            )),
            "{check}"
        );
        // Its queues do not need it.
        let queues = router.output("tc", &["qdisc", "show", "dev", "wan"]);
        assert!(queues.contains("htb 71d:"), "{queues}");
        assert_eq!(dscp(&phone, &internet), 0);
        assert!(agent.process.ended().is_none());

        lack.end();
        let status = script.wait_status("the session in force", RECOVERY, |status| {
            status["sessions"][0]["state"] == "ACTIVE"
        });
        assert_eq!(warning(&status, "KERNEL"), None);
        assert_eq!(dscp(&phone, &internet), EF);
        assert_eq!(
            complaints(&agent, "nf_tables"),
            1,
            "{}",
            agent.process.log()
        );
    }

    #[test]
    #[ignore = "needs a machine of its own"]
    fn without_a_kind_of_queue_the_marks_are_there_and_it_is_named() {
        let (no_htb, no_tbf) = (Lack::of(&["sch_htb"]), Lack::of(&["sch_tbf"]));
        let home = Home::without_modem();
        let script = Script::start(&home.internet, script_address());
        let agent = Agent::start(&home.router, &agent::config(&script.url()));
        let revision = script.serve_sessions(&[session("a", server_v4(5))]);
        let status = script.wait_status("NO_QUEUE", LIMIT, |status| {
            status["revision"] == revision && warning(status, "NO_QUEUE").is_some()
        });
        assert_eq!(status["sessions"][0]["state"], "ACTIVE", "{status}");
        let message = warning(&status, "NO_QUEUE").unwrap();
        assert!(
            message.starts_with("this kernel has no HTB: install kmod-sched-core"),
            "{message}"
        );
        let check = doctor(&agent, &home.router);
        for line in [
            "warn  HTB: missing (this kernel does not know it): install kmod-sched-core",
            "warn  TBF: missing (this kernel does not know it): install kmod-sched-core",
            "ok    fq_codel: there",
            "ok    result: ",
        ] {
            assert!(check.contains(line), "no {line:?} in\n{check}");
        }

        no_htb.end();
        let status = script.wait_status("queues", RECOVERY, |status| {
            warning(status, "QUEUE_INCOMPLETE").is_some()
        });
        let message = warning(&status, "QUEUE_INCOMPLETE").unwrap();
        assert!(
            message.contains("no TBF: install kmod-sched-core"),
            "{message}"
        );
        assert_eq!(warning(&status, "NO_QUEUE"), None);
        let queues = || home.router.output("tc", &["qdisc", "show", "dev", "wan"]);
        assert!(
            queues().contains("htb 71d:") && !queues().contains("tbf"),
            "{}",
            queues()
        );

        no_tbf.end();
        script.wait_status("whole queues", RECOVERY, |status| {
            status["warnings"] == json!([])
        });
        for leaf in ["tbf 7110: parent 71d:10", "fq_codel 7210: parent 7110:1"] {
            assert!(queues().contains(leaf), "{}", queues());
        }
        assert_eq!(complaints(&agent, "HTB"), 1, "{}", agent.process.log());
    }

    #[test]
    #[ignore = "needs a machine of its own"]
    fn without_limits_only_the_sessions_that_need_one_are_refused() {
        let lack = Lack::of(&["nft_limit"]);
        let home = Home::without_modem();
        let script = Script::start(&home.internet, script_address());
        let agent = Agent::start(&home.router, &agent::config(&script.url()));
        let mut bounded = session("bounded", server_v4(6));
        bounded["maxUpstreamKbps"] = json!(1000);
        let revision = script.serve_sessions(&[session("a", server_v4(5)), bounded]);
        let status = script.wait_revision(revision);
        assert_eq!(status["sessions"][0]["state"], "ACTIVE", "{status}");
        assert_eq!(status["sessions"][1]["code"], "KERNEL", "{status}");
        let message = status["sessions"][1]["message"].as_str().unwrap();
        assert!(
            message.contains("no nft_limit (kmod-nft-core on OpenWrt)"),
            "{message}"
        );
        let check = doctor(&agent, &home.router);
        assert!(check.contains("warn  limit: missing"), "{check}");

        lack.end();
        script.wait_status("both in force", RECOVERY, |status| {
            status["sessions"][1]["state"] == "ACTIVE"
        });
    }

    /// The machine's clock, which goes on from where it was when the value ends.
    struct Clock {
        before: SystemTime,
        since: Instant,
    }

    impl Clock {
        /// As a router without a battery boots.
        fn unset() -> Self {
            assert_own_machine();
            let clock = Self {
                before: SystemTime::now(),
                since: Instant::now(),
            };
            set(Duration::from_secs(60));
            clock
        }

        fn end(self) {}
    }

    impl Drop for Clock {
        fn drop(&mut self) {
            let now = self.before + self.since.elapsed();
            set(now.duration_since(SystemTime::UNIX_EPOCH).unwrap());
        }
    }

    fn set(time: Duration) {
        clock_settime(ClockId::CLOCK_REALTIME, time.into()).unwrap();
    }

    #[test]
    #[ignore = "needs a machine of its own"]
    fn a_clock_at_1970_is_waited_for_and_seen_at_once() {
        let clock = Clock::unset();
        let home = Home::without_modem();
        let folder = Folder::new();
        let address = script_address();
        let certificates = Certificates::new(&folder, &[&address.ip().to_string()]);
        let script = Script::start_tls(&home.internet, address, &certificates);
        let mut config = agent::config(&script.url());
        config["backend"]["caFile"] = json!(certificates.ca);
        let agent = Agent::start(&home.router, &config);
        let said = "the backend's certificate is not valid yet; is this router's clock set?";
        wait::expect("the warning", LIMIT, || {
            let status = agent.status(&home.router)?;
            (warning(&status, "CLOCK")? == said).then_some(())
        });
        let check = doctor(&agent, &home.router);
        assert!(
            check.contains("FAIL  clock: shows a time before 2026"),
            "{check}"
        );

        // Enrolment says it too, and has not shown its token to anybody.
        config["backend"].as_object_mut().unwrap().remove("token");
        config["backend"]["bootstrapTokenFile"] = json!(folder.write("bootstrap", "b".repeat(40)));
        let file = folder.write("config.json", config.to_string());
        let mut enrol = home.router.command(agent::binary());
        let output = enrol
            .args(["enrol", "--config"])
            .arg(file)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.ends_with(&format!("qod-agent: {said}\n")), "{text}");
        assert_eq!(script.calls().len(), 0);

        // It would wait for long by now.
        let pause = wait::expect("a long pause", Duration::from_secs(60), || {
            let log = agent.process.log();
            let last = log
                .lines()
                .rfind(|line| line.contains("asking again in "))?;
            let (_, seconds) = last.split_once("asking again in ")?;
            let seconds: f64 = seconds.strip_suffix(" s")?.parse().ok()?;
            (seconds > 12.0).then_some(Duration::from_secs_f64(seconds))
        });
        assert_eq!(complaints(&agent, said), 1, "{}", agent.process.log());
        clock.end();
        let set = Instant::now();
        script.wait_status("a report", LIMIT, |status| {
            warning(status, "CLOCK").is_none()
        });
        let took = set.elapsed();
        println!("reported {took:?} after the clock was set, in a pause of {pause:?}");
        assert!(took < pause / 2, "{took:?} of a pause of {pause:?}");
        let log = agent.process.log();
        assert!(log.contains("the clock was set"), "{log}");
    }
}
