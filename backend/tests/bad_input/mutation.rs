//! Orders with mistakes in them, from a seed.

use serde_json::{Map, Value, json};

/// Makes orders; the same seed makes the same ones.
pub(crate) struct Mutator(u64);

impl Mutator {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// xorshift64*.
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end
    }

    fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    /// A right order with one to three mistakes; some of them are none.
    pub(crate) fn order(&mut self) -> Vec<u8> {
        let mut order = self.right();
        for _ in 0..=self.below(3) {
            self.change(&mut order);
        }
        let mut bytes = order.to_string().into_bytes();
        if self.below(8) == 0 {
            self.damage(&mut bytes);
        }
        bytes
    }

    pub(crate) fn headers(&mut self) -> Vec<(&'static str, &'static str)> {
        match self.below(40) {
            0 => vec![("content-type", "text/plain")],
            1 => vec![("content-type", "application/json;charset=utf-8")],
            2 => vec![("idempotency-key", "")],
            _ => vec![("content-type", "application/json")],
        }
    }

    fn right(&mut self) -> Value {
        let device = self.pick(&[
            json!({"ipv4Address": {"publicAddress": "203.0.113.7", "privateAddress": "192.168.1.23"}}),
            json!({"ipv6Address": "2001:db8:85a3::1"}),
            json!({"ipv6Addr": "2001:DB8:85A3::1/64"}),
            json!({"phoneNumber": "004912345678923", "ipv4Addr": "192.168.1.23/24"}),
            json!({"networkAccessIdentifier": "h@operator.example", "ipv4Address": "10.0.0.1"}),
        ]);
        let server = self.pick(&[
            json!({"ipv4Address": "198.51.100.0/28"}),
            json!({"ipv6Addr": "2001:db8:2::/64", "ipv4Addr": "54.204.25.0/28"}),
        ]);
        let mut order =
            json!({"device": device, "applicationServer": server, "qosProfile": "QOS_E"});
        if self.below(2) == 0 {
            order["duration"] = json!(3600);
        }
        if self.below(2) == 0 {
            order["devicePorts"] =
                json!({"ranges": [{"from": 5010, "to": 5020}], "ports": [5060, 5070]});
        }
        if self.below(2) == 0 {
            order["applicationServerPorts"] =
                self.pick(&[json!("33001"), json!({"ports": [33001]})]);
        }
        order
    }

    fn change(&mut self, order: &mut Value) {
        // Walk down, and stop somewhere.
        let mut place = order;
        while self.below(4) > 0 {
            let children = match &*place {
                Value::Object(map) => map.len(),
                Value::Array(all) => all.len(),
                _ => 0,
            };
            if children == 0 {
                break;
            }
            let which = self.below(children);
            place = match place {
                Value::Object(map) => map.values_mut().nth(which).unwrap(),
                Value::Array(all) => &mut all[which],
                _ => return,
            };
        }
        match place {
            Value::Object(map) => self.change_object(map),
            Value::Array(all) => {
                let value = self.value();
                match self.below(4) {
                    0 => all.clear(),
                    1 => all.push(value),
                    2 => all.extend_from_within(..),
                    _ => *place = value,
                }
            }
            Value::String(text) => match self.below(6) {
                0 => text.push(self.pick(&['0', '/', ' ', '\0', 'ä', '.', ':'])),
                1 => {
                    text.pop();
                }
                2 => text.insert(0, self.pick(&['0', '+', ' ', ':'])),
                3 => *text = text.to_uppercase(),
                4 => text.push_str(self.pick(&["/0", "/24", "/32", "/64", "/128", "/129"])),
                _ => *place = self.value(),
            },
            Value::Number(number) => {
                let old = number.as_i64().unwrap_or(0);
                *place = match self.below(5) {
                    0 => json!(old.wrapping_neg()),
                    1 => json!(old.wrapping_add(1)),
                    2 => json!(old as f64),
                    3 => json!(old.wrapping_mul(1_000)),
                    _ => self.value(),
                };
            }
            _ => *place = self.value(),
        }
    }

    fn change_object(&mut self, map: &mut Map<String, Value>) {
        const KEYS: [&str; 18] = [
            "device",
            "applicationServer",
            "qosProfile",
            "duration",
            "devicePorts",
            "applicationServerPorts",
            "ipv4Address",
            "ipv4Addr",
            "ipv6Address",
            "ipv6Addr",
            "phoneNumber",
            "networkAccessIdentifier",
            "publicAddress",
            "privateAddress",
            "publicPort",
            "ports",
            "ranges",
            "x",
        ];
        let keys: Vec<String> = map.keys().cloned().collect();
        let value = self.value();
        let new = self.pick(&KEYS).to_owned();
        match self.below(4) {
            0 => {
                map.insert(new, value);
            }
            _ if keys.is_empty() => (),
            1 => {
                map.remove(&self.pick(&keys));
            }
            2 => {
                let moved = map.remove(&self.pick(&keys)).unwrap_or_default();
                map.insert(new, moved);
            }
            _ => {
                map.insert(self.pick(&keys), value);
            }
        }
    }

    fn value(&mut self) -> Value {
        let number = self.next();
        let values = [
            json!(null),
            json!(true),
            json!(0),
            json!(-1),
            json!(1),
            json!(65_535),
            json!(65_536),
            json!(86_400),
            json!(86_401),
            json!(i64::MIN),
            json!(u64::MAX),
            json!(1.5),
            json!(1e300),
            json!(number),
            json!(number % 70_000),
            json!(""),
            json!(" "),
            json!("\0"),
            json!("a\r\nb: c"),
            json!("ä\u{202e}"),
            json!("x".repeat(300)),
            json!("192.168.1.23"),
            json!("192.168.1.24/0"),
            json!("203.0.113.7"),
            json!("192.168.01.1"),
            json!("::ffff:1.2.3.4"),
            json!("::"),
            json!("::1/128"),
            json!("2001:db8:85a3::/48"),
            json!("+4912345678923"),
            json!("+4911111"),
            json!("h@operator.example"),
            json!("QOS_S"),
            json!("443"),
            json!([]),
            json!({}),
            json!([1]),
            json!([[[[]]]]),
            json!({"from": 5, "to": 1}),
            json!({"ports": [0]}),
            json!({"ports": [1, 2, 3]}),
            json!({"ranges": [{"from": 1, "to": 65_535}]}),
            json!({"ranges": [{"from": 0, "to": 65_536}]}),
            json!({"publicAddress": "203.0.113.7", "publicPort": 59_765}),
            json!({"privateAddress": "10.0.0.7"}),
        ];
        self.pick(&values)
    }

    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len().max(1));
            match self.below(4) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at.min(bytes.len()), (self.next() & 0xff) as u8),
                2 if !bytes.is_empty() => {
                    bytes.remove(at);
                }
                _ => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = (self.next() & 0xff) as u8;
                    }
                }
            }
        }
    }
}
