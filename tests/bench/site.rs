//! Homes side by side that differ in their agent alone.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::cost;
use super::lab::home::{Device, LAPTOP_V4, PHONE_V4, server_v4};
use super::lab::{Agent, Home, Netns, Script, agent};
use super::sessions;

/// Where floods go. Not one of the sessions' ports.
pub const FLOOD_PORT: u16 = 9;
/// More devices than any list of sessions has.
const NEIGHBOURS: usize = 1024;

/// A home, and the agent in its router if it has one.
pub struct Site {
    // Ends before the namespaces that it runs in.
    pub agent: Option<Agent>,
    pub script: Option<Script>,
    pub home: Home,
}

impl Site {
    /// No agent at all.
    pub fn bare(home: Home) -> Self {
        sessions::introduce(&home.router, NEIGHBOURS);
        Self {
            agent: None,
            script: None,
            home,
        }
    }

    /// An agent that holds these instructions, all of their sessions in force.
    pub fn with_agent(home: Home, instructions: &Value) -> Self {
        Self::with_config(home, instructions, quiet)
    }

    /// The same, with an agent that polls and reports as often as most do.
    pub fn with_usual_times(instructions: &Value) -> Self {
        Self::with_config(Home::without_modem(), instructions, |url| {
            let mut config = quiet(url);
            config["reportIntervalSeconds"] = 60.into();
            config
        })
    }

    fn with_config(home: Home, instructions: &Value, config: impl Fn(&str) -> Value) -> Self {
        let mut site = Self::bare(home);
        let at = SocketAddr::new(server_v4(19).into(), 8080);
        let script = Script::start(&site.home.internet, at);
        let agent = Agent::start(&site.home.router, &config(&script.url()));
        let revision = script.serve(instructions);
        let status = script.wait_status("all sessions", Duration::from_secs(20), |status| {
            status["revision"] == revision
        });
        for session in status["sessions"].as_array().unwrap() {
            assert_eq!(session["state"], "ACTIVE", "{session}");
        }
        site.agent = Some(agent);
        site.script = Some(script);
        site
    }

    /// Marks without queues.
    pub fn with_marks(sessions: &[Value]) -> Self {
        let instructions = json!({ "queues": "off", "sessions": sessions });
        Self::with_agent(Home::without_modem(), &instructions)
    }

    /// Makes the home ready for floods of small packets.
    pub fn prepare(&self) {
        self.home.without_segmentation_offload();
        // The cheapest receiver: nothing answers.
        for netns in [&self.home.internet, &self.home.laptop, &self.home.phone] {
            drop_at(netns, "eth0");
        }
    }

    /// A router that drops the floods where they come in: what is left is the sender's cost.
    pub fn closed() -> Self {
        let site = Self::bare(Home::without_modem());
        drop_at(&site.home.router, "lan1");
        drop_at(&site.home.router, "lan2");
        site
    }
}

fn drop_at(netns: &Netns, device: &str) {
    netns.nft(&format!(
        "table netdev bench_{device} {{ chain {device} {{ \
           type filter hook ingress device \"{device}\" priority -500; \
           udp dport {{ {FLOOD_PORT}, {} }} drop; }}; }}\n",
        sessions::SERVER_PORT
    ));
}

/// An agent that does nothing of its own accord while something is measured.
pub fn quiet(url: &str) -> Value {
    let mut config = agent::config(url);
    config["pollWaitSeconds"] = 50.into();
    config["reportIntervalSeconds"] = 3600.into();
    config["maxSessions"] = 2000.into();
    config
}

/// A flow of small packets from a device, and the place where they are counted.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    pub device: Device,
    pub device_port: u16,
    pub server_port: u16,
    pub to: To,
}

#[derive(Clone, Copy, Debug)]
pub enum To {
    Internet,
    Laptop,
    Phone,
    /// Dropped by a router that is [closed](Site::closed).
    Nowhere,
}

impl Flow {
    /// Seconds of processor time per packet, the sender's included.
    pub fn cost(&self, site: &Site) -> f64 {
        let home = &site.home;
        let (server, receiver) = match self.to {
            To::Internet => (server_v4(1), Some((&home.internet, "eth0"))),
            To::Laptop => (LAPTOP_V4, Some((&home.laptop, "eth0"))),
            To::Phone => (PHONE_V4, Some((&home.phone, "eth0"))),
            To::Nowhere => (server_v4(1), None),
        };
        let from = self.device.address_towards(server.into());
        cost::per_packet(
            home.device_netns(self.device),
            SocketAddr::new(from, self.device_port),
            SocketAddr::new(server.into(), self.server_port),
            receiver,
        )
    }
}
