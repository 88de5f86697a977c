//! The topology: phone and laptop, the router, a modem behind it, the internet.
//!
//! ```text
//! phone  eth0 ── lan1 ┐
//!                     br-lan  router  wan ── lan  modem  eth0 ── eth0  internet
//! laptop eth0 ── lan2 ┘   NAT for IPv4          TBF + FIFO
//! ```
//!
//! With [`Router::Machine`] the router is a machine that QEMU runs. Its namespace is then called `machine`; two
//! bridges there are nothing but cables between the devices and the machine's two network cards:
//!
//! ```text
//! phone  eth0 ── lan1 ┐
//!                     cable-lan ── lan  machine  wan ── cable-wan ── port ── lan  modem …
//! laptop eth0 ── lan2 ┘
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::netns::{self, Netns};

pub const PHONE_MAC: &str = "02:00:00:00:00:17";
pub const PHONE_V4: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 23);
pub const PHONE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x23);
pub const LAPTOP_MAC: &str = "02:00:00:00:00:18";
pub const LAPTOP_V4: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 24);
pub const LAPTOP_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x24);
/// The router's address towards the internet: what NAT writes.
pub const WAN_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);

/// The internet host has the addresses 198.51.100.1 to .20 …
pub const fn server_v4(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100, host)
}

/// … and `2001:db8:2::1` to `::20`: hexadecimal digits that read like decimal ones.
pub const fn server_v6(host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, host)
}

/// A device behind the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    Phone,
    Laptop,
}

impl Device {
    /// Its address in the family of `other`.
    pub fn address_towards(self, other: IpAddr) -> IpAddr {
        match (self, other) {
            (Self::Phone, IpAddr::V4(_)) => PHONE_V4.into(),
            (Self::Phone, IpAddr::V6(_)) => PHONE_V6.into(),
            (Self::Laptop, IpAddr::V4(_)) => LAPTOP_V4.into(),
            (Self::Laptop, IpAddr::V6(_)) => LAPTOP_V6.into(),
        }
    }
}

/// The modem's limit towards the internet.
#[derive(Clone, Copy, Debug)]
pub struct Modem {
    pub upstream_kbit: u32,
    pub buffer_bytes: u32,
}

impl Default for Modem {
    /// 5 % above a shaper of 20 Mbit/s, with a buffer that fills to 380 ms.
    fn default() -> Self {
        Self {
            upstream_kbit: 21_000,
            buffer_bytes: 1_000_000,
        }
    }
}

/// What stands between the devices and the modem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Router {
    /// A namespace of this kernel, configured.
    Namespace,
    /// A machine that somebody starts, with a network card on the tap `lan` (MAC address 02:00:00:00:00:01) and one
    /// on the tap `wan` (02:00:00:00:00:02).
    Machine,
}

/// All namespaces of one home. Fields are public: a test may bend what it likes.
pub struct Home {
    pub group: String,
    pub phone: Netns,
    pub laptop: Netns,
    pub router: Netns,
    /// Absent where the router is connected to the internet host directly.
    pub modem: Option<Netns>,
    pub internet: Netns,
}

impl Home {
    /// The whole topology, with the default modem.
    pub fn new() -> Self {
        Self::build(
            &netns::new_group(),
            Some(Modem::default()),
            Router::Namespace,
        )
    }

    /// For rates: nothing between the router and the internet host.
    pub fn without_modem() -> Self {
        Self::build(&netns::new_group(), None, Router::Namespace)
    }

    pub fn build(group: &str, modem: Option<Modem>, kind: Router) -> Self {
        let role = match kind {
            Router::Namespace => "router",
            Router::Machine => MACHINE,
        };
        let [phone, laptop, router, internet] =
            Netns::make(group, ["phone", "laptop", role, "internet"]);
        let home = Self {
            group: group.to_owned(),
            phone,
            laptop,
            router,
            modem: modem.map(|_| {
                let [modem] = Netns::make(group, ["modem"]);
                modem
            }),
            internet,
        };
        home.settings();
        home.links(kind);
        home.device(&home.phone, PHONE_MAC, PHONE_V4, PHONE_V6);
        home.device(&home.laptop, LAPTOP_MAC, LAPTOP_V4, LAPTOP_V6);
        match kind {
            Router::Namespace => home.router(),
            Router::Machine => home.cables(),
        }
        home.modem(modem);
        home.internet();
        home
    }

    /// The home that another process made with [`Home::keep`].
    pub fn existing(group: &str) -> Self {
        let one = |role: &str| Netns::existing(&format!("{group}.{role}"));
        let there = |role: &str| netns::members(group).contains(&format!("{group}.{role}"));
        let modem = there("modem").then(|| one("modem"));
        let router = if there(MACHINE) { MACHINE } else { "router" };
        Self {
            group: group.to_owned(),
            phone: one("phone"),
            laptop: one("laptop"),
            router: one(router),
            modem,
            internet: one("internet"),
        }
    }

    /// Leaves the namespaces behind; [`netns::delete_group`] removes them.
    pub fn keep(self) {
        for netns in [self.phone, self.laptop, self.router, self.internet] {
            netns.keep();
        }
        if let Some(modem) = self.modem {
            modem.keep();
        }
    }

    pub fn device_netns(&self, device: Device) -> &Netns {
        match device {
            Device::Phone => &self.phone,
            Device::Laptop => &self.laptop,
        }
    }

    /// Makes every device of the home send packets no larger than its MTU, as a real wire does.
    pub fn without_segmentation_offload(&self) {
        for (netns, device) in [
            (&self.phone, "eth0"),
            (&self.laptop, "eth0"),
            (&self.internet, "eth0"),
        ] {
            netns.ip(&format!("link set {device} gso_max_segs 1\n"));
        }
    }

    fn settings(&self) {
        // No duplicate address detection: nothing may have to wait for it.
        let common = [
            ("ipv6/conf/default/accept_dad", "0"),
            ("ipv6/conf/default/accept_ra", "0"),
            ("ipv6/conf/default/router_solicitations", "0"),
        ];
        let forwarding = [("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")];
        for netns in [&self.phone, &self.laptop, &self.internet] {
            netns.sysctl(&common);
        }
        for netns in [Some(&self.router), self.modem.as_ref()]
            .into_iter()
            .flatten()
        {
            netns.sysctl(&[common.as_slice(), forwarding.as_slice()].concat());
        }
    }

    /// All links, each made inside its namespaces: the host never sees a device.
    fn links(&self, kind: Router) {
        let cable = |a: &str, mac_a: u8, netns: &Netns, b: &str, mac_b: &str| {
            format!(
                "link add {a} address 02:00:00:00:00:{mac_a:02x} type veth \
                 peer name {b} address {mac_b} netns {}\n",
                netns.name()
            )
        };
        let (far, far_name, far_mac) = match &self.modem {
            Some(modem) => (modem, "lan", "02:00:00:00:00:03"),
            None => (&self.internet, "eth0", "02:00:00:00:00:05"),
        };
        let bridge = |name: &str| format!("link add {name} type bridge {PLAIN_BRIDGE}\n");
        let uplink = match kind {
            Router::Namespace => [
                format!("link add br-lan address 02:00:00:00:00:01 type bridge {PLAIN_BRIDGE}\n"),
                cable("wan", 2, far, far_name, far_mac),
            ]
            .concat(),
            Router::Machine => [
                bridge("cable-lan"),
                bridge("cable-wan"),
                cable("port", 0x13, far, far_name, far_mac),
                "tuntap add dev lan mode tap\ntuntap add dev wan mode tap\n".to_owned(),
            ]
            .concat(),
        };
        self.router.ip(&[
            uplink,
            cable("lan1", 0x11, &self.phone, "eth0", PHONE_MAC),
            cable("lan2", 0x12, &self.laptop, "eth0", LAPTOP_MAC),
        ]
        .concat());
        if let Some(modem) = &self.modem {
            modem.ip(&cable(
                "eth0",
                4,
                &self.internet,
                "eth0",
                "02:00:00:00:00:05",
            ));
        }
    }

    fn device(&self, netns: &Netns, mac: &str, v4: Ipv4Addr, v6: Ipv6Addr) {
        netns.ip(&format!(
            "link set lo up\n\
             link set eth0 address {mac} up\n\
             addr add {v4}/24 dev eth0\n\
             addr add {v6}/64 dev eth0 nodad\n\
             neigh replace 192.168.1.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent\n\
             neigh replace 2001:db8:1::1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent\n\
             route add default via 192.168.1.1\n\
             route add default via 2001:db8:1::1\n"
        ));
    }

    fn router(&self) {
        let far_mac = if self.modem.is_some() { 3 } else { 5 };
        // The router's view of its devices is not permanent: it ages as a real one does.
        self.router.ip(&format!(
            "link set lo up\n\
             link set lan1 master br-lan up\n\
             link set lan2 master br-lan up\n\
             link set br-lan up\n\
             link set wan up\n\
             addr add 192.168.1.1/24 dev br-lan\n\
             addr add 2001:db8:1::1/64 dev br-lan nodad\n\
             neigh replace {PHONE_V4} lladdr {PHONE_MAC} dev br-lan nud reachable\n\
             neigh replace {PHONE_V6} lladdr {PHONE_MAC} dev br-lan nud reachable\n\
             neigh replace {LAPTOP_V4} lladdr {LAPTOP_MAC} dev br-lan nud reachable\n\
             neigh replace {LAPTOP_V6} lladdr {LAPTOP_MAC} dev br-lan nud reachable\n\
             addr add {WAN_V4}/24 dev wan\n\
             addr add 2001:db8:f::2/64 dev wan nodad\n\
             neigh replace 203.0.113.1 lladdr 02:00:00:00:00:0{far_mac} dev wan nud permanent\n\
             neigh replace 2001:db8:f::1 lladdr 02:00:00:00:00:0{far_mac} dev wan nud permanent\n\
             route add default via 203.0.113.1\n\
             route add default via 2001:db8:f::1\n"
        ));
        self.router.nft(
            "table ip nat {\n\
               chain postrouting {\n\
                 type nat hook postrouting priority srcnat\n\
                 oifname \"wan\" masquerade\n\
               }\n\
             }\n",
        );
    }

    /// Nothing of this kernel may take part in what passes here.
    fn cables(&self) {
        self.router.sysctl(&[("ipv6/conf/all/disable_ipv6", "1")]);
        self.router.ip("link set lan1 master cable-lan up\n\
             link set lan2 master cable-lan up\n\
             link set lan master cable-lan up\n\
             link set port master cable-wan up\n\
             link set wan master cable-wan up\n\
             link set cable-lan up\n\
             link set cable-wan up\n");
    }

    fn modem(&self, limit: Option<Modem>) {
        let (Some(netns), Some(limit)) = (&self.modem, limit) else {
            return;
        };
        netns.ip("link set lo up\n\
             link set lan up\n\
             link set eth0 up\n\
             addr add 203.0.113.1/24 dev lan\n\
             addr add 2001:db8:f::1/64 dev lan nodad\n\
             addr add 198.51.100.254/24 dev eth0\n\
             addr add 2001:db8:2::fe/64 dev eth0 nodad\n\
             neigh replace 203.0.113.2 lladdr 02:00:00:00:00:02 dev lan nud permanent\n\
             neigh replace 2001:db8:f::2 lladdr 02:00:00:00:00:02 dev lan nud permanent\n\
             route add 2001:db8:1::/64 via 2001:db8:f::2\n");
        let neighbours: String = SERVERS
            .map(|(v4, v6)| {
                format!(
                    "neigh replace {v4} lladdr 02:00:00:00:00:05 dev eth0 nud permanent\n\
                     neigh replace {v6} lladdr 02:00:00:00:00:05 dev eth0 nud permanent\n"
                )
            })
            .concat();
        netns.ip(&neighbours);
        // A bucket of three packets: a modem sends packet by packet, whatever comes in at once.
        netns.tc(&format!(
            "qdisc add dev eth0 root tbf rate {}kbit burst 4542 limit {}\n",
            limit.upstream_kbit, limit.buffer_bytes
        ));
    }

    fn internet(&self) {
        let addresses: String = SERVERS
            .map(|(v4, v6)| format!("addr add {v4}/24 dev eth0\naddr add {v6}/64 dev eth0 nodad\n"))
            .concat();
        let routes = if self.modem.is_some() {
            "neigh replace 198.51.100.254 lladdr 02:00:00:00:00:04 dev eth0 nud permanent\n\
             neigh replace 2001:db8:2::fe lladdr 02:00:00:00:00:04 dev eth0 nud permanent\n\
             route add default via 198.51.100.254\n\
             route add default via 2001:db8:2::fe\n"
        } else {
            "addr add 203.0.113.1/24 dev eth0\n\
             addr add 2001:db8:f::1/64 dev eth0 nodad\n\
             neigh replace 203.0.113.2 lladdr 02:00:00:00:00:02 dev eth0 nud permanent\n\
             neigh replace 2001:db8:f::2 lladdr 02:00:00:00:00:02 dev eth0 nud permanent\n\
             route add 2001:db8:1::/64 via 2001:db8:f::2\n"
        };
        self.internet.ip(&format!(
            "link set lo up\nlink set eth0 up\n{addresses}{routes}"
        ));
    }
}

/// The role of the namespace where a machine is the router.
const MACHINE: &str = "machine";
/// Forwards at once, and everything.
const PLAIN_BRIDGE: &str = "forward_delay 0 stp_state 0 mcast_snooping 0";

const SERVERS: [(Ipv4Addr, Ipv6Addr); 20] = {
    let mut all = [(server_v4(1), server_v6(1)); 20];
    let mut host = 1;
    while host <= 20 {
        // ::10 follows ::9, so that both families' addresses end in the same digits.
        let v6 = (host / 10 * 16 + host % 10) as u16;
        all[host - 1] = (server_v4(host as u8), server_v6(v6));
        host += 1;
    }
    all
};
